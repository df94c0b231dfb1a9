-- Ids are text, times are Unix seconds, flags are integers, and documents are JSON text: the same text
-- runs on PostgreSQL. Migrations only append.

-- Devices, with the last report of each. What lists and counts read stands in columns of its own,
-- so that no list reads documents.
CREATE TABLE devices (
    id TEXT PRIMARY KEY,
    fleet TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    last_seen_s BIGINT NOT NULL,
    key_sha256 TEXT NOT NULL,
    serial TEXT NOT NULL,
    certificate_sha256 TEXT NOT NULL,
    certificate_not_after_s BIGINT NOT NULL,
    revoked_s BIGINT,
    report_sequence BIGINT NOT NULL DEFAULT 0,
    boot TEXT,
    update_state TEXT,
    progress TEXT,
    telemetry TEXT,
    desired_generation BIGINT NOT NULL DEFAULT 0,
    desired_release TEXT,
    forgiven TEXT,
    forgiveness BIGINT NOT NULL DEFAULT 0,
    update_kind TEXT NOT NULL DEFAULT 'idle',
    next_key_sha256 TEXT,
    revocation_reason TEXT,
    boot_change BIGINT,
    trust_bundle BIGINT NOT NULL DEFAULT 0,
    alarm TEXT,
    is_in_tpm BIGINT NOT NULL DEFAULT 0,
    next_is_in_tpm BIGINT NOT NULL DEFAULT 0,
    attestation_failure TEXT,
    running TEXT,
    came_with TEXT,
    successors BIGINT NOT NULL DEFAULT 0,
    successor_s BIGINT NOT NULL DEFAULT 0,
    clone_alarm TEXT,
    mqtt_until_s BIGINT NOT NULL DEFAULT 0,
    mqtt_subscriptions BIGINT NOT NULL DEFAULT 0,
    report_epoch TEXT,
    report_refused TEXT
);
CREATE INDEX devices_by_fleet ON devices (fleet, id);
CREATE INDEX devices_by_update ON devices (revoked_s, update_kind);
CREATE INDEX devices_of_fleets ON devices (fleet, revoked_s);
CREATE INDEX devices_by_alarm ON devices (alarm) WHERE alarm IS NOT NULL;
CREATE INDEX devices_by_clone_alarm ON devices (clone_alarm) WHERE clone_alarm IS NOT NULL;

-- One-time enrollment tokens, by SHA-256. A token is for any device of a fleet, or for one device,
-- key or TPM alone.
CREATE TABLE enrollments (
    token_sha256 TEXT PRIMARY KEY,
    fleet TEXT NOT NULL,
    expires_s BIGINT NOT NULL,
    device TEXT,
    key_sha256 TEXT,
    reserved TEXT,
    ek_sha256 TEXT,
    for_key_sha256 TEXT
);

-- Published releases. `audit_number` is the entry of the audit log that published it;
-- `boot_proof` says that it boots as its manifest promises, as release keys have signed it.
CREATE TABLE releases (
    name TEXT PRIMARY KEY,
    manifest_sha256 TEXT NOT NULL,
    manifest TEXT NOT NULL,
    signatures TEXT NOT NULL,
    published_s BIGINT NOT NULL,
    audit_number BIGINT,
    revoked_s BIGINT,
    boot_proof TEXT,
    boot_proof_signatures TEXT
);

-- Rollouts. The counters follow `rollout_devices` by differences. `reached` is the last device of the
-- last chunk while a rollout starts or is aborted; `appraised` is the last device that was compared
-- with a new policy of its fleet, NULL if none is left.
CREATE TABLE rollouts (
    id TEXT PRIMARY KEY,
    fleet TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    active BIGINT NOT NULL,
    release_name TEXT NOT NULL,
    phase TEXT NOT NULL,
    total BIGINT NOT NULL DEFAULT 0,
    succeeded BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0,
    moving BIGINT NOT NULL DEFAULT 0,
    unconfirmed BIGINT NOT NULL DEFAULT 0,
    reached TEXT NOT NULL DEFAULT '',
    appraised TEXT
);
-- At most one rollout of a fleet is active.
CREATE UNIQUE INDEX rollouts_active ON rollouts (fleet) WHERE active = 1;
CREATE INDEX rollouts_by_time ON rollouts (created_s);

-- Devices of rollouts. `category` is what the counters count the phase as; `detail` is JSON, what a
-- phase carries beside its name.
CREATE TABLE rollout_devices (
    rollout TEXT NOT NULL REFERENCES rollouts (id),
    device TEXT NOT NULL REFERENCES devices (id),
    phase TEXT NOT NULL,
    category TEXT NOT NULL,
    since_s BIGINT NOT NULL,
    detail TEXT,
    PRIMARY KEY (rollout, device)
) WITHOUT ROWID;
CREATE INDEX rollout_devices_by_category ON rollout_devices (rollout, category, device);

-- Commands to devices. A command is sent again until the device acknowledges it or it expires.
CREATE TABLE commands (
    id TEXT PRIMARY KEY,
    device TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    deadline_s BIGINT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL
);
CREATE INDEX commands_pending ON commands (device, status, created_s);

