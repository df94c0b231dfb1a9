-- When each line is built with refreshed packages, and what happened the last time.
CREATE TABLE refresh_schedules (
    line TEXT PRIMARY KEY,
    opens TEXT NOT NULL,
    next_s BIGINT NOT NULL,
    set_by TEXT NOT NULL,
    last_s BIGINT,
    last_build TEXT,
    last_problem TEXT
);
CREATE INDEX refresh_schedules_next ON refresh_schedules (next_s);
