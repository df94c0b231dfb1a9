-- Whether a key of the device was in its TPM once: no later one is outside of it.
ALTER TABLE devices ADD COLUMN is_in_tpm BIGINT NOT NULL DEFAULT 0;
-- Whether the next key is, which counts from its first use on.
ALTER TABLE devices ADD COLUMN next_is_in_tpm BIGINT NOT NULL DEFAULT 0;
