-- Passkeys of people: the id and the public key of each credential (Web Authentication), hexadecimal.
-- The seal also covers the counter, so that nobody who writes the database puts it back.
CREATE TABLE passkeys (
    id TEXT PRIMARY KEY,
    credential_id TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL REFERENCES accounts (name),
    label TEXT NOT NULL,
    public_key TEXT NOT NULL,
    counter BIGINT NOT NULL,
    is_synced BIGINT NOT NULL,
    created_s BIGINT NOT NULL,
    used_s BIGINT,
    seal TEXT NOT NULL
);
CREATE INDEX passkeys_account ON passkeys (account);
-- The passkey that began a session; NULL for a password, or the token of the first start.
ALTER TABLE sessions ADD COLUMN passkey TEXT;
