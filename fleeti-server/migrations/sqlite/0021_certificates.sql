-- The key of a certificate: the same key gets the same certificate again. Empty for some of before.
ALTER TABLE issued ADD COLUMN key_sha256 TEXT NOT NULL DEFAULT '';
UPDATE issued SET key_sha256 = (SELECT COALESCE(d.next_key_sha256, d.key_sha256) FROM devices d WHERE d.id = issued.device)
    WHERE EXISTS (SELECT 1 FROM devices d WHERE d.id = issued.device AND d.serial = issued.serial);
-- What has ended is deleted; ends come in their order, so this index grows at its end.
CREATE INDEX issued_by_end ON issued (not_after_s);

-- Certificates that were replaced by another one before anybody used them. The server takes their keys no more; a revocation list
-- names them with the others of their device.
CREATE TABLE superseded (
    device TEXT NOT NULL REFERENCES devices (id),
    not_after_s BIGINT NOT NULL,
    serial TEXT NOT NULL,
    issuer TEXT NOT NULL,
    PRIMARY KEY (device, not_after_s, serial)
) WITHOUT ROWID;
CREATE INDEX superseded_by_end ON superseded (not_after_s);

-- Keys by SHA-256 of their SubjectPublicKeyInfo: each is one device's, for ever.
CREATE TABLE device_keys (
    key_sha256 TEXT PRIMARY KEY,
    device TEXT NOT NULL REFERENCES devices (id)
) WITHOUT ROWID;
INSERT OR IGNORE INTO device_keys (key_sha256, device) SELECT key_sha256, id FROM devices ORDER BY created_s, id;
INSERT OR IGNORE INTO device_keys (key_sha256, device)
    SELECT next_key_sha256, id FROM devices WHERE next_key_sha256 IS NOT NULL ORDER BY created_s, id;

-- New certificates that renewals brought lately, and when the last one was.
ALTER TABLE devices ADD COLUMN successors BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN successor_s BIGINT NOT NULL DEFAULT 0;
-- What the server has noticed of clients that take turns with the device's certificate, in words.
ALTER TABLE devices ADD COLUMN clone_alarm TEXT;
CREATE INDEX devices_by_clone_alarm ON devices (clone_alarm) WHERE clone_alarm IS NOT NULL;
