-- What a device may prove that it runs: what was rolled out to it, and what it came with. What it says of itself later adds nothing.
CREATE TABLE device_releases (
    device TEXT NOT NULL REFERENCES devices (id),
    release_name TEXT NOT NULL,
    PRIMARY KEY (device, release_name)
) WITHOUT ROWID;
ALTER TABLE devices ADD COLUMN running TEXT;
ALTER TABLE devices ADD COLUMN came_with TEXT;
-- Of devices of before nobody knows better than what they ran until now.
UPDATE devices SET running = json_extract(boot, '$.running'), came_with = json_extract(boot, '$.running') WHERE boot IS NOT NULL;
INSERT INTO device_releases (device, release_name)
    SELECT id, desired_release FROM devices WHERE desired_release IS NOT NULL
    UNION SELECT device, release_name FROM attestations WHERE release_name IS NOT NULL
    UNION SELECT k.device, k.loader_release FROM boot_keys k JOIN devices d ON d.id = k.device WHERE k.loader_release IS NOT NULL
    UNION SELECT p.key, r.release_name FROM rollouts r, json_each(r.state, '$.devices') p JOIN devices d ON d.id = p.key
        WHERE json_extract(p.value, '$.type') <> 'held';
