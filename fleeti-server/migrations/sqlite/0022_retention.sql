-- Whether the files of a build are still on the disk: only so many are kept.
ALTER TABLE builds ADD COLUMN has_files BIGINT NOT NULL DEFAULT 1;
