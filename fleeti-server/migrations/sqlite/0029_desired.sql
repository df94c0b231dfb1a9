-- A rollout sets what thousands of devices should run at once, and each had its place in the index changed. Who should run a release is
-- found by the fleets that it was rolled out to.
DROP INDEX devices_by_desired_release;
