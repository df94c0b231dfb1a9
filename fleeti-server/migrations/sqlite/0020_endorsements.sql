-- Certificates that a TPM came with (DER, one behind the other), and by which makers and lists they were judged: where others
-- are believed, they are judged again. Those of before are, when their devices show them next.
ALTER TABLE device_tpms ADD COLUMN certificates BLOB NOT NULL DEFAULT x'';
ALTER TABLE device_tpms ADD COLUMN judged_by TEXT NOT NULL DEFAULT '';
CREATE INDEX device_tpms_judged_by ON device_tpms (judged_by, device);
