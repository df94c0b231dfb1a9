-- Secure Boot keys of one device each: what only the signer can open, what the firmware should hold, and the last change.
-- A device may have them before it enrolls.
CREATE TABLE boot_keys (
    device TEXT PRIMARY KEY,
    created_s BIGINT NOT NULL,
    wrapped TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    expected TEXT NOT NULL,
    loader_release TEXT,
    change_number BIGINT NOT NULL DEFAULT 0,
    change_writes TEXT NOT NULL DEFAULT '[]',
    may_end_fallback BIGINT NOT NULL DEFAULT 0
);
-- A device's signatures over the programs of a release, by the key of its newest epoch then.
CREATE TABLE boot_signatures (
    device TEXT NOT NULL,
    release_name TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    programs TEXT NOT NULL,
    PRIMARY KEY (device, release_name)
);
ALTER TABLE devices ADD COLUMN boot_change BIGINT;
-- The device that a token is for, and the TPM that must bring it.
ALTER TABLE enrollments ADD COLUMN reserved TEXT;
ALTER TABLE enrollments ADD COLUMN ek_sha256 TEXT;
