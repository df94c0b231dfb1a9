-- Commands that tell their progress, can be cancelled and have results.

-- Progress, or the result or the reason in words; when the state changed; and who sent the command.
ALTER TABLE commands ADD COLUMN detail TEXT NOT NULL DEFAULT '';
ALTER TABLE commands ADD COLUMN changed_s BIGINT NOT NULL DEFAULT 0;
ALTER TABLE commands ADD COLUMN sent_by TEXT NOT NULL DEFAULT '';
-- Size of the stored result, bytes; NULL if there is none.
ALTER TABLE commands ADD COLUMN result_bytes BIGINT;
CREATE INDEX commands_by_device ON commands (device, created_s, id);
CREATE INDEX commands_by_time ON commands (created_s);

-- Results of commands, as the devices sent them.
CREATE TABLE command_results (
    command TEXT PRIMARY KEY,
    device TEXT NOT NULL,
    at_s BIGINT NOT NULL,
    result BLOB NOT NULL
);
CREATE INDEX command_results_by_device ON command_results (device, at_s);
CREATE INDEX command_results_by_time ON command_results (at_s);