-- Immutable revisions of profiles. `document` is the resolved profile, `text` is what its author wrote,
-- NULL if the profile came as JSON.
CREATE TABLE revisions (
    line TEXT NOT NULL,
    number BIGINT NOT NULL,
    digest TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    document TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    text TEXT,
    PRIMARY KEY (line, number)
);
CREATE INDEX revisions_by_digest ON revisions (line, digest);

-- Builds. `lease` belongs to the worker that has the build until `lease_until_s`; `attempts` limits
-- how often a build is taken up again after its worker was lost. `signing` is the lease for signing.
CREATE TABLE builds (
    id TEXT PRIMARY KEY,
    release_name TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_s BIGINT NOT NULL,
    phase TEXT NOT NULL,
    lease_until_s BIGINT NOT NULL,
    request TEXT NOT NULL,
    detail TEXT NOT NULL,
    directory TEXT,
    signing TEXT,
    signing_detail TEXT NOT NULL DEFAULT '',
    attempts BIGINT NOT NULL DEFAULT 0,
    signing_attempts BIGINT NOT NULL DEFAULT 0,
    has_files BIGINT NOT NULL DEFAULT 1,
    worker TEXT NOT NULL DEFAULT '',
    lease TEXT NOT NULL DEFAULT ''
);
CREATE INDEX builds_by_phase ON builds (phase, created_s);

-- Named counters.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

-- Sessions of people in the browser, by SHA-256 of their token. A session ends with the credential
-- that began it.
CREATE TABLE sessions (
    token_sha256 TEXT PRIMARY KEY,
    created_s BIGINT NOT NULL,
    expires_s BIGINT NOT NULL,
    credential_sha256 TEXT NOT NULL DEFAULT ''
);

-- Acts that the audit log does not have yet, written in the transaction that they are about. The
-- signer keeps the log.
CREATE TABLE audit_outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    at_s BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL
);

-- Secure Boot keys of each device: what only the signer can open, what the firmware should hold, and
-- the last change. A device may have them before it enrolls.
CREATE TABLE boot_keys (
    device TEXT PRIMARY KEY,
    created_s BIGINT NOT NULL,
    wrapped TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    expected TEXT NOT NULL,
    loader_release TEXT,
    change_number BIGINT NOT NULL DEFAULT 0,
    change_writes TEXT NOT NULL DEFAULT '[]',
    may_end_fallback BIGINT NOT NULL DEFAULT 0
);

-- Signatures of a device's own key over the EFI binaries of a release, by the newest epoch of then.
CREATE TABLE boot_signatures (
    device TEXT NOT NULL,
    release_name TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    binaries TEXT NOT NULL,
    PRIMARY KEY (device, release_name)
);

-- Requests that the server's keys sign a build, and the approvals of people. Nothing here is trusted:
-- the signer verifies every signature.
CREATE TABLE signature_requests (
    build TEXT PRIMARY KEY,
    intent TEXT NOT NULL,
    key_id TEXT NOT NULL,
    signature TEXT NOT NULL,
    created_s BIGINT NOT NULL
);

-- Approvals of people, beside the request.
CREATE TABLE signature_approvals (
    build TEXT NOT NULL,
    key_id TEXT NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (build, key_id)
);

-- The intermediate that signs, for each purpose: an operator's choice among those that are trusted.
CREATE TABLE issuing (
    purpose TEXT PRIMARY KEY,
    certificate_sha256 TEXT NOT NULL
);

-- Devices that show a pairing code. The token becomes the device's enrollment token when an operator
-- enters the code.
CREATE TABLE pairings (
    token_sha256 TEXT PRIMARY KEY,
    code_sha256 TEXT NOT NULL UNIQUE,
    key_sha256 TEXT NOT NULL,
    running TEXT NOT NULL,
    expires_s BIGINT NOT NULL
);
CREATE INDEX pairings_by_end ON pairings (expires_s);

-- The TPM that each device has proved to be its own. Keys are base64 of their public areas;
-- certificates are DER, one behind the other. `judged_by` is the digest of the manufacturers and CRLs
-- that judged them: when those change, the certificates are judged again.
CREATE TABLE device_tpms (
    device TEXT PRIMARY KEY REFERENCES devices (id),
    ek_sha256 TEXT NOT NULL UNIQUE,
    endorsement_key TEXT NOT NULL,
    attestation_key TEXT NOT NULL UNIQUE,
    manufacturer TEXT,
    description TEXT NOT NULL,
    bound_s BIGINT NOT NULL,
    certificates BLOB NOT NULL DEFAULT x'',
    judged_by TEXT NOT NULL DEFAULT ''
);
CREATE INDEX device_tpms_judged_by ON device_tpms (judged_by, device);

-- Firmware's event logs, by their content; a device sends each once a boot.
CREATE TABLE evidence_logs (
    device TEXT NOT NULL REFERENCES devices (id),
    sha256 TEXT NOT NULL,
    bytes BLOB NOT NULL,
    received_s BIGINT NOT NULL,
    PRIMARY KEY (device, sha256)
);

