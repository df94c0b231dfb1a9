-- The packages of each release, from its SBOM, to find the devices that have one of them.
CREATE TABLE release_packages (
    package TEXT NOT NULL,
    release_name TEXT NOT NULL REFERENCES releases (name),
    version TEXT NOT NULL,
    source TEXT NOT NULL,
    source_version TEXT NOT NULL,
    PRIMARY KEY (package, release_name, version)
) WITHOUT ROWID;
CREATE INDEX release_packages_by_source ON release_packages (source);
-- Number of them; 0 for a release without an SBOM.
ALTER TABLE releases ADD COLUMN packages BIGINT NOT NULL DEFAULT 0;
-- What each device runs, without reading its wide row.
CREATE INDEX devices_images ON devices (revoked_s, id, fleet, running);
CREATE INDEX attestations_images ON attestations (device, appraised_s, level, release_name);
