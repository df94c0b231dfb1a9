-- Rollouts in waves. `plan` and `waves` are JSON, NULL for a rollout to everybody at once: what an operator
-- wrote, and how far the waves are. `due_s` is when the task of the server has something to do.
ALTER TABLE rollouts ADD COLUMN pending BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rollouts ADD COLUMN unreached BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rollouts ADD COLUMN due_s BIGINT;
ALTER TABLE rollouts ADD COLUMN plan TEXT;
ALTER TABLE rollouts ADD COLUMN waves TEXT;
CREATE INDEX rollouts_due ON rollouts (due_s) WHERE due_s IS NOT NULL;

-- `wave` is the wave that took a device, `listed` the one whose list has it; `cohort` is its place in the
-- order of the waves, as 16 hexadecimal digits. All are NULL in a rollout to everybody at once.
ALTER TABLE rollout_devices ADD COLUMN wave BIGINT;
ALTER TABLE rollout_devices ADD COLUMN listed BIGINT;
ALTER TABLE rollout_devices ADD COLUMN cohort TEXT;
-- Only devices that wait are in it: a rollout to everybody at once has none.
CREATE INDEX rollout_devices_pending ON rollout_devices (rollout, wave, listed, cohort) WHERE phase = 'pending';
