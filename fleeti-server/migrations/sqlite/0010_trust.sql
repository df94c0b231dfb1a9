-- Bundles of intermediates as the root signed them; verified again whenever they are read. Which one signs is a choice of
-- an operator among those that count.
CREATE TABLE trust_bundles (
    version BIGINT PRIMARY KEY,
    bundle TEXT NOT NULL,
    signature TEXT NOT NULL,
    transcript TEXT NOT NULL,
    imported_s BIGINT NOT NULL
);
CREATE TABLE issuing (
    purpose TEXT PRIMARY KEY,
    certificate_sha256 TEXT NOT NULL
);
-- The intermediate that signed a certificate; empty for those that there were before.
ALTER TABLE issued ADD COLUMN issuer TEXT NOT NULL DEFAULT '';
-- The bundle that a device has taken, and what it has noticed of its server.
ALTER TABLE devices ADD COLUMN trust_bundle BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN alarm TEXT;
CREATE INDEX devices_by_alarm ON devices (alarm) WHERE alarm IS NOT NULL;
