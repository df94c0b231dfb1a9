-- People's sessions in the browser; the token itself is not kept.
CREATE TABLE sessions (
    token_sha256 TEXT PRIMARY KEY,
    created_s BIGINT NOT NULL,
    expires_s BIGINT NOT NULL
);

-- Where a device's update stands, in a word, so that counting does not read documents.
ALTER TABLE devices ADD COLUMN update_kind TEXT NOT NULL DEFAULT 'idle';
CREATE INDEX devices_by_update ON devices (update_kind);

-- A build that this server signs: the same lease as the build itself.
ALTER TABLE builds ADD COLUMN signing TEXT;
ALTER TABLE builds ADD COLUMN signing_detail TEXT NOT NULL DEFAULT '';
