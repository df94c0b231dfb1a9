-- Devices that show a code on a screen. What the device holds becomes its one-time token when somebody enters the code.
CREATE TABLE pairings (
    token_sha256 TEXT PRIMARY KEY,
    code_sha256 TEXT NOT NULL UNIQUE,
    key_sha256 TEXT NOT NULL,
    running TEXT NOT NULL,
    expires_s BIGINT NOT NULL
);
CREATE INDEX pairings_by_end ON pairings (expires_s);
-- The key that may use a token; nobody else, not even first.
ALTER TABLE enrollments ADD COLUMN for_key_sha256 TEXT;
