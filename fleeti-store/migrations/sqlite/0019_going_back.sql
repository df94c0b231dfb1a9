-- Rollouts that go back. `next` is the rollout that starts when the last offer of this one is withdrawn.
-- `back_of` is the rollout whose devices go back to what they ran before; NULL for every other rollout.
ALTER TABLE rollouts ADD COLUMN next TEXT;
ALTER TABLE rollouts ADD COLUMN back_of TEXT;
CREATE INDEX rollouts_ready ON rollouts (id) WHERE phase = 'ready';
CREATE INDEX rollouts_by_next ON rollouts (next) WHERE next IS NOT NULL;
-- Whether a device goes back to its desired release.
ALTER TABLE devices ADD COLUMN desired_back BIGINT NOT NULL DEFAULT 0;

-- Blocked devices of a rollout, which its page counts.
CREATE INDEX rollout_devices_blocked ON rollout_devices (rollout) WHERE phase = 'blocked';
