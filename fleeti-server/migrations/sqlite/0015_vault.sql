-- What opens the data partition of a device without its TPM, for the signer alone.
CREATE TABLE recovery_keys (
    device TEXT PRIMARY KEY REFERENCES devices (id),
    wrapped TEXT NOT NULL,
    -- SHA-256 of the key, which has 256 random bits.
    key_sha256 TEXT NOT NULL,
    kept_s BIGINT NOT NULL,
    -- When a person saw it last.
    shown_s BIGINT,
    -- The one before: whoever speaks for a device cannot take away what opens it.
    previous TEXT
);

-- Secrets of fleets, for the signer alone.
CREATE TABLE fleet_secrets (
    fleet TEXT NOT NULL,
    name TEXT NOT NULL,
    wrapped TEXT NOT NULL,
    changed_s BIGINT NOT NULL,
    PRIMARY KEY (fleet, name)
);

-- How often the secrets of a fleet have changed.
CREATE TABLE fleet_secret_versions (
    fleet TEXT PRIMARY KEY,
    version BIGINT NOT NULL
);
