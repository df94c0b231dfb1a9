-- What a person asked this server's keys to sign, and who agreed. Nothing here is trusted: the signer checks every word.
CREATE TABLE signature_requests (
    build TEXT PRIMARY KEY,
    intent TEXT NOT NULL,
    key_id TEXT NOT NULL,
    signature TEXT NOT NULL,
    created_s BIGINT NOT NULL
);
CREATE TABLE signature_approvals (
    build TEXT NOT NULL,
    key_id TEXT NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (build, key_id)
);
