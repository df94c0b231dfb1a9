-- Requests that were done under an Idempotency-Key, inserted in the transaction of what they did.
-- `id` and `request` are MACs and digests; `answer` is sealed by a key that is not in the database,
-- and NULL until the request was answered, or if its answer is not kept.
CREATE TABLE idempotency_keys (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    request TEXT NOT NULL,
    answer TEXT
);
CREATE INDEX idempotency_keys_account ON idempotency_keys (account, number);
