-- A release that no device is to get any more; it stays what it was.
ALTER TABLE releases ADD COLUMN revoked_s BIGINT;
CREATE INDEX devices_by_desired_release ON devices (desired_release);
