-- The TPM that a device has shown to be its own. Keys are base64 of their public areas.
CREATE TABLE device_tpms (
    device TEXT PRIMARY KEY REFERENCES devices (id),
    ek_sha256 TEXT NOT NULL UNIQUE,
    endorsement_key TEXT NOT NULL,
    attestation_key TEXT NOT NULL UNIQUE,
    maker TEXT,
    description TEXT NOT NULL,
    bound_s BIGINT NOT NULL
);

-- Firmware's logs, once a boot: by their content.
CREATE TABLE evidence_logs (
    device TEXT NOT NULL REFERENCES devices (id),
    sha256 TEXT NOT NULL,
    bytes BLOB NOT NULL,
    received_s BIGINT NOT NULL,
    PRIMARY KEY (device, sha256)
);

-- The last evidence of a device with what it answers, what was last accepted (clock and registers), and what it means.
CREATE TABLE attestations (
    device TEXT PRIMARY KEY REFERENCES devices (id),
    nonce TEXT NOT NULL,
    evidence TEXT NOT NULL,
    accepted TEXT,
    firmware_code TEXT,
    result TEXT NOT NULL
);
