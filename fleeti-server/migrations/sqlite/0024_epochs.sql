-- A device's reports are numbered within an epoch, which is another one with each start of its agent.
ALTER TABLE devices ADD COLUMN report_epoch TEXT;
-- Why the last report was refused; none once one was taken.
ALTER TABLE devices ADD COLUMN report_refused TEXT;
-- Bundles are numbered by their root.
CREATE TABLE bundles_by_root (
    root_sha256 TEXT NOT NULL,
    version BIGINT NOT NULL,
    bundle TEXT NOT NULL,
    signature TEXT NOT NULL,
    transcript TEXT NOT NULL,
    imported_s BIGINT NOT NULL,
    PRIMARY KEY (root_sha256, version)
);
INSERT INTO bundles_by_root SELECT json_extract(bundle, '$.root_sha256'), version, bundle, signature, transcript, imported_s FROM trust_bundles;
DROP TABLE trust_bundles;
ALTER TABLE bundles_by_root RENAME TO trust_bundles;
-- What old anchors say of new ones, as it was signed; kept for ever, because a device may have been away for years.
CREATE TABLE transitions (
    sha256 TEXT PRIMARY KEY,
    signed TEXT NOT NULL,
    imported_s BIGINT NOT NULL
);
