-- Alerts, the messages about them, and the history of devices.

-- When a device must be looked at next because of time (offline, drift, certificate); 0 for now. The
-- index is written when a device was looked at, not with its reports. `drift_since_s` is since when it
-- runs another release than its desired one.
ALTER TABLE devices ADD COLUMN watch_s BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN drift_since_s BIGINT;
CREATE INDEX devices_watched ON devices (revoked_s, watch_s);
CREATE INDEX devices_drifting ON devices (id) WHERE drift_since_s IS NOT NULL;

-- Rules that an operator changed or added; the shipped ones are in the program. `fleets` is a JSON list.
CREATE TABLE alert_rules (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    threshold BIGINT NOT NULL,
    severity TEXT NOT NULL,
    fleets TEXT NOT NULL,
    enabled BIGINT NOT NULL
);

-- How far devices are marked to be looked at after a change of rules: the last device of the last
-- chunk. No row if none is left.
CREATE TABLE alert_sweep (
    name TEXT PRIMARY KEY,
    reached TEXT NOT NULL
);

-- Alerts. `device` and `fleet` are '' for an alert about the server. `level` is the attestation level
-- before it fell. `silenced_until_s` is NULL if people are told.
CREATE TABLE alerts (
    id TEXT PRIMARY KEY,
    rule TEXT NOT NULL,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL,
    device TEXT NOT NULL,
    fleet TEXT NOT NULL,
    state TEXT NOT NULL,
    since_s BIGINT NOT NULL,
    changed_s BIGINT NOT NULL,
    times BIGINT NOT NULL,
    silenced_until_s BIGINT,
    level BIGINT,
    detail TEXT NOT NULL
);
-- A rule has at most one alert of a device that is not resolved.
CREATE UNIQUE INDEX alerts_active ON alerts (device, rule) WHERE state <> 'resolved';
CREATE INDEX alerts_active_by_id ON alerts (id) WHERE state <> 'resolved';
CREATE INDEX alerts_by_device ON alerts (device, rule, changed_s);
CREATE INDEX alerts_by_fleet ON alerts (fleet, id);
CREATE INDEX alerts_by_rule ON alerts (rule, fleet, changed_s);
CREATE INDEX alerts_silenced ON alerts (silenced_until_s) WHERE silenced_until_s IS NOT NULL;
CREATE INDEX alerts_resolved ON alerts (changed_s) WHERE state = 'resolved';

-- What happened to alerts.
CREATE TABLE alert_changes (
    number INTEGER PRIMARY KEY,
    alert TEXT NOT NULL,
    at_s BIGINT NOT NULL,
    state TEXT NOT NULL,
    actor TEXT NOT NULL,
    note TEXT NOT NULL
);
CREATE INDEX alert_changes_by_alert ON alert_changes (alert, number);

-- Alerts of one rule in one fleet that wait for one message, and when the last one was sent. `due_s`
-- is NULL if none wait.
CREATE TABLE alert_groups (
    rule TEXT NOT NULL,
    fleet TEXT NOT NULL,
    raised BIGINT NOT NULL,
    resolved BIGINT NOT NULL,
    due_s BIGINT,
    sent_s BIGINT NOT NULL,
    PRIMARY KEY (rule, fleet)
) WITHOUT ROWID;
CREATE INDEX alert_groups_due ON alert_groups (due_s) WHERE due_s IS NOT NULL;

-- Times in which nobody is told of alerts, by rule, fleet and device; NULL for all.
CREATE TABLE alert_silences (
    id TEXT PRIMARY KEY,
    rule TEXT,
    fleet TEXT,
    device TEXT,
    from_s BIGINT NOT NULL,
    until_s BIGINT NOT NULL,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL
);

-- Where events are sent. `kinds` is a JSON list of events, `position` the last event of the outbox
-- that was looked at, `secret` is sealed.
CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    kinds TEXT NOT NULL,
    secret TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    position BIGINT NOT NULL
);

-- Events on their way to a webhook. `next_s` is when the next attempt is due, NULL for none.
CREATE TABLE webhook_deliveries (
    webhook TEXT NOT NULL,
    number BIGINT NOT NULL,
    at_s BIGINT NOT NULL,
    kind TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_s BIGINT,
    answered_s BIGINT,
    status TEXT NOT NULL,
    answer TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (webhook, number)
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_s) WHERE next_s IS NOT NULL;

-- What a device was, as a row for each change: what it ran, which boot, and its level.
CREATE TABLE device_states (
    device TEXT NOT NULL,
    at_s BIGINT NOT NULL,
    fleet TEXT NOT NULL,
    running TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    level BIGINT NOT NULL,
    PRIMARY KEY (device, at_s)
) WITHOUT ROWID;

-- Telemetry: a row for each device and hour, and for each day beyond a month. Sums and largest values
-- of the samples; `points` has the samples of an hour as they came, for a day.
CREATE TABLE device_metrics (
    device TEXT NOT NULL,
    at_s BIGINT NOT NULL,
    span_s BIGINT NOT NULL,
    samples BIGINT NOT NULL,
    load_sum BIGINT NOT NULL,
    load_max BIGINT NOT NULL,
    memory_sum BIGINT NOT NULL,
    memory_max BIGINT NOT NULL,
    disk_sum BIGINT NOT NULL,
    disk_max BIGINT NOT NULL,
    points TEXT NOT NULL,
    PRIMARY KEY (device, span_s, at_s)
);
CREATE INDEX device_metrics_by_time ON device_metrics (span_s, at_s);
CREATE INDEX device_metrics_points ON device_metrics (at_s) WHERE points <> '';
