-- Build workers: each has a token with one right, of which only the digest is kept.
CREATE TABLE workers (
    name TEXT PRIMARY KEY,
    token_sha256 TEXT NOT NULL UNIQUE,
    created_s BIGINT NOT NULL,
    -- When it asked for a build last.
    seen_s BIGINT
);

-- Who holds the lease of a build, and which lease: a worker that lost it can change nothing any more.
ALTER TABLE builds ADD COLUMN worker TEXT NOT NULL DEFAULT '';
ALTER TABLE builds ADD COLUMN lease TEXT NOT NULL DEFAULT '';
