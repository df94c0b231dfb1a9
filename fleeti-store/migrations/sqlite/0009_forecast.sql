-- What a forecast needs. `offered_s` is when a device was last offered the release, and `previous` is
-- what it ran when it was first offered: how long an update takes, and from what.
ALTER TABLE rollout_devices ADD COLUMN offered_s BIGINT;
ALTER TABLE rollout_devices ADD COLUMN previous TEXT;
