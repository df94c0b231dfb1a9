-- Ids are text, times are Unix seconds, flags are integers, documents are JSON text: the same text runs on
-- PostgreSQL. Migrations only append.
CREATE TABLE devices (
    id TEXT PRIMARY KEY,
    fleet TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    last_seen_s BIGINT NOT NULL,
    key_sha256 TEXT NOT NULL,
    serial TEXT NOT NULL,
    certificate_pem TEXT NOT NULL,
    certificate_sha256 TEXT NOT NULL,
    certificate_not_after_s BIGINT NOT NULL,
    revoked_s BIGINT,
    mqtt_session BIGINT NOT NULL DEFAULT 0,
    report_sequence BIGINT NOT NULL DEFAULT 0,
    boot TEXT,
    update_state TEXT,
    progress TEXT,
    telemetry TEXT,
    desired_generation BIGINT NOT NULL DEFAULT 0,
    desired_release TEXT,
    forgiven TEXT,
    forgiveness BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX devices_by_fleet ON devices (fleet, id);

CREATE TABLE enrollments (
    token_sha256 TEXT PRIMARY KEY,
    fleet TEXT NOT NULL,
    expires_s BIGINT NOT NULL,
    device TEXT,
    key_sha256 TEXT
);

CREATE TABLE releases (
    name TEXT PRIMARY KEY,
    manifest_sha256 TEXT NOT NULL,
    manifest TEXT NOT NULL,
    signatures TEXT NOT NULL,
    published_s BIGINT NOT NULL
);

CREATE TABLE rollouts (
    id TEXT PRIMARY KEY,
    fleet TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    active BIGINT NOT NULL,
    state TEXT NOT NULL
);
CREATE INDEX rollouts_active ON rollouts (fleet, active);

CREATE TABLE commands (
    id TEXT PRIMARY KEY,
    device TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    deadline_s BIGINT NOT NULL,
    orders TEXT NOT NULL,
    status TEXT NOT NULL
);
CREATE INDEX commands_pending ON commands (device, status, created_s);

CREATE TABLE revisions (
    line TEXT NOT NULL,
    number BIGINT NOT NULL,
    digest TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (line, number)
);
CREATE UNIQUE INDEX revisions_by_digest ON revisions (line, digest);

CREATE TABLE builds (
    id TEXT PRIMARY KEY,
    release_name TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_s BIGINT NOT NULL,
    phase TEXT NOT NULL,
    lease_until_s BIGINT NOT NULL,
    request TEXT NOT NULL,
    detail TEXT NOT NULL,
    directory TEXT
);
CREATE INDEX builds_by_phase ON builds (phase, created_s);

CREATE TABLE audit (
    id TEXT PRIMARY KEY,
    at_s BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL
);
CREATE INDEX audit_by_time ON audit (at_s);

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
