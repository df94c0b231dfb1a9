-- E-mail about alerts. `fleets` is a JSON list, empty for all fleets and the server. `position` is the
-- last event of the outbox that was looked at. `seal` is a MAC, so that an attacker who writes the
-- database sends alerts to nobody else.
CREATE TABLE email_receivers (
    id TEXT PRIMARY KEY,
    address TEXT NOT NULL,
    fleets TEXT NOT NULL,
    severity TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    created_s BIGINT NOT NULL,
    position BIGINT NOT NULL,
    seal TEXT NOT NULL
);

-- E-mails on their way to a receiver. `next_s` is when the next attempt is due, NULL for none.
CREATE TABLE email_deliveries (
    receiver TEXT NOT NULL,
    number BIGINT NOT NULL,
    at_s BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    next_s BIGINT,
    answered_s BIGINT,
    status TEXT NOT NULL,
    answer TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (receiver, number)
);
CREATE INDEX email_deliveries_due ON email_deliveries (next_s) WHERE next_s IS NOT NULL;

-- Alerts about a fleet as a whole have no device: a rule has one for each fleet.
DROP INDEX alerts_active;
CREATE UNIQUE INDEX alerts_active ON alerts (device, rule, fleet) WHERE state <> 'resolved';
