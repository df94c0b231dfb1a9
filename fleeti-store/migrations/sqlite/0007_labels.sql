-- Names, notes and labels of devices, and what filters of devices look at. `name_key` is the name in
-- lower case, `version_key` the running version as a text that sorts by its bytes, `seen_step` when
-- the device was last heard of, in steps of 15 minutes: an index on the time itself would be written
-- with each message. A device that does not report has no `version_key` until it does.
ALTER TABLE devices ADD COLUMN name TEXT;
ALTER TABLE devices ADD COLUMN name_key TEXT;
ALTER TABLE devices ADD COLUMN note TEXT;
ALTER TABLE devices ADD COLUMN version_key TEXT;
ALTER TABLE devices ADD COLUMN seen_step BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN replaced_by TEXT;
UPDATE devices SET seen_step = last_seen_s / 900;

-- A page of a filtered list reads this index from the last id of the page before, and no row of a
-- device that is not on the page.
CREATE INDEX devices_searched ON devices (id, fleet, revoked_s, update_kind, running, version_key, seen_step, name_key);
CREATE INDEX devices_by_name ON devices (name_key) WHERE name_key IS NOT NULL;
CREATE INDEX devices_with_note ON devices (id) WHERE note IS NOT NULL;
CREATE INDEX devices_with_refused_report ON devices (id) WHERE report_refused IS NOT NULL;
CREATE INDEX devices_with_failed_attestation ON devices (id) WHERE attestation_failure IS NOT NULL;

-- Keys of labels. `type` is text, number, boolean or choice; `choices` is a JSON list.
CREATE TABLE label_keys (
    label_key TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    choices TEXT NOT NULL,
    created_s BIGINT NOT NULL
);

-- Labels of devices. `number` is the value of a label whose key has the type number. The devices of
-- a key, and those of a value, are in the order of their ids, as pages are.
CREATE TABLE device_labels (
    label_key TEXT NOT NULL REFERENCES label_keys (label_key),
    device TEXT NOT NULL REFERENCES devices (id),
    value TEXT NOT NULL,
    number BIGINT,
    PRIMARY KEY (label_key, device)
) WITHOUT ROWID;
CREATE INDEX device_labels_by_value ON device_labels (label_key, value, device);
CREATE INDEX device_labels_of_device ON device_labels (device);

-- Saved views: filters with a name.
CREATE TABLE views (
    name TEXT PRIMARY KEY,
    filter TEXT NOT NULL,
    account TEXT NOT NULL,
    saved_s BIGINT NOT NULL
);
