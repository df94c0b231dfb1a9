-- Acts that wait for the approval of a second person. `act` is the canonical JSON of exactly what is
-- performed, `fleets` a JSON list, NULL for the whole server. `seal` is a MAC over the row by a key
-- that is not in the database: an act that only the database's writer made or changed is not
-- performed.
CREATE TABLE pending_acts (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    requester TEXT NOT NULL REFERENCES accounts (name),
    requested_s BIGINT NOT NULL,
    expires_s BIGINT NOT NULL,
    via TEXT NOT NULL,
    decided_by TEXT,
    decided_via TEXT,
    decided_s BIGINT,
    reason TEXT NOT NULL,
    summary TEXT NOT NULL,
    fleets TEXT,
    note TEXT NOT NULL,
    outcome TEXT NOT NULL,
    seal TEXT NOT NULL,
    act TEXT NOT NULL
);
CREATE INDEX pending_acts_open ON pending_acts (state, expires_s);
CREATE INDEX pending_acts_requested ON pending_acts (requested_s);
-- Which acts need a second person: one row, JSON, sealed as above.
CREATE TABLE approval_policy (
    one BIGINT PRIMARY KEY,
    policy TEXT NOT NULL,
    seal TEXT NOT NULL
);
-- Devices that an account revoked without a second person.
CREATE TABLE revocations_alone (
    account TEXT NOT NULL,
    at_s BIGINT NOT NULL,
    devices BIGINT NOT NULL
);
CREATE INDEX revocations_alone_account ON revocations_alone (account, at_s);
-- When an account last added another one, enabled it, or gave it a role or a link: until some time
-- after that, neither approves an act of the other. '' stands for the use of a link.
CREATE TABLE account_changes (
    account TEXT NOT NULL,
    changed_by TEXT NOT NULL,
    changed_s BIGINT NOT NULL,
    PRIMARY KEY (account, changed_by)
) WITHOUT ROWID;
