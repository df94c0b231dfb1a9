-- Accounts of people and programs. A name is never used again, so that the audit log names one
-- account by it. `grants` is a JSON list of roles. `seal` is a MAC over the row by a key that is not
-- in the database: a row that only the database's writer made is not accepted.
CREATE TABLE accounts (
    name TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    disabled_s BIGINT,
    password TEXT,
    grants TEXT NOT NULL,
    seal TEXT NOT NULL
);

-- API tokens, by SHA-256. `permissions` is a JSON list, NULL for all those of the account.
CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY,
    token_sha256 TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL REFERENCES accounts (name),
    label TEXT NOT NULL,
    permissions TEXT,
    created_s BIGINT NOT NULL,
    expires_s BIGINT NOT NULL,
    used_s BIGINT,
    seal TEXT NOT NULL
);
CREATE INDEX api_tokens_account ON api_tokens (account);

-- One-time links with which a person sets a password, by SHA-256 of their token, at most one for
-- each account. The link of the first administrator has no account: '' stands for it.
CREATE TABLE password_links (
    account TEXT PRIMARY KEY,
    token_sha256 TEXT NOT NULL UNIQUE,
    expires_s BIGINT NOT NULL,
    seal TEXT NOT NULL
);

-- Sessions of older servers began with the token of the first start.
ALTER TABLE sessions ADD COLUMN account TEXT NOT NULL DEFAULT 'bootstrap';
ALTER TABLE sessions ADD COLUMN used_s BIGINT NOT NULL DEFAULT 0;
CREATE INDEX sessions_account ON sessions (account);

-- The account that made an enrollment token; NULL for tokens before this column.
ALTER TABLE enrollments ADD COLUMN account TEXT;
CREATE INDEX enrollments_account ON enrollments (account) WHERE account IS NOT NULL AND device IS NULL;
