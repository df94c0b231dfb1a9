-- What lists show stands in columns, so that no list reads documents.
ALTER TABLE rollouts ADD COLUMN release_name TEXT NOT NULL DEFAULT '';
ALTER TABLE rollouts ADD COLUMN phase TEXT NOT NULL DEFAULT '';
ALTER TABLE rollouts ADD COLUMN total BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rollouts ADD COLUMN succeeded BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rollouts ADD COLUMN failed BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rollouts ADD COLUMN moving BIGINT NOT NULL DEFAULT 0;
UPDATE rollouts SET release_name = json_extract(state, '$.release'), phase = json_extract(state, '$.phase'),
    total = (SELECT COUNT(*) FROM json_each(state, '$.devices')),
    succeeded = (SELECT COUNT(*) FROM json_each(state, '$.devices') WHERE json_extract(value, '$.type') = 'succeeded'),
    failed = (SELECT COUNT(*) FROM json_each(state, '$.devices') WHERE json_extract(value, '$.type') IN ('rolled_back', 'revoked', 'failed')),
    moving = (SELECT COUNT(*) FROM json_each(state, '$.devices')
              WHERE json_extract(value, '$.type') IN ('staging', 'staged', 'rebooting', 'trying'));
CREATE INDEX rollouts_by_time ON rollouts (created_s);

ALTER TABLE revisions ADD COLUMN description TEXT NOT NULL DEFAULT '';
UPDATE revisions SET description = json_extract(document, '$.description');

UPDATE devices SET update_kind = json_extract(update_state, '$.type') WHERE update_state IS NOT NULL;
DROP INDEX devices_by_update;
CREATE INDEX devices_by_update ON devices (revoked_s, update_kind);
CREATE INDEX devices_of_fleets ON devices (fleet, revoked_s);

-- How often a worker has taken it: what kills its worker is not taken for ever.
ALTER TABLE builds ADD COLUMN attempts BIGINT NOT NULL DEFAULT 0;
ALTER TABLE builds ADD COLUMN signing_attempts BIGINT NOT NULL DEFAULT 0;

-- A session ends with the credential that began it.
ALTER TABLE sessions ADD COLUMN credential_sha256 TEXT NOT NULL DEFAULT '';
