-- Until when devices of a fleet whose certificates have ended renew by the keys of those.
CREATE TABLE readmissions (
    fleet TEXT PRIMARY KEY,
    until_s BIGINT NOT NULL,
    reason TEXT NOT NULL
);
