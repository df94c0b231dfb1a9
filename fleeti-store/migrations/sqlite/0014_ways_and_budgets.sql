-- What operators say about the ways to a release: `floor` is why devices with a lower version must run it
-- before a higher one, NULL if it is no floor; `blocked` is a JSON list of versions that are not offered it.
CREATE TABLE release_paths (
    release_name TEXT PRIMARY KEY REFERENCES releases (name),
    floor TEXT,
    blocked TEXT NOT NULL
);

-- `queued` counts the devices that wait for their group or for their next attempt.
ALTER TABLE rollouts ADD COLUMN queued BIGINT NOT NULL DEFAULT 0;

-- `via` is the floor that a device was last offered on its way, `retries` how often it failed and was tried
-- again, `retry_s` when its pause ends, `budget_group` its group; all but `retries` are NULL for most devices.
ALTER TABLE rollout_devices ADD COLUMN via TEXT;
ALTER TABLE rollout_devices ADD COLUMN retries BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rollout_devices ADD COLUMN retry_s BIGINT;
ALTER TABLE rollout_devices ADD COLUMN budget_group TEXT;
-- Only devices that wait are in these.
CREATE INDEX rollout_devices_retrying ON rollout_devices (rollout, retry_s) WHERE retry_s IS NOT NULL;
CREATE INDEX rollout_devices_queued ON rollout_devices (rollout, budget_group, wave, cohort) WHERE phase = 'queued';

-- Groups of a rollout with a budget: how many devices they have, and how many use a place.
CREATE TABLE rollout_groups (
    rollout TEXT NOT NULL REFERENCES rollouts (id),
    budget_group TEXT NOT NULL,
    total BIGINT NOT NULL,
    in_use BIGINT NOT NULL,
    PRIMARY KEY (rollout, budget_group)
) WITHOUT ROWID;
