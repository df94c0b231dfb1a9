-- Urgent rollouts: `urgent` is the reason, NULL for every other rollout.
ALTER TABLE rollouts ADD COLUMN urgent TEXT;
-- Until when a device may skip its windows for its desired release, which an urgent rollout offered.
ALTER TABLE devices ADD COLUMN urgent_until_s BIGINT;
-- The packages that a build refreshed, a JSON list; NULL for all, or none. Lists of builds have it.
ALTER TABLE builds ADD COLUMN refreshed TEXT;
