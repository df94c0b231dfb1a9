-- What fleets ask of their devices, where it is not what is usual.
CREATE TABLE attestation_policies (
    fleet TEXT PRIMARY KEY,
    policy TEXT NOT NULL
);

-- Of the last result, what is looked for among many: its level (0 to 5), when it was found, and the release.
ALTER TABLE attestations ADD COLUMN level BIGINT NOT NULL DEFAULT 0;
ALTER TABLE attestations ADD COLUMN appraised_s BIGINT NOT NULL DEFAULT 0;
ALTER TABLE attestations ADD COLUMN release_name TEXT;
-- The level as far as an update is concerned.
ALTER TABLE attestations ADD COLUMN update_level BIGINT NOT NULL DEFAULT 0;
UPDATE attestations SET
    level = CASE json_extract(result, '$.level')
        WHEN 'token' THEN 1 WHEN 'unverified_tpm' THEN 2 WHEN 'observed_boot' THEN 3
        WHEN 'verified_boot' THEN 4 WHEN 'verified_firmware' THEN 5 ELSE 0 END,
    appraised_s = json_extract(result, '$.appraised_s'),
    release_name = json_extract(result, '$.release');
UPDATE attestations SET update_level = level;

-- What contradicts what was promised of a device, in words.
ALTER TABLE devices ADD COLUMN contradiction TEXT;
CREATE INDEX attestations_by_release ON attestations (release_name);
