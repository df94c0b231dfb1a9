-- How long an MQTT session outlasts its connection, and what it has subscribed: until when, Unix seconds, 0 without a session; two
-- bits for each topic, QoS and 1. Sessions of before subscribe again.
ALTER TABLE devices ADD COLUMN mqtt_until_s BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN mqtt_subscriptions BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices DROP COLUMN mqtt_session;
