-- A fleet converges: what its devices should run stands in one row, also for devices that enroll or
-- return after a rollout. `release_name` is the release of the last rollout that succeeded, NULL if
-- none did; `pinned` is what an operator pinned the fleet to, and goes first.
CREATE TABLE channels (
    fleet TEXT PRIMARY KEY,
    release_name TEXT,
    rollout TEXT,
    since_s BIGINT NOT NULL,
    pinned TEXT,
    pin_reason TEXT
);
INSERT INTO channels (fleet, release_name, rollout, since_s)
SELECT r.fleet, r.release_name, r.id, r.created_s FROM rollouts r
WHERE r.phase = 'succeeded' AND NOT EXISTS (
    SELECT 1 FROM rollouts n WHERE n.fleet = r.fleet AND n.phase = 'succeeded'
    AND (n.created_s > r.created_s OR n.created_s = r.created_s AND n.id > r.id)
);

-- What operators ordered for a device, and the version that failed on it. A hold without an end lasts
-- until an operator ends it, and so does a penalty without one; a penalty whose time is over has 0.
ALTER TABLE devices ADD COLUMN hold_reason TEXT;
ALTER TABLE devices ADD COLUMN hold_until_s BIGINT;
ALTER TABLE devices ADD COLUMN pin TEXT;
ALTER TABLE devices ADD COLUMN pin_reason TEXT;
ALTER TABLE devices ADD COLUMN penalty_version TEXT;
ALTER TABLE devices ADD COLUMN penalty_failures BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN penalty_until_s BIGINT;
