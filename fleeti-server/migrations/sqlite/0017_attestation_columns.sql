-- What is looked for among many devices comes first, and what is long last: a row is read from its beginning, and what does not
-- fit its page lies on others.
CREATE TABLE attestations_anew (
    device TEXT PRIMARY KEY REFERENCES devices (id),
    level BIGINT NOT NULL,
    appraised_s BIGINT NOT NULL,
    release_name TEXT,
    update_level BIGINT NOT NULL,
    firmware_code TEXT,
    accepted TEXT,
    nonce TEXT NOT NULL,
    result TEXT NOT NULL,
    evidence TEXT NOT NULL
);
INSERT INTO attestations_anew (device, level, appraised_s, release_name, update_level, firmware_code, accepted, nonce, result, evidence)
    SELECT device, level, appraised_s, release_name, update_level, firmware_code, accepted, nonce, result, evidence FROM attestations;
DROP TABLE attestations;
ALTER TABLE attestations_anew RENAME TO attestations;
CREATE INDEX attestations_by_release ON attestations (release_name);
