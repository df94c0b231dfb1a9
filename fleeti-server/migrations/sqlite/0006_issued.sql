-- Every certificate that was issued: a revocation list names all that are good of a revoked device, and a device may hold
-- two while it renews. The key that a renewal brings is its key from its first use on.
CREATE TABLE issued (
    serial TEXT PRIMARY KEY,
    device TEXT NOT NULL REFERENCES devices (id),
    sha256 TEXT NOT NULL,
    not_after_s BIGINT NOT NULL,
    pem TEXT NOT NULL
);
INSERT INTO issued (serial, device, sha256, not_after_s, pem)
    SELECT d.serial, d.id, d.certificate_sha256, d.certificate_not_after_s, c.pem FROM devices d JOIN certificates c ON c.device = d.id;
CREATE INDEX issued_by_device ON issued (device, not_after_s);
DROP TABLE certificates;
ALTER TABLE devices ADD COLUMN next_key_sha256 TEXT;
ALTER TABLE devices ADD COLUMN revocation_reason TEXT;
UPDATE devices SET revocation_reason = 'unspecified' WHERE revoked_s IS NOT NULL;
