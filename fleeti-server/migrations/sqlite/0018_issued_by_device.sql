-- A certificate is always looked for with its device. By its serial, which is random, each new one touched a page of its own.
CREATE TABLE issued_new (
    device TEXT NOT NULL REFERENCES devices (id),
    not_after_s BIGINT NOT NULL,
    serial TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    issuer TEXT NOT NULL DEFAULT '',
    pem TEXT NOT NULL,
    PRIMARY KEY (device, not_after_s, serial)
);
INSERT INTO issued_new (device, not_after_s, serial, sha256, issuer, pem)
    SELECT device, not_after_s, serial, sha256, issuer, pem FROM issued ORDER BY device, not_after_s;
DROP TABLE issued;
ALTER TABLE issued_new RENAME TO issued;
