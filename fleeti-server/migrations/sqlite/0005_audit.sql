-- The audit log is the signer's. What happens here waits in the outbox, in the transaction of what it is about, until it
-- is in the log.
CREATE TABLE audit_outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    at_s BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL
);
INSERT INTO audit_outbox (id, at_s, actor, action, subject) SELECT id, at_s, actor, action, subject FROM audit ORDER BY at_s;
DROP TABLE audit;
-- The entry that published a release; a device wants the proof of it.
ALTER TABLE releases ADD COLUMN audit_number BIGINT;
