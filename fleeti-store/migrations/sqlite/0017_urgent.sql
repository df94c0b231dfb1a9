-- Urgent rollouts: `urgent` is the reason, NULL for every other rollout.
ALTER TABLE rollouts ADD COLUMN urgent TEXT;
-- Until when a device may skip its windows for its desired release, which an urgent rollout offered.
ALTER TABLE devices ADD COLUMN urgent_until_s BIGINT;
-- Whether the pin of a device is a downgrade: it goes back to a release that it ran before.
ALTER TABLE devices ADD COLUMN pin_back BIGINT NOT NULL DEFAULT 0;
-- The packages that a build refreshed, a JSON list; NULL for all, or none. Lists of builds have it.
ALTER TABLE builds ADD COLUMN refreshed TEXT;
