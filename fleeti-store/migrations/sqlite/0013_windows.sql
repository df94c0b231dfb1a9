-- Update windows. Those of a fleet are part of the desired state of each of its devices, so they are not
-- inside its policy: one column is read for thousands of devices.
ALTER TABLE attestation_policies ADD COLUMN windows TEXT;
-- Until when a device may skip them.
ALTER TABLE devices ADD COLUMN skip_windows_until_s BIGINT;
-- What the update of a device waits for, and its time zone, as it reports them.
ALTER TABLE devices ADD COLUMN waits TEXT;
ALTER TABLE devices ADD COLUMN time_zone TEXT;
