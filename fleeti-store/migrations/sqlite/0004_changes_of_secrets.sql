-- The change of the fleet's secrets that set each of them: a device says which values it holds, and a
-- new value that does not reach the server is named by this number.
ALTER TABLE fleet_secrets ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
UPDATE fleet_secrets SET version = COALESCE(
    (SELECT v.version FROM fleet_secret_versions v WHERE v.fleet = fleet_secrets.fleet), 0
);