-- Appraisal policies of fleets, where they are not the default.
CREATE TABLE attestation_policies (
    fleet TEXT PRIMARY KEY,
    policy TEXT NOT NULL
);

-- Recovery keys of devices' data partitions, wrapped for the signer alone.
CREATE TABLE recovery_keys (
    device TEXT PRIMARY KEY REFERENCES devices (id),
    wrapped TEXT NOT NULL,
    key_sha256 TEXT NOT NULL,
    kept_s BIGINT NOT NULL,
    shown_s BIGINT,
    previous TEXT
);

-- Secrets of fleets, wrapped for the signer alone.
CREATE TABLE fleet_secrets (
    fleet TEXT NOT NULL,
    name TEXT NOT NULL,
    wrapped TEXT NOT NULL,
    changed_s BIGINT NOT NULL,
    PRIMARY KEY (fleet, name)
);

-- How often the secrets of a fleet have changed.
CREATE TABLE fleet_secret_versions (
    fleet TEXT PRIMARY KEY,
    version BIGINT NOT NULL
);

-- The last evidence of each device and its attestation result. Short columns come first: a row is
-- read from its beginning, and what does not fit its page lies on others.
CREATE TABLE attestations (
    device TEXT PRIMARY KEY REFERENCES devices (id),
    level BIGINT NOT NULL,
    appraised_s BIGINT NOT NULL,
    release_name TEXT,
    update_level BIGINT NOT NULL,
    firmware_code TEXT,
    accepted TEXT,
    nonce TEXT NOT NULL,
    result TEXT NOT NULL,
    evidence TEXT NOT NULL
);
CREATE INDEX attestations_by_release ON attestations (release_name);

-- Every certificate that was issued. A certificate is always looked up with its device; an index by
-- its random serial would touch a page of its own for each new one.
CREATE TABLE issued (
    device TEXT NOT NULL REFERENCES devices (id) DEFERRABLE INITIALLY DEFERRED,
    not_after_s BIGINT NOT NULL,
    serial TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    issuer TEXT NOT NULL DEFAULT '',
    pem TEXT NOT NULL,
    key_sha256 TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (device, not_after_s, serial)
);
CREATE INDEX issued_by_end ON issued (not_after_s);

-- Releases that a device may prove that it runs: those that were rolled out to it before, and the one
-- that it was installed with. Its present one is `devices.desired_release`.
CREATE TABLE device_releases (
    device TEXT NOT NULL REFERENCES devices (id),
    release_name TEXT NOT NULL,
    PRIMARY KEY (device, release_name)
) WITHOUT ROWID;

-- Certificates that were replaced before they were used. Their keys are refused, and the CRL names
-- them with the others of their device when it is revoked.
CREATE TABLE superseded (
    device TEXT NOT NULL REFERENCES devices (id),
    not_after_s BIGINT NOT NULL,
    serial TEXT NOT NULL,
    issuer TEXT NOT NULL,
    PRIMARY KEY (device, not_after_s, serial)
) WITHOUT ROWID;
CREATE INDEX superseded_by_end ON superseded (not_after_s);

-- SHA-256 of each SubjectPublicKeyInfo that a device has used: each key is one device's, for ever. The
-- index has random keys; it has only the first eight bytes of the digest, so that many share a page.
-- A reference that is checked at the commit lets SQLite insert many rows without copying each page
-- first.
CREATE TABLE device_keys (
    key_prefix BIGINT NOT NULL UNIQUE,
    key_sha256 TEXT NOT NULL,
    device TEXT NOT NULL REFERENCES devices (id) DEFERRABLE INITIALLY DEFERRED
);

-- Bundles of intermediates as the root signed them; verified whenever they are read.
CREATE TABLE trust_bundles (
    root_sha256 TEXT NOT NULL,
    version BIGINT NOT NULL,
    bundle TEXT NOT NULL,
    signature TEXT NOT NULL,
    transcript TEXT NOT NULL,
    imported_s BIGINT NOT NULL,
    PRIMARY KEY (root_sha256, version)
);

-- Transitions from old trust anchors to new ones, as they were signed. They are kept for ever, because
-- a device may have been away for years.
CREATE TABLE transitions (
    sha256 TEXT PRIMARY KEY,
    signed TEXT NOT NULL,
    imported_s BIGINT NOT NULL
);

-- Fleets whose devices may come back in bulk with a new key, by an operator's approval.
CREATE TABLE readmissions (
    fleet TEXT PRIMARY KEY,
    until_s BIGINT NOT NULL,
    reason TEXT NOT NULL
);

-- Build workers, by SHA-256 of their token.
CREATE TABLE workers (
    name TEXT PRIMARY KEY,
    token_sha256 TEXT NOT NULL UNIQUE,
    created_s BIGINT NOT NULL,
    seen_s BIGINT
);

-- What happened, in order: the outbox from which other programs are told.
CREATE TABLE domain_events (
    number INTEGER PRIMARY KEY,
    at_s BIGINT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL
);

-- The server that is active on this database, or was the last one.
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    host TEXT NOT NULL,
    pid BIGINT NOT NULL,
    since_s BIGINT NOT NULL
);
