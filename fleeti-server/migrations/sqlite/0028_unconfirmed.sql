-- Devices that ran a release and did not reach the server with it: they were among those that are on their way.
ALTER TABLE rollouts ADD COLUMN unconfirmed BIGINT NOT NULL DEFAULT 0;
UPDATE rollouts SET unconfirmed = (SELECT COUNT(*) FROM json_each(state, '$.devices') WHERE json_extract(value, '$.type') = 'unconfirmed');
UPDATE rollouts SET moving = moving - unconfirmed WHERE unconfirmed > 0 AND moving >= unconfirmed;
