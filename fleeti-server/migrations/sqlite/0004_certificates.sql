-- A certificate is written once a month and a device's row with every report and every grant: the row is small now.
CREATE TABLE certificates (
    device TEXT PRIMARY KEY,
    pem TEXT NOT NULL
);
INSERT INTO certificates (device, pem) SELECT id, certificate_pem FROM devices;
ALTER TABLE devices DROP COLUMN certificate_pem;
