-- The revocation of a release withdraws its offers in chunks of devices, rollout by rollout.
-- `withdrawn` is the last device that was checked for an offer, NULL if none is left to check.
ALTER TABLE rollouts ADD COLUMN withdrawn TEXT;
CREATE INDEX rollouts_withdrawing ON rollouts (id) WHERE withdrawn IS NOT NULL;
