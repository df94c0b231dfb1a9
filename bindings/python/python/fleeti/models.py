# Generated from fleeti-server/openapi.json by `cargo xtask sdk`.
"""What the API of a Fleeti server reads and writes.

Each class is immutable. `from_json` reads a value and raises `AnswerError` for one of another form;
`to_json` writes it. A field that is absent is `None`, or `()` for a list. A name that is a word of
Python has an underscore at its end: `from_`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from . import _base


class About(_base.Model):
    """`POST /devices/{device}/about`: changes its name and note. What is absent stays; an empty text
    removes.
    """

    name: str | None = None
    """The name."""
    note: str | None = None
    """The note."""

    @classmethod
    def _read(cls, value: Any) -> About:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": None if (y := get("name")) is None else _base.text(y),
                "note": None if (y := get("note")) is None else _base.text(y),
            },
        )


class Account(_base.Model):
    """An account."""

    name: AccountName
    """Its name, which the audit log shows. It is never given to another account."""
    kind: AccountKind
    """Who it is for."""
    grants: Sequence[Grant]
    """Its roles."""
    created_s: int
    """When it was added, Unix seconds."""
    has_password: bool
    """Whether it has a password."""
    disabled_s: int | None = None
    """When it was disabled, Unix seconds."""

    @classmethod
    def _read(cls, value: Any) -> Account:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "kind": _base.choice(value["kind"]),
                "grants": [Grant._read(x) for x in _base.items(value["grants"])],
                "created_s": _base.integer(value["created_s"]),
                "has_password": _base.boolean(value["has_password"]),
                "disabled_s": None if (y := get("disabled_s")) is None else _base.integer(y),
            },
        )


class AccountDetails(_base.Model):
    """An account with everything that accepts its holder."""

    account: Account
    """The account."""
    sessions: Sequence[LoginSession]
    """Its login sessions."""
    tokens: Sequence[ApiToken]
    """Its API tokens."""
    passkeys: Sequence[Passkey]
    """Its passkeys."""
    open_enrollments: int
    """Number of enrollment tokens that it created and that no device has used."""
    elsewhere: Sequence[str]
    """What else may accept the person, which the server cannot end."""

    @classmethod
    def _read(cls, value: Any) -> AccountDetails:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "account": Account._read(value["account"]),
                "sessions": [LoginSession._read(x) for x in _base.items(value["sessions"])],
                "tokens": [ApiToken._read(x) for x in _base.items(value["tokens"])],
                "passkeys": [Passkey._read(x) for x in _base.items(value["passkeys"])],
                "open_enrollments": _base.integer(value["open_enrollments"]),
                "elsewhere": [_base.text(x) for x in _base.items(value["elsewhere"])],
            },
        )


class AcknowledgeAlert(_base.Model):
    """`POST /alerts/{alert}/acknowledge`."""

    note: str | None = None
    """What the operator does about it; may be empty."""

    @classmethod
    def _read(cls, value: Any) -> AcknowledgeAlert:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "note": None if (y := get("note")) is None else _base.text(y),
            },
        )


class AddReceiver(_base.Model):
    """`POST /email-receivers`."""

    address: EmailAddress
    """Where e-mail is sent."""
    severity: AlertSeverity
    """Lowest severity of alerts that are sent."""
    fleets: Sequence[FleetId] = ()
    """Only alerts about these fleets; empty for all fleets and the server itself."""

    @classmethod
    def _read(cls, value: Any) -> AddReceiver:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "address": _base.text(value["address"]),
                "severity": _base.choice(value["severity"]),
                "fleets": () if (y := get("fleets")) is None else [_base.text(x) for x in _base.items(y)],
            },
        )


class AddTpmManufacturers(_base.Model):
    """`POST /tpm-manufacturers`: adds trusted certificates of TPM manufacturers."""

    kind: TpmKind
    """What kind of TPM the manufacturers make."""
    file: str
    """A file as the manufacturer publishes it (PEM, DER or PKCS#7), base64; at most 512 KiB before
    encoding.
    """

    @classmethod
    def _read(cls, value: Any) -> AddTpmManufacturers:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "kind": _base.choice(value["kind"]),
                "file": _base.text(value["file"]),
            },
        )


class Alert(_base.Model):
    """An alert."""

    id: str
    """Alert id."""
    rule: str
    """The rule that raised it."""
    kind: Kind
    """What the rule watches."""
    severity: AlertSeverity
    """Severity of the rule when the alert began."""
    state: State
    """State of the alert."""
    detail: str
    """What it is about, in words."""
    since_s: int
    """When it began."""
    changed_s: int
    """When its state began."""
    times: int
    """How often it opened: more than once if it came back within an hour of its end."""
    device: DeviceId | None = None
    """The device that it is about; absent if it is about a fleet or the server."""
    fleet: FleetId | None = None
    """The fleet of the device, or the fleet that it is about; absent if it is about the server."""
    silenced_until_s: int | None = None
    """Until when nobody is told of it; absent if people are told."""

    @classmethod
    def _read(cls, value: Any) -> Alert:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "rule": _base.text(value["rule"]),
                "kind": _base.choice(value["kind"]),
                "severity": _base.choice(value["severity"]),
                "state": _base.choice(value["state"]),
                "detail": _base.text(value["detail"]),
                "since_s": _base.integer(value["since_s"]),
                "changed_s": _base.integer(value["changed_s"]),
                "times": _base.integer(value["times"]),
                "device": None if (y := get("device")) is None else _base.text(y),
                "fleet": None if (y := get("fleet")) is None else _base.text(y),
                "silenced_until_s": None if (y := get("silenced_until_s")) is None else _base.integer(y),
            },
        )


class AlertChange(_base.Model):
    """What happened to an alert."""

    at_s: int
    """When."""
    state: State
    """Its state from then on."""
    by: str
    """Who changed it: an account, or `server`."""
    note: str
    """Why, in words."""

    @classmethod
    def _read(cls, value: Any) -> AlertChange:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "at_s": _base.integer(value["at_s"]),
                "state": _base.choice(value["state"]),
                "by": _base.text(value["by"]),
                "note": _base.text(value["note"]),
            },
        )


class AlertDetails(_base.Model):
    """An alert with its history."""

    alert: Alert
    """The alert."""
    history: Sequence[AlertChange]
    """What happened to it, oldest first."""

    @classmethod
    def _read(cls, value: Any) -> AlertDetails:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "alert": Alert._read(value["alert"]),
                "history": [AlertChange._read(x) for x in _base.items(value["history"])],
            },
        )


class ApiToken(_base.Model):
    """An API token, without its secret."""

    id: str
    """Its id, which the audit log shows."""
    account: AccountName
    """Its account."""
    label: str
    """What it is for."""
    created_s: int
    """When it was created, Unix seconds."""
    expires_s: int
    """When it ends, Unix seconds."""
    permissions: Sequence[Permission] | None = None
    """The permissions that it is limited to; all those of its account if missing."""
    used_s: int | None = None
    """When it was last used, Unix seconds, to the minute."""

    @classmethod
    def _read(cls, value: Any) -> ApiToken:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "account": _base.text(value["account"]),
                "label": _base.text(value["label"]),
                "created_s": _base.integer(value["created_s"]),
                "expires_s": _base.integer(value["expires_s"]),
                "permissions": None if (y := get("permissions")) is None else [_base.choice(x) for x in _base.items(y)],
                "used_s": None if (y := get("used_s")) is None else _base.integer(y),
            },
        )


class Approval(_base.Model):
    """An act that waits for a second person, or waited."""

    id: str
    """Its id."""
    act: str
    """The act, in one line."""
    requester: AccountName
    """The account that requested it."""
    via: str
    """The credential of the request."""
    reason: str
    """Why."""
    requested_s: int
    """When it was requested."""
    expires_s: int
    """When it expires."""
    state: ApprovalState
    """Its state."""
    decided_by: AccountName | None = None
    """The account that approved or denied it."""
    decided_s: int | None = None
    """When."""
    fleets: Sequence[FleetId] | None = None
    """The fleets that it concerns; absent for the whole server."""
    note: str | None = None
    """The note of that account."""
    outcome: str | None = None
    """What became of it."""

    @classmethod
    def _read(cls, value: Any) -> Approval:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "act": _base.text(value["act"]),
                "requester": _base.text(value["requester"]),
                "via": _base.text(value["via"]),
                "reason": _base.text(value["reason"]),
                "requested_s": _base.integer(value["requested_s"]),
                "expires_s": _base.integer(value["expires_s"]),
                "state": _base.choice(value["state"]),
                "decided_by": None if (y := get("decided_by")) is None else _base.text(y),
                "decided_s": None if (y := get("decided_s")) is None else _base.integer(y),
                "fleets": None if (y := get("fleets")) is None else [_base.text(x) for x in _base.items(y)],
                "note": None if (y := get("note")) is None else _base.text(y),
                "outcome": None if (y := get("outcome")) is None else _base.text(y),
            },
        )


class ApprovalDetails(_base.Model):
    """An approval with the whole act."""

    approval: Approval
    """The approval."""
    act: GuardedAct
    """Exactly what is performed."""
    may_decide: bool
    """Whether the caller may approve and deny it."""
    is_own: bool
    """Whether the caller requested it."""
    why_not: str | None = None
    """Why not; absent if the caller may."""

    @classmethod
    def _read(cls, value: Any) -> ApprovalDetails:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "approval": Approval._read(value["approval"]),
                "act": _read_GuardedAct(value["act"]),
                "may_decide": _base.boolean(value["may_decide"]),
                "is_own": _base.boolean(value["is_own"]),
                "why_not": None if (y := get("why_not")) is None else _base.text(y),
            },
        )


class ApprovalPolicy(_base.Model):
    """Which acts need the approval of a second person. Without any, none does."""

    recovery_keys: bool | None = None
    """Whether a recovery key is shown only with a second person."""
    release_paths: bool | None = None
    """Whether a change of the floors and blocked ways of a release needs a second person."""
    revoked_max: int | None = None
    """Number of devices that an account revokes within an hour without a second person; absent
    for any number.
    """
    rollout_fleets: Sequence[FleetId] = ()
    """Fleets to which a rollout, a pin or a move of a device away needs a second person."""
    urgent_rollouts: bool | None = None
    """Whether an urgent rollout needs a second person, to any fleet."""

    @classmethod
    def _read(cls, value: Any) -> ApprovalPolicy:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "recovery_keys": None if (y := get("recovery_keys")) is None else _base.boolean(y),
                "release_paths": None if (y := get("release_paths")) is None else _base.boolean(y),
                "revoked_max": None if (y := get("revoked_max")) is None else _base.integer(y),
                "rollout_fleets": () if (y := get("rollout_fleets")) is None else [_base.text(x) for x in _base.items(y)],
                "urgent_rollouts": None if (y := get("urgent_rollouts")) is None else _base.boolean(y),
            },
        )


class Approver(_base.Model):
    """A person who may approve releases."""

    name: str
    """Name, for example `alice`."""
    key_id: str
    """Id of the approver key."""

    @classmethod
    def _read(cls, value: Any) -> Approver:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "key_id": _base.text(value["key_id"]),
            },
        )


class Artifact(_base.Model):
    """A file of a release."""

    path: str
    """Path in the release directory, for example `raw/kiosk_2.efi`."""
    size: int
    """Size, bytes."""
    sha256: str
    """SHA-256, hexadecimal."""
    authenticode: str | None = None
    """Authenticode digest of an EFI binary (SHA-256, hexadecimal); absent for other files. The
    signature of each device is over this digest, and the firmware measures it into PCR 4.
    """

    @classmethod
    def _read(cls, value: Any) -> Artifact:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "path": _base.text(value["path"]),
                "size": _base.integer(value["size"]),
                "sha256": _base.text(value["sha256"]),
                "authenticode": None if (y := get("authenticode")) is None else _base.text(y),
            },
        )


class AskedActRevokeDevices(_base.Model):
    """Revoke the devices that a filter matches now."""

    request: ChangeDevices
    """The request, with the number of its preview."""
    type: Literal["revoke_devices"] = "revoke_devices"

    @classmethod
    def _read(cls, value: Any) -> AskedActRevokeDevices:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "request": ChangeDevices._read(value["request"]),
            },
        )


class AskedActStartRollout(_base.Model):
    """Start a rollout."""

    request: CreateRollout
    """The request."""
    type: Literal["start_rollout"] = "start_rollout"

    @classmethod
    def _read(cls, value: Any) -> AskedActStartRollout:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "request": CreateRollout._read(value["request"]),
            },
        )


class AskedActSupersedeRollout(_base.Model):
    """Start a rollout in place of an active one."""

    rollout: str
    """The active rollout."""
    request: CreateRollout
    """The request."""
    type: Literal["supersede_rollout"] = "supersede_rollout"

    @classmethod
    def _read(cls, value: Any) -> AskedActSupersedeRollout:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "rollout": _base.text(value["rollout"]),
                "request": CreateRollout._read(value["request"]),
            },
        )


class AskedActNextWave(_base.Model):
    """Begin the next wave of a rollout, which waits for approval."""

    rollout: str
    """The rollout."""
    request: NextWave
    """The request."""
    type: Literal["next_wave"] = "next_wave"

    @classmethod
    def _read(cls, value: Any) -> AskedActNextWave:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "rollout": _base.text(value["rollout"]),
                "request": NextWave._read(value["request"]),
            },
        )


class AskedActPinFleet(_base.Model):
    """Pin a fleet to a release, or end that."""

    fleet: FleetId
    """The fleet."""
    request: PinFleet
    """The request."""
    type: Literal["pin_fleet"] = "pin_fleet"

    @classmethod
    def _read(cls, value: Any) -> AskedActPinFleet:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "fleet": _base.text(value["fleet"]),
                "request": PinFleet._read(value["request"]),
            },
        )


class AskedActOrderUpdates(_base.Model):
    """Order something for the updates of a device."""

    device: DeviceId
    """The device."""
    request: UpdateOrder
    """The request."""
    type: Literal["order_updates"] = "order_updates"

    @classmethod
    def _read(cls, value: Any) -> AskedActOrderUpdates:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "device": _base.text(value["device"]),
                "request": _read_UpdateOrder(value["request"]),
            },
        )


class AskedActSetReleasePath(_base.Model):
    """Replace the floors and blocked ways of a release."""

    release: ReleaseName
    """The release."""
    path: ReleasePath
    """The request."""
    type: Literal["set_release_path"] = "set_release_path"

    @classmethod
    def _read(cls, value: Any) -> AskedActSetReleasePath:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "release": _base.text(value["release"]),
                "path": ReleasePath._read(value["path"]),
            },
        )


class AskedActShowRecoveryKey(_base.Model):
    """Show the recovery key of a device. The requester collects it after the approval."""

    device: DeviceId
    """The device."""
    request: ShowRecoveryKey
    """The request."""
    type: Literal["show_recovery_key"] = "show_recovery_key"

    @classmethod
    def _read(cls, value: Any) -> AskedActShowRecoveryKey:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "device": _base.text(value["device"]),
                "request": ShowRecoveryKey._read(value["request"]),
            },
        )


class AskedActSetPolicy(_base.Model):
    """Change which acts need a second person."""

    policy: ApprovalPolicy
    """The policy."""
    type: Literal["set_policy"] = "set_policy"

    @classmethod
    def _read(cls, value: Any) -> AskedActSetPolicy:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "policy": ApprovalPolicy._read(value["policy"]),
            },
        )


def _read_AskedAct(value: Any) -> AskedAct:
    _base.entries(value)
    tag = value.get("type")
    if tag == "revoke_devices":
        return AskedActRevokeDevices._read(value)
    if tag == "start_rollout":
        return AskedActStartRollout._read(value)
    if tag == "supersede_rollout":
        return AskedActSupersedeRollout._read(value)
    if tag == "next_wave":
        return AskedActNextWave._read(value)
    if tag == "pin_fleet":
        return AskedActPinFleet._read(value)
    if tag == "order_updates":
        return AskedActOrderUpdates._read(value)
    if tag == "set_release_path":
        return AskedActSetReleasePath._read(value)
    if tag == "show_recovery_key":
        return AskedActShowRecoveryKey._read(value)
    if tag == "set_policy":
        return AskedActSetPolicy._read(value)
    raise _base.unknown_variant("AskedAct", value)


class AskedFleet(_base.Model):
    """The response to `POST /fleets/{fleet}/attestation/challenge`."""

    asked: int
    """Number of connected devices that were challenged."""

    @classmethod
    def _read(cls, value: Any) -> AskedFleet:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "asked": _base.integer(value["asked"]),
            },
        )


class Attestation(_base.Model):
    """`GET /devices/{id}/attestation`."""

    level: Level
    """The level that counts now."""
    level_code: str
    """Code of the level, for example `L4`."""
    is_fresh: bool
    """Whether the last result still counts."""
    pcrs: Sequence[MeasuredPcr]
    """Measurements by PCR."""
    result: AttestationResult | None = None
    """The last result; `null` for a device that never sent evidence."""
    tpm: Tpm | None = None
    """The TPM; `null` for a device that has not identified one."""

    @classmethod
    def _read(cls, value: Any) -> Attestation:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "level": _base.choice(value["level"]),
                "level_code": _base.text(value["level_code"]),
                "is_fresh": _base.boolean(value["is_fresh"]),
                "pcrs": [MeasuredPcr._read(x) for x in _base.items(value["pcrs"])],
                "result": None if (y := get("result")) is None else AttestationResult._read(y),
                "tpm": None if (y := get("tpm")) is None else Tpm._read(y),
            },
        )


class AttestationPolicy(_base.Model):
    """The appraisal policy of a fleet: what the fleet requires of its devices. A setting that is
    absent permits nothing, so an empty policy accepts no device.
    """

    firmware: Firmware | None = None
    """Accepted firmware."""
    proved_releases: bool | None = None
    """Roll out only releases that have a boot proof."""
    secrets: Level | None = None
    """Minimum level to receive secrets."""
    success: Level | None = None
    """Minimum level to count as a success in a rollout. From L2 on, the device must prove that it
    runs the release.
    """
    update: Level | None = None
    """Minimum level to receive updates. A device below it is blocked."""
    windows: UpdateWindows | None = None
    """When devices may download, install and reboot. What this leaves out, they may do at any
    time.
    """

    @classmethod
    def _read(cls, value: Any) -> AttestationPolicy:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "firmware": None if (y := get("firmware")) is None else _read_Firmware(y),
                "proved_releases": None if (y := get("proved_releases")) is None else _base.boolean(y),
                "secrets": None if (y := get("secrets")) is None else _base.choice(y),
                "success": None if (y := get("success")) is None else _base.choice(y),
                "update": None if (y := get("update")) is None else _base.choice(y),
                "windows": None if (y := get("windows")) is None else UpdateWindows._read(y),
            },
        )


class AttestationResult(_base.Model):
    """What the verifier concluded from the last evidence of a device (RFC 9334: Attestation Result)."""

    level: Level
    """The level that the evidence reached."""
    claims: Sequence[Claim]
    """The claims that the level is based on."""
    appraised_s: int
    """When the evidence was appraised, Unix seconds."""
    evidence: str
    """SHA-256 of the quote."""
    release: ReleaseName | None = None
    """The release that was measured; `null` if it is not a known one."""

    @classmethod
    def _read(cls, value: Any) -> AttestationResult:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "level": _base.choice(value["level"]),
                "claims": [Claim._read(x) for x in _base.items(value["claims"])],
                "appraised_s": _base.integer(value["appraised_s"]),
                "evidence": _base.text(value["evidence"]),
                "release": None if (y := get("release")) is None else _base.text(y),
            },
        )


class Audit(_base.Model):
    """The Linux audit daemon."""

    enabled: bool | None = None
    """Run the audit daemon with rules for logins, sudo, time, accounts and modules."""
    rules: Sequence[str] = ()
    """Rules of your own, in the form of audit.rules(7)."""

    @classmethod
    def _read(cls, value: Any) -> Audit:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "enabled": None if (y := get("enabled")) is None else _base.boolean(y),
                "rules": () if (y := get("rules")) is None else [_base.text(x) for x in _base.items(y)],
            },
        )


class AuditConsistency(_base.Model):
    """The consistency proof between two sizes of the audit log."""

    hashes: Sequence[str]
    """Hashes, base64 (RFC 9162, 2.1.4)."""

    @classmethod
    def _read(cls, value: Any) -> AuditConsistency:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "hashes": [_base.text(x) for x in _base.items(value["hashes"])],
            },
        )


class AuditEntries(_base.Model):
    """Entries of the audit log."""

    lines: Sequence[str]
    """Lines of canonical JSON, oldest first. The leaves of the Merkle tree are the SHA-256 of
    exactly these bytes (RFC 9162, 2.1.1).
    """

    @classmethod
    def _read(cls, value: Any) -> AuditEntries:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "lines": [_base.text(x) for x in _base.items(value["lines"])],
            },
        )


class AuditProof(_base.Model):
    """An entry of the audit log with its inclusion proof."""

    entry: str
    """The entry: a line of canonical JSON."""
    hashes: Sequence[str]
    """Hashes of the inclusion proof, from the leaf upwards, base64 (RFC 9162, 2.1.3)."""
    checkpoint: str
    """The checkpoint whose root hash the proof leads to: a signed note (C2SP tlog-checkpoint)."""

    @classmethod
    def _read(cls, value: Any) -> AuditProof:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "entry": _base.text(value["entry"]),
                "hashes": [_base.text(x) for x in _base.items(value["hashes"])],
                "checkpoint": _base.text(value["checkpoint"]),
            },
        )


class BlockedWay(_base.Model):
    """Versions from which a way is blocked."""

    from_: VersionRange
    """The versions."""
    reason: str
    """Why: 1 to 200 characters."""

    @classmethod
    def _read(cls, value: Any) -> BlockedWay:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "from_": VersionRange._read(value["from"]),
                "reason": _base.text(value["reason"]),
            },
        )


class Bond(_base.Model):
    """A bond of several interfaces."""

    name: str
    """Name of its interface, at most 15 characters."""
    mode: BondMode | None = None
    """How the interfaces are used."""

    @classmethod
    def _read(cls, value: Any) -> Bond:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "mode": None if (y := get("mode")) is None else _base.choice(y),
            },
        )


class BootKeyChangeBeginEpoch(_base.Model):
    """Add a new db key beside the current one. New signatures are made with the new key."""

    type: Literal["begin_epoch"] = "begin_epoch"

    @classmethod
    def _read(cls, value: Any) -> BootKeyChangeBeginEpoch:
        _base.entries(value)
        return cls()


class BootKeyChangeEndEpoch(_base.Model):
    """Keep only the newest db key. The firmware then does not boot what older keys signed."""

    type: Literal["end_epoch"] = "end_epoch"

    @classmethod
    def _read(cls, value: Any) -> BootKeyChangeEndEpoch:
        _base.entries(value)
        return cls()


class BootKeyChangeForbid(_base.Model):
    """Forbid a release: its UKI goes into dbx and does not boot, whichever key signed it."""

    release: ReleaseName
    """The release to forbid."""
    type: Literal["forbid"] = "forbid"

    @classmethod
    def _read(cls, value: Any) -> BootKeyChangeForbid:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "release": _base.text(value["release"]),
            },
        )


def _read_BootKeyChange(value: Any) -> BootKeyChange:
    _base.entries(value)
    tag = value.get("type")
    if tag == "begin_epoch":
        return BootKeyChangeBeginEpoch._read(value)
    if tag == "end_epoch":
        return BootKeyChangeEndEpoch._read(value)
    if tag == "forbid":
        return BootKeyChangeForbid._read(value)
    raise _base.unknown_variant("BootKeyChange", value)


class BootProof(_base.Model):
    """Proof that a device booted a release and measured what its manifest predicts."""

    type: str
    """Always `fleeti-boot-proof`."""
    release: ReleaseName
    """The release."""
    manifest_sha256: str
    """SHA-256 of the release's `manifest.json`, hexadecimal."""
    device: DeviceId
    """The device that booted the release."""
    level: Level
    """Attestation level of the device."""
    pcrs: Mapping[str, str]
    """PCR values of the device's quote, SHA-256, hexadecimal, by the number of the PCR."""
    evidence: str
    """SHA-256 of the quote, hexadecimal."""
    proved_s: int
    """When the evidence was appraised, Unix seconds."""

    @classmethod
    def _read(cls, value: Any) -> BootProof:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "type": _base.text(value["type"]),
                "release": _base.text(value["release"]),
                "manifest_sha256": _base.text(value["manifest_sha256"]),
                "device": _base.text(value["device"]),
                "level": _base.choice(value["level"]),
                "pcrs": {k: _base.text(x) for k, x in _base.entries(value["pcrs"])},
                "evidence": _base.text(value["evidence"]),
                "proved_s": _base.integer(value["proved_s"]),
            },
        )


class BootSecret(_base.Model):
    """Which values of a secret of its boot a device holds, by the number of the change that set each."""

    name: SecretName
    """Name of the secret in the fleet."""
    phase: BootSecretPhase
    """What the device does with its values."""
    fate: Fate | None = None
    """Why the device does not use the other value; absent if it holds only one."""
    other: int | None = None
    """The value that the device holds beside it; absent if there is none."""
    problem: str | None = None
    """Why the device stores no value."""
    until_s: int | None = None
    """Until when the device waits for the server with the value in use, Unix seconds; absent if it
    does not wait.
    """
    used: int | None = None
    """The value in use; absent if the device uses none."""

    @classmethod
    def _read(cls, value: Any) -> BootSecret:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "phase": _base.choice(value["phase"]),
                "fate": None if (y := get("fate")) is None else _read_Fate(y),
                "other": None if (y := get("other")) is None else _base.integer(y),
                "problem": None if (y := get("problem")) is None else _base.text(y),
                "until_s": None if (y := get("until_s")) is None else _base.integer(y),
                "used": None if (y := get("used")) is None else _base.integer(y),
            },
        )


class BootSignatures(_base.Model):
    """`GET /releases/{line}/{version}/boot.json`: signatures for this device only, by the path of the
    EFI binary in the release: PKCS#7, DER, base64. Empty for a device that boots what is signed for
    all devices.
    """

    binaries: Mapping[str, str]
    """Signatures by path, for example `raw/kiosk_2.efi`."""

    @classmethod
    def _read(cls, value: Any) -> BootSignatures:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "binaries": {k: _base.text(x) for k, x in _base.entries(value["binaries"])},
            },
        )


class BootSummary(_base.Model):
    """What a device reports that it runs. Self-reported: it proves nothing."""

    boot_id: str
    """The kernel's boot id."""
    running: ReleaseName
    """`IMAGE_ID` and `IMAGE_VERSION` of os-release."""
    slot: Slot
    """The slot that it runs from."""
    verity: Verity
    """State of dm-verity."""
    secure_boot: bool
    """Value of the firmware's SecureBoot variable."""
    firmware: FirmwareKeys | None = None
    """Content of the firmware's Secure Boot variables; absent if the device has none."""
    pcr11: str | None = None
    """PCR 11 of the SHA-256 bank after `ready`, hexadecimal; `None` without a TPM."""
    sealed_data: bool | None = None
    """Whether the data partition is sealed to the TPM; absent from an older agent that does not
    report it.
    """
    secrets: Sequence[BootSecret] = ()
    """Secrets that the device needs to reach the server, as its image names them."""

    @classmethod
    def _read(cls, value: Any) -> BootSummary:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "boot_id": _base.text(value["boot_id"]),
                "running": _base.text(value["running"]),
                "slot": _base.choice(value["slot"]),
                "verity": _base.choice(value["verity"]),
                "secure_boot": _base.boolean(value["secure_boot"]),
                "firmware": None if (y := get("firmware")) is None else FirmwareKeys._read(y),
                "pcr11": None if (y := get("pcr11")) is None else _base.text(y),
                "sealed_data": None if (y := get("sealed_data")) is None else _base.boolean(y),
                "secrets": () if (y := get("secrets")) is None else [BootSecret._read(x) for x in _base.items(y)],
            },
        )


class Bridge(_base.Model):
    """A bridge."""

    name: str
    """Name of its interface, at most 15 characters."""
    spanning_tree: bool | None = None
    """Use the spanning tree protocol."""

    @classmethod
    def _read(cls, value: Any) -> Bridge:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "spanning_tree": None if (y := get("spanning_tree")) is None else _base.boolean(y),
            },
        )


class Build(_base.Model):
    """A build."""

    id: str
    """Build id."""
    release: ReleaseName
    """The release that the build makes."""
    revision: int
    """Number of the profile revision that is built."""
    phase: BuildPhase
    """Phase of the build."""
    created_s: int
    """When the build was requested."""
    detail: str
    """What the worker does now, or why the build failed."""
    directory: str | None = None
    """Directory on the server that holds `build.json`, once the build has succeeded."""
    refreshed: Sequence[str] = ()
    """The packages of the lock that it refreshed by name."""
    signing: BuildPhase | None = None
    """Phase of signing the build with this server's keys; `null` if nobody requested it."""
    signing_detail: str | None = None
    """What the signing job does now, or why it failed."""

    @classmethod
    def _read(cls, value: Any) -> Build:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "release": _base.text(value["release"]),
                "revision": _base.integer(value["revision"]),
                "phase": _base.choice(value["phase"]),
                "created_s": _base.integer(value["created_s"]),
                "detail": _base.text(value["detail"]),
                "directory": None if (y := get("directory")) is None else _base.text(y),
                "refreshed": () if (y := get("refreshed")) is None else [_base.text(x) for x in _base.items(y)],
                "signing": None if (y := get("signing")) is None else _base.choice(y),
                "signing_detail": None if (y := get("signing_detail")) is None else _base.text(y),
            },
        )


class BuildEvidence(_base.Model):
    """A build and its approvals."""

    build: Build
    """The build."""
    approvals: Sequence[Signatory]
    """Who approved it."""
    intent: str | None = None
    """The signing request: canonical JSON, which the requester and the approvers signed; absent if
    nobody requested a signature of this server's key.
    """
    requested: Signatory | None = None
    """Who requested it."""

    @classmethod
    def _read(cls, value: Any) -> BuildEvidence:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "build": Build._read(value["build"]),
                "approvals": [Signatory._read(x) for x in _base.items(value["approvals"])],
                "intent": None if (y := get("intent")) is None else _base.text(y),
                "requested": None if (y := get("requested")) is None else Signatory._read(y),
            },
        )


class Change(_base.Model):
    """A field or an entry that differs."""

    path: str
    """Path. An entry of a list is named by its key, as in `users[ops].shell`; an entry without a
    key belongs to the path of its list.
    """
    after: str | None = None
    """The value after; `None` if there is none."""
    before: str | None = None
    """The value before; `None` if there was none."""

    @classmethod
    def _read(cls, value: Any) -> Change:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "path": _base.text(value["path"]),
                "after": None if (y := get("after")) is None else _base.text(y),
                "before": None if (y := get("before")) is None else _base.text(y),
            },
        )


class ChangeBoot(_base.Model):
    """`POST /devices/{device}/boot-keys`."""

    change: BootKeyChange
    """The change to make."""
    may_end_fallback: bool | None = None
    """Whether the other slot may stop booting after the change. If not, the device refuses a
    change that would cause it.
    """

    @classmethod
    def _read(cls, value: Any) -> ChangeBoot:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "change": _read_BootKeyChange(value["change"]),
                "may_end_fallback": None if (y := get("may_end_fallback")) is None else _base.boolean(y),
            },
        )


class ChangeDevices(_base.Model):
    """`POST /device-changes`: changes all devices that a filter matches."""

    filter: str
    """The filter. It cannot be empty."""
    change: DeviceChange
    """The change."""
    confirm: str | None = None
    """For a revocation and a command that interrupts: `revoke 12 devices` or `reboot 12 devices`,
    with the number.
    """
    expected: int | None = None
    """The number of devices of the preview. The server refuses the change if the filter matches
    another number now. Absent for a preview.
    """

    @classmethod
    def _read(cls, value: Any) -> ChangeDevices:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "filter": _base.text(value["filter"]),
                "change": _read_DeviceChange(value["change"]),
                "confirm": None if (y := get("confirm")) is None else _base.text(y),
                "expected": None if (y := get("expected")) is None else _base.integer(y),
            },
        )


class ChangeLabels(_base.Model):
    """`POST /devices/{device}/labels`: sets and removes labels."""

    remove: Sequence[LabelKey] = ()
    """Keys of labels to remove."""
    set: Mapping[str, str] | None = None
    """Labels to set."""

    @classmethod
    def _read(cls, value: Any) -> ChangeLabels:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "remove": () if (y := get("remove")) is None else [_base.text(x) for x in _base.items(y)],
                "set": None if (y := get("set")) is None else {k: _base.text(x) for k, x in _base.entries(y)},
            },
        )


class Channel(_base.Model):
    """`GET /fleets/{fleet}/channel`: what the devices of a fleet should run."""

    fleet: FleetId
    """The fleet."""
    pin: UpdatePin | None = None
    """What an operator pinned the fleet to: it goes before the channel."""
    release: ReleaseName | None = None
    """The release of the last rollout that succeeded."""
    rollout: str | None = None
    """That rollout."""
    since_s: int | None = None
    """When it ended."""

    @classmethod
    def _read(cls, value: Any) -> Channel:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "fleet": _base.text(value["fleet"]),
                "pin": None if (y := get("pin")) is None else UpdatePin._read(y),
                "release": None if (y := get("release")) is None else _base.text(y),
                "rollout": None if (y := get("rollout")) is None else _base.text(y),
                "since_s": None if (y := get("since_s")) is None else _base.integer(y),
            },
        )


class Check(_base.Model):
    """One examined thing."""

    name: str
    """What was examined."""
    result: CheckResult
    """The result."""
    detail: str
    """What was found."""
    remedy: str | None = None
    """What to do about it; absent if nothing is to be done."""

    @classmethod
    def _read(cls, value: Any) -> Check:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "result": _base.choice(value["result"]),
                "detail": _base.text(value["detail"]),
                "remedy": None if (y := get("remedy")) is None else _base.text(y),
            },
        )


class CheckedProfile(_base.Model):
    """The result of a check."""

    findings: Sequence[Finding]
    """Errors and warnings, ordered by line."""
    extends: Sequence[str]
    """The fragments that it extends, directly and indirectly, in the order of merging."""
    profile: Profile | None = None
    """The profile with everything that it inherits; `None` if there are errors."""
    suite: IndexedSuite | None = None
    """The index against which packages, units, programs, users and groups were checked; `None` if
    the server has none yet: then only the rules were checked.
    """

    @classmethod
    def _read(cls, value: Any) -> CheckedProfile:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "findings": [Finding._read(x) for x in _base.items(value["findings"])],
                "extends": [_base.text(x) for x in _base.items(value["extends"])],
                "profile": None if (y := get("profile")) is None else Profile._read(y),
                "suite": None if (y := get("suite")) is None else IndexedSuite._read(y),
            },
        )


class Claim(_base.Model):
    """A claim: one conclusion of the verifier."""

    aspect: Aspect
    """The aspect that the claim is about."""
    tier: Tier
    """The tier of the claim."""
    code: str
    """A stable code of the conclusion, for example `pcr-digest`."""
    finding: str
    """The conclusion in words."""
    source: str
    """The evidence that the claim is based on, for example `TPM quote, PCR 11`."""
    raise_: str | None = None
    """What would raise the tier; absent if nothing can."""

    @classmethod
    def _read(cls, value: Any) -> Claim:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "aspect": _base.choice(value["aspect"]),
                "tier": _base.choice(value["tier"]),
                "code": _base.text(value["code"]),
                "finding": _base.text(value["finding"]),
                "source": _base.text(value["source"]),
                "raise_": None if (y := get("raise")) is None else _base.text(y),
            },
        )


class CommandKindReport(_base.Model):
    """Send a report now."""

    type: Literal["report"] = "report"

    @classmethod
    def _read(cls, value: Any) -> CommandKindReport:
        _base.entries(value)
        return cls()


class CommandKindReboot(_base.Model):
    """Reboot."""

    type: Literal["reboot"] = "reboot"

    @classmethod
    def _read(cls, value: Any) -> CommandKindReboot:
        _base.entries(value)
        return cls()


class CommandKindClearAlarm(_base.Model):
    """Clear the alarm that the device raised: an operator has handled it."""

    type: Literal["clear_alarm"] = "clear_alarm"

    @classmethod
    def _read(cls, value: Any) -> CommandKindClearAlarm:
        _base.entries(value)
        return cls()


class CommandKindNewRecoveryKey(_base.Model):
    """Make a new recovery key at the next boot and remove the current one, because a person has
    seen it.
    """

    type: Literal["new_recovery_key"] = "new_recovery_key"

    @classmethod
    def _read(cls, value: Any) -> CommandKindNewRecoveryKey:
        _base.entries(value)
        return cls()


class CommandKindTrySecrets(_base.Model):
    """Try values of secrets of the boot again that did not reach the server."""

    type: Literal["try_secrets"] = "try_secrets"

    @classmethod
    def _read(cls, value: Any) -> CommandKindTrySecrets:
        _base.entries(value)
        return cls()


class CommandKindAttest(_base.Model):
    """Prove what runs: done when the evidence for a new challenge is sent."""

    type: Literal["attest"] = "attest"

    @classmethod
    def _read(cls, value: Any) -> CommandKindAttest:
        _base.entries(value)
        return cls()


class CommandKindRotateKey(_base.Model):
    """Replace the device key and its certificate now, before their renewal is due."""

    type: Literal["rotate_key"] = "rotate_key"

    @classmethod
    def _read(cls, value: Any) -> CommandKindRotateKey:
        _base.entries(value)
        return cls()


class CommandKindLogs(_base.Model):
    """Collect the log of the current boot. Of lines that repeat, the first one is kept."""

    type: Literal["logs"] = "logs"
    unit: str | None = None
    """The unit; absent for all units."""

    @classmethod
    def _read(cls, value: Any) -> CommandKindLogs:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "unit": None if (y := get("unit")) is None else _base.text(y),
            },
        )


class CommandKindDiagnostic(_base.Model):
    """Run a diagnostic that the image declares, and collect what it prints."""

    name: str
    """Its name in the profile."""
    type: Literal["diagnostic"] = "diagnostic"

    @classmethod
    def _read(cls, value: Any) -> CommandKindDiagnostic:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
            },
        )


class CommandKindSupportBundle(_base.Model):
    """Collect a support bundle, encrypted on the device."""

    key: str
    """Name of the support key in the profile. The server cannot name another key than those of
    the image.
    """
    type: Literal["support_bundle"] = "support_bundle"

    @classmethod
    def _read(cls, value: Any) -> CommandKindSupportBundle:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "key": _base.text(value["key"]),
            },
        )


class CommandKindFactoryReset(_base.Model):
    """Empty the persistent directories of the profile, unless they are kept, and reboot."""

    device: DeviceId
    """The device that is meant. Another device refuses."""
    type: Literal["factory_reset"] = "factory_reset"

    @classmethod
    def _read(cls, value: Any) -> CommandKindFactoryReset:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "device": _base.text(value["device"]),
            },
        )


def _read_CommandKind(value: Any) -> CommandKind:
    _base.entries(value)
    tag = value.get("type")
    if tag == "report":
        return CommandKindReport._read(value)
    if tag == "reboot":
        return CommandKindReboot._read(value)
    if tag == "clear_alarm":
        return CommandKindClearAlarm._read(value)
    if tag == "new_recovery_key":
        return CommandKindNewRecoveryKey._read(value)
    if tag == "try_secrets":
        return CommandKindTrySecrets._read(value)
    if tag == "attest":
        return CommandKindAttest._read(value)
    if tag == "rotate_key":
        return CommandKindRotateKey._read(value)
    if tag == "logs":
        return CommandKindLogs._read(value)
    if tag == "diagnostic":
        return CommandKindDiagnostic._read(value)
    if tag == "support_bundle":
        return CommandKindSupportBundle._read(value)
    if tag == "factory_reset":
        return CommandKindFactoryReset._read(value)
    raise _base.unknown_variant("CommandKind", value)


class CommandStatus(_base.Model):
    """A command."""

    id: str
    """Command id."""
    device: DeviceId
    """The device."""
    kind: CommandKind
    """What the device should do."""
    status: str
    """`pending`, `running`, `cancelling`, `done`, `failed`, `cancelled` or `expired`."""
    created_s: int
    """When it was sent, Unix seconds."""
    deadline_s: int
    """After this time the device does not begin it, Unix seconds."""
    changed_s: int
    """When the status changed, Unix seconds."""
    sent_by: str
    """Who sent it."""
    detail: str | None = None
    """Progress, or the result or the reason in words, as the device states it."""
    result_bytes: int | None = None
    """Size of its result, bytes. Absent before the result arrives, and after it was removed."""

    @classmethod
    def _read(cls, value: Any) -> CommandStatus:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "device": _base.text(value["device"]),
                "kind": _read_CommandKind(value["kind"]),
                "status": _base.text(value["status"]),
                "created_s": _base.integer(value["created_s"]),
                "deadline_s": _base.integer(value["deadline_s"]),
                "changed_s": _base.integer(value["changed_s"]),
                "sent_by": _base.text(value["sent_by"]),
                "detail": None if (y := get("detail")) is None else _base.text(y),
                "result_bytes": None if (y := get("result_bytes")) is None else _base.integer(y),
            },
        )


class Container(_base.Model):
    """A container that systemd runs with Podman (Quadlet, podman-systemd.unit(5))."""

    name: str
    """Name; the unit is `NAME.service`."""
    image: str
    """Image with its digest."""
    command: Sequence[str] = ()
    """Arguments of the container's program."""
    environment: Mapping[str, str] | None = None
    """Environment variables."""
    ports: Sequence[str] = ()
    """Published ports, `HOST:CONTAINER` or `ADDRESS:HOST:CONTAINER`."""
    read_only: bool | None = None
    """The container's root file system is read-only."""
    volumes: Sequence[str] = ()
    """Volumes, `PATH:PATH` or `PATH:PATH:ro`."""

    @classmethod
    def _read(cls, value: Any) -> Container:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "image": _base.text(value["image"]),
                "command": () if (y := get("command")) is None else [_base.text(x) for x in _base.items(y)],
                "environment": None if (y := get("environment")) is None else {k: _base.text(x) for k, x in _base.entries(y)},
                "ports": () if (y := get("ports")) is None else [_base.text(x) for x in _base.items(y)],
                "read_only": None if (y := get("read_only")) is None else _base.boolean(y),
                "volumes": () if (y := get("volumes")) is None else [_base.text(x) for x in _base.items(y)],
            },
        )


class Counts(_base.Model):
    """Number of devices in each category; those that wait are the rest of the total."""

    total: int
    """All devices."""
    succeeded: int
    """Devices that run the release."""
    failed: int
    """Devices that have finished and do not run the release."""
    moving: int
    """Devices that have not finished."""
    pending: int | None = None
    """Devices that wait for their wave, or for the rollout to be resumed."""
    queued: int | None = None
    """Devices that wait for the budget of their group, or for their next attempt."""
    unconfirmed: int | None = None
    """Devices that ran the release but did not reach the server: neither a success nor a failure."""
    unreached: int | None = None
    """Devices that did not start and are not heard of, or that a gate holds back: neither a success
    nor a failure.
    """

    @classmethod
    def _read(cls, value: Any) -> Counts:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "total": _base.integer(value["total"]),
                "succeeded": _base.integer(value["succeeded"]),
                "failed": _base.integer(value["failed"]),
                "moving": _base.integer(value["moving"]),
                "pending": None if (y := get("pending")) is None else _base.integer(y),
                "queued": None if (y := get("queued")) is None else _base.integer(y),
                "unconfirmed": None if (y := get("unconfirmed")) is None else _base.integer(y),
                "unreached": None if (y := get("unreached")) is None else _base.integer(y),
            },
        )


class CreateAccount(_base.Model):
    """`POST /api/v1/accounts`."""

    name: AccountName
    """Its name."""
    kind: AccountKind
    """Who it is for."""
    grants: Sequence[Grant] = ()
    """Its roles."""

    @classmethod
    def _read(cls, value: Any) -> CreateAccount:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "kind": _base.choice(value["kind"]),
                "grants": () if (y := get("grants")) is None else [Grant._read(x) for x in _base.items(y)],
            },
        )


class CreateBuild(_base.Model):
    """`POST /builds`."""

    profile: Profile
    """The profile to build."""
    version: Version
    """The version to build, within the line of the profile."""
    refresh_lock: bool | None = None
    """Refresh the package lock of the line first. The log of the build shows what changes."""
    refresh_packages: Sequence[str] = ()
    """Refresh these packages of the lock first, with what they need, and keep all others; at most 50.
    Each is a name, perhaps with the versions that are good enough: `openssl>=3.5.1-1+deb13u2`. The
    build fails if the lock then has another version. Not together with `refresh_lock`.
    """

    @classmethod
    def _read(cls, value: Any) -> CreateBuild:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "profile": Profile._read(value["profile"]),
                "version": _base.text(value["version"]),
                "refresh_lock": None if (y := get("refresh_lock")) is None else _base.boolean(y),
                "refresh_packages": () if (y := get("refresh_packages")) is None else [_base.text(x) for x in _base.items(y)],
            },
        )


class CreateCommand(_base.Model):
    """`POST /devices/{device}/commands`."""

    kind: CommandKind
    """What the device should do."""
    valid_s: int
    """Seconds until the command expires."""
    confirm: str | None = None
    """For a factory reset: the id of the device, which the operator has typed."""

    @classmethod
    def _read(cls, value: Any) -> CreateCommand:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "kind": _read_CommandKind(value["kind"]),
                "valid_s": _base.integer(value["valid_s"]),
                "confirm": None if (y := get("confirm")) is None else _base.text(y),
            },
        )


class CreateEnrollment(_base.Model):
    """`POST /fleets/{fleet}/enrollments`."""

    valid_s: int
    """Seconds until the enrollment token expires."""

    @classmethod
    def _read(cls, value: Any) -> CreateEnrollment:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "valid_s": _base.integer(value["valid_s"]),
            },
        )


class CreateReadmission(_base.Model):
    """`POST /fleets/{fleet}/readmission`."""

    reason: str
    """Why devices are readmitted. Kept in the audit log."""
    valid_s: int
    """How long the readmission lasts, seconds: 60 to 2,592,000."""

    @classmethod
    def _read(cls, value: Any) -> CreateReadmission:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "reason": _base.text(value["reason"]),
                "valid_s": _base.integer(value["valid_s"]),
            },
        )


class CreateRollout(_base.Model):
    """`POST /rollouts`."""

    release: ReleaseName
    """The release to roll out."""
    fleet: FleetId
    """The fleet to roll it out to."""
    plan: RolloutPlan | None = None
    """Its waves; absent for everybody at once."""
    urgent: UrgentRollout | None = None
    """Why it is urgent; absent if it is not. An urgent rollout does not soak, and its devices skip
    their update windows. Levels, proofs, health checks, limits and budgets count as always.
    """

    @classmethod
    def _read(cls, value: Any) -> CreateRollout:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "release": _base.text(value["release"]),
                "fleet": _base.text(value["fleet"]),
                "plan": None if (y := get("plan")) is None else RolloutPlan._read(y),
                "urgent": None if (y := get("urgent")) is None else UrgentRollout._read(y),
            },
        )


class CreateSilence(_base.Model):
    """`POST /silences`: nobody is told of alerts that begin in this time. A silence that begins later
    is a maintenance window.
    """

    valid_s: int
    """Seconds until it ends, from its beginning: at most 90 days."""
    reason: str
    """Why: 1 to 200 bytes."""
    device: DeviceId | None = None
    """Only alerts about this device; absent for all devices."""
    fleet: FleetId | None = None
    """Only alerts about devices of this fleet; absent for all fleets."""
    from_s: int | None = None
    """When it begins; absent for now."""
    rule: str | None = None
    """Only alerts of this rule; absent for all rules."""

    @classmethod
    def _read(cls, value: Any) -> CreateSilence:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "valid_s": _base.integer(value["valid_s"]),
                "reason": _base.text(value["reason"]),
                "device": None if (y := get("device")) is None else _base.text(y),
                "fleet": None if (y := get("fleet")) is None else _base.text(y),
                "from_s": None if (y := get("from_s")) is None else _base.integer(y),
                "rule": None if (y := get("rule")) is None else _base.text(y),
            },
        )


class CreateToken(_base.Model):
    """`POST /api/v1/tokens`."""

    label: str
    """What it is for."""
    valid_s: int
    """Its validity in seconds."""
    account: AccountName | None = None
    """The service account that it is for; the own account if missing."""
    permissions: Sequence[Permission] | None = None
    """The permissions that it is limited to; all those of its account if missing."""

    @classmethod
    def _read(cls, value: Any) -> CreateToken:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "label": _base.text(value["label"]),
                "valid_s": _base.integer(value["valid_s"]),
                "account": None if (y := get("account")) is None else _base.text(y),
                "permissions": None if (y := get("permissions")) is None else [_base.choice(x) for x in _base.items(y)],
            },
        )


class CreateWebhook(_base.Model):
    """`POST /webhooks`."""

    url: str
    """Where events are sent: `https`, without user and password. A private address only if the
    server permits it.
    """
    events: Sequence[str]
    """Events to send, such as `alerts.raised`."""

    @classmethod
    def _read(cls, value: Any) -> CreateWebhook:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "url": _base.text(value["url"]),
                "events": [_base.text(x) for x in _base.items(value["events"])],
            },
        )


class CreateWorker(_base.Model):
    """`POST /api/v1/workers`."""

    name: WorkerName
    """Name of the worker, shown in the audit log and with its builds."""

    @classmethod
    def _read(cls, value: Any) -> CreateWorker:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
            },
        )


class CreatedAccount(_base.Model):
    """The response to [`CreateAccount`]."""

    account: Account
    """The account."""
    link: PasswordLink | None = None
    """The one-time link of a person. Only this response contains it."""
    _secrets = ("link",)

    @classmethod
    def _read(cls, value: Any) -> CreatedAccount:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "account": Account._read(value["account"]),
                "link": None if (y := get("link")) is None else PasswordLink._read(y),
            },
        )


class CreatedToken(_base.Model):
    """The response to [`CreateToken`]. The server shows the token only here."""

    about: ApiToken
    """What the server keeps of it."""
    token: str
    """The token."""
    _secrets = ("token",)

    @classmethod
    def _read(cls, value: Any) -> CreatedToken:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "about": ApiToken._read(value["about"]),
                "token": _base.text(value["token"]),
            },
        )


class CreatedWebhook(_base.Model):
    """A new webhook. The server shows its secret once."""

    webhook: Webhook
    """The webhook."""
    secret: str
    """The key of its signatures: `whsec_` and base64."""

    @classmethod
    def _read(cls, value: Any) -> CreatedWebhook:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "webhook": Webhook._read(value["webhook"]),
                "secret": _base.text(value["secret"]),
            },
        )


class CreatedWorker(_base.Model):
    """The response to [`CreateWorker`]. The server shows the token only here."""

    name: WorkerName
    """Name of the worker."""
    token: str
    """The token with which the worker authenticates."""
    _secrets = ("token",)

    @classmethod
    def _read(cls, value: Any) -> CreatedWorker:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "token": _base.text(value["token"]),
            },
        )


class Decide(_base.Model):
    """`POST /approvals/{approval}/approve` and `/deny`."""

    note: str | None = None
    """A note, which may be empty."""

    @classmethod
    def _read(cls, value: Any) -> Decide:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "note": None if (y := get("note")) is None else _base.text(y),
            },
        )


class DeclareLabelKey(_base.Model):
    """`PUT /label-keys/{key}`: declares a key, or changes what values it can have."""

    of: LabelType
    """What values it can have."""

    @classmethod
    def _read(cls, value: Any) -> DeclareLabelKey:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "of": _read_LabelType(value["of"]),
            },
        )


class Delivery(_base.Model):
    """An event on its way to a webhook."""

    id: str
    """The `webhook-id` of all its attempts. A receiver drops an id that it had already."""
    event: str
    """The event."""
    at_s: int
    """When it happened."""
    status: DeliveryStatus
    """State of the delivery."""
    attempts: int
    """Number of attempts so far."""
    answer: str
    """The last answer: a status with the beginning of the body, or why there was none."""
    answered_s: int | None = None
    """When the last attempt ended."""
    next_s: int | None = None
    """When the next attempt follows."""

    @classmethod
    def _read(cls, value: Any) -> Delivery:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "event": _base.text(value["event"]),
                "at_s": _base.integer(value["at_s"]),
                "status": _base.choice(value["status"]),
                "attempts": _base.integer(value["attempts"]),
                "answer": _base.text(value["answer"]),
                "answered_s": None if (y := get("answered_s")) is None else _base.integer(y),
                "next_s": None if (y := get("next_s")) is None else _base.integer(y),
            },
        )


class Device(_base.Model):
    """A device."""

    id: DeviceId
    """Device id."""
    fleet: FleetId
    """The fleet that the device belongs to."""
    online: bool
    """Whether the device has an MQTT session now."""
    revoked: bool
    """Whether the device's certificate is revoked."""
    last_seen_s: int
    """When the server last received anything from the device."""
    certificate_sha256: str
    """SHA-256 of the device certificate (DER), hexadecimal."""
    certificate_not_after_s: int
    """When the device certificate expires."""
    alarm: str | None = None
    """An alarm: a code, a colon and words. The device raises one about the server (`log_split`,
    `log_stale`, `log_unproved`, `bundle_older`), its own state (`state_unusable`), its clock
    (`clock_wrong`) or a new secret that did not reach the server (`secret_refused`); the server raises one if two clients use the device's certificate
    (`certificate_shared`), or if it refuses the device's reports (`reports_refused`).
    """
    attestation_failure: str | None = None
    """Why attestation failed: what the evidence of the device's TPM contradicts. Absent if it did
    not.
    """
    boot: BootSummary | None = None
    """What the device reports that it runs. Not proved."""
    desired: ReleaseName | None = None
    """The release that the device should run."""
    labels: Mapping[str, str] | None = None
    """Its labels."""
    name: str | None = None
    """Its name; absent if it has none."""
    note: str | None = None
    """A note about it; absent if there is none."""
    progress: Progress | None = None
    """Download progress, while the device stages a version."""
    replaced_by: DeviceId | None = None
    """The device that took its place; absent if none did."""
    revocation_reason: RevocationReason | None = None
    """Why the certificate is revoked; absent if it is not."""
    secure_boot: SecureBoot | None = None
    """State of the device's own Secure Boot keys; absent for a device that boots what is signed
    for all devices.
    """
    telemetry: Telemetry | None = None
    """The last telemetry of the device."""
    trust_bundle: int | None = None
    """Version of the trust bundle that the device has installed; 0 for none."""
    update: UpdateState | None = None
    """State of the device's update."""

    @classmethod
    def _read(cls, value: Any) -> Device:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "fleet": _base.text(value["fleet"]),
                "online": _base.boolean(value["online"]),
                "revoked": _base.boolean(value["revoked"]),
                "last_seen_s": _base.integer(value["last_seen_s"]),
                "certificate_sha256": _base.text(value["certificate_sha256"]),
                "certificate_not_after_s": _base.integer(value["certificate_not_after_s"]),
                "alarm": None if (y := get("alarm")) is None else _base.text(y),
                "attestation_failure": None if (y := get("attestation_failure")) is None else _base.text(y),
                "boot": None if (y := get("boot")) is None else BootSummary._read(y),
                "desired": None if (y := get("desired")) is None else _base.text(y),
                "labels": None if (y := get("labels")) is None else {k: _base.text(x) for k, x in _base.entries(y)},
                "name": None if (y := get("name")) is None else _base.text(y),
                "note": None if (y := get("note")) is None else _base.text(y),
                "progress": None if (y := get("progress")) is None else Progress._read(y),
                "replaced_by": None if (y := get("replaced_by")) is None else _base.text(y),
                "revocation_reason": None if (y := get("revocation_reason")) is None else _base.choice(y),
                "secure_boot": None if (y := get("secure_boot")) is None else SecureBoot._read(y),
                "telemetry": None if (y := get("telemetry")) is None else Telemetry._read(y),
                "trust_bundle": None if (y := get("trust_bundle")) is None else _base.integer(y),
                "update": None if (y := get("update")) is None else _read_UpdateState(y),
            },
        )


class DeviceChangeLabel(_base.Model):
    """Set a label."""

    key: LabelKey
    """Its key."""
    value: str
    """Its value."""
    type: Literal["label"] = "label"

    @classmethod
    def _read(cls, value: Any) -> DeviceChangeLabel:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "key": _base.text(value["key"]),
                "value": _base.text(value["value"]),
            },
        )


class DeviceChangeUnlabel(_base.Model):
    """Remove a label."""

    key: LabelKey
    """Its key."""
    type: Literal["unlabel"] = "unlabel"

    @classmethod
    def _read(cls, value: Any) -> DeviceChangeUnlabel:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "key": _base.text(value["key"]),
            },
        )


class DeviceChangeRevoke(_base.Model):
    """Revoke the certificates and disconnect the devices at once."""

    reason: RevocationReason
    """The reason."""
    type: Literal["revoke"] = "revoke"

    @classmethod
    def _read(cls, value: Any) -> DeviceChangeRevoke:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "reason": _base.choice(value["reason"]),
            },
        )


class DeviceChangeCommand(_base.Model):
    """Send a command, which is not a factory reset."""

    kind: CommandKind
    """What the devices should do."""
    valid_s: int
    """Seconds until the command expires."""
    type: Literal["command"] = "command"

    @classmethod
    def _read(cls, value: Any) -> DeviceChangeCommand:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "kind": _read_CommandKind(value["kind"]),
                "valid_s": _base.integer(value["valid_s"]),
            },
        )


def _read_DeviceChange(value: Any) -> DeviceChange:
    _base.entries(value)
    tag = value.get("type")
    if tag == "label":
        return DeviceChangeLabel._read(value)
    if tag == "unlabel":
        return DeviceChangeUnlabel._read(value)
    if tag == "revoke":
        return DeviceChangeRevoke._read(value)
    if tag == "command":
        return DeviceChangeCommand._read(value)
    raise _base.unknown_variant("DeviceChange", value)


class DevicePhasePending(_base.Model):
    """Waits for its wave, for a place, or for the rollout to be resumed."""

    type: Literal["pending"] = "pending"

    @classmethod
    def _read(cls, value: Any) -> DevicePhasePending:
        _base.entries(value)
        return cls()


class DevicePhaseQueued(_base.Model):
    """Waits until the [budget] of its group has a place for it."""

    type: Literal["queued"] = "queued"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseQueued:
        _base.entries(value)
        return cls()


class DevicePhaseRetrying(_base.Model):
    """Failed to install the release, and is offered it again after a pause."""

    code: FailureCode
    """Why it failed."""
    until_s: int
    """When the pause ends, Unix seconds."""
    type: Literal["retrying"] = "retrying"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseRetrying:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "code": _base.choice(value["code"]),
                "until_s": _base.integer(value["until_s"]),
            },
        )


class DevicePhaseBlocked(_base.Model):
    """Blocked: the attestation level is below the fleet's minimum for updates, so the server does
    not offer the release.
    """

    type: Literal["blocked"] = "blocked"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseBlocked:
        _base.entries(value)
        return cls()


class DevicePhaseOffered(_base.Model):
    """Offered; no report received yet."""

    type: Literal["offered"] = "offered"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseOffered:
        _base.entries(value)
        return cls()


class DevicePhaseHeld(_base.Model):
    """Held back by a [gate](gates) other than the level: the rollout goes on without it. It is
    offered the release if the gate opens while the rollout runs.
    """

    type: Literal["held"] = "held"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseHeld:
        _base.entries(value)
        return cls()


class DevicePhaseUnreached(_base.Model):
    """Was offered the release, did not start, and is not heard of. It is offered again when it
    returns.
    """

    type: Literal["unreached"] = "unreached"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseUnreached:
        _base.entries(value)
        return cls()


class DevicePhaseStaging(_base.Model):
    """Writes the release to the other slot."""

    type: Literal["staging"] = "staging"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseStaging:
        _base.entries(value)
        return cls()


class DevicePhaseStaged(_base.Model):
    """Written to the other slot; waits for its maintenance window."""

    type: Literal["staged"] = "staged"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseStaged:
        _base.entries(value)
        return cls()


class DevicePhaseRebooting(_base.Model):
    """Reboots into the release."""

    type: Literal["rebooting"] = "rebooting"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseRebooting:
        _base.entries(value)
        return cls()


class DevicePhaseTrying(_base.Model):
    """Runs the release; the result of the health checks is pending."""

    type: Literal["trying"] = "trying"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseTrying:
        _base.entries(value)
        return cls()


class DevicePhaseUnconfirmed(_base.Model):
    """Ran the release and did not reach the server. The previous version tries it again."""

    type: Literal["unconfirmed"] = "unconfirmed"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseUnconfirmed:
        _base.entries(value)
        return cls()


class DevicePhaseProving(_base.Model):
    """Reports that it runs the release and is healthy; the server waits for evidence of its TPM."""

    type: Literal["proving"] = "proving"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseProving:
        _base.entries(value)
        return cls()


class DevicePhaseSilent(_base.Model):
    """Started, and is not heard of: an error until it returns."""

    type: Literal["silent"] = "silent"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseSilent:
        _base.entries(value)
        return cls()


class DevicePhaseSucceeded(_base.Model):
    """Runs the release and is healthy."""

    type: Literal["succeeded"] = "succeeded"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseSucceeded:
        _base.entries(value)
        return cls()


class DevicePhaseAttestationFailed(_base.Model):
    """Attestation failed: the evidence contradicts that it runs the release."""

    type: Literal["attestation_failed"] = "attestation_failed"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseAttestationFailed:
        _base.entries(value)
        return cls()


class DevicePhaseRolledBack(_base.Model):
    """Rolled back to its previous version."""

    reason: RollbackReason
    """Why it rolled back."""
    type: Literal["rolled_back"] = "rolled_back"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseRolledBack:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "reason": _read_RollbackReason(value["reason"]),
            },
        )


class DevicePhaseRevoked(_base.Model):
    """Its certificate was revoked during the rollout."""

    type: Literal["revoked"] = "revoked"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseRevoked:
        _base.entries(value)
        return cls()


class DevicePhaseFailed(_base.Model):
    """Failed to install the release."""

    code: FailureCode
    """Why it failed."""
    type: Literal["failed"] = "failed"

    @classmethod
    def _read(cls, value: Any) -> DevicePhaseFailed:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "code": _base.choice(value["code"]),
            },
        )


def _read_DevicePhase(value: Any) -> DevicePhase:
    _base.entries(value)
    tag = value.get("type")
    if tag == "pending":
        return DevicePhasePending._read(value)
    if tag == "queued":
        return DevicePhaseQueued._read(value)
    if tag == "retrying":
        return DevicePhaseRetrying._read(value)
    if tag == "blocked":
        return DevicePhaseBlocked._read(value)
    if tag == "offered":
        return DevicePhaseOffered._read(value)
    if tag == "held":
        return DevicePhaseHeld._read(value)
    if tag == "unreached":
        return DevicePhaseUnreached._read(value)
    if tag == "staging":
        return DevicePhaseStaging._read(value)
    if tag == "staged":
        return DevicePhaseStaged._read(value)
    if tag == "rebooting":
        return DevicePhaseRebooting._read(value)
    if tag == "trying":
        return DevicePhaseTrying._read(value)
    if tag == "unconfirmed":
        return DevicePhaseUnconfirmed._read(value)
    if tag == "proving":
        return DevicePhaseProving._read(value)
    if tag == "silent":
        return DevicePhaseSilent._read(value)
    if tag == "succeeded":
        return DevicePhaseSucceeded._read(value)
    if tag == "attestation_failed":
        return DevicePhaseAttestationFailed._read(value)
    if tag == "rolled_back":
        return DevicePhaseRolledBack._read(value)
    if tag == "revoked":
        return DevicePhaseRevoked._read(value)
    if tag == "failed":
        return DevicePhaseFailed._read(value)
    raise _base.unknown_variant("DevicePhase", value)


class DeviceState(_base.Model):
    """What a device was from a time on."""

    at_s: int
    """From when on."""
    fleet: FleetId
    """Its fleet."""
    boot_id: str
    """Its boot."""
    level: str
    """Code of its attestation level, such as `L4`."""
    running: ReleaseName | None = None
    """The release that it reported."""

    @classmethod
    def _read(cls, value: Any) -> DeviceState:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "at_s": _base.integer(value["at_s"]),
                "fleet": _base.text(value["fleet"]),
                "boot_id": _base.text(value["boot_id"]),
                "level": _base.text(value["level"]),
                "running": None if (y := get("running")) is None else _base.text(y),
            },
        )


class DevicesChanged(_base.Model):
    """The preview or the result of a change of many devices."""

    devices: int
    """Number of devices that the filter matches."""
    first: Sequence[DeviceId]
    """The first of them, at most 20."""
    done: bool
    """Whether they are changed."""

    @classmethod
    def _read(cls, value: Any) -> DevicesChanged:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "devices": _base.integer(value["devices"]),
                "first": [_base.text(x) for x in _base.items(value["first"])],
                "done": _base.boolean(value["done"]),
            },
        )


class Diagnosis(_base.Model):
    """`GET /doctor`: the examination of a server."""

    now_s: int
    """Time of the server, Unix seconds."""
    checks: Sequence[Check]
    """What was examined."""
    endings: Sequence[Ending]
    """Everything that ends, the first one first."""

    @classmethod
    def _read(cls, value: Any) -> Diagnosis:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "now_s": _base.integer(value["now_s"]),
                "checks": [Check._read(x) for x in _base.items(value["checks"])],
                "endings": [Ending._read(x) for x in _base.items(value["endings"])],
            },
        )


class Diagnostic(_base.Model):
    """A diagnostic that `fleeti device command DEVICE diagnostic` can run. The server sends its name, and
    never a command line.
    """

    name: str
    """Name."""
    command: Sequence[str]
    """Executable and its arguments. It runs as root, and its output is the result."""
    timeout_s: int | None = None
    """Seconds after which it is ended."""

    @classmethod
    def _read(cls, value: Any) -> Diagnostic:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "command": [_base.text(x) for x in _base.items(value["command"])],
                "timeout_s": None if (y := get("timeout_s")) is None else _base.integer(y),
            },
        )


class Difference(_base.Model):
    """One difference."""

    aspect: Aspect
    """What it is about."""
    severity: AlertSeverity
    """How severe it is."""
    expected: str
    """What was expected."""
    found: str
    """What was found."""

    @classmethod
    def _read(cls, value: Any) -> Difference:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "aspect": _base.choice(value["aspect"]),
                "severity": _base.choice(value["severity"]),
                "expected": _base.text(value["expected"]),
                "found": _base.text(value["found"]),
            },
        )


class Dns(_base.Model):
    """Name resolution (systemd-resolved)."""

    dnssec: bool | None = None
    """Refuse answers without a valid DNSSEC signature."""
    over_tls: OverTls | None = None
    """DNS over TLS."""
    search: Sequence[str] = ()
    """Search domains."""
    servers: Sequence[str] = ()
    """DNS servers, for every interface."""

    @classmethod
    def _read(cls, value: Any) -> Dns:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "dnssec": None if (y := get("dnssec")) is None else _base.boolean(y),
                "over_tls": None if (y := get("over_tls")) is None else _base.choice(y),
                "search": () if (y := get("search")) is None else [_base.text(x) for x in _base.items(y)],
                "servers": () if (y := get("servers")) is None else [_base.text(x) for x in _base.items(y)],
            },
        )


class Drift(_base.Model):
    """How a device differs from what is desired of it."""

    differences: Sequence[Difference]
    """The differences, the most severe first."""
    severity: AlertSeverity | None = None
    """The severity of the first one; absent if there is none."""
    since_s: int | None = None
    """Since when the device reports another release than its desired one."""

    @classmethod
    def _read(cls, value: Any) -> Drift:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "differences": [Difference._read(x) for x in _base.items(value["differences"])],
                "severity": None if (y := get("severity")) is None else _base.choice(y),
                "since_s": None if (y := get("since_s")) is None else _base.integer(y),
            },
        )


class DropIn(_base.Model):
    """A drop-in of a unit (systemd.unit(5))."""

    name: str
    """Name, unique in the unit; the file gets the suffix `.conf`."""
    text: str
    """Text, with its section."""

    @classmethod
    def _read(cls, value: Any) -> DropIn:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "text": _base.text(value["text"]),
            },
        )


class Effects(_base.Model):
    """What a device notices when it changes from one profile to another. Names are ordered."""

    packages_added: Sequence[str]
    """Packages that are installed, with what they depend on if the packages of the suite are known."""
    packages_removed: Sequence[str]
    """Packages that are no longer installed. Without an index of the suite, some may stay because
    others depend on them.
    """
    packages_unknown: Sequence[str]
    """Of these packages it is not known which units, users and groups come or go with them: no
    build installed them yet.
    """
    units_started: Sequence[str]
    """Units that start at boot and did not before."""
    units_stopped: Sequence[str]
    """Units that no longer start at boot."""
    units_changed: Sequence[str]
    """Units that have other settings than before."""
    users_added: Sequence[str]
    """Users that are added."""
    users_removed: Sequence[str]
    """Users that are removed. Their home directories stay on the data partition."""
    users_changed: Sequence[str]
    """Users with other numbers, groups, keys, rights or passwords."""
    groups_added: Sequence[str]
    """Groups that are added."""
    groups_removed: Sequence[str]
    """Groups that are removed."""
    groups_changed: Sequence[str]
    """Groups with other numbers or rights."""
    ports_opened: Sequence[str]
    """Ports that can be reached and could not before, such as `443/tcp`."""
    ports_closed: Sequence[str]
    """Ports that can no longer be reached."""
    files: Sequence[str]
    """Files of the profile that are added, changed or removed."""
    state_added: Sequence[str]
    """Directories that persist from now on."""
    state_removed: Sequence[str]
    """Directories that no longer persist. Their content stays on the data partition, unused."""
    state_changed: Sequence[str]
    """Directories that persist with another owner or mode."""
    settings: Sequence[str]
    """Settings of the system that differ, by their paths, such as `kernel.sysctl["vm.swappiness"]`."""
    state_version: bool
    """The persistent data has another version: the device keeps a copy until the update is
    committed.
    """
    reinstall: bool
    """Sizes of the disk differ: devices of this image line cannot be updated, they have to be
    installed again.
    """
    reboot: bool
    """The image differs, so the device reboots."""
    pcrs: Sequence[int]
    """PCRs with other values after the update."""

    @classmethod
    def _read(cls, value: Any) -> Effects:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "packages_added": [_base.text(x) for x in _base.items(value["packages_added"])],
                "packages_removed": [_base.text(x) for x in _base.items(value["packages_removed"])],
                "packages_unknown": [_base.text(x) for x in _base.items(value["packages_unknown"])],
                "units_started": [_base.text(x) for x in _base.items(value["units_started"])],
                "units_stopped": [_base.text(x) for x in _base.items(value["units_stopped"])],
                "units_changed": [_base.text(x) for x in _base.items(value["units_changed"])],
                "users_added": [_base.text(x) for x in _base.items(value["users_added"])],
                "users_removed": [_base.text(x) for x in _base.items(value["users_removed"])],
                "users_changed": [_base.text(x) for x in _base.items(value["users_changed"])],
                "groups_added": [_base.text(x) for x in _base.items(value["groups_added"])],
                "groups_removed": [_base.text(x) for x in _base.items(value["groups_removed"])],
                "groups_changed": [_base.text(x) for x in _base.items(value["groups_changed"])],
                "ports_opened": [_base.text(x) for x in _base.items(value["ports_opened"])],
                "ports_closed": [_base.text(x) for x in _base.items(value["ports_closed"])],
                "files": [_base.text(x) for x in _base.items(value["files"])],
                "state_added": [_base.text(x) for x in _base.items(value["state_added"])],
                "state_removed": [_base.text(x) for x in _base.items(value["state_removed"])],
                "state_changed": [_base.text(x) for x in _base.items(value["state_changed"])],
                "settings": [_base.text(x) for x in _base.items(value["settings"])],
                "state_version": _base.boolean(value["state_version"]),
                "reinstall": _base.boolean(value["reinstall"]),
                "reboot": _base.boolean(value["reboot"]),
                "pcrs": [_base.integer(x) for x in _base.items(value["pcrs"])],
            },
        )


class EmailDelivery(_base.Model):
    """An e-mail on its way to a receiver."""

    id: str
    """Its id: the part of its `Message-ID` before the `@`, the same for each attempt."""
    subject: str
    """Its subject."""
    at_s: int
    """When the event happened."""
    status: DeliveryStatus
    """State of the delivery."""
    attempts: int
    """Number of attempts so far."""
    answer: str
    """The last answer of the relay, or why there was none."""
    answered_s: int | None = None
    """When the last attempt ended."""
    next_s: int | None = None
    """When the next attempt follows."""

    @classmethod
    def _read(cls, value: Any) -> EmailDelivery:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "subject": _base.text(value["subject"]),
                "at_s": _base.integer(value["at_s"]),
                "status": _base.choice(value["status"]),
                "attempts": _base.integer(value["attempts"]),
                "answer": _base.text(value["answer"]),
                "answered_s": None if (y := get("answered_s")) is None else _base.integer(y),
                "next_s": None if (y := get("next_s")) is None else _base.integer(y),
            },
        )


class EmailReceiver(_base.Model):
    """A receiver of e-mail about alerts."""

    id: str
    """Receiver id."""
    address: EmailAddress
    """Where e-mail is sent."""
    fleets: Sequence[FleetId]
    """Only alerts about these fleets; empty for all fleets and the server itself."""
    severity: AlertSeverity
    """Lowest severity of alerts that are sent."""
    enabled: bool
    """Whether it gets e-mail."""
    created_s: int
    """When it was added."""

    @classmethod
    def _read(cls, value: Any) -> EmailReceiver:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "address": _base.text(value["address"]),
                "fleets": [_base.text(x) for x in _base.items(value["fleets"])],
                "severity": _base.choice(value["severity"]),
                "enabled": _base.boolean(value["enabled"]),
                "created_s": _base.integer(value["created_s"]),
            },
        )


class Ending(_base.Model):
    """Something that ends."""

    kind: EndingKind
    """What it is."""
    subject: str
    """Which one."""
    ends_s: int
    """When it ends, Unix seconds."""
    renewal: Renewal
    """Who renews it."""
    remedy: str
    """How it is renewed; for what the server renews, what to do if it did not."""

    @classmethod
    def _read(cls, value: Any) -> Ending:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "kind": _base.choice(value["kind"]),
                "subject": _base.text(value["subject"]),
                "ends_s": _base.integer(value["ends_s"]),
                "renewal": _read_Renewal(value["renewal"]),
                "remedy": _base.text(value["remedy"]),
            },
        )


class Enrollment(_base.Model):
    """A new enrollment token. The server shows it once."""

    record: EnrollmentRecord
    """The enrollment record for the device."""
    expires_s: int
    """When the enrollment token expires."""

    @classmethod
    def _read(cls, value: Any) -> Enrollment:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "record": EnrollmentRecord._read(value["record"]),
                "expires_s": _base.integer(value["expires_s"]),
            },
        )


class EnrollmentRecord(_base.Model):
    """The enrollment record, which a device gets at provisioning: the address of its server and the
    token with which it enrolls. It is stored as the SMBIOS type 11 string
    `fleeti.enrollment=<base64 of this JSON>` or as the ESP file `/fleeti/enrollment.json`.
    """

    https_url: str
    """For example `https://fleeti.example:8443`."""
    mqtt_address: str
    """For example `fleeti.example:8883`."""
    root_sha256: str
    """SHA-256 of the root certificate (DER), hexadecimal. The image must contain the same root."""
    token: str
    """One-time enrollment token; secret. Empty for a device that shows a pairing code and waits
    until an operator enters it.
    """
    proxy: str | None = None
    """HTTP proxy through which the device makes all connections to the server, for example
    `http://proxy.example:3128`. The proxy resolves host names.
    """
    _secrets = ("token",)

    @classmethod
    def _read(cls, value: Any) -> EnrollmentRecord:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "https_url": _base.text(value["https_url"]),
                "mqtt_address": _base.text(value["mqtt_address"]),
                "root_sha256": _base.text(value["root_sha256"]),
                "token": _base.text(value["token"]),
                "proxy": None if (y := get("proxy")) is None else _base.text(y),
            },
        )


class EventDevice(_base.Model):
    """A device changed."""

    id: DeviceId
    """Device id."""
    type: Literal["device"] = "device"

    @classmethod
    def _read(cls, value: Any) -> EventDevice:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
            },
        )


class EventRollout(_base.Model):
    """A rollout changed."""

    id: str
    """Rollout id."""
    type: Literal["rollout"] = "rollout"

    @classmethod
    def _read(cls, value: Any) -> EventRollout:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
            },
        )


class EventBuild(_base.Model):
    """A build changed."""

    id: str
    """Build id."""
    type: Literal["build"] = "build"

    @classmethod
    def _read(cls, value: Any) -> EventBuild:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
            },
        )


class EventBuildLog(_base.Model):
    """The log of a build grew."""

    id: str
    """Build id."""
    type: Literal["build_log"] = "build_log"

    @classmethod
    def _read(cls, value: Any) -> EventBuildLog:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
            },
        )


class EventProfile(_base.Model):
    """A revision of a profile was saved."""

    line: Line
    """Image line of the profile."""
    type: Literal["profile"] = "profile"

    @classmethod
    def _read(cls, value: Any) -> EventProfile:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "line": _base.text(value["line"]),
            },
        )


class EventFleet(_base.Model):
    """The appraisal policy of a fleet changed."""

    name: FleetId
    """Name of the fleet."""
    type: Literal["fleet"] = "fleet"

    @classmethod
    def _read(cls, value: Any) -> EventFleet:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
            },
        )


class EventRelease(_base.Model):
    """A release was published."""

    name: ReleaseName
    """Name of the release."""
    type: Literal["release"] = "release"

    @classmethod
    def _read(cls, value: Any) -> EventRelease:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
            },
        )


class EventAlerts(_base.Model):
    """Alerts, their rules or silences changed."""

    type: Literal["alerts"] = "alerts"

    @classmethod
    def _read(cls, value: Any) -> EventAlerts:
        _base.entries(value)
        return cls()


def _read_Event(value: Any) -> Event:
    _base.entries(value)
    tag = value.get("type")
    if tag == "device":
        return EventDevice._read(value)
    if tag == "rollout":
        return EventRollout._read(value)
    if tag == "build":
        return EventBuild._read(value)
    if tag == "build_log":
        return EventBuildLog._read(value)
    if tag == "profile":
        return EventProfile._read(value)
    if tag == "fleet":
        return EventFleet._read(value)
    if tag == "release":
        return EventRelease._read(value)
    if tag == "alerts":
        return EventAlerts._read(value)
    raise _base.unknown_variant("Event", value)


class Extension(_base.Model):
    """Raw fragments for one base. Fleeti does not check what they do."""

    debian: str | None = None
    """Shell commands that run in the root of a Debian image after the packages are installed."""
    nixos: str | None = None
    """A NixOS module."""

    @classmethod
    def _read(cls, value: Any) -> Extension:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "debian": None if (y := get("debian")) is None else _base.text(y),
                "nixos": None if (y := get("nixos")) is None else _base.text(y),
            },
        )


class FateReplaced(_base.Model):
    """The device used it before the value in use."""

    type: Literal["replaced"] = "replaced"

    @classmethod
    def _read(cls, value: Any) -> FateReplaced:
        _base.entries(value)
        return cls()


class FateRefused(_base.Model):
    """The device tried it and did not reach the server."""

    at_s: int
    """When the device returned to the other value, Unix seconds."""
    type: Literal["refused"] = "refused"

    @classmethod
    def _read(cls, value: Any) -> FateRefused:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "at_s": _base.integer(value["at_s"]),
            },
        )


class FateWaiting(_base.Model):
    """The device has not tried it yet: another trial comes first, or the image is on trial."""

    type: Literal["waiting"] = "waiting"

    @classmethod
    def _read(cls, value: Any) -> FateWaiting:
        _base.entries(value)
        return cls()


def _read_Fate(value: Any) -> Fate:
    _base.entries(value)
    tag = value.get("type")
    if tag == "replaced":
        return FateReplaced._read(value)
    if tag == "refused":
        return FateRefused._read(value)
    if tag == "waiting":
        return FateWaiting._read(value)
    raise _base.unknown_variant("Fate", value)


class FieldError(_base.Model):
    """One error in the body of a request."""

    path: str
    """Path of the field, for example `users[1].ssh_keys[0]`."""
    message: str
    """What is wrong."""
    remedy: str
    """What to do about it."""
    suggestion: Suggestion | None = None
    """What the author probably meant."""

    @classmethod
    def _read(cls, value: Any) -> FieldError:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "path": _base.text(value["path"]),
                "message": _base.text(value["message"]),
                "remedy": _base.text(value["remedy"]),
                "suggestion": None if (y := get("suggestion")) is None else _read_Suggestion(y),
            },
        )


class File(_base.Model):
    """A file in the image."""

    path: str
    """Absolute path below `/etc`, `/usr` or `/opt`."""
    content: str
    """Content, UTF-8."""
    group: str | None = None
    """Group."""
    mode: str | None = None
    """File mode, octal, for example `0644`."""
    owner: str | None = None
    """Owner."""
    site_values: bool | None = None
    """Replace `{site.NAME}` in the content by the device's site values. The device writes the file
    when it gets the values; dm-verity and the TPM do not measure them.
    """

    @classmethod
    def _read(cls, value: Any) -> File:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "path": _base.text(value["path"]),
                "content": _base.text(value["content"]),
                "group": None if (y := get("group")) is None else _base.text(y),
                "mode": None if (y := get("mode")) is None else _base.text(y),
                "owner": None if (y := get("owner")) is None else _base.text(y),
                "site_values": None if (y := get("site_values")) is None else _base.boolean(y),
            },
        )


class Finding(_base.Model):
    """What is wrong in a profile: where it is, what it is, and how to fix it."""

    path: str
    """Path of the field in the document, for example `users[1].ssh_keys[0]`; empty for the whole
    document.
    """
    line: int
    """Line in the text; 1 for the first."""
    message: str
    """What is wrong."""
    remedy: str
    """How to fix it."""
    severity: Severity | None = None
    """Whether it makes the profile unusable."""
    suggestion: Suggestion | None = None
    """What the author probably meant."""

    @classmethod
    def _read(cls, value: Any) -> Finding:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "path": _base.text(value["path"]),
                "line": _base.integer(value["line"]),
                "message": _base.text(value["message"]),
                "remedy": _base.text(value["remedy"]),
                "severity": None if (y := get("severity")) is None else _base.choice(y),
                "suggestion": None if (y := get("suggestion")) is None else _read_Suggestion(y),
            },
        )


class Firewall(_base.Model):
    """Packet filter (nftables)."""

    enabled: bool | None = None
    """Drop every incoming connection that no rule allows. Answers, ICMP and DHCP always pass."""
    rules: Sequence[FirewallRule] = ()
    """Rules."""

    @classmethod
    def _read(cls, value: Any) -> Firewall:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "enabled": None if (y := get("enabled")) is None else _base.boolean(y),
                "rules": () if (y := get("rules")) is None else [FirewallRule._read(x) for x in _base.items(y)],
            },
        )


class FirewallRule(_base.Model):
    """A rule of the packet filter."""

    name: str
    """Name, unique in the profile."""
    direction: Direction | None = None
    """Incoming to the device, or forwarded by it."""
    from_: Sequence[str] = ()
    """Networks that may connect. Empty for every network."""
    interface: str | None = None
    """Interface on which the connection arrives. Without one, any."""
    ports: Sequence[str] = ()
    """Ports or ranges of ports."""
    protocol: Protocol | None = None
    """Protocol."""
    service: str | None = None
    """The unit that listens on the ports, for example `nginx.service`."""

    @classmethod
    def _read(cls, value: Any) -> FirewallRule:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "direction": None if (y := get("direction")) is None else _base.choice(y),
                "from_": () if (y := get("from")) is None else [_base.text(x) for x in _base.items(y)],
                "interface": None if (y := get("interface")) is None else _base.text(y),
                "ports": () if (y := get("ports")) is None else [_base.text(x) for x in _base.items(y)],
                "protocol": None if (y := get("protocol")) is None else _base.choice(y),
                "service": None if (y := get("service")) is None else _base.text(y),
            },
        )


class FirmwarePinned(_base.Model):
    """For each device, the firmware that the server saw first, after an operator has accepted it.
    Other firmware later is a warning.
    """

    mode: Literal["pinned"] = "pinned"

    @classmethod
    def _read(cls, value: Any) -> FirmwarePinned:
        _base.entries(value)
        return cls()


class FirmwareKnown(_base.Model):
    """Only the listed firmware."""

    pcrs: Sequence[Sequence[str]]
    """PCR 0 and PCR 2 of each accepted firmware, SHA-256, hexadecimal."""
    mode: Literal["known"] = "known"
    binaries: Sequence[str] = ()
    """EFI binaries that the firmware may start before it boots: Authenticode SHA-256 of each,
    hexadecimal.
    """

    @classmethod
    def _read(cls, value: Any) -> FirmwareKnown:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "pcrs": [[_base.text(x) for x in _base.items(x)] for x in _base.items(value["pcrs"])],
                "binaries": () if (y := get("binaries")) is None else [_base.text(x) for x in _base.items(y)],
            },
        )


def _read_Firmware(value: Any) -> Firmware:
    _base.entries(value)
    tag = value.get("mode")
    if tag == "pinned":
        return FirmwarePinned._read(value)
    if tag == "known":
        return FirmwareKnown._read(value)
    raise _base.unknown_variant("Firmware", value)


class FirmwareKeys(_base.Model):
    """Content of the Secure Boot variables of a device. Certificates are given by the SHA-256 of their
    DER, hexadecimal.
    """

    setup_mode: bool
    """Whether the firmware is in setup mode: it has no platform key, and software on the device
    can write the variables.
    """
    kek: Sequence[str]
    """KEK."""
    db: Sequence[str]
    """db."""
    dbx: Sequence[str]
    """Digests in dbx, SHA-256, hexadecimal."""
    change: int | None = None
    """Number of the last change that the device applied."""
    pk: str | None = None
    """PK; `null` if there is none."""
    refused: str | None = None
    """Why the device refused the next change."""

    @classmethod
    def _read(cls, value: Any) -> FirmwareKeys:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "setup_mode": _base.boolean(value["setup_mode"]),
                "kek": [_base.text(x) for x in _base.items(value["kek"])],
                "db": [_base.text(x) for x in _base.items(value["db"])],
                "dbx": [_base.text(x) for x in _base.items(value["dbx"])],
                "change": None if (y := get("change")) is None else _base.integer(y),
                "pk": None if (y := get("pk")) is None else _base.text(y),
                "refused": None if (y := get("refused")) is None else _base.text(y),
            },
        )


class Fleet(_base.Model):
    """A named group of devices."""

    name: FleetId
    """Name of the fleet."""
    devices: int
    """Number of enrolled devices that are not revoked."""
    revoked: int
    """Number of revoked devices."""

    @classmethod
    def _read(cls, value: Any) -> Fleet:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "devices": _base.integer(value["devices"]),
                "revoked": _base.integer(value["revoked"]),
            },
        )


class FleetFixes(_base.Model):
    """`GET /fleets/{fleet}/fixes`: what the release of the fleet lacks."""

    is_known: bool
    """Whether the server can compare: it has the packages of the release and an index of the suite."""
    count: int
    """Number of fixes that the release lacks."""
    fixes: Sequence[MissingFix]
    """The fixes, the oldest first, at most 1000."""
    release: ReleaseName | None = None
    """The release that devices of the fleet should run: of its pin, or of its channel."""

    @classmethod
    def _read(cls, value: Any) -> FleetFixes:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "is_known": _base.boolean(value["is_known"]),
                "count": _base.integer(value["count"]),
                "fixes": [MissingFix._read(x) for x in _base.items(value["fixes"])],
                "release": None if (y := get("release")) is None else _base.text(y),
            },
        )


class FleetSecret(_base.Model):
    """A secret of a fleet, without its value."""

    name: SecretName
    """Name of the secret, and of its file in `/run/fleeti-secrets` on the devices of the fleet."""
    changed_s: int
    """When the secret was last set, Unix seconds."""
    version: int | None = None
    """Number of the change of the fleet's secrets that set it. Devices report it."""

    @classmethod
    def _read(cls, value: Any) -> FleetSecret:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "changed_s": _base.integer(value["changed_s"]),
                "version": None if (y := get("version")) is None else _base.integer(y),
            },
        )


class Floors(_base.Model):
    """Minimum trust that this image asks for. The policy of a fleet can ask for more, never for less."""

    secrets: Level | None = None
    """Minimum level to receive secrets."""
    success: Level | None = None
    """Minimum level to count as a success in a rollout."""
    update: Level | None = None
    """Minimum level to receive updates."""

    @classmethod
    def _read(cls, value: Any) -> Floors:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "secrets": None if (y := get("secrets")) is None else _base.choice(y),
                "success": None if (y := get("success")) is None else _base.choice(y),
                "update": None if (y := get("update")) is None else _base.choice(y),
            },
        )


class Forgive(_base.Model):
    """`POST /devices/{device}/forgive`: lets the device install a version again that it rolled back."""

    version: Version
    """The version that was rolled back."""

    @classmethod
    def _read(cls, value: Any) -> Forgive:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "version": _base.text(value["version"]),
            },
        )


class FoundPackage(_base.Model):
    """A package of the suite."""

    name: str
    """Name."""
    version: str
    """Version."""
    summary: str
    """What it is, in a few words."""
    size_kib: int
    """Size on the disk, KiB."""

    @classmethod
    def _read(cls, value: Any) -> FoundPackage:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "version": _base.text(value["version"]),
                "summary": _base.text(value["summary"]),
                "size_kib": _base.integer(value["size_kib"]),
            },
        )


class FoundUnit(_base.Model):
    """A system unit of the suite."""

    name: str
    """Name."""
    packages: Sequence[str]
    """Packages that bring it."""

    @classmethod
    def _read(cls, value: Any) -> FoundUnit:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "packages": [_base.text(x) for x in _base.items(value["packages"])],
            },
        )


class GateCheck(_base.Model):
    """A gate, as it is explained."""

    gate: Gate
    """The gate."""
    state: GateState
    """Its state."""
    text: str
    """What is true."""
    change: str | None = None
    """What would change it; absent for an open gate."""
    until_s: int | None = None
    """When time changes it, Unix seconds."""

    @classmethod
    def _read(cls, value: Any) -> GateCheck:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "gate": _base.choice(value["gate"]),
                "state": _base.choice(value["state"]),
                "text": _base.text(value["text"]),
                "change": None if (y := get("change")) is None else _base.text(y),
                "until_s": None if (y := get("until_s")) is None else _base.integer(y),
            },
        )


class Grant(_base.Model):
    """A role that an account has."""

    role: Role
    """The role."""
    fleet: FleetId | None = None
    """The fleet that it is for; all fleets if missing."""

    @classmethod
    def _read(cls, value: Any) -> Grant:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "role": _base.choice(value["role"]),
                "fleet": None if (y := get("fleet")) is None else _base.text(y),
            },
        )


class Group(_base.Model):
    """A local group that no package creates."""

    name: str
    """Name."""
    id: int | None = None
    """Numeric group id, 1000 to 59999. Without one the build assigns the next free id."""

    @classmethod
    def _read(cls, value: Any) -> Group:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "id": None if (y := get("id")) is None else _base.integer(y),
            },
        )


class GuardedActRevokeDevices(_base.Model):
    """Revoke these devices."""

    devices: Sequence[DeviceId]
    """The devices."""
    filter: str
    """The filter that they matched."""
    reason: RevocationReason
    """The reason."""
    type: Literal["revoke_devices"] = "revoke_devices"

    @classmethod
    def _read(cls, value: Any) -> GuardedActRevokeDevices:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "devices": [_base.text(x) for x in _base.items(value["devices"])],
                "filter": _base.text(value["filter"]),
                "reason": _base.choice(value["reason"]),
            },
        )


class GuardedActStartRollout(_base.Model):
    """Start a rollout."""

    request: CreateRollout
    """The request."""
    type: Literal["start_rollout"] = "start_rollout"

    @classmethod
    def _read(cls, value: Any) -> GuardedActStartRollout:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "request": CreateRollout._read(value["request"]),
            },
        )


class GuardedActSupersedeRollout(_base.Model):
    """Start a rollout in place of an active one."""

    rollout: str
    """The active rollout."""
    request: CreateRollout
    """The request."""
    type: Literal["supersede_rollout"] = "supersede_rollout"

    @classmethod
    def _read(cls, value: Any) -> GuardedActSupersedeRollout:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "rollout": _base.text(value["rollout"]),
                "request": CreateRollout._read(value["request"]),
            },
        )


class GuardedActNextWave(_base.Model):
    """Begin this wave of a rollout."""

    rollout: str
    """The rollout."""
    wave: int
    """Number of the wave, from 0."""
    request: NextWave
    """The request."""
    type: Literal["next_wave"] = "next_wave"

    @classmethod
    def _read(cls, value: Any) -> GuardedActNextWave:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "rollout": _base.text(value["rollout"]),
                "wave": _base.integer(value["wave"]),
                "request": NextWave._read(value["request"]),
            },
        )


class GuardedActPinFleet(_base.Model):
    """Pin a fleet to a release, or end that."""

    fleet: FleetId
    """The fleet."""
    request: PinFleet
    """The request."""
    type: Literal["pin_fleet"] = "pin_fleet"

    @classmethod
    def _read(cls, value: Any) -> GuardedActPinFleet:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "fleet": _base.text(value["fleet"]),
                "request": PinFleet._read(value["request"]),
            },
        )


class GuardedActOrderUpdates(_base.Model):
    """Order something for the updates of a device."""

    device: DeviceId
    """The device."""
    request: UpdateOrder
    """The request."""
    type: Literal["order_updates"] = "order_updates"

    @classmethod
    def _read(cls, value: Any) -> GuardedActOrderUpdates:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "device": _base.text(value["device"]),
                "request": _read_UpdateOrder(value["request"]),
            },
        )


class GuardedActSetReleasePath(_base.Model):
    """Replace the floors and blocked ways of a release."""

    release: ReleaseName
    """The release."""
    path: ReleasePath
    """The request."""
    type: Literal["set_release_path"] = "set_release_path"

    @classmethod
    def _read(cls, value: Any) -> GuardedActSetReleasePath:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "release": _base.text(value["release"]),
                "path": ReleasePath._read(value["path"]),
            },
        )


class GuardedActShowRecoveryKey(_base.Model):
    """Show the recovery key that the server got at this time."""

    device: DeviceId
    """The device."""
    request: ShowRecoveryKey
    """The request."""
    kept_s: int
    """When the server got the newest key of the device."""
    type: Literal["show_recovery_key"] = "show_recovery_key"

    @classmethod
    def _read(cls, value: Any) -> GuardedActShowRecoveryKey:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "device": _base.text(value["device"]),
                "request": ShowRecoveryKey._read(value["request"]),
                "kept_s": _base.integer(value["kept_s"]),
            },
        )


class GuardedActSetPolicy(_base.Model):
    """Change which acts need a second person."""

    policy: ApprovalPolicy
    """The policy."""
    type: Literal["set_policy"] = "set_policy"

    @classmethod
    def _read(cls, value: Any) -> GuardedActSetPolicy:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "policy": ApprovalPolicy._read(value["policy"]),
            },
        )


def _read_GuardedAct(value: Any) -> GuardedAct:
    _base.entries(value)
    tag = value.get("type")
    if tag == "revoke_devices":
        return GuardedActRevokeDevices._read(value)
    if tag == "start_rollout":
        return GuardedActStartRollout._read(value)
    if tag == "supersede_rollout":
        return GuardedActSupersedeRollout._read(value)
    if tag == "next_wave":
        return GuardedActNextWave._read(value)
    if tag == "pin_fleet":
        return GuardedActPinFleet._read(value)
    if tag == "order_updates":
        return GuardedActOrderUpdates._read(value)
    if tag == "set_release_path":
        return GuardedActSetReleasePath._read(value)
    if tag == "show_recovery_key":
        return GuardedActShowRecoveryKey._read(value)
    if tag == "set_policy":
        return GuardedActSetPolicy._read(value)
    raise _base.unknown_variant("GuardedAct", value)


class Hardware(_base.Model):
    """Firmware and drivers for real hardware."""

    firmware: Sequence[FirmwareSet] = ()
    """Sets of firmware."""
    initrd_drivers: Sequence[InitrdDrivers] = ()
    """Sets of drivers in the initrd, besides those for common disks."""

    @classmethod
    def _read(cls, value: Any) -> Hardware:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "firmware": () if (y := get("firmware")) is None else [_base.choice(x) for x in _base.items(y)],
                "initrd_drivers": () if (y := get("initrd_drivers")) is None else [_base.choice(x) for x in _base.items(y)],
            },
        )


class HealthCheck(_base.Model):
    """A health check: a new image is kept only if the checks succeed. Each check names exactly one of
    `command`, `unit`, `http`, `tcp`, `file`, `disk` and `memory_free_mib`.
    """

    name: str
    """Name, shown when the check fails."""
    command: Sequence[str] = ()
    """Executable and its arguments. Exit status 0 means healthy."""
    disk: str | None = None
    """A directory with a minimum of free space, for example `/var/lib/app:500M`."""
    file: str | None = None
    """A file that must exist."""
    http: str | None = None
    """An address on the device that must answer with a status from 200 to 399."""
    memory_free_mib: int | None = None
    """Minimum memory available, MiB."""
    tcp: str | None = None
    """`ADDRESS:PORT` that must accept connections."""
    timeout_s: int | None = None
    """Seconds after which the check counts as failed. A check other than a command is repeated
    until then.
    """
    unit: str | None = None
    """A unit that must be active."""
    weight: int | None = None
    """Weight of a failure. The image is unhealthy if the weights of the failed checks reach 100."""

    @classmethod
    def _read(cls, value: Any) -> HealthCheck:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "command": () if (y := get("command")) is None else [_base.text(x) for x in _base.items(y)],
                "disk": None if (y := get("disk")) is None else _base.text(y),
                "file": None if (y := get("file")) is None else _base.text(y),
                "http": None if (y := get("http")) is None else _base.text(y),
                "memory_free_mib": None if (y := get("memory_free_mib")) is None else _base.integer(y),
                "tcp": None if (y := get("tcp")) is None else _base.text(y),
                "timeout_s": None if (y := get("timeout_s")) is None else _base.integer(y),
                "unit": None if (y := get("unit")) is None else _base.text(y),
                "weight": None if (y := get("weight")) is None else _base.integer(y),
            },
        )


class History(_base.Model):
    """`GET /devices/{device}/history`."""

    states: Sequence[DeviceState]
    """What the device was, newest first."""
    metrics: Sequence[Metrics]
    """Its metrics, oldest first: days, then hours."""

    @classmethod
    def _read(cls, value: Any) -> History:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "states": [DeviceState._read(x) for x in _base.items(value["states"])],
                "metrics": [Metrics._read(x) for x in _base.items(value["metrics"])],
            },
        )


class Identity(_base.Model):
    """Host name, language, time zone and keyboard."""

    hostname: str | None = None
    """Host name. `{id}` is replaced by the device id. An RFC 1123 label otherwise."""
    keyboard: str | None = None
    """Keyboard layout of the console and of graphical sessions."""
    locale: str | None = None
    """Locale of the system, as in `LANG`."""
    time_zone: str | None = None
    """Time zone, by its name in the time zone database."""

    @classmethod
    def _read(cls, value: Any) -> Identity:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "hostname": None if (y := get("hostname")) is None else _base.text(y),
                "keyboard": None if (y := get("keyboard")) is None else _base.text(y),
                "locale": None if (y := get("locale")) is None else _base.text(y),
                "time_zone": None if (y := get("time_zone")) is None else _base.text(y),
            },
        )


class ImportBundle(_base.Model):
    """`POST /trust-bundle`: imports the result of a root ceremony."""

    bundle: SignedBundle
    """The signed trust bundle."""
    transcript: str
    """The transcript of the ceremony: what was done with the root key. These are the signed bytes."""
    transcript_signature: str
    """Signature of the root CA's key over the transcript: ECDSA, DER, base64."""
    anyway: bool | None = None
    """Import the bundle even if devices have certificates of a device intermediate CA that it
    does not contain. The server then refuses these certificates. Devices with a TPM get new
    ones by themselves; devices whose key is a file need a readmission. All other checks stay.
    """

    @classmethod
    def _read(cls, value: Any) -> ImportBundle:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "bundle": SignedBundle._read(value["bundle"]),
                "transcript": _base.text(value["transcript"]),
                "transcript_signature": _base.text(value["transcript_signature"]),
                "anyway": None if (y := get("anyway")) is None else _base.boolean(y),
            },
        )


class ImportLabels(_base.Model):
    """`POST /label-imports`: names, notes and labels of many devices. All rows are stored or none."""

    rows: Sequence[ImportRow]
    """The rows, at most 10,000."""
    dry_run: bool | None = None
    """Check the rows and store nothing."""

    @classmethod
    def _read(cls, value: Any) -> ImportLabels:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "rows": [ImportRow._read(x) for x in _base.items(value["rows"])],
                "dry_run": None if (y := get("dry_run")) is None else _base.boolean(y),
            },
        )


class ImportRow(_base.Model):
    """A row of an import."""

    line: int
    """The line of the row in its file, for errors."""
    device: str
    """The id of the device, or its name if no other device has it."""
    labels: Mapping[str, str] | None = None
    """Labels; an empty value removes one."""
    name: str | None = None
    """The name; absent to keep it, empty to remove it."""
    note: str | None = None
    """The note; absent to keep it, empty to remove it."""

    @classmethod
    def _read(cls, value: Any) -> ImportRow:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "line": _base.integer(value["line"]),
                "device": _base.text(value["device"]),
                "labels": None if (y := get("labels")) is None else {k: _base.text(x) for k, x in _base.entries(y)},
                "name": None if (y := get("name")) is None else _base.text(y),
                "note": None if (y := get("note")) is None else _base.text(y),
            },
        )


class Imported(_base.Model):
    """The result of an import."""

    devices: int
    """Number of devices in the rows."""
    changed: int
    """Number of them that change."""
    stored: bool
    """Whether the changes are stored."""

    @classmethod
    def _read(cls, value: Any) -> Imported:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "devices": _base.integer(value["devices"]),
                "changed": _base.integer(value["changed"]),
                "stored": _base.boolean(value["stored"]),
            },
        )


class IndexedSuite(_base.Model):
    """The index of a suite against which profiles are checked."""

    suite: str
    """The suite."""
    digest: str
    """SHA-256 of the index, hexadecimal."""
    has_contents: bool
    """Whether the index has the units and programs of every package. Otherwise units and programs
    are checked only in profiles whose packages were all built before.
    """

    @classmethod
    def _read(cls, value: Any) -> IndexedSuite:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "suite": _base.text(value["suite"]),
                "digest": _base.text(value["digest"]),
                "has_contents": _base.boolean(value["has_contents"]),
            },
        )


class Interface(_base.Model):
    """An interface, or several that match, and their addresses."""

    name: str
    """Name of this entry, unique in the profile."""
    match: Match
    """Which interfaces. All that is given must match."""
    addresses: Sequence[str] = ()
    """Static addresses with prefix length."""
    bond: str | None = None
    """Name of the bond that the interface belongs to."""
    bridge: str | None = None
    """Name of the bridge that the interface belongs to."""
    dhcp: Dhcp | None = None
    """Which addresses come from DHCP."""
    dns: Sequence[str] = ()
    """DNS servers of this interface."""
    dot1x: bool | None = None
    """Authenticate by IEEE 802.1X (EAP-TLS) with the device's certificate."""
    gateways: Sequence[str] = ()
    """Default gateways."""
    mtu: int | None = None
    """Maximum transmission unit, bytes; 0 for the interface's own."""
    vlans: Sequence[str] = ()
    """Names of VLANs on this interface."""

    @classmethod
    def _read(cls, value: Any) -> Interface:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "match": Match._read(value["match"]),
                "addresses": () if (y := get("addresses")) is None else [_base.text(x) for x in _base.items(y)],
                "bond": None if (y := get("bond")) is None else _base.text(y),
                "bridge": None if (y := get("bridge")) is None else _base.text(y),
                "dhcp": None if (y := get("dhcp")) is None else _base.choice(y),
                "dns": () if (y := get("dns")) is None else [_base.text(x) for x in _base.items(y)],
                "dot1x": None if (y := get("dot1x")) is None else _base.boolean(y),
                "gateways": () if (y := get("gateways")) is None else [_base.text(x) for x in _base.items(y)],
                "mtu": None if (y := get("mtu")) is None else _base.integer(y),
                "vlans": () if (y := get("vlans")) is None else [_base.text(x) for x in _base.items(y)],
            },
        )


class Intermediate(_base.Model):
    """A trusted intermediate CA."""

    purpose: str
    """`device`, `server` or `operator`."""
    certificate_sha256: str
    """SHA-256 of its certificate (DER), hexadecimal."""
    name: str
    """Name of the intermediate CA."""
    not_after_s: int
    """When its certificate expires, Unix seconds."""
    is_issuing: bool
    """Whether it issues the new certificates of its purpose."""
    has_key: bool
    """Whether the signing service has its key."""

    @classmethod
    def _read(cls, value: Any) -> Intermediate:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "purpose": _base.text(value["purpose"]),
                "certificate_sha256": _base.text(value["certificate_sha256"]),
                "name": _base.text(value["name"]),
                "not_after_s": _base.integer(value["not_after_s"]),
                "is_issuing": _base.boolean(value["is_issuing"]),
                "has_key": _base.boolean(value["has_key"]),
            },
        )


class Kernel(_base.Model):
    """The kernel and its settings."""

    arguments: Sequence[str] = ()
    """Kernel arguments, appended to those that Fleeti sets."""
    blacklist: Sequence[str] = ()
    """Modules that are never loaded."""
    flavour: Flavour | None = None
    """Which kernel of the base."""
    modules: Sequence[str] = ()
    """Modules to load at boot."""
    sysctl: Mapping[str, str] | None = None
    """Settings of sysctl(8), by name."""

    @classmethod
    def _read(cls, value: Any) -> Kernel:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "arguments": () if (y := get("arguments")) is None else [_base.text(x) for x in _base.items(y)],
                "blacklist": () if (y := get("blacklist")) is None else [_base.text(x) for x in _base.items(y)],
                "flavour": None if (y := get("flavour")) is None else _base.choice(y),
                "modules": () if (y := get("modules")) is None else [_base.text(x) for x in _base.items(y)],
                "sysctl": None if (y := get("sysctl")) is None else {k: _base.text(x) for k, x in _base.entries(y)},
            },
        )


class LabelKeyInfo(_base.Model):
    """A label key."""

    key: LabelKey
    """The key."""
    of: LabelType
    """What values it can have."""

    @classmethod
    def _read(cls, value: Any) -> LabelKeyInfo:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "key": _base.text(value["key"]),
                "of": _read_LabelType(value["of"]),
            },
        )


class LabelTypeText(_base.Model):
    """Any text of 1 to 64 characters."""

    type: Literal["text"] = "text"

    @classmethod
    def _read(cls, value: Any) -> LabelTypeText:
        _base.entries(value)
        return cls()


class LabelTypeNumber(_base.Model):
    """A whole number."""

    type: Literal["number"] = "number"

    @classmethod
    def _read(cls, value: Any) -> LabelTypeNumber:
        _base.entries(value)
        return cls()


class LabelTypeBoolean(_base.Model):
    """`true` or `false`."""

    type: Literal["boolean"] = "boolean"

    @classmethod
    def _read(cls, value: Any) -> LabelTypeBoolean:
        _base.entries(value)
        return cls()


class LabelTypeChoice(_base.Model):
    """One of these values."""

    values: Sequence[str]
    """The values, at most 64."""
    type: Literal["choice"] = "choice"

    @classmethod
    def _read(cls, value: Any) -> LabelTypeChoice:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "values": [_base.text(x) for x in _base.items(value["values"])],
            },
        )


def _read_LabelType(value: Any) -> LabelType:
    _base.entries(value)
    tag = value.get("type")
    if tag == "text":
        return LabelTypeText._read(value)
    if tag == "number":
        return LabelTypeNumber._read(value)
    if tag == "boolean":
        return LabelTypeBoolean._read(value)
    if tag == "choice":
        return LabelTypeChoice._read(value)
    raise _base.unknown_variant("LabelType", value)


class LastRefresh(_base.Model):
    """What happened when a window opened."""

    at_s: int
    """When, Unix seconds."""
    build: str | None = None
    """The newest build that the schedule queued; `null` before the first."""
    problem: str | None = None
    """Why no build was queued the last time; `null` if one was."""

    @classmethod
    def _read(cls, value: Any) -> LastRefresh:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "at_s": _base.integer(value["at_s"]),
                "build": None if (y := get("build")) is None else _base.text(y),
                "problem": None if (y := get("problem")) is None else _base.text(y),
            },
        )


class LeftOut(_base.Model):
    """A file that the server ignores."""

    file: str
    """Path of the file below `DATA/pki/tpm-manufacturers`."""
    problem: str
    """Why the server ignores it."""

    @classmethod
    def _read(cls, value: Any) -> LeftOut:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "file": _base.text(value["file"]),
                "problem": _base.text(value["problem"]),
            },
        )


class LibraryEntry(_base.Model):
    """A fragment that profiles can extend."""

    name: str
    """Name, as `extends` lists it."""
    kind: FragmentKind
    """What it is for."""
    summary: str
    """One sentence."""
    text: str
    """The document, TOML."""

    @classmethod
    def _read(cls, value: Any) -> LibraryEntry:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "kind": _base.choice(value["kind"]),
                "summary": _base.text(value["summary"]),
                "text": _base.text(value["text"]),
            },
        )


class LoginSession(_base.Model):
    """A login session in a browser."""

    id: str
    """Its id, which the audit log shows."""
    created_s: int
    """When it began, Unix seconds."""
    used_s: int
    """When it was last used, Unix seconds, to the minute."""
    expires_s: int
    """When it ends, Unix seconds."""

    @classmethod
    def _read(cls, value: Any) -> LoginSession:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "created_s": _base.integer(value["created_s"]),
                "used_s": _base.integer(value["used_s"]),
                "expires_s": _base.integer(value["expires_s"]),
            },
        )


class MadeOf(_base.Model):
    """A fragment that a revision of a profile was made of."""

    name: str
    """Name, as `extends` lists it."""
    digest: str
    """SHA-256 of its text, hexadecimal."""
    newer: int | None = None
    """Number of the newest revision of that profile, if there is a newer one now."""
    revision: int | None = None
    """Number of its revision, if it is a profile of this server."""

    @classmethod
    def _read(cls, value: Any) -> MadeOf:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "digest": _base.text(value["digest"]),
                "newer": None if (y := get("newer")) is None else _base.integer(y),
                "revision": None if (y := get("revision")) is None else _base.integer(y),
            },
        )


class Match(_base.Model):
    """Which interfaces an entry is for (systemd.network(5))."""

    driver: str | None = None
    """Driver."""
    mac: str | None = None
    """MAC address."""
    name: str | None = None
    """Name of the interface, with `*` as a wildcard."""

    @classmethod
    def _read(cls, value: Any) -> Match:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "driver": None if (y := get("driver")) is None else _base.text(y),
                "mac": None if (y := get("mac")) is None else _base.text(y),
                "name": None if (y := get("name")) is None else _base.text(y),
            },
        )


class Me(_base.Model):
    """Who sends a request, and what that account and credential permit."""

    name: AccountName
    """The name of the account."""
    credential: str
    """The credential, as the audit log shows it."""
    grants: Sequence[Grant]
    """The roles of the account."""
    permissions: Sequence[Permission] | None = None
    """The permissions that an API token is limited to."""

    @classmethod
    def _read(cls, value: Any) -> Me:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "credential": _base.text(value["credential"]),
                "grants": [Grant._read(x) for x in _base.items(value["grants"])],
                "permissions": None if (y := get("permissions")) is None else [_base.choice(x) for x in _base.items(y)],
            },
        )


class MeasuredPcr(_base.Model):
    """A PCR and the events that were measured into it."""

    pcr: int
    """Number of the PCR."""
    title: str
    """What is measured into this PCR."""
    value: str
    """Value of the PCR, hexadecimal."""
    events: Sequence[str]
    """The measured events in order, described in words."""

    @classmethod
    def _read(cls, value: Any) -> MeasuredPcr:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "pcr": _base.integer(value["pcr"]),
                "title": _base.text(value["title"]),
                "value": _base.text(value["value"]),
                "events": [_base.text(x) for x in _base.items(value["events"])],
            },
        )


class Metrics(_base.Model):
    """A row of metrics of a device: means and largest values of a span of time."""

    at_s: int
    """When the span began."""
    span_s: int
    """Length of the span, seconds: an hour or a day."""
    samples: int
    """Number of samples."""
    load_milli: int
    """Mean of the one-minute load average, thousandths."""
    load_milli_max: int
    """Its largest value."""
    memory_percent: int
    """Mean of the used memory, percent."""
    memory_percent_max: int
    """Its largest value."""
    data_percent: int
    """Mean of the used space of the data partition, percent."""
    data_percent_max: int
    """Its largest value."""
    points: Sequence[Sample]
    """The samples of the last day, as they came."""

    @classmethod
    def _read(cls, value: Any) -> Metrics:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "at_s": _base.integer(value["at_s"]),
                "span_s": _base.integer(value["span_s"]),
                "samples": _base.integer(value["samples"]),
                "load_milli": _base.integer(value["load_milli"]),
                "load_milli_max": _base.integer(value["load_milli_max"]),
                "memory_percent": _base.integer(value["memory_percent"]),
                "memory_percent_max": _base.integer(value["memory_percent_max"]),
                "data_percent": _base.integer(value["data_percent"]),
                "data_percent_max": _base.integer(value["data_percent_max"]),
                "points": [Sample._read(x) for x in _base.items(value["points"])],
            },
        )


class MissingFix(_base.Model):
    """A security fix that a release lacks."""

    package: str
    """The package."""
    installed: str
    """Its version in the release."""
    fixed: str
    """The version that has the fix."""
    since_s: int
    """When the fix was first seen."""

    @classmethod
    def _read(cls, value: Any) -> MissingFix:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "package": _base.text(value["package"]),
                "installed": _base.text(value["installed"]),
                "fixed": _base.text(value["fixed"]),
                "since_s": _base.integer(value["since_s"]),
            },
        )


class Network(_base.Model):
    """The network. Without interfaces, every wired one uses DHCP."""

    bonds: Sequence[Bond] = ()
    """Bonds."""
    bridges: Sequence[Bridge] = ()
    """Bridges."""
    dns: Dns | None = None
    """Name resolution."""
    firewall: Firewall | None = None
    """Packet filter."""
    interfaces: Sequence[Interface] = ()
    """Interfaces and their addresses."""
    proxy: Proxy | None = None
    """HTTP proxy of the system's services."""
    time: Time | None = None
    """Time synchronisation."""
    vlans: Sequence[Vlan] = ()
    """VLANs (IEEE 802.1Q)."""
    wifi: Sequence[Wifi] = ()
    """Wi-Fi networks, in order of preference."""
    wireguard: Sequence[WireGuard] = ()
    """WireGuard tunnels."""

    @classmethod
    def _read(cls, value: Any) -> Network:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "bonds": () if (y := get("bonds")) is None else [Bond._read(x) for x in _base.items(y)],
                "bridges": () if (y := get("bridges")) is None else [Bridge._read(x) for x in _base.items(y)],
                "dns": None if (y := get("dns")) is None else Dns._read(y),
                "firewall": None if (y := get("firewall")) is None else Firewall._read(y),
                "interfaces": () if (y := get("interfaces")) is None else [Interface._read(x) for x in _base.items(y)],
                "proxy": None if (y := get("proxy")) is None else Proxy._read(y),
                "time": None if (y := get("time")) is None else Time._read(y),
                "vlans": () if (y := get("vlans")) is None else [Vlan._read(x) for x in _base.items(y)],
                "wifi": () if (y := get("wifi")) is None else [Wifi._read(x) for x in _base.items(y)],
                "wireguard": () if (y := get("wireguard")) is None else [WireGuard._read(x) for x in _base.items(y)],
            },
        )


class NextWave(_base.Model):
    """`POST /rollouts/{rollout}/next`."""

    reason: str
    """Why, for the audit log: 1 to 200 characters."""
    over_gate: bool | None = None
    """Whether the wave begins without the answer of the webhook gate. Only for `next`."""

    @classmethod
    def _read(cls, value: Any) -> NextWave:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "reason": _base.text(value["reason"]),
                "over_gate": None if (y := get("over_gate")) is None else _base.boolean(y),
            },
        )


class OwnPackage(_base.Model):
    """A package of your own."""

    name: str
    """Name of the package."""
    sha256: str
    """SHA-256 of the .deb file, hexadecimal."""
    from_: str | None = None
    """Where the .deb file is: an `https://` address, or a path on the machine that builds."""

    @classmethod
    def _read(cls, value: Any) -> OwnPackage:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "sha256": _base.text(value["sha256"]),
                "from_": None if (y := get("from")) is None else _base.text(y),
            },
        )


class PackageDevice(_base.Model):
    """A device in an answer."""

    id: DeviceId
    """The device."""
    fleet: FleetId
    """Its fleet."""
    basis: Basis
    """What the answer is based on."""
    release: ReleaseName | None = None
    """The release that it runs, as far as that is known."""

    @classmethod
    def _read(cls, value: Any) -> PackageDevice:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "fleet": _base.text(value["fleet"]),
                "basis": _base.choice(value["basis"]),
                "release": None if (y := get("release")) is None else _base.text(y),
            },
        )


class PackageDevices(_base.Model):
    """The devices that have a package. Revoked devices are not counted."""

    query: str
    """The question, as it was understood."""
    proved: int
    """Devices that prove with their TPM that they run such a release."""
    reported: int
    """Devices that report such a release and prove none."""
    unknown: int
    """Devices of which it is not known: they have not reported, or the packages of their release
    are not known.
    """
    others: int
    """All other devices."""
    releases: Sequence[PackageRelease]
    """Published releases with such a package."""
    devices: Sequence[PackageDevice]
    """A page of the proved, reported and unknown devices, ordered by id."""

    @classmethod
    def _read(cls, value: Any) -> PackageDevices:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "query": _base.text(value["query"]),
                "proved": _base.integer(value["proved"]),
                "reported": _base.integer(value["reported"]),
                "unknown": _base.integer(value["unknown"]),
                "others": _base.integer(value["others"]),
                "releases": [PackageRelease._read(x) for x in _base.items(value["releases"])],
                "devices": [PackageDevice._read(x) for x in _base.items(value["devices"])],
            },
        )


class PackageRelease(_base.Model):
    """A published release with such a package."""

    release: ReleaseName
    """The release."""
    packages: Sequence[ReleasePackage]
    """The packages."""
    proved: int
    """Devices that prove that they run it."""
    reported: int
    """Devices that report it and prove none."""

    @classmethod
    def _read(cls, value: Any) -> PackageRelease:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "release": _base.text(value["release"]),
                "packages": [ReleasePackage._read(x) for x in _base.items(value["packages"])],
                "proved": _base.integer(value["proved"]),
                "reported": _base.integer(value["reported"]),
            },
        )


class Pair(_base.Model):
    """`POST /pairings`: accepts the pending enrollment that shows this code."""

    code: str
    """The pairing code, for example `BCDF-GHJK`. Spaces, case and the dash do not matter."""
    fleet: FleetId
    """The fleet that the device joins."""

    @classmethod
    def _read(cls, value: Any) -> Pair:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "code": _base.text(value["code"]),
                "fleet": _base.text(value["fleet"]),
            },
        )


class Paired(_base.Model):
    """A pending enrollment that was accepted."""

    fleet: FleetId
    """The fleet that the device joins."""
    running: ReleaseName
    """What the device reports that it runs. Not proved."""
    key_sha256: str
    """SHA-256 of the device's public key, hexadecimal."""

    @classmethod
    def _read(cls, value: Any) -> Paired:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "fleet": _base.text(value["fleet"]),
                "running": _base.text(value["running"]),
                "key_sha256": _base.text(value["key_sha256"]),
            },
        )


class Passkey(_base.Model):
    """A passkey (Web Authentication) with which a person signs in to the pages, without its key."""

    id: str
    """Its id, which the audit log shows."""
    account: AccountName
    """Its account."""
    label: str
    """Its name, which the person chose."""
    is_synced: bool
    """Whether the authenticator may copy it to others of the person."""
    created_s: int
    """When it was added, Unix seconds."""
    used_s: int | None = None
    """When it was last used, Unix seconds."""

    @classmethod
    def _read(cls, value: Any) -> Passkey:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "account": _base.text(value["account"]),
                "label": _base.text(value["label"]),
                "is_synced": _base.boolean(value["is_synced"]),
                "created_s": _base.integer(value["created_s"]),
                "used_s": None if (y := get("used_s")) is None else _base.integer(y),
            },
        )


class PasswordLink(_base.Model):
    """A one-time link with which a person sets the password."""

    path: str
    """The path on the server, such as `/join/…`."""
    expires_s: int
    """When it ends, Unix seconds."""
    _secrets = ("path",)

    @classmethod
    def _read(cls, value: Any) -> PasswordLink:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "path": _base.text(value["path"]),
                "expires_s": _base.integer(value["expires_s"]),
            },
        )


class Passwords(_base.Model):
    """Rules for passwords that users set."""

    age_days_max: int | None = None
    """Days after which a password must be changed; 0 for never."""
    length_min: int | None = None
    """Minimum length; 0 for the base's own rule."""
    lock_after: int | None = None
    """Failed attempts after which an account is locked for 15 minutes; 0 for never."""

    @classmethod
    def _read(cls, value: Any) -> Passwords:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "age_days_max": None if (y := get("age_days_max")) is None else _base.integer(y),
                "length_min": None if (y := get("length_min")) is None else _base.integer(y),
                "lock_after": None if (y := get("lock_after")) is None else _base.integer(y),
            },
        )


class PauseRollouts(_base.Model):
    """`POST /rollout-pauses`: pauses all rollouts that run."""

    reason: str
    """Why, for the audit log: 1 to 200 characters."""

    @classmethod
    def _read(cls, value: Any) -> PauseRollouts:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "reason": _base.text(value["reason"]),
            },
        )


class PausedRollouts(_base.Model):
    """What became of the rollouts that were to be paused: at most 1000 of the newest. Repeat the request
    until both lists are empty.
    """

    paused: Sequence[RolloutSummary]
    """Rollouts that this request paused."""
    left: Sequence[RolloutSummary]
    """Rollouts that cannot be paused yet: their devices join, or they wait for the end of another
    rollout. They begin to offer their release soon.
    """

    @classmethod
    def _read(cls, value: Any) -> PausedRollouts:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "paused": [RolloutSummary._read(x) for x in _base.items(value["paused"])],
                "left": [RolloutSummary._read(x) for x in _base.items(value["left"])],
            },
        )


class Peer(_base.Model):
    """A peer of a WireGuard tunnel."""

    public_key: str
    """Public key, Base64."""
    allowed_ips: Sequence[str]
    """Addresses that are routed to the peer."""
    endpoint: str | None = None
    """`HOST:PORT`, for a peer that the device connects to."""
    keepalive_s: int | None = None
    """Seconds between keepalive messages; 0 for none."""
    preshared_key_secret: str | None = None
    """Name of the secret with the preshared key."""

    @classmethod
    def _read(cls, value: Any) -> Peer:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "public_key": _base.text(value["public_key"]),
                "allowed_ips": [_base.text(x) for x in _base.items(value["allowed_ips"])],
                "endpoint": None if (y := get("endpoint")) is None else _base.text(y),
                "keepalive_s": None if (y := get("keepalive_s")) is None else _base.integer(y),
                "preshared_key_secret": None if (y := get("preshared_key_secret")) is None else _base.text(y),
            },
        )


class PinFleet(_base.Model):
    """`PUT /fleets/{fleet}/channel`: pins a fleet to a release, or ends that."""

    reason: str
    """Why: 1 to 200 characters."""
    release: ReleaseName | None = None
    """The release; absent to follow the channel again."""

    @classmethod
    def _read(cls, value: Any) -> PinFleet:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "reason": _base.text(value["reason"]),
                "release": None if (y := get("release")) is None else _base.text(y),
            },
        )


class Problem(_base.Model):
    """The body of every error of the HTTP API, `application/problem+json`."""

    type: str
    """`urn:fleeti:problem:` followed by the code."""
    status: int
    """HTTP status."""
    detail: str
    """What is wrong, and where."""
    errors: Sequence[FieldError] = ()
    """All errors in the body, if there is more to report than `detail` says."""
    hint: str | None = None
    """What to do about it."""

    @classmethod
    def _read(cls, value: Any) -> Problem:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "type": _base.text(value["type"]),
                "status": _base.integer(value["status"]),
                "detail": _base.text(value["detail"]),
                "errors": () if (y := get("errors")) is None else [FieldError._read(x) for x in _base.items(y)],
                "hint": None if (y := get("hint")) is None else _base.text(y),
            },
        )


class Profile(_base.Model):
    """The declarative description of an image."""

    schema: int
    """Schema version of this document: 1."""
    name: Line
    """Name of the profile, and image line of its builds."""
    architecture: Architecture
    """Processor architecture of the devices."""
    base: BaseName | None = None
    """The distribution that images are made of."""
    containers: Sequence[Container] = ()
    """Containers."""
    description: str | None = None
    """Free text."""
    diagnostics: Sequence[Diagnostic] = ()
    """Diagnostics that an operator can run on a device, by name."""
    extension: Extension | None = None
    """Raw fragments for one base. Fleeti does not check what they do."""
    files: Sequence[File] = ()
    """Files to write, with their content."""
    floors: Floors | None = None
    """Minimum trust that this image asks for."""
    groups: Sequence[Group] = ()
    """Local groups that no package creates."""
    hardware: Hardware | None = None
    """Firmware and drivers for real hardware."""
    health_checks: Sequence[HealthCheck] = ()
    """Checks that must succeed before a new image is kept."""
    identity: Identity | None = None
    """Host name, language, time zone and keyboard."""
    kernel: Kernel | None = None
    """The kernel and its settings."""
    network: Network | None = None
    """Interfaces, names, time, proxy and packet filter."""
    release_log: ReleaseLog | None = None
    """How a device uses the audit log before it installs a release."""
    secrets: Sequence[Secret] = ()
    """Secrets of the fleet that this profile uses."""
    security: Security | None = None
    """Security settings."""
    server_contact: ServerContact | None = None
    """Whether a new image must reach the server before the device keeps it."""
    services: Sequence[Service] = ()
    """systemd units to enable, disable, mask, change or add."""
    site: Sequence[SiteValue] = ()
    """Values that differ from site to site."""
    software: Software | None = None
    """Packages and where they come from."""
    state: State | None = None
    """What persists over updates and rollbacks."""
    storage: Storage | None = None
    """Sizes of the disk."""
    sudo: Sequence[SudoRule] = ()
    """What users and groups may do with sudo."""
    support_keys: Sequence[SupportKey] = ()
    """Keys that support bundles can be encrypted to."""
    timers: Sequence[Timer] = ()
    """Services that start at certain times."""
    users: Sequence[User] = ()
    """Local users."""

    @classmethod
    def _read(cls, value: Any) -> Profile:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "schema": _base.integer(value["schema"]),
                "name": _base.text(value["name"]),
                "architecture": _base.choice(value["architecture"]),
                "base": None if (y := get("base")) is None else _base.choice(y),
                "containers": () if (y := get("containers")) is None else [Container._read(x) for x in _base.items(y)],
                "description": None if (y := get("description")) is None else _base.text(y),
                "diagnostics": () if (y := get("diagnostics")) is None else [Diagnostic._read(x) for x in _base.items(y)],
                "extension": None if (y := get("extension")) is None else Extension._read(y),
                "files": () if (y := get("files")) is None else [File._read(x) for x in _base.items(y)],
                "floors": None if (y := get("floors")) is None else Floors._read(y),
                "groups": () if (y := get("groups")) is None else [Group._read(x) for x in _base.items(y)],
                "hardware": None if (y := get("hardware")) is None else Hardware._read(y),
                "health_checks": () if (y := get("health_checks")) is None else [HealthCheck._read(x) for x in _base.items(y)],
                "identity": None if (y := get("identity")) is None else Identity._read(y),
                "kernel": None if (y := get("kernel")) is None else Kernel._read(y),
                "network": None if (y := get("network")) is None else Network._read(y),
                "release_log": None if (y := get("release_log")) is None else ReleaseLog._read(y),
                "secrets": () if (y := get("secrets")) is None else [Secret._read(x) for x in _base.items(y)],
                "security": None if (y := get("security")) is None else Security._read(y),
                "server_contact": None if (y := get("server_contact")) is None else ServerContact._read(y),
                "services": () if (y := get("services")) is None else [Service._read(x) for x in _base.items(y)],
                "site": () if (y := get("site")) is None else [SiteValue._read(x) for x in _base.items(y)],
                "software": None if (y := get("software")) is None else Software._read(y),
                "state": None if (y := get("state")) is None else _base.choice(y),
                "storage": None if (y := get("storage")) is None else Storage._read(y),
                "sudo": () if (y := get("sudo")) is None else [SudoRule._read(x) for x in _base.items(y)],
                "support_keys": () if (y := get("support_keys")) is None else [SupportKey._read(x) for x in _base.items(y)],
                "timers": () if (y := get("timers")) is None else [Timer._read(x) for x in _base.items(y)],
                "users": () if (y := get("users")) is None else [User._read(x) for x in _base.items(y)],
            },
        )


class ProfileChanges(_base.Model):
    """What differs between two revisions of a profile."""

    line: Line
    """The profile."""
    from_: int
    """Number of the earlier revision."""
    to: int
    """Number of the later revision."""
    changes: Sequence[Change]
    """Fields and entries that differ, ordered by path."""
    effects: Effects
    """What changes on a device."""
    devices: int
    """Number of devices that run an image of this line or are to run one."""

    @classmethod
    def _read(cls, value: Any) -> ProfileChanges:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "line": _base.text(value["line"]),
                "from_": _base.integer(value["from"]),
                "to": _base.integer(value["to"]),
                "changes": [Change._read(x) for x in _base.items(value["changes"])],
                "effects": Effects._read(value["effects"]),
                "devices": _base.integer(value["devices"]),
            },
        )


class ProfileRevision(_base.Model):
    """A revision of a profile. It never changes."""

    line: Line
    """Name of the profile, which is also the image line of its builds."""
    number: int
    """Number of the revision; 1 for the first of its line."""
    digest: str
    """SHA-256 of the canonical JSON of the profile, hexadecimal."""
    created_s: int
    """When the revision was saved."""
    profile: Profile
    """The profile, with everything that it inherits."""
    made_of: Sequence[MadeOf] = ()
    """The exact fragments that it was made of, in the order of merging. It does not follow newer
    revisions of them.
    """
    text: str | None = None
    """The document as its author wrote it, TOML; `None` if the profile came as JSON."""

    @classmethod
    def _read(cls, value: Any) -> ProfileRevision:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "line": _base.text(value["line"]),
                "number": _base.integer(value["number"]),
                "digest": _base.text(value["digest"]),
                "created_s": _base.integer(value["created_s"]),
                "profile": Profile._read(value["profile"]),
                "made_of": () if (y := get("made_of")) is None else [MadeOf._read(x) for x in _base.items(y)],
                "text": None if (y := get("text")) is None else _base.text(y),
            },
        )


class ProfileText(_base.Model):
    """`POST /profiles/check` and `POST /profiles/documents`: a document as its author writes it."""

    text: str
    """TOML, at most 1 MiB."""

    @classmethod
    def _read(cls, value: Any) -> ProfileText:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "text": _base.text(value["text"]),
            },
        )


class Progress(_base.Model):
    """Progress of a download."""

    done: int
    """Bytes so far."""
    total: int
    """Bytes in all."""

    @classmethod
    def _read(cls, value: Any) -> Progress:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "done": _base.integer(value["done"]),
                "total": _base.integer(value["total"]),
            },
        )


class ProvedDevice(_base.Model):
    """A device that has proved by its TPM that it booted the release."""

    device: DeviceId
    """Device id."""
    level: Level
    """The attestation level that its evidence reached."""
    appraised_s: int
    """When the evidence was appraised."""
    evidence: str
    """SHA-256 of the quote, hexadecimal."""

    @classmethod
    def _read(cls, value: Any) -> ProvedDevice:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "device": _base.text(value["device"]),
                "level": _base.choice(value["level"]),
                "appraised_s": _base.integer(value["appraised_s"]),
                "evidence": _base.text(value["evidence"]),
            },
        )


class Provision(_base.Model):
    """`POST /fleets/{fleet}/devices`: provisions a device before its disk is made."""

    valid_s: int
    """Seconds until the enrollment token expires."""
    ek_sha256: str | None = None
    """SHA-256 of the endorsement key of the device's TPM (SubjectPublicKeyInfo), hexadecimal. Only
    that TPM may use the token.
    """
    fleet_keys: bool | None = None
    """Make no Secure Boot keys for this device: it boots what is signed for all devices of the
    organisation.
    """
    proxy: str | None = None
    """HTTP proxy (CONNECT) through which the device reaches the server, for example
    `http://proxy.example:3128`. Default: the server's `--device-proxy`.
    """
    release: ReleaseName | None = None
    """The release on the device's disk. The server signs it for the device."""

    @classmethod
    def _read(cls, value: Any) -> Provision:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "valid_s": _base.integer(value["valid_s"]),
                "ek_sha256": None if (y := get("ek_sha256")) is None else _base.text(y),
                "fleet_keys": None if (y := get("fleet_keys")) is None else _base.boolean(y),
                "proxy": None if (y := get("proxy")) is None else _base.text(y),
                "release": None if (y := get("release")) is None else _base.text(y),
            },
        )


class Provisioned(_base.Model):
    """A provisioned device, from which its disk is made. The server shows it once. Keep it as secret as
    the token that it contains.
    """

    device: DeviceId
    """Device id."""
    record: EnrollmentRecord
    """The enrollment record for the device's disk."""
    expires_s: int
    """When the enrollment token expires."""
    writes: Sequence[VariableWrite]
    """Writes of Secure Boot variables that turn Secure Boot on, in the order to apply them: db,
    KEK, PK.
    """
    signatures: BootSignatures
    """Signatures for this device over the EFI binaries of the release."""
    release: ReleaseName | None = None
    """The release that the server signed for the device."""

    @classmethod
    def _read(cls, value: Any) -> Provisioned:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "device": _base.text(value["device"]),
                "record": EnrollmentRecord._read(value["record"]),
                "expires_s": _base.integer(value["expires_s"]),
                "writes": [VariableWrite._read(x) for x in _base.items(value["writes"])],
                "signatures": BootSignatures._read(value["signatures"]),
                "release": None if (y := get("release")) is None else _base.text(y),
            },
        )


class Proxy(_base.Model):
    """HTTP proxy of the system's services."""

    except_: Sequence[str] = ()
    """Hosts, domains and networks that are reached without the proxy."""
    url: str | None = None
    """Proxy for `http` and `https`."""

    @classmethod
    def _read(cls, value: Any) -> Proxy:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "except_": () if (y := get("except")) is None else [_base.text(x) for x in _base.items(y)],
                "url": None if (y := get("url")) is None else _base.text(y),
            },
        )


class Readmission(_base.Model):
    """A readmission. While it lasts, a device with an expired certificate and a key in a file may
    renew with that key.
    """

    fleet: FleetId
    """The fleet whose devices are readmitted."""
    until_s: int
    """When it ends, Unix seconds."""
    devices: int
    """Number of devices that it applies to: not revoked, key in a file, certificate expired."""

    @classmethod
    def _read(cls, value: Any) -> Readmission:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "fleet": _base.text(value["fleet"]),
                "until_s": _base.integer(value["until_s"]),
                "devices": _base.integer(value["devices"]),
            },
        )


class RecoveryKeyStatus(_base.Model):
    """Whether the server has a recovery key of a device."""

    kept_s: int
    """When the device stored the key, Unix seconds."""
    has_previous: bool
    """Whether the server also has the previous key."""
    shown_s: int | None = None
    """When the key was last revealed, Unix seconds. The device replaces it at the first boot after
    it learned of this.
    """

    @classmethod
    def _read(cls, value: Any) -> RecoveryKeyStatus:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "kept_s": _base.integer(value["kept_s"]),
                "has_previous": _base.boolean(value["has_previous"]),
                "shown_s": None if (y := get("shown_s")) is None else _base.integer(y),
            },
        )


class RefreshSchedule(_base.Model):
    """When a line is built with refreshed packages: once each time that the window opens."""

    line: Line
    """The image line."""
    window: UpdateWindow
    """When a build may begin."""
    next_s: int
    """When the next build begins, Unix seconds."""
    set_by: str
    """Account that set the window."""
    last: LastRefresh | None = None
    """What happened the last time; `null` before the first."""

    @classmethod
    def _read(cls, value: Any) -> RefreshSchedule:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "line": _base.text(value["line"]),
                "window": _base.text(value["window"]),
                "next_s": _base.integer(value["next_s"]),
                "set_by": _base.text(value["set_by"]),
                "last": None if (y := get("last")) is None else LastRefresh._read(y),
            },
        )


class Release(_base.Model):
    """A release."""

    name: ReleaseName
    """Name of the release."""
    manifest_sha256: str
    """SHA-256 of `manifest.json`, hexadecimal."""
    artifacts: Sequence[Artifact]
    """The artifacts, with their paths."""
    boot_proof: BootProof | None = None
    """Proof that the release boots and measures what its manifest predicts; absent if there is
    none.
    """
    published_s: int | None = None
    """When it was published; `null` while artifacts are missing."""
    revoked_s: int | None = None
    """When it was revoked. The server offers a revoked release to no device."""

    @classmethod
    def _read(cls, value: Any) -> Release:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "manifest_sha256": _base.text(value["manifest_sha256"]),
                "artifacts": [Artifact._read(x) for x in _base.items(value["artifacts"])],
                "boot_proof": None if (y := get("boot_proof")) is None else BootProof._read(y),
                "published_s": None if (y := get("published_s")) is None else _base.integer(y),
                "revoked_s": None if (y := get("revoked_s")) is None else _base.integer(y),
            },
        )


class ReleaseEvidence(_base.Model):
    """`GET /releases/{release}/evidence`: everything that this server can show about a release, in one
    document. Signatures and inclusion proofs are verified without the server.
    """

    kind: str
    """[`KIND`]."""
    exported_s: int
    """When the document was made."""
    exported_by: str
    """The account that requested it."""
    release: Release
    """The release, with its boot proof."""
    manifest: str
    """`manifest.json`: the bytes that release keys signed."""
    signatures: Sequence[tuple[str, str]]
    """Key id and signature (DER, base64) of each release key."""
    builds: Sequence[BuildEvidence]
    """The builds of this server that made the version, newest first."""
    rollouts: Sequence[RolloutSummary]
    """Its rollouts, newest first."""
    proved: int
    """Number of devices whose last evidence was of this release."""
    devices: Sequence[ProvedDevice]
    """Those devices, by id."""
    entries: Sequence[AuditProof]
    """Entries of the audit log about the release, its builds and its rollouts, oldest first, each
    with its inclusion proof.
    """
    searched: Searched
    """What part of the audit log was searched for them."""

    @classmethod
    def _read(cls, value: Any) -> ReleaseEvidence:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "kind": _base.text(value["kind"]),
                "exported_s": _base.integer(value["exported_s"]),
                "exported_by": _base.text(value["exported_by"]),
                "release": Release._read(value["release"]),
                "manifest": _base.text(value["manifest"]),
                "signatures": [_base.pair(x) for x in _base.items(value["signatures"])],
                "builds": [BuildEvidence._read(x) for x in _base.items(value["builds"])],
                "rollouts": [RolloutSummary._read(x) for x in _base.items(value["rollouts"])],
                "proved": _base.integer(value["proved"]),
                "devices": [ProvedDevice._read(x) for x in _base.items(value["devices"])],
                "entries": [AuditProof._read(x) for x in _base.items(value["entries"])],
                "searched": Searched._read(value["searched"]),
            },
        )


class ReleaseLog(_base.Model):
    """How a device uses the audit log before it installs a release."""

    age_days_max: int | None = None
    """Maximum age of the checkpoint, days. An older one may hide newer releases."""
    optional: bool | None = None
    """Install a release even if it is not in the audit log, or if the newest checkpoint is too
    old.
    """

    @classmethod
    def _read(cls, value: Any) -> ReleaseLog:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "age_days_max": None if (y := get("age_days_max")) is None else _base.integer(y),
                "optional": None if (y := get("optional")) is None else _base.boolean(y),
            },
        )


class ReleasePackage(_base.Model):
    """A package of a release."""

    name: str
    """Name."""
    version: str
    """Version."""
    source: str
    """The source package that it was built from."""
    source_version: str
    """Version of the source package."""

    @classmethod
    def _read(cls, value: Any) -> ReleasePackage:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "version": _base.text(value["version"]),
                "source": _base.text(value["source"]),
                "source_version": _base.text(value["source_version"]),
            },
        )


class ReleasePath(_base.Model):
    """What operators say about the ways to a release."""

    blocked: Sequence[BlockedWay] = ()
    """Versions whose devices are not offered the release, at most 20 ranges."""
    floor: str | None = None
    """Why a device that runs a lower version must run this release before a higher one: 1 to 200
    characters. Absent if the release is no floor.
    """

    @classmethod
    def _read(cls, value: Any) -> ReleasePath:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "blocked": () if (y := get("blocked")) is None else [BlockedWay._read(x) for x in _base.items(y)],
                "floor": None if (y := get("floor")) is None else _base.text(y),
            },
        )


class RenewalServer(_base.Model):
    """The server, by itself."""

    left_s: int
    """It has failed to, if fewer seconds are left."""
    type: Literal["server"] = "server"

    @classmethod
    def _read(cls, value: Any) -> RenewalServer:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "left_s": _base.integer(value["left_s"]),
            },
        )


class RenewalPeople(_base.Model):
    """People."""

    who: str
    """Who they are."""
    type: Literal["people"] = "people"

    @classmethod
    def _read(cls, value: Any) -> RenewalPeople:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "who": _base.text(value["who"]),
            },
        )


class RenewalNobody(_base.Model):
    """Nobody: its end is intended."""

    type: Literal["nobody"] = "nobody"

    @classmethod
    def _read(cls, value: Any) -> RenewalNobody:
        _base.entries(value)
        return cls()


def _read_Renewal(value: Any) -> Renewal:
    _base.entries(value)
    tag = value.get("type")
    if tag == "server":
        return RenewalServer._read(value)
    if tag == "people":
        return RenewalPeople._read(value)
    if tag == "nobody":
        return RenewalNobody._read(value)
    raise _base.unknown_variant("Renewal", value)


class Replace(_base.Model):
    """`POST /devices/{device}/replace`."""

    with_: DeviceId
    """The new device, which is enrolled in the same fleet."""

    @classmethod
    def _read(cls, value: Any) -> Replace:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "with_": _base.text(value["with"]),
            },
        )


class Repository(_base.Model):
    """A package repository besides the archive of the base."""

    name: str
    """Name, unique in the profile."""
    url: str
    """Address, `https://`."""
    suite: str
    """Suite of the repository."""
    key: str
    """OpenPGP public key that signs the repository, in armour."""
    components: Sequence[str] = ()
    """Components of the repository."""
    packages: Sequence[str] = ()
    """Packages that the repository may bring, with what they need and the base does not have. All
    others come from the base.
    """

    @classmethod
    def _read(cls, value: Any) -> Repository:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "url": _base.text(value["url"]),
                "suite": _base.text(value["suite"]),
                "key": _base.text(value["key"]),
                "components": () if (y := get("components")) is None else [_base.text(x) for x in _base.items(y)],
                "packages": () if (y := get("packages")) is None else [_base.text(x) for x in _base.items(y)],
            },
        )


class RequestApproval(_base.Model):
    """`POST /approvals`: requests the approval of a second person."""

    act: AskedAct
    """The act."""
    reason: str
    """Why, for the second person: 1 to 200 characters."""
    valid_s: int | None = None
    """Seconds within which it is approved; one day if absent."""

    @classmethod
    def _read(cls, value: Any) -> RequestApproval:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "act": _read_AskedAct(value["act"]),
                "reason": _base.text(value["reason"]),
                "valid_s": None if (y := get("valid_s")) is None else _base.integer(y),
            },
        )


class RequestSignature(_base.Model):
    """`POST /builds/{build}/sign`: a signing request, signed by the requester; needed if the signing
    service requires approvals.
    """

    intent: str
    """What to sign: canonical JSON. These are the signed bytes."""
    by: SignedBy
    """Signature of the requester."""

    @classmethod
    def _read(cls, value: Any) -> RequestSignature:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "intent": _base.text(value["intent"]),
                "by": SignedBy._read(value["by"]),
            },
        )


class Revoke(_base.Model):
    """`POST /devices/{device}/revoke`."""

    reason: RevocationReason | None = None
    """Reason of the revocation."""

    @classmethod
    def _read(cls, value: Any) -> Revoke:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "reason": None if (y := get("reason")) is None else _base.choice(y),
            },
        )


class RollbackReasonVerity(_base.Model):
    """dm-verity found a block that does not match the root hash."""

    evidence: str
    """The kernel's message."""
    type: Literal["verity"] = "verity"

    @classmethod
    def _read(cls, value: Any) -> RollbackReasonVerity:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "evidence": _base.text(value["evidence"]),
            },
        )


class RollbackReasonHealth(_base.Model):
    """A health check failed."""

    evidence: str
    """The health check and its output."""
    type: Literal["health"] = "health"

    @classmethod
    def _read(cls, value: Any) -> RollbackReasonHealth:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "evidence": _base.text(value["evidence"]),
            },
        )


class RollbackReasonServerUnreachable(_base.Model):
    """The target did not reach the server in time."""

    evidence: str
    """How long it tried."""
    type: Literal["server_unreachable"] = "server_unreachable"

    @classmethod
    def _read(cls, value: Any) -> RollbackReasonServerUnreachable:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "evidence": _base.text(value["evidence"]),
            },
        )


class RollbackReasonBootRefused(_base.Model):
    """The boot entry ran out of attempts before the target reached user space."""

    evidence: str
    """The boot entry that remained."""
    type: Literal["boot_refused"] = "boot_refused"

    @classmethod
    def _read(cls, value: Any) -> RollbackReasonBootRefused:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "evidence": _base.text(value["evidence"]),
            },
        )


def _read_RollbackReason(value: Any) -> RollbackReason:
    _base.entries(value)
    tag = value.get("type")
    if tag == "verity":
        return RollbackReasonVerity._read(value)
    if tag == "health":
        return RollbackReasonHealth._read(value)
    if tag == "server_unreachable":
        return RollbackReasonServerUnreachable._read(value)
    if tag == "boot_refused":
        return RollbackReasonBootRefused._read(value)
    raise _base.unknown_variant("RollbackReason", value)


class Rollout(_base.Model):
    """A rollout, with a page of its devices."""

    id: str
    """Rollout id."""
    fleet: FleetId
    """The fleet of the rollout."""
    created_s: int
    """When the rollout started."""
    release: ReleaseName
    """The release that is rolled out."""
    phase: RolloutPhase
    """Phase of the rollout."""
    counts: Counts
    """Number of devices in each category."""
    devices: Sequence[RolloutDevice]
    """A page of the devices, ordered by id."""
    back_of: str | None = None
    """The rollout whose devices go back to what they ran before."""
    follows: str | None = None
    """The rollout that starts when the last offer of this one is withdrawn."""
    next: DeviceId | None = None
    """The last device of this page, to pass as `after`; absent if no page follows."""
    plan: RolloutPlan | None = None
    """Its waves, as they were asked for; absent for everybody at once."""
    urgent: UrgentRollout | None = None
    """Why it is urgent; absent if it is not."""
    urgent_counts: UrgentRolloutCounts | None = None
    """How far it is; absent if it is not urgent."""
    waves: RolloutWaves | None = None
    """How far its waves are."""

    @classmethod
    def _read(cls, value: Any) -> Rollout:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "fleet": _base.text(value["fleet"]),
                "created_s": _base.integer(value["created_s"]),
                "release": _base.text(value["release"]),
                "phase": _base.choice(value["phase"]),
                "counts": Counts._read(value["counts"]),
                "devices": [RolloutDevice._read(x) for x in _base.items(value["devices"])],
                "back_of": None if (y := get("back_of")) is None else _base.text(y),
                "follows": None if (y := get("follows")) is None else _base.text(y),
                "next": None if (y := get("next")) is None else _base.text(y),
                "plan": None if (y := get("plan")) is None else RolloutPlan._read(y),
                "urgent": None if (y := get("urgent")) is None else UrgentRollout._read(y),
                "urgent_counts": None if (y := get("urgent_counts")) is None else UrgentRolloutCounts._read(y),
                "waves": None if (y := get("waves")) is None else RolloutWaves._read(y),
            },
        )


class RolloutBudget(_base.Model):
    """How many devices of each group must not update at the same time."""

    group_by: LabelKey
    """The label whose value is the group."""
    min_available: RolloutMinAvailable
    """How many devices of each group the rollout leaves alone at any time."""

    @classmethod
    def _read(cls, value: Any) -> RolloutBudget:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "group_by": _base.text(value["group_by"]),
                "min_available": _read_RolloutMinAvailable(value["min_available"]),
            },
        )


class RolloutDevice(_base.Model):
    """A device of a rollout."""

    device: DeviceId
    """Device id."""
    phase: DevicePhase
    """Phase of the device."""
    since_s: int
    """When the phase began."""
    group: str | None = None
    """Its group in the budget of the rollout; empty for a device without the label."""
    retries: int | None = None
    """How often it failed and was, or will be, offered the release again; absent for never."""
    via: ReleaseName | None = None
    """The mandatory release that it was last offered on its way."""
    wave: int | None = None
    """The wave that took it, from 0."""

    @classmethod
    def _read(cls, value: Any) -> RolloutDevice:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "device": _base.text(value["device"]),
                "phase": _read_DevicePhase(value["phase"]),
                "since_s": _base.integer(value["since_s"]),
                "group": None if (y := get("group")) is None else _base.text(y),
                "retries": None if (y := get("retries")) is None else _base.integer(y),
                "via": None if (y := get("via")) is None else _base.text(y),
                "wave": None if (y := get("wave")) is None else _base.integer(y),
            },
        )


class RolloutDuration(_base.Model):
    """How long a device takes from the offer to its success."""

    seconds: int
    """Seconds."""
    measured: int
    """Number of devices that this was measured on, in the last rollout of the fleet; 0 for an
    assumption.
    """

    @classmethod
    def _read(cls, value: Any) -> RolloutDuration:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "seconds": _base.integer(value["seconds"]),
                "measured": _base.integer(value["measured"]),
            },
        )


class RolloutEndSucceeds(_base.Model):
    """Every device that can have it has it."""

    at_s: int
    """When, Unix seconds."""
    type: Literal["succeeds"] = "succeeds"

    @classmethod
    def _read(cls, value: Any) -> RolloutEndSucceeds:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "at_s": _base.integer(value["at_s"]),
            },
        )


class RolloutEndStops(_base.Model):
    """Devices that refuse it are more errors than the plan accepts."""

    at_s: int
    """When, Unix seconds."""
    wave: int
    """Number of the wave, from 0."""
    errors: RolloutErrors
    """The errors."""
    type: Literal["stops"] = "stops"

    @classmethod
    def _read(cls, value: Any) -> RolloutEndStops:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "at_s": _base.integer(value["at_s"]),
                "wave": _base.integer(value["wave"]),
                "errors": RolloutErrors._read(value["errors"]),
            },
        )


class RolloutEndFails(_base.Model):
    """Every device has finished, and some do not run it: of a rollout without waves."""

    at_s: int
    """When, Unix seconds."""
    type: Literal["fails"] = "fails"

    @classmethod
    def _read(cls, value: Any) -> RolloutEndFails:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "at_s": _base.integer(value["at_s"]),
            },
        )


class RolloutEndWaits(_base.Model):
    """It stays open: devices that it waits for are offline or blocked."""

    from_s: int
    """Since when nothing else happens, Unix seconds."""
    wave: int
    """Number of the wave, from 0."""
    type: Literal["waits"] = "waits"

    @classmethod
    def _read(cls, value: Any) -> RolloutEndWaits:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "from_s": _base.integer(value["from_s"]),
                "wave": _base.integer(value["wave"]),
            },
        )


class RolloutEndTooLong(_base.Model):
    """It takes longer than this could be computed."""

    at_s: int
    """How far it was computed, Unix seconds."""
    type: Literal["too_long"] = "too_long"

    @classmethod
    def _read(cls, value: Any) -> RolloutEndTooLong:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "at_s": _base.integer(value["at_s"]),
            },
        )


def _read_RolloutEnd(value: Any) -> RolloutEnd:
    _base.entries(value)
    tag = value.get("type")
    if tag == "succeeds":
        return RolloutEndSucceeds._read(value)
    if tag == "stops":
        return RolloutEndStops._read(value)
    if tag == "fails":
        return RolloutEndFails._read(value)
    if tag == "waits":
        return RolloutEndWaits._read(value)
    if tag == "too_long":
        return RolloutEndTooLong._read(value)
    raise _base.unknown_variant("RolloutEnd", value)


class RolloutErrors(_base.Model):
    """Errors among the devices that have finished."""

    failed: int
    """Number of errors."""
    finished: int
    """Number of devices that have finished."""

    @classmethod
    def _read(cls, value: Any) -> RolloutErrors:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "failed": _base.integer(value["failed"]),
                "finished": _base.integer(value["finished"]),
            },
        )


class RolloutErrorsMaxCount(_base.Model):
    """This many devices."""

    devices: int
    """Number of devices."""
    type: Literal["count"] = "count"

    @classmethod
    def _read(cls, value: Any) -> RolloutErrorsMaxCount:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "devices": _base.integer(value["devices"]),
            },
        )


class RolloutErrorsMaxPercent(_base.Model):
    """This part of the devices that have finished."""

    percent: int
    """0 to 99."""
    type: Literal["percent"] = "percent"

    @classmethod
    def _read(cls, value: Any) -> RolloutErrorsMaxPercent:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "percent": _base.integer(value["percent"]),
            },
        )


def _read_RolloutErrorsMax(value: Any) -> RolloutErrorsMax:
    _base.entries(value)
    tag = value.get("type")
    if tag == "count":
        return RolloutErrorsMaxCount._read(value)
    if tag == "percent":
        return RolloutErrorsMaxPercent._read(value)
    raise _base.unknown_variant("RolloutErrorsMax", value)


class RolloutExcused(_base.Model):
    """Devices that are not counted again."""

    wave: RolloutErrors
    """Of the current wave: errors, and devices that had finished."""
    rollout: RolloutErrors
    """Of the rollout."""

    @classmethod
    def _read(cls, value: Any) -> RolloutExcused:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "wave": RolloutErrors._read(value["wave"]),
                "rollout": RolloutErrors._read(value["rollout"]),
            },
        )


class RolloutExpectedDevices(_base.Model):
    """A number of devices."""

    expected: RolloutExpected
    """What they are expected to do."""
    devices: int
    """How many they are."""

    @classmethod
    def _read(cls, value: Any) -> RolloutExpectedDevices:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "expected": _base.choice(value["expected"]),
                "devices": _base.integer(value["devices"]),
            },
        )


class RolloutForecast(_base.Model):
    """What a rollout is expected to come to. It assumes that nothing changes: devices that are offline
    stay offline, and no device fails that has no known reason to.
    """

    release: ReleaseName
    """The release."""
    fleet: FleetId
    """The fleet."""
    devices: int
    """Number of devices."""
    expected: Sequence[RolloutExpectedDevices]
    """What they are expected to do; kinds without devices are left out."""
    waves: Sequence[RolloutWaveForecast]
    """The waves that begin; one for everybody at once."""
    end: RolloutEnd
    """How it ends."""
    duration: RolloutDuration
    """How long a device takes."""
    active: str | None = None
    """The active rollout of the fleet, which must end before."""
    in_windows: bool | None = None
    """Whether the update windows of the fleet are in the times. Windows without a zone count in UTC."""

    @classmethod
    def _read(cls, value: Any) -> RolloutForecast:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "release": _base.text(value["release"]),
                "fleet": _base.text(value["fleet"]),
                "devices": _base.integer(value["devices"]),
                "expected": [RolloutExpectedDevices._read(x) for x in _base.items(value["expected"])],
                "waves": [RolloutWaveForecast._read(x) for x in _base.items(value["waves"])],
                "end": _read_RolloutEnd(value["end"]),
                "duration": RolloutDuration._read(value["duration"]),
                "active": None if (y := get("active")) is None else _base.text(y),
                "in_windows": None if (y := get("in_windows")) is None else _base.boolean(y),
            },
        )


class RolloutGateAnswer(_base.Model):
    """What a webhook gate said."""

    verdict: RolloutGateVerdict
    """Whether the wave may begin."""
    reason: str
    """Why, at most 200 characters of the webhook's text, without control characters."""

    @classmethod
    def _read(cls, value: Any) -> RolloutGateAnswer:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "verdict": _read_RolloutGateVerdict(value["verdict"]),
                "reason": _base.text(value["reason"]),
            },
        )


class RolloutGateAsked(_base.Model):
    """What the webhook gate of a rollout was asked."""

    question: int
    """Number of the last question of this rollout, from 1."""
    is_open: bool
    """Whether that question has no answer yet."""
    again_s: int | None = None
    """When the server asks again, Unix seconds; absent if no wave waits for an answer."""
    answer: RolloutGateAnswer | None = None
    """The last answer about the current wave."""
    without_time: int | None = None
    """Number of the last questions about the current wave, in a row, without an answer that names the
    time of the next one.
    """

    @classmethod
    def _read(cls, value: Any) -> RolloutGateAsked:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "question": _base.integer(value["question"]),
                "is_open": _base.boolean(value["is_open"]),
                "again_s": None if (y := get("again_s")) is None else _base.integer(y),
                "answer": None if (y := get("answer")) is None else RolloutGateAnswer._read(y),
                "without_time": None if (y := get("without_time")) is None else _base.integer(y),
            },
        )


class RolloutGateVerdictAllows(_base.Model):
    """It may."""

    type: Literal["allows"] = "allows"

    @classmethod
    def _read(cls, value: Any) -> RolloutGateVerdictAllows:
        _base.entries(value)
        return cls()


class RolloutGateVerdictDenies(_base.Model):
    """It waits."""

    type: Literal["denies"] = "denies"
    retry_after_s: int | None = None
    """When to ask again, seconds after the answer."""

    @classmethod
    def _read(cls, value: Any) -> RolloutGateVerdictDenies:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "retry_after_s": None if (y := get("retry_after_s")) is None else _base.integer(y),
            },
        )


class RolloutGateVerdictFailed(_base.Model):
    """There is no answer that counts: it waits."""

    type: Literal["failed"] = "failed"

    @classmethod
    def _read(cls, value: Any) -> RolloutGateVerdictFailed:
        _base.entries(value)
        return cls()


def _read_RolloutGateVerdict(value: Any) -> RolloutGateVerdict:
    _base.entries(value)
    tag = value.get("type")
    if tag == "allows":
        return RolloutGateVerdictAllows._read(value)
    if tag == "denies":
        return RolloutGateVerdictDenies._read(value)
    if tag == "failed":
        return RolloutGateVerdictFailed._read(value)
    raise _base.unknown_variant("RolloutGateVerdict", value)


class RolloutMinAvailableCount(_base.Model):
    """This many devices."""

    devices: int
    """Number of devices."""
    type: Literal["count"] = "count"

    @classmethod
    def _read(cls, value: Any) -> RolloutMinAvailableCount:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "devices": _base.integer(value["devices"]),
            },
        )


class RolloutMinAvailablePercent(_base.Model):
    """This part of the group, rounded up."""

    percent: int
    """1 to 99."""
    type: Literal["percent"] = "percent"

    @classmethod
    def _read(cls, value: Any) -> RolloutMinAvailablePercent:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "percent": _base.integer(value["percent"]),
            },
        )


def _read_RolloutMinAvailable(value: Any) -> RolloutMinAvailable:
    _base.entries(value)
    tag = value.get("type")
    if tag == "count":
        return RolloutMinAvailableCount._read(value)
    if tag == "percent":
        return RolloutMinAvailablePercent._read(value)
    raise _base.unknown_variant("RolloutMinAvailable", value)


class RolloutOffers(_base.Model):
    """Offers in a period."""

    from_s: int
    """When the period began, Unix seconds."""
    devices: int
    """Number of offers."""

    @classmethod
    def _read(cls, value: Any) -> RolloutOffers:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "from_s": _base.integer(value["from_s"]),
                "devices": _base.integer(value["devices"]),
            },
        )


class RolloutPlan(_base.Model):
    """The plan of a rollout in waves. A rollout without a plan has one wave: everybody, at once."""

    waves: Sequence[RolloutWave]
    """The waves, in order, at most 20. The last one is 100 %."""
    budget: RolloutBudget | None = None
    """How many devices of each group must not update at the same time; absent for no limit."""
    errors_max: RolloutErrorsMax | None = None
    """What stops the rollout: more errors than this among the devices that have finished, in the
    current wave or in the whole rollout. Default: no error is accepted.
    """
    gate: str | None = None
    """Id of a webhook with the event `rollout.gate`: the server asks it before each wave begins, and
    the wave waits until it allows that. Absent for none.
    """
    moving_max: int | None = None
    """Largest number of devices that update at the same time; absent for no limit."""
    on_error: RolloutOnError | None = None
    """What happens when there are too many errors."""
    rate: RolloutRate | None = None
    """Largest number of offers in a period; absent for no limit."""
    retries: int | None = None
    """How often a device that failed to install the release is offered it again, after the pause
    of that version on it: 10 minutes, then twice as long each time. Only then it is an error. A
    version that was rolled back is not offered again. Default: 0.
    """
    sample_min: int | None = None
    """Number of devices that must have finished before a percentage of errors counts. A smaller
    wave counts when it is complete.
    """
    silent_s: int | None = None
    """Seconds after which a device that has started and is not heard of counts as an error."""
    unreached_s: int | None = None
    """Seconds after which a device that has not started counts as unreached: the rollout goes on
    without it, and offers it the release again when it reports while the rollout runs.
    """

    @classmethod
    def _read(cls, value: Any) -> RolloutPlan:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "waves": [RolloutWave._read(x) for x in _base.items(value["waves"])],
                "budget": None if (y := get("budget")) is None else RolloutBudget._read(y),
                "errors_max": None if (y := get("errors_max")) is None else _read_RolloutErrorsMax(y),
                "gate": None if (y := get("gate")) is None else _base.text(y),
                "moving_max": None if (y := get("moving_max")) is None else _base.integer(y),
                "on_error": None if (y := get("on_error")) is None else _base.choice(y),
                "rate": None if (y := get("rate")) is None else RolloutRate._read(y),
                "retries": None if (y := get("retries")) is None else _base.integer(y),
                "sample_min": None if (y := get("sample_min")) is None else _base.integer(y),
                "silent_s": None if (y := get("silent_s")) is None else _base.integer(y),
                "unreached_s": None if (y := get("unreached_s")) is None else _base.integer(y),
            },
        )


class RolloutRate(_base.Model):
    """Largest number of offers in a period."""

    devices: int
    """Number of devices."""
    per_s: int
    """Length of a period, seconds."""

    @classmethod
    def _read(cls, value: Any) -> RolloutRate:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "devices": _base.integer(value["devices"]),
                "per_s": _base.integer(value["per_s"]),
            },
        )


class RolloutSummary(_base.Model):
    """A rollout, without its devices."""

    id: str
    """Rollout id."""
    fleet: FleetId
    """The fleet of the rollout."""
    created_s: int
    """When the rollout started."""
    release: ReleaseName
    """The release that is rolled out."""
    phase: RolloutPhase
    """Phase of the rollout."""
    counts: Counts
    """Number of devices in each category."""
    back_of: str | None = None
    """The rollout whose devices go back to what they ran before."""
    follows: str | None = None
    """The rollout that starts when the last offer of this one is withdrawn."""
    plan: RolloutPlan | None = None
    """Its waves, as they were asked for; absent for everybody at once."""
    urgent: UrgentRollout | None = None
    """Why it is urgent; absent if it is not."""
    waves: RolloutWaves | None = None
    """How far its waves are."""

    @classmethod
    def _read(cls, value: Any) -> RolloutSummary:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "fleet": _base.text(value["fleet"]),
                "created_s": _base.integer(value["created_s"]),
                "release": _base.text(value["release"]),
                "phase": _base.choice(value["phase"]),
                "counts": Counts._read(value["counts"]),
                "back_of": None if (y := get("back_of")) is None else _base.text(y),
                "follows": None if (y := get("follows")) is None else _base.text(y),
                "plan": None if (y := get("plan")) is None else RolloutPlan._read(y),
                "urgent": None if (y := get("urgent")) is None else UrgentRollout._read(y),
                "waves": None if (y := get("waves")) is None else RolloutWaves._read(y),
            },
        )


class RolloutWave(_base.Model):
    """A wave: the devices that the release is offered to until the next wave."""

    size: RolloutWaveSize
    """How far the rollout goes with this wave."""
    soak_s: int | None = None
    """Seconds between its success and the next wave."""
    start: RolloutWaveStart | None = None
    """When it starts, once the wave before it has succeeded."""

    @classmethod
    def _read(cls, value: Any) -> RolloutWave:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "size": _read_RolloutWaveSize(value["size"]),
                "soak_s": None if (y := get("soak_s")) is None else _base.integer(y),
                "start": None if (y := get("start")) is None else _read_RolloutWaveStart(y),
            },
        )


class RolloutWaveForecast(_base.Model):
    """What a wave is expected to come to."""

    size: RolloutWaveSize
    """How far the rollout goes with it."""
    is_by_hand: bool
    """Whether an operator begins it. The time until then is not counted."""
    begins_s: int
    """When it begins, Unix seconds."""
    expected: Sequence[RolloutExpectedDevices]
    """Its devices; kinds without devices are left out."""

    @classmethod
    def _read(cls, value: Any) -> RolloutWaveForecast:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "size": _read_RolloutWaveSize(value["size"]),
                "is_by_hand": _base.boolean(value["is_by_hand"]),
                "begins_s": _base.integer(value["begins_s"]),
                "expected": [RolloutExpectedDevices._read(x) for x in _base.items(value["expected"])],
            },
        )


class RolloutWaveSizeCount(_base.Model):
    """Until this many devices have it, in the order of their cohorts."""

    devices: int
    """Number of devices."""
    type: Literal["count"] = "count"

    @classmethod
    def _read(cls, value: Any) -> RolloutWaveSizeCount:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "devices": _base.integer(value["devices"]),
            },
        )


class RolloutWaveSizePercent(_base.Model):
    """Until this part of the devices has it, rounded up, in the order of their cohorts."""

    percent: int
    """1 to 100."""
    type: Literal["percent"] = "percent"

    @classmethod
    def _read(cls, value: Any) -> RolloutWaveSizePercent:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "percent": _base.integer(value["percent"]),
            },
        )


class RolloutWaveSizeList(_base.Model):
    """These devices."""

    devices: Sequence[DeviceId]
    """Device ids."""
    type: Literal["list"] = "list"

    @classmethod
    def _read(cls, value: Any) -> RolloutWaveSizeList:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "devices": [_base.text(x) for x in _base.items(value["devices"])],
            },
        )


class RolloutWaveSizeFilter(_base.Model):
    """The devices that a filter matches when the rollout starts, but those of lists and of earlier
    filters.
    """

    filter: str
    """A filter of devices: see the reference of filters."""
    type: Literal["filter"] = "filter"

    @classmethod
    def _read(cls, value: Any) -> RolloutWaveSizeFilter:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "filter": _base.text(value["filter"]),
            },
        )


def _read_RolloutWaveSize(value: Any) -> RolloutWaveSize:
    _base.entries(value)
    tag = value.get("type")
    if tag == "count":
        return RolloutWaveSizeCount._read(value)
    if tag == "percent":
        return RolloutWaveSizePercent._read(value)
    if tag == "list":
        return RolloutWaveSizeList._read(value)
    if tag == "filter":
        return RolloutWaveSizeFilter._read(value)
    raise _base.unknown_variant("RolloutWaveSize", value)


class RolloutWaveStageDue(_base.Model):
    """Waits for its start."""

    type: Literal["due"] = "due"

    @classmethod
    def _read(cls, value: Any) -> RolloutWaveStageDue:
        _base.entries(value)
        return cls()


class RolloutWaveStageOpen(_base.Model):
    """Its devices update."""

    type: Literal["open"] = "open"

    @classmethod
    def _read(cls, value: Any) -> RolloutWaveStageOpen:
        _base.entries(value)
        return cls()


class RolloutWaveStageSoaking(_base.Model):
    """It has succeeded; the next one waits."""

    until_s: int
    """Until when, Unix seconds."""
    type: Literal["soaking"] = "soaking"

    @classmethod
    def _read(cls, value: Any) -> RolloutWaveStageSoaking:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "until_s": _base.integer(value["until_s"]),
            },
        )


def _read_RolloutWaveStage(value: Any) -> RolloutWaveStage:
    _base.entries(value)
    tag = value.get("type")
    if tag == "due":
        return RolloutWaveStageDue._read(value)
    if tag == "open":
        return RolloutWaveStageOpen._read(value)
    if tag == "soaking":
        return RolloutWaveStageSoaking._read(value)
    raise _base.unknown_variant("RolloutWaveStage", value)


class RolloutWaveStartAfterSuccess(_base.Model):
    """When the wave before it has succeeded and soaked."""

    type: Literal["after_success"] = "after_success"

    @classmethod
    def _read(cls, value: Any) -> RolloutWaveStartAfterSuccess:
        _base.entries(value)
        return cls()


class RolloutWaveStartAt(_base.Model):
    """Not before this time."""

    time_s: int
    """Unix seconds."""
    type: Literal["at"] = "at"

    @classmethod
    def _read(cls, value: Any) -> RolloutWaveStartAt:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "time_s": _base.integer(value["time_s"]),
            },
        )


class RolloutWaveStartByHand(_base.Model):
    """When an operator says so, with a reason."""

    type: Literal["by_hand"] = "by_hand"

    @classmethod
    def _read(cls, value: Any) -> RolloutWaveStartByHand:
        _base.entries(value)
        return cls()


class RolloutWaveStartByApproval(_base.Model):
    """When an operator says so, with a reason, and a second person approves that."""

    type: Literal["by_approval"] = "by_approval"

    @classmethod
    def _read(cls, value: Any) -> RolloutWaveStartByApproval:
        _base.entries(value)
        return cls()


def _read_RolloutWaveStart(value: Any) -> RolloutWaveStart:
    _base.entries(value)
    tag = value.get("type")
    if tag == "after_success":
        return RolloutWaveStartAfterSuccess._read(value)
    if tag == "at":
        return RolloutWaveStartAt._read(value)
    if tag == "by_hand":
        return RolloutWaveStartByHand._read(value)
    if tag == "by_approval":
        return RolloutWaveStartByApproval._read(value)
    raise _base.unknown_variant("RolloutWaveStart", value)


class RolloutWaves(_base.Model):
    """How far the waves of a rollout are."""

    current: int
    """Number of the current wave, from 0."""
    stage: RolloutWaveStage
    """What the current wave does."""
    counts: Sequence[Counts]
    """Devices of each wave that has begun."""
    exhausted: bool
    """Whether no device is left that this wave could take."""
    excused: RolloutExcused
    """Devices that had finished when an operator last resumed the rollout: they are not counted
    again.
    """
    offers: RolloutOffers
    """Offers in the current period."""
    checked_s: int
    """When the server last looked for silent devices, Unix seconds."""
    errors: RolloutErrors | None = None
    """Errors that stopped the rollout; absent if an operator did."""
    gate: RolloutGateAsked | None = None
    """What the webhook gate of the plan was asked; absent before the first question."""
    is_begun: bool | None = None
    """Whether an operator began the current wave: it waits for nothing but the webhook gate."""

    @classmethod
    def _read(cls, value: Any) -> RolloutWaves:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "current": _base.integer(value["current"]),
                "stage": _read_RolloutWaveStage(value["stage"]),
                "counts": [Counts._read(x) for x in _base.items(value["counts"])],
                "exhausted": _base.boolean(value["exhausted"]),
                "excused": RolloutExcused._read(value["excused"]),
                "offers": RolloutOffers._read(value["offers"]),
                "checked_s": _base.integer(value["checked_s"]),
                "errors": None if (y := get("errors")) is None else RolloutErrors._read(y),
                "gate": None if (y := get("gate")) is None else RolloutGateAsked._read(y),
                "is_begun": None if (y := get("is_begun")) is None else _base.boolean(y),
            },
        )


class Rule(_base.Model):
    """A rule."""

    id: str
    """Its id: 1 to 64 characters of a-z, 0-9 and '-'."""
    kind: Kind
    """What it watches."""
    threshold: int
    """From which value on it raises an alert, in the unit of its kind."""
    severity: AlertSeverity
    """How severe its alerts are."""
    fleets: Sequence[FleetId]
    """Fleets that it watches; empty for all. A rule about the server has none."""
    enabled: bool
    """Whether it raises alerts."""

    @classmethod
    def _read(cls, value: Any) -> Rule:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "kind": _base.choice(value["kind"]),
                "threshold": _base.integer(value["threshold"]),
                "severity": _base.choice(value["severity"]),
                "fleets": [_base.text(x) for x in _base.items(value["fleets"])],
                "enabled": _base.boolean(value["enabled"]),
            },
        )


class RuleStatus(_base.Model):
    """A rule as it counts now."""

    rule: Rule
    """The rule."""
    unit: str
    """The unit of its threshold."""
    is_shipped: bool
    """Whether it is as it was shipped."""

    @classmethod
    def _read(cls, value: Any) -> RuleStatus:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "rule": Rule._read(value["rule"]),
                "unit": _base.text(value["unit"]),
                "is_shipped": _base.boolean(value["is_shipped"]),
            },
        )


class Sample(_base.Model):
    """One sample: telemetry of a moment."""

    at_s: int
    """When."""
    load_milli: int
    """One-minute load average, thousandths."""
    memory_percent: int
    """Used memory, percent."""
    data_percent: int
    """Used space of the data partition, percent."""

    @classmethod
    def _read(cls, value: Any) -> Sample:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "at_s": _base.integer(value["at_s"]),
                "load_milli": _base.integer(value["load_milli"]),
                "memory_percent": _base.integer(value["memory_percent"]),
                "data_percent": _base.integer(value["data_percent"]),
            },
        )


class SaveView(_base.Model):
    """`PUT /views/{view}`."""

    filter: str
    """The filter."""

    @classmethod
    def _read(cls, value: Any) -> SaveView:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "filter": _base.text(value["filter"]),
            },
        )


class Searched(_base.Model):
    """A part of the audit log."""

    from_: int
    """Number of the first entry that was searched."""
    until: int
    """Number of the entry after the last one that was searched."""
    size: int
    """Number of entries in the log."""
    left_out: int
    """Number of entries that were found and are left out."""

    @classmethod
    def _read(cls, value: Any) -> Searched:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "from_": _base.integer(value["from"]),
                "until": _base.integer(value["until"]),
                "size": _base.integer(value["size"]),
                "left_out": _base.integer(value["left_out"]),
            },
        )


class Secret(_base.Model):
    """A secret of the fleet that this profile uses. Its value is not in the image."""

    name: str
    """Name of the secret in the fleet."""
    boot: bool | None = None
    """The device needs the secret to reach the server. It stays on the encrypted data partition,
    and a new value is tried beside the old one.
    """
    restart: Sequence[str] = ()
    """Units that are restarted when the value changes. They read it as
    `/run/fleeti-boot-secrets/NAME`.
    """
    server_proxy: bool | None = None
    """The value is `USER:PASSWORD` for the HTTP proxy through which the device reaches the server."""
    try_minutes: int | None = None
    """Minutes in which the device must reach the server with a new value. Afterwards it returns to
    the old one.
    """

    @classmethod
    def _read(cls, value: Any) -> Secret:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "boot": None if (y := get("boot")) is None else _base.boolean(y),
                "restart": () if (y := get("restart")) is None else [_base.text(x) for x in _base.items(y)],
                "server_proxy": None if (y := get("server_proxy")) is None else _base.boolean(y),
                "try_minutes": None if (y := get("try_minutes")) is None else _base.integer(y),
            },
        )


class SecureBoot(_base.Model):
    """State of a device's own Secure Boot keys, compared with what the device reports of its firmware."""

    epoch: int
    """Number of the newest db key of the device."""
    change_pending: bool
    """Whether a change of the device's Secure Boot variables is pending."""
    problem: str | None = None
    """How the firmware differs from what was enrolled. The server makes no signatures for such a
    device.
    """
    refused: str | None = None
    """Why the device refused the change."""

    @classmethod
    def _read(cls, value: Any) -> SecureBoot:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "epoch": _base.integer(value["epoch"]),
                "change_pending": _base.boolean(value["change_pending"]),
                "problem": None if (y := get("problem")) is None else _base.text(y),
                "refused": None if (y := get("refused")) is None else _base.text(y),
            },
        )


class Security(_base.Model):
    """Security settings. The baselines `baseline/standard` and `baseline/strict` set them together."""

    access_control: AccessControl | None = None
    """Mandatory access control."""
    audit: Audit | None = None
    """The Linux audit daemon."""
    hardened_sysctl: bool | None = None
    """Restrict kernel pointers, dmesg, ptrace and unprivileged BPF by sysctl."""
    lockdown: Lockdown | None = None
    """Kernel lockdown (kernel_lockdown(7))."""
    no_compiler: bool | None = None
    """Refuse an image that contains a compiler."""
    no_core_dumps: bool | None = None
    """Do not store core dumps."""
    passwords: Passwords | None = None
    """Passwords of users."""
    setuid: Sequence[str] = ()
    """Further programs that run with the rights of their owner or group (setuid, setgid). An image
    with one that neither this list nor Fleeti's list of Debian's own names is refused.
    """
    ssh: Ssh | None = None
    """The SSH server."""
    usb_guard: UsbGuard | None = None
    """USB devices that may be attached."""

    @classmethod
    def _read(cls, value: Any) -> Security:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "access_control": None if (y := get("access_control")) is None else _base.choice(y),
                "audit": None if (y := get("audit")) is None else Audit._read(y),
                "hardened_sysctl": None if (y := get("hardened_sysctl")) is None else _base.boolean(y),
                "lockdown": None if (y := get("lockdown")) is None else _base.choice(y),
                "no_compiler": None if (y := get("no_compiler")) is None else _base.boolean(y),
                "no_core_dumps": None if (y := get("no_core_dumps")) is None else _base.boolean(y),
                "passwords": None if (y := get("passwords")) is None else Passwords._read(y),
                "setuid": () if (y := get("setuid")) is None else [_base.text(x) for x in _base.items(y)],
                "ssh": None if (y := get("ssh")) is None else Ssh._read(y),
                "usb_guard": None if (y := get("usb_guard")) is None else UsbGuard._read(y),
            },
        )


class ServerContact(_base.Model):
    """Whether a new image must reach the server before the device keeps it. If it does not reach the
    server in time, the device rolls back to the previous image. It tries the new image again after
    the previous one has reached the server.
    """

    deadline_s: int | None = None
    """Seconds from the start of the health checks within which the image must reach the server."""
    optional: bool | None = None
    """Keep a new image even if it has not reached the server."""

    @classmethod
    def _read(cls, value: Any) -> ServerContact:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "deadline_s": None if (y := get("deadline_s")) is None else _base.integer(y),
                "optional": None if (y := get("optional")) is None else _base.boolean(y),
            },
        )


class Service(_base.Model):
    """A systemd unit: enabled, disabled, masked, changed by drop-ins, or added."""

    name: str
    """Unit name, for example `kiosk.service`."""
    drop_ins: Sequence[DropIn] = ()
    """Changes to the unit of a package."""
    state: UnitState | None = None
    """Whether the unit starts at boot."""
    unit: str | None = None
    """Text of the unit file, for a unit that no package contains."""

    @classmethod
    def _read(cls, value: Any) -> Service:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "drop_ins": () if (y := get("drop_ins")) is None else [DropIn._read(x) for x in _base.items(y)],
                "state": None if (y := get("state")) is None else _base.choice(y),
                "unit": None if (y := get("unit")) is None else _base.text(y),
            },
        )


class SetRefreshSchedule(_base.Model):
    """`PUT /profiles/{line}/refresh-schedule`."""

    window: UpdateWindow
    """When a build may begin. A window without a zone is in UTC."""

    @classmethod
    def _read(cls, value: Any) -> SetRefreshSchedule:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "window": _base.text(value["window"]),
            },
        )


class SetRule(_base.Model):
    """`PUT /alert-rules/{rule}`."""

    kind: Kind
    """What it watches. A shipped rule keeps its kind."""
    threshold: int
    """From which value on it raises an alert, in the unit of its kind."""
    severity: AlertSeverity
    """How severe its alerts are."""
    enabled: bool
    """Whether it raises alerts."""
    fleets: Sequence[FleetId] = ()
    """Fleets whose devices it watches; empty for all."""

    @classmethod
    def _read(cls, value: Any) -> SetRule:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "kind": _base.choice(value["kind"]),
                "threshold": _base.integer(value["threshold"]),
                "severity": _base.choice(value["severity"]),
                "enabled": _base.boolean(value["enabled"]),
                "fleets": () if (y := get("fleets")) is None else [_base.text(x) for x in _base.items(y)],
            },
        )


class SetSecret(_base.Model):
    """Sets a secret of a fleet."""

    value: str
    """The value, base64; at most 16 KiB before encoding."""
    _secrets = ("value",)

    @classmethod
    def _read(cls, value: Any) -> SetSecret:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "value": _base.text(value["value"]),
            },
        )


class ShowRecoveryKey(_base.Model):
    """Reveals the recovery key of a device."""

    reason: str
    """Why the key is needed. Kept in the audit log."""
    previous: bool | None = None
    """Reveal the previous key, for the case that the newest one does not open the partition."""

    @classmethod
    def _read(cls, value: Any) -> ShowRecoveryKey:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "reason": _base.text(value["reason"]),
                "previous": None if (y := get("previous")) is None else _base.boolean(y),
            },
        )


class ShownRecoveryKey(_base.Model):
    """The recovery key of a device."""

    key: str
    """The key, for `cryptsetup open` or for the prompt of any Linux that boots with this disk
    attached.
    """
    _secrets = ("key",)

    @classmethod
    def _read(cls, value: Any) -> ShownRecoveryKey:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "key": _base.text(value["key"]),
            },
        )


class Signatory(_base.Model):
    """A signature of a person."""

    by: SignedBy
    """The signature."""
    name: str | None = None
    """The name of the key in the approval policy; absent for a key that is not in it any more."""

    @classmethod
    def _read(cls, value: Any) -> Signatory:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "by": SignedBy._read(value["by"]),
                "name": None if (y := get("name")) is None else _base.text(y),
            },
        )


class SignatureStatus(_base.Model):
    """`GET /builds/{build}/signature`: the approvals that this server's keys require to sign a build,
    and the ones given so far.
    """

    available: bool
    """Whether this server has release keys."""
    approvals_needed: int
    """Number of approvals required; 0 if the server was set up to sign without."""
    requester_counts: bool
    """Whether the requester's signature counts as an approval."""
    approvers: Sequence[Approver]
    """The approvers."""
    approved_by: Sequence[str]
    """Names of the approvers who have approved."""
    intent: str | None = None
    """The signing request: canonical JSON."""
    keys_needed: int | None = None
    """Number of release keys that must sign before devices accept a release. If it is 1 and the
    server has that key, the server's signature alone is sufficient.
    """
    release_key: str | None = None
    """Id of the release key that will sign."""

    @classmethod
    def _read(cls, value: Any) -> SignatureStatus:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "available": _base.boolean(value["available"]),
                "approvals_needed": _base.integer(value["approvals_needed"]),
                "requester_counts": _base.boolean(value["requester_counts"]),
                "approvers": [Approver._read(x) for x in _base.items(value["approvers"])],
                "approved_by": [_base.text(x) for x in _base.items(value["approved_by"])],
                "intent": None if (y := get("intent")) is None else _base.text(y),
                "keys_needed": None if (y := get("keys_needed")) is None else _base.integer(y),
                "release_key": None if (y := get("release_key")) is None else _base.text(y),
            },
        )


class SignedBootProof(_base.Model):
    """`PUT /releases/{release}/boot-proof`."""

    proof: str
    """Canonical JSON of a boot proof: the signed bytes."""
    signatures: Sequence[tuple[str, str]]
    """Key id and signature (DER, base64) of each signer."""

    @classmethod
    def _read(cls, value: Any) -> SignedBootProof:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "proof": _base.text(value["proof"]),
                "signatures": [_base.pair(x) for x in _base.items(value["signatures"])],
            },
        )


class SignedBundle(_base.Model):
    """`GET /trust-bundle.json`: the trusted intermediate CAs, signed by the root CA."""

    bundle: str
    """Canonical JSON: the signed bytes."""
    signature: str
    """Signature of the root CA's key: ECDSA, DER, base64."""

    @classmethod
    def _read(cls, value: Any) -> SignedBundle:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "bundle": _base.text(value["bundle"]),
                "signature": _base.text(value["signature"]),
            },
        )


class SignedBy(_base.Model):
    """A signature and the id of the key that made it."""

    key_id: str
    """Id of the key that signed."""
    signature: str
    """The signature: ECDSA, DER, base64."""

    @classmethod
    def _read(cls, value: Any) -> SignedBy:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "key_id": _base.text(value["key_id"]),
                "signature": _base.text(value["signature"]),
            },
        )


class SignedTransition(_base.Model):
    """`GET /transitions.json`, anonymous: one of the documents that lead from an old trust anchor to
    the next. See `fleeti_pki::transition`.
    """

    transition: str
    """Canonical JSON: the signed bytes."""
    signatures: Sequence[tuple[str, str]]
    """Key id and signature (ECDSA, DER, base64) of each signer."""

    @classmethod
    def _read(cls, value: Any) -> SignedTransition:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "transition": _base.text(value["transition"]),
                "signatures": [_base.pair(x) for x in _base.items(value["signatures"])],
            },
        )


class Silence(_base.Model):
    """A silence."""

    id: str
    """Silence id."""
    from_s: int
    """When it begins."""
    until_s: int
    """When it ends."""
    reason: str
    """Why."""
    by: str
    """Who made it."""
    device: DeviceId | None = None
    """Only alerts about this device; absent for all devices."""
    fleet: FleetId | None = None
    """Only alerts about devices of this fleet; absent for all fleets."""
    rule: str | None = None
    """Only alerts of this rule; absent for all rules."""

    @classmethod
    def _read(cls, value: Any) -> Silence:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "from_s": _base.integer(value["from_s"]),
                "until_s": _base.integer(value["until_s"]),
                "reason": _base.text(value["reason"]),
                "by": _base.text(value["by"]),
                "device": None if (y := get("device")) is None else _base.text(y),
                "fleet": None if (y := get("fleet")) is None else _base.text(y),
                "rule": None if (y := get("rule")) is None else _base.text(y),
            },
        )


class SiteValue(_base.Model):
    """A value that differs from site to site. The server takes it from the labels of a device."""

    name: str
    """Name; a file uses it as `{site.NAME}`, and the device's label has the name `site.NAME`."""
    default: str | None = None
    """Value for a device without the label. Without one the device must have the label."""
    description: str | None = None
    """What the value is for."""
    kind: SiteType | None = None
    """Type of the value."""

    @classmethod
    def _read(cls, value: Any) -> SiteValue:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "default": None if (y := get("default")) is None else _base.text(y),
                "description": None if (y := get("description")) is None else _base.text(y),
                "kind": None if (y := get("kind")) is None else _base.choice(y),
            },
        )


class Software(_base.Model):
    """Packages and where they come from."""

    backports: Sequence[str] = ()
    """Packages to take from backports. All others come from the stable release."""
    components: Sequence[str] = ()
    """Components of the archive besides `main`."""
    own: Sequence[OwnPackage] = ()
    """Your own packages, pinned by digest."""
    packages: Sequence[str] = ()
    """Packages to install, by their names in the base."""
    repositories: Sequence[Repository] = ()
    """Further package repositories, each with its own key."""
    snapshot_age_days_max: int | None = None
    """Age limit of the signed package lists of further repositories and of all suites but the main
    one, in days. By default 90 for further repositories; Debian's lists expire by themselves.
    """
    suites: Sequence[Suite] = ()
    """Suites besides the main one. Security updates and updates of the stable release are always
    used where the mirror has them; if one is named here, a mirror without it is an error.
    """

    @classmethod
    def _read(cls, value: Any) -> Software:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "backports": () if (y := get("backports")) is None else [_base.text(x) for x in _base.items(y)],
                "components": () if (y := get("components")) is None else [_base.text(x) for x in _base.items(y)],
                "own": () if (y := get("own")) is None else [OwnPackage._read(x) for x in _base.items(y)],
                "packages": () if (y := get("packages")) is None else [_base.text(x) for x in _base.items(y)],
                "repositories": () if (y := get("repositories")) is None else [Repository._read(x) for x in _base.items(y)],
                "snapshot_age_days_max": None if (y := get("snapshot_age_days_max")) is None else _base.integer(y),
                "suites": () if (y := get("suites")) is None else [_base.choice(x) for x in _base.items(y)],
            },
        )


class Ssh(_base.Model):
    """The SSH server."""

    allow_groups: Sequence[str] = ()
    """Only members of these groups may log in. Empty for every user."""
    attempts_max: int | None = None
    """Maximum number of attempts in one connection."""
    forwarding: bool | None = None
    """Allow forwarding of TCP ports and agents."""
    idle_timeout_s: int | None = None
    """Seconds after which an idle session ends; 0 for never."""
    password_login: bool | None = None
    """Allow logins with a password."""

    @classmethod
    def _read(cls, value: Any) -> Ssh:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "allow_groups": () if (y := get("allow_groups")) is None else [_base.text(x) for x in _base.items(y)],
                "attempts_max": None if (y := get("attempts_max")) is None else _base.integer(y),
                "forwarding": None if (y := get("forwarding")) is None else _base.boolean(y),
                "idle_timeout_s": None if (y := get("idle_timeout_s")) is None else _base.integer(y),
                "password_login": None if (y := get("password_login")) is None else _base.boolean(y),
            },
        )


class StateDirectory(_base.Model):
    """A persistent directory."""

    path: str
    """Absolute path below `/var`, `/srv` or `/opt`."""
    backup: bool | None = None
    """Belongs to the device's backup."""
    group: str | None = None
    """Group."""
    mode: str | None = None
    """Mode, octal."""
    on_reset: OnReset | None = None
    """What a factory reset does with it."""
    owner: str | None = None
    """Owner."""
    quota_mib: int | None = None
    """Maximum size, MiB; 0 for no limit."""

    @classmethod
    def _read(cls, value: Any) -> StateDirectory:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "path": _base.text(value["path"]),
                "backup": None if (y := get("backup")) is None else _base.boolean(y),
                "group": None if (y := get("group")) is None else _base.text(y),
                "mode": None if (y := get("mode")) is None else _base.text(y),
                "on_reset": None if (y := get("on_reset")) is None else _base.choice(y),
                "owner": None if (y := get("owner")) is None else _base.text(y),
                "quota_mib": None if (y := get("quota_mib")) is None else _base.integer(y),
            },
        )


class Storage(_base.Model):
    """Sizes of the disk. They are fixed with the first release of an image line: an update writes into
    the slots that a device's disk has.
    """

    esp_mib: int | None = None
    """Size of the EFI system partition, MiB."""
    root_mib: int | None = None
    """Size of each root slot, MiB."""
    var_mib: int | None = None
    """Maximum size of `/var` outside the persistent directories, which is in memory, MiB."""

    @classmethod
    def _read(cls, value: Any) -> Storage:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "esp_mib": None if (y := get("esp_mib")) is None else _base.integer(y),
                "root_mib": None if (y := get("root_mib")) is None else _base.integer(y),
                "var_mib": None if (y := get("var_mib")) is None else _base.integer(y),
            },
        )


class SudoRule(_base.Model):
    """What a user or a group may do with sudo."""

    name: str
    """Name of the rule, unique in the profile."""
    commands: Sequence[str]
    """Commands with absolute paths and their arguments, or `ALL`."""
    groups: Sequence[str] = ()
    """Groups."""
    no_password: bool | None = None
    """Do not ask for the password. A user without a password cannot use sudo otherwise."""
    run_as: str | None = None
    """The account that runs the commands."""
    users: Sequence[str] = ()
    """Users."""

    @classmethod
    def _read(cls, value: Any) -> SudoRule:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "commands": [_base.text(x) for x in _base.items(value["commands"])],
                "groups": () if (y := get("groups")) is None else [_base.text(x) for x in _base.items(y)],
                "no_password": None if (y := get("no_password")) is None else _base.boolean(y),
                "run_as": None if (y := get("run_as")) is None else _base.text(y),
                "users": () if (y := get("users")) is None else [_base.text(x) for x in _base.items(y)],
            },
        )


class SuggestionValue(_base.Model):
    """Another value of the field."""

    value: str
    """Another value of the field."""

    @classmethod
    def _read(cls, value: Any) -> SuggestionValue:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "value": _base.text(value["value"]),
            },
        )


class SuggestionName(_base.Model):
    """Another name of the field."""

    name: str
    """Another name of the field."""

    @classmethod
    def _read(cls, value: Any) -> SuggestionName:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
            },
        )


def _read_Suggestion(value: Any) -> Suggestion:
    _base.entries(value)
    if "value" in value:
        return SuggestionValue._read(value)
    if "name" in value:
        return SuggestionName._read(value)
    raise _base.unknown_variant("Suggestion", value)


class SuiteSearch(_base.Model):
    """`GET /profiles/packages`: packages and units of the suite that fit a search."""

    packages: Sequence[FoundPackage]
    """Packages whose name or summary contains every word; names that begin with it first."""
    units: Sequence[FoundUnit]
    """Units whose name contains every word; names that begin with it first."""
    suite: IndexedSuite | None = None
    """What was searched; `None` if the server has no index yet. Its build workers make it."""

    @classmethod
    def _read(cls, value: Any) -> SuiteSearch:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "packages": [FoundPackage._read(x) for x in _base.items(value["packages"])],
                "units": [FoundUnit._read(x) for x in _base.items(value["units"])],
                "suite": None if (y := get("suite")) is None else IndexedSuite._read(y),
            },
        )


class SupportKey(_base.Model):
    """A key of a person or a team that support bundles can be encrypted to. Devices encrypt to no other
    key, whatever the server says.
    """

    name: str
    """Name."""
    key: str
    """The public OpenPGP key, armored, with a subkey for encryption (`gpg --export --armor`)."""

    @classmethod
    def _read(cls, value: Any) -> SupportKey:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "key": _base.text(value["key"]),
            },
        )


class SwitchIssuer(_base.Model):
    """`POST /trust-bundle/issuer`: switches to another intermediate CA for new certificates."""

    purpose: str
    """`device` or `server`."""
    certificate_sha256: str
    """SHA-256 of its certificate (DER), hexadecimal."""
    anyway: bool | None = None
    """Switch even if fewer than 99 % of the devices have installed the bundle."""

    @classmethod
    def _read(cls, value: Any) -> SwitchIssuer:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "purpose": _base.text(value["purpose"]),
                "certificate_sha256": _base.text(value["certificate_sha256"]),
                "anyway": None if (y := get("anyway")) is None else _base.boolean(y),
            },
        )


class Telemetry(_base.Model):
    """`up/telemetry`: sent once a minute."""

    uptime_s: int
    """Seconds since boot."""
    load_milli: int
    """One-minute load average, thousandths."""
    memory_used_kib: int
    """Used memory, KiB."""
    memory_total_kib: int
    """Total memory, KiB."""
    data_used_kib: int
    """Used space of the data partition, KiB."""
    data_total_kib: int
    """Size of the data partition, KiB."""
    agent_memory_kib: int | None = None
    """Memory of the agent, KiB."""

    @classmethod
    def _read(cls, value: Any) -> Telemetry:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "uptime_s": _base.integer(value["uptime_s"]),
                "load_milli": _base.integer(value["load_milli"]),
                "memory_used_kib": _base.integer(value["memory_used_kib"]),
                "memory_total_kib": _base.integer(value["memory_total_kib"]),
                "data_used_kib": _base.integer(value["data_used_kib"]),
                "data_total_kib": _base.integer(value["data_total_kib"]),
                "agent_memory_kib": None if (y := get("agent_memory_kib")) is None else _base.integer(y),
            },
        )


class Time(_base.Model):
    """Time synchronisation."""

    servers: Sequence[str] = ()
    """NTP servers. Empty for those of DHCP and of the base."""

    @classmethod
    def _read(cls, value: Any) -> Time:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "servers": () if (y := get("servers")) is None else [_base.text(x) for x in _base.items(y)],
            },
        )


class Timer(_base.Model):
    """Starts a service at certain times."""

    service: str
    """The service to start, for example `report.service`. The timer gets the same name."""
    on_calendar: str
    """Times as in systemd.time(7)."""
    persistent: bool | None = None
    """Start at once if a time was missed while the device was off."""
    random_delay_s: int | None = None
    """Maximum random delay, seconds, so that a fleet does not start at the same moment."""

    @classmethod
    def _read(cls, value: Any) -> Timer:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "service": _base.text(value["service"]),
                "on_calendar": _base.text(value["on_calendar"]),
                "persistent": None if (y := get("persistent")) is None else _base.boolean(y),
                "random_delay_s": None if (y := get("random_delay_s")) is None else _base.integer(y),
            },
        )


class Tpm(_base.Model):
    """The TPM of a device."""

    ek_sha256: str
    """SHA-256 of its endorsement key (SubjectPublicKeyInfo), hexadecimal."""
    description: str
    """Manufacturer, model and version from the endorsement certificate, or why there is no valid
    one.
    """
    bound_s: int
    """When the TPM was bound to the device, Unix seconds."""
    manufacturer: str | None = None
    """Kind of TPM by its manufacturer, for example `hardware` or `virtual`; `null` if no trusted
    manufacturer certified it.
    """

    @classmethod
    def _read(cls, value: Any) -> Tpm:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "ek_sha256": _base.text(value["ek_sha256"]),
                "description": _base.text(value["description"]),
                "bound_s": _base.integer(value["bound_s"]),
                "manufacturer": None if (y := get("manufacturer")) is None else _base.text(y),
            },
        )


class TpmManufacturer(_base.Model):
    """A trusted certificate of a TPM manufacturer."""

    id: str
    """SHA-256 of the certificate (DER), hexadecimal."""
    kind: TpmKind
    """What kind of TPM the manufacturer makes."""
    subject: str
    """Subject, for example `CN=Root CA 1, O=Example`."""
    issuer: str
    """Issuer; equal to the subject for a root."""
    chain: Sequence[str]
    """Subjects of the trusted certificates above this one, up to a root."""
    not_before_s: int
    """Start of validity, Unix seconds."""
    not_after_s: int
    """End of validity, Unix seconds. The server trusts the certificate until its file is removed,
    also after this time.
    """
    file: str
    """Path of the file below `DATA/pki/tpm-manufacturers`."""

    @classmethod
    def _read(cls, value: Any) -> TpmManufacturer:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "kind": _base.choice(value["kind"]),
                "subject": _base.text(value["subject"]),
                "issuer": _base.text(value["issuer"]),
                "chain": [_base.text(x) for x in _base.items(value["chain"])],
                "not_before_s": _base.integer(value["not_before_s"]),
                "not_after_s": _base.integer(value["not_after_s"]),
                "file": _base.text(value["file"]),
            },
        )


class TpmManufacturers(_base.Model):
    """`GET /tpm-manufacturers`."""

    manufacturers: Sequence[TpmManufacturer]
    """Trusted certificates."""
    left_out: Sequence[LeftOut]
    """Files that the server cannot read."""

    @classmethod
    def _read(cls, value: Any) -> TpmManufacturers:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "manufacturers": [TpmManufacturer._read(x) for x in _base.items(value["manufacturers"])],
                "left_out": [LeftOut._read(x) for x in _base.items(value["left_out"])],
            },
        )


class TrustStatus(_base.Model):
    """`GET /trust-bundle`: the trusted intermediate CAs, and how many devices know them."""

    version: int
    """Version of the trust bundle; 0 before the first."""
    intermediates: Sequence[Intermediate]
    """The trusted intermediate CAs."""
    devices: int
    """Number of devices that are not revoked."""
    devices_with_it: int
    """How many of these devices have installed this bundle."""
    root_crl_ends_s: int | None = None
    """When the root CA's CRL in the bundle expires, Unix seconds; absent before the first bundle."""
    warnings: Sequence[str] = ()
    """What expires within a month, and what to do about it."""

    @classmethod
    def _read(cls, value: Any) -> TrustStatus:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "version": _base.integer(value["version"]),
                "intermediates": [Intermediate._read(x) for x in _base.items(value["intermediates"])],
                "devices": _base.integer(value["devices"]),
                "devices_with_it": _base.integer(value["devices_with_it"]),
                "root_crl_ends_s": None if (y := get("root_crl_ends_s")) is None else _base.integer(y),
                "warnings": () if (y := get("warnings")) is None else [_base.text(x) for x in _base.items(y)],
            },
        )


class UpdateHold(_base.Model):
    """An operator holds the updates of a device."""

    reason: str
    """Why."""
    until_s: int | None = None
    """When it ends, Unix seconds; absent until an operator ends it."""

    @classmethod
    def _read(cls, value: Any) -> UpdateHold:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "reason": _base.text(value["reason"]),
                "until_s": None if (y := get("until_s")) is None else _base.integer(y),
            },
        )


class UpdateOrderHold(_base.Model):
    """Offer it no release."""

    reason: str
    """Why: 1 to 200 characters."""
    type: Literal["hold"] = "hold"
    until_s: int | None = None
    """When the hold ends; absent for until it is ended."""

    @classmethod
    def _read(cls, value: Any) -> UpdateOrderHold:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "reason": _base.text(value["reason"]),
                "until_s": None if (y := get("until_s")) is None else _base.integer(y),
            },
        )


class UpdateOrderUnhold(_base.Model):
    """End its hold."""

    type: Literal["unhold"] = "unhold"

    @classmethod
    def _read(cls, value: Any) -> UpdateOrderUnhold:
        _base.entries(value)
        return cls()


class UpdateOrderPin(_base.Model):
    """Offer it this release and no other."""

    release: ReleaseName
    """The release."""
    reason: str
    """Why: 1 to 200 characters."""
    type: Literal["pin"] = "pin"

    @classmethod
    def _read(cls, value: Any) -> UpdateOrderPin:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "release": _base.text(value["release"]),
                "reason": _base.text(value["reason"]),
            },
        )


class UpdateOrderDowngrade(_base.Model):
    """Take it back to a lower version of its line that it ran before, and pin it to that. Its other
    slot must still have it; no image is downloaded. Never below a floor that it has passed, nor
    below the minimum version of what it runs.
    """

    release: ReleaseName
    """The release."""
    reason: str
    """Why: 1 to 200 characters."""
    type: Literal["downgrade"] = "downgrade"

    @classmethod
    def _read(cls, value: Any) -> UpdateOrderDowngrade:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "release": _base.text(value["release"]),
                "reason": _base.text(value["reason"]),
            },
        )


class UpdateOrderUnpin(_base.Model):
    """End its pin."""

    type: Literal["unpin"] = "unpin"

    @classmethod
    def _read(cls, value: Any) -> UpdateOrderUnpin:
        _base.entries(value)
        return cls()


class UpdateOrderSkipWindows(_base.Model):
    """Let it download, install and reboot whatever its windows say, and without waiting for a
    user.
    """

    until_s: int
    """Until when, Unix seconds: at most a week from now."""
    reason: str
    """Why: 1 to 200 characters."""
    type: Literal["skip_windows"] = "skip_windows"

    @classmethod
    def _read(cls, value: Any) -> UpdateOrderSkipWindows:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "until_s": _base.integer(value["until_s"]),
                "reason": _base.text(value["reason"]),
            },
        )


class UpdateOrderObserveWindows(_base.Model):
    """Let it observe its windows again."""

    type: Literal["observe_windows"] = "observe_windows"

    @classmethod
    def _read(cls, value: Any) -> UpdateOrderObserveWindows:
        _base.entries(value)
        return cls()


class UpdateOrderMove(_base.Model):
    """Move it to another fleet."""

    fleet: FleetId
    """The fleet."""
    reason: str
    """Why: 1 to 200 characters."""
    type: Literal["move"] = "move"

    @classmethod
    def _read(cls, value: Any) -> UpdateOrderMove:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "fleet": _base.text(value["fleet"]),
                "reason": _base.text(value["reason"]),
            },
        )


def _read_UpdateOrder(value: Any) -> UpdateOrder:
    _base.entries(value)
    tag = value.get("type")
    if tag == "hold":
        return UpdateOrderHold._read(value)
    if tag == "unhold":
        return UpdateOrderUnhold._read(value)
    if tag == "pin":
        return UpdateOrderPin._read(value)
    if tag == "downgrade":
        return UpdateOrderDowngrade._read(value)
    if tag == "unpin":
        return UpdateOrderUnpin._read(value)
    if tag == "skip_windows":
        return UpdateOrderSkipWindows._read(value)
    if tag == "observe_windows":
        return UpdateOrderObserveWindows._read(value)
    if tag == "move":
        return UpdateOrderMove._read(value)
    raise _base.unknown_variant("UpdateOrder", value)


class UpdatePenalty(_base.Model):
    """A version that failed on a device."""

    version: Version
    """The version."""
    failures: int
    """How often it failed in succession."""
    until_s: int | None = None
    """When it may be offered again, Unix seconds; absent until an operator allows it."""

    @classmethod
    def _read(cls, value: Any) -> UpdatePenalty:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "version": _base.text(value["version"]),
                "failures": _base.integer(value["failures"]),
                "until_s": None if (y := get("until_s")) is None else _base.integer(y),
            },
        )


class UpdatePin(_base.Model):
    """An operator pinned a device, or a fleet, to a release."""

    release: ReleaseName
    """The release."""
    reason: str
    """Why."""
    downgrade: bool | None = None
    """Whether it is a downgrade of a device: it goes back to a lower version, which its other slot has."""

    @classmethod
    def _read(cls, value: Any) -> UpdatePin:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "release": _base.text(value["release"]),
                "reason": _base.text(value["reason"]),
                "downgrade": None if (y := get("downgrade")) is None else _base.boolean(y),
            },
        )


class UpdateStateIdle(_base.Model):
    """The device runs its desired version."""

    type: Literal["idle"] = "idle"

    @classmethod
    def _read(cls, value: Any) -> UpdateStateIdle:
        _base.entries(value)
        return cls()


class UpdateStateStaging(_base.Model):
    """systemd-sysupdate writes the target to the other slot."""

    target: Version
    """The version that is staged."""
    attempt: int
    """Number of this attempt; 1 for the first."""
    type: Literal["staging"] = "staging"

    @classmethod
    def _read(cls, value: Any) -> UpdateStateStaging:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "target": _base.text(value["target"]),
                "attempt": _base.integer(value["attempt"]),
            },
        )


class UpdateStateStaged(_base.Model):
    """The other slot contains the target. The boot loader does not know it yet."""

    target: Version
    """The version that is staged."""
    arm_attempts: int
    """Failed attempts to arm it."""
    type: Literal["staged"] = "staged"

    @classmethod
    def _read(cls, value: Any) -> UpdateStateStaged:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "target": _base.text(value["target"]),
                "arm_attempts": _base.integer(value["arm_attempts"]),
            },
        )


class UpdateStateArmed(_base.Model):
    """The boot loader will start the target at the next boot."""

    target: Version
    """The version that will boot."""
    type: Literal["armed"] = "armed"

    @classmethod
    def _read(cls, value: Any) -> UpdateStateArmed:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "target": _base.text(value["target"]),
            },
        )


class UpdateStateTrying(_base.Model):
    """The device runs the target; the result of the health checks is pending."""

    target: Version
    """The version that runs on trial."""
    type: Literal["trying"] = "trying"

    @classmethod
    def _read(cls, value: Any) -> UpdateStateTrying:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "target": _base.text(value["target"]),
            },
        )


class UpdateStateUnconfirmed(_base.Model):
    """The target ran and did not reach the server in time. The device runs its previous version
    again. An outage is not the fault of the target, so the device tries it again after the
    server was reached.
    """

    target: Version
    """The version that was not kept."""
    trials: int
    """How often the previous version reached the server at once, where the target did not."""
    contact: Contact
    """Whether the previous version reaches the server."""
    type: Literal["unconfirmed"] = "unconfirmed"

    @classmethod
    def _read(cls, value: Any) -> UpdateStateUnconfirmed:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "target": _base.text(value["target"]),
                "trials": _base.integer(value["trials"]),
                "contact": _base.choice(value["contact"]),
            },
        )


class UpdateStateRolledBack(_base.Model):
    """The target failed, and the device runs its previous version again."""

    target: Version
    """The version that failed."""
    reason: RollbackReason
    """Why it failed."""
    type: Literal["rolled_back"] = "rolled_back"

    @classmethod
    def _read(cls, value: Any) -> UpdateStateRolledBack:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "target": _base.text(value["target"]),
                "reason": _read_RollbackReason(value["reason"]),
            },
        )


class UpdateStateFailed(_base.Model):
    """The target could not be installed."""

    target: Version
    """The version that could not be installed."""
    code: FailureCode
    """Why it could not be installed."""
    type: Literal["failed"] = "failed"

    @classmethod
    def _read(cls, value: Any) -> UpdateStateFailed:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "target": _base.text(value["target"]),
                "code": _base.choice(value["code"]),
            },
        )


def _read_UpdateState(value: Any) -> UpdateState:
    _base.entries(value)
    tag = value.get("type")
    if tag == "idle":
        return UpdateStateIdle._read(value)
    if tag == "staging":
        return UpdateStateStaging._read(value)
    if tag == "staged":
        return UpdateStateStaged._read(value)
    if tag == "armed":
        return UpdateStateArmed._read(value)
    if tag == "trying":
        return UpdateStateTrying._read(value)
    if tag == "unconfirmed":
        return UpdateStateUnconfirmed._read(value)
    if tag == "rolled_back":
        return UpdateStateRolledBack._read(value)
    if tag == "failed":
        return UpdateStateFailed._read(value)
    raise _base.unknown_variant("UpdateState", value)


class UpdateTarget(_base.Model):
    """The release that a device should run."""

    release: ReleaseName
    """The release."""
    source: TargetSource
    """Where it comes from."""

    @classmethod
    def _read(cls, value: Any) -> UpdateTarget:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "release": _base.text(value["release"]),
                "source": _base.choice(value["source"]),
            },
        )


class UpdateWindows(_base.Model):
    """The update windows of a fleet, and what else its devices observe when they update. A job without
    windows may begin at any time.
    """

    download: Sequence[UpdateWindow] = ()
    """When a download may begin; at most 16. A download that has begun goes on when its window
    ends.
    """
    download_kib_s: int | None = None
    """Highest rate at which each device downloads, KiB per second: 128 to 10485760. Absent: no
    limit.
    """
    install: Sequence[UpdateWindow] = ()
    """When a release may be made bootable; at most 16."""
    reboot: Sequence[UpdateWindow] = ()
    """When the device may reboot for an update; at most 16."""
    user_delay_min: int | None = None
    """How long a reboot waits for a program on the device that blocks shutdowns
    (`systemd-inhibit`), minutes: 1 to 10080. Absent: it does not wait.
    """

    @classmethod
    def _read(cls, value: Any) -> UpdateWindows:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "download": () if (y := get("download")) is None else [_base.text(x) for x in _base.items(y)],
                "download_kib_s": None if (y := get("download_kib_s")) is None else _base.integer(y),
                "install": () if (y := get("install")) is None else [_base.text(x) for x in _base.items(y)],
                "reboot": () if (y := get("reboot")) is None else [_base.text(x) for x in _base.items(y)],
                "user_delay_min": None if (y := get("user_delay_min")) is None else _base.integer(y),
            },
        )


class UrgentRollout(_base.Model):
    """Why a rollout is urgent."""

    reason: str
    """The reason: 1 to 200 characters."""

    @classmethod
    def _read(cls, value: Any) -> UrgentRollout:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "reason": _base.text(value["reason"]),
            },
        )


class UrgentRolloutCounts(_base.Model):
    """How far an urgent rollout is."""

    proved: int
    """Devices whose TPM has proved that they run the release."""
    blocked: int
    """Devices that a gate holds back, or whose level is too low."""
    unreached: int
    """Devices that did not start in time."""

    @classmethod
    def _read(cls, value: Any) -> UrgentRolloutCounts:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "proved": _base.integer(value["proved"]),
                "blocked": _base.integer(value["blocked"]),
                "unreached": _base.integer(value["unreached"]),
            },
        )


class UsbGuard(_base.Model):
    """USB devices that may be attached (usbguard(1))."""

    allow: Sequence[str] = ()
    """Rules in the form of usbguard-rules.conf(5)."""
    enabled: bool | None = None
    """Refuse every USB device that no rule allows."""

    @classmethod
    def _read(cls, value: Any) -> UsbGuard:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "allow": () if (y := get("allow")) is None else [_base.text(x) for x in _base.items(y)],
                "enabled": None if (y := get("enabled")) is None else _base.boolean(y),
            },
        )


class User(_base.Model):
    """A local user."""

    name: str
    """Login name."""
    comment: str | None = None
    """Full name."""
    expires: str | None = None
    """Date after which the account cannot log in, as YYYY-MM-DD."""
    groups: Sequence[str] = ()
    """Supplementary groups."""
    id: int | None = None
    """Numeric user id, 1000 to 59999. Without one the build assigns the next free id."""
    password_hash: str | None = None
    """Password hash in the form of crypt(5) (yescrypt, SHA-512). Without one the password is
    locked.
    """
    shell: str | None = None
    """Login shell."""
    ssh_keys: Sequence[str] = ()
    """OpenSSH public keys."""

    @classmethod
    def _read(cls, value: Any) -> User:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "comment": None if (y := get("comment")) is None else _base.text(y),
                "expires": None if (y := get("expires")) is None else _base.text(y),
                "groups": () if (y := get("groups")) is None else [_base.text(x) for x in _base.items(y)],
                "id": None if (y := get("id")) is None else _base.integer(y),
                "password_hash": None if (y := get("password_hash")) is None else _base.text(y),
                "shell": None if (y := get("shell")) is None else _base.text(y),
                "ssh_keys": () if (y := get("ssh_keys")) is None else [_base.text(x) for x in _base.items(y)],
            },
        )


class VariableWrite(_base.Model):
    """A signed write of a Secure Boot variable."""

    variable: BootVariable
    """The variable."""
    append: bool
    """Append to the variable instead of replacing it."""
    auth: str
    """EFI_VARIABLE_AUTHENTICATION_2 and the value, base64: the content of an `.auth` file."""

    @classmethod
    def _read(cls, value: Any) -> VariableWrite:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "variable": _base.choice(value["variable"]),
                "append": _base.boolean(value["append"]),
                "auth": _base.text(value["auth"]),
            },
        )


class VersionRange(_base.Model):
    """A range of versions; both ends belong to it."""

    highest: Version | None = None
    """The highest version; absent for no limit."""
    lowest: Version | None = None
    """The lowest version; absent for no limit."""

    @classmethod
    def _read(cls, value: Any) -> VersionRange:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "highest": None if (y := get("highest")) is None else _base.text(y),
                "lowest": None if (y := get("lowest")) is None else _base.text(y),
            },
        )


class View(_base.Model):
    """A saved view: a filter with a name."""

    name: ViewName
    """Its name."""
    filter: str
    """Its filter."""
    saved_by: str
    """The account that saved it."""

    @classmethod
    def _read(cls, value: Any) -> View:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "filter": _base.text(value["filter"]),
                "saved_by": _base.text(value["saved_by"]),
            },
        )


class Vlan(_base.Model):
    """A VLAN (IEEE 802.1Q)."""

    name: str
    """Name of its interface, at most 15 characters."""
    id: int
    """VLAN id."""

    @classmethod
    def _read(cls, value: Any) -> Vlan:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "id": _base.integer(value["id"]),
            },
        )


class Webhook(_base.Model):
    """A webhook, without its secret."""

    id: str
    """Webhook id."""
    url: str
    """Where events are sent."""
    events: Sequence[str]
    """Events that are sent."""
    created_s: int
    """When it was added."""

    @classmethod
    def _read(cls, value: Any) -> Webhook:
        _base.entries(value)
        return _base.made(
            cls,
            {
                "id": _base.text(value["id"]),
                "url": _base.text(value["url"]),
                "events": [_base.text(x) for x in _base.items(value["events"])],
                "created_s": _base.integer(value["created_s"]),
            },
        )


class Why(_base.Model):
    """`GET /devices/{device}/why`: why a device is, or is not, offered a release."""

    device: DeviceId
    """Device id."""
    fleet: FleetId
    """Its fleet."""
    gates: Sequence[GateCheck]
    """All gates, in the order in which they are read."""
    desired: ReleaseName | None = None
    """The release that it is offered."""
    first: Gate | None = None
    """The first gate that is closed; if none is, the first at which the offer waits."""
    hold: UpdateHold | None = None
    """Its hold."""
    penalty: UpdatePenalty | None = None
    """The version that failed on it."""
    pin: UpdatePin | None = None
    """Its pin."""
    rollout: str | None = None
    """The rollout that updates it."""
    running: ReleaseName | None = None
    """The release that it runs; absent before its first report."""
    skip_windows_until_s: int | None = None
    """Until when it may skip its windows, Unix seconds."""
    target: UpdateTarget | None = None
    """The release that it should run, and where that comes from."""
    via: ReleaseName | None = None
    """The mandatory release that it must run on its way to that."""

    @classmethod
    def _read(cls, value: Any) -> Why:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "device": _base.text(value["device"]),
                "fleet": _base.text(value["fleet"]),
                "gates": [GateCheck._read(x) for x in _base.items(value["gates"])],
                "desired": None if (y := get("desired")) is None else _base.text(y),
                "first": None if (y := get("first")) is None else _base.choice(y),
                "hold": None if (y := get("hold")) is None else UpdateHold._read(y),
                "penalty": None if (y := get("penalty")) is None else UpdatePenalty._read(y),
                "pin": None if (y := get("pin")) is None else UpdatePin._read(y),
                "rollout": None if (y := get("rollout")) is None else _base.text(y),
                "running": None if (y := get("running")) is None else _base.text(y),
                "skip_windows_until_s": None if (y := get("skip_windows_until_s")) is None else _base.integer(y),
                "target": None if (y := get("target")) is None else UpdateTarget._read(y),
                "via": None if (y := get("via")) is None else _base.text(y),
            },
        )


class Wifi(_base.Model):
    """A Wi-Fi network."""

    ssid: str
    """Name of the network (SSID)."""
    security: WifiSecurity
    """How the device authenticates."""
    hidden: bool | None = None
    """The network does not announce its name."""
    passphrase_secret: str | None = None
    """Name of the secret with the passphrase, for WPA2 and WPA3."""

    @classmethod
    def _read(cls, value: Any) -> Wifi:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "ssid": _base.text(value["ssid"]),
                "security": _base.choice(value["security"]),
                "hidden": None if (y := get("hidden")) is None else _base.boolean(y),
                "passphrase_secret": None if (y := get("passphrase_secret")) is None else _base.text(y),
            },
        )


class WireGuard(_base.Model):
    """A WireGuard tunnel."""

    name: str
    """Name of its interface, at most 15 characters."""
    private_key_secret: str
    """Name of the secret with the private key."""
    addresses: Sequence[str] = ()
    """Addresses with prefix length."""
    listen_port: int | None = None
    """UDP port to listen on; 0 for any."""
    peers: Sequence[Peer] = ()
    """Peers."""

    @classmethod
    def _read(cls, value: Any) -> WireGuard:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "private_key_secret": _base.text(value["private_key_secret"]),
                "addresses": () if (y := get("addresses")) is None else [_base.text(x) for x in _base.items(y)],
                "listen_port": None if (y := get("listen_port")) is None else _base.integer(y),
                "peers": () if (y := get("peers")) is None else [Peer._read(x) for x in _base.items(y)],
            },
        )


class Worker(_base.Model):
    """A build worker."""

    name: WorkerName
    """Name of the worker."""
    created_s: int
    """When it was added, Unix seconds."""
    seen_s: int | None = None
    """When it last asked for a build, Unix seconds."""

    @classmethod
    def _read(cls, value: Any) -> Worker:
        _base.entries(value)
        get = value.get
        return _base.made(
            cls,
            {
                "name": _base.text(value["name"]),
                "created_s": _base.integer(value["created_s"]),
                "seen_s": None if (y := get("seen_s")) is None else _base.integer(y),
            },
        )



AccessControl: TypeAlias = Literal["base", "apparmor"]
"""Mandatory access control."""

AccountKind: TypeAlias = Literal["person", "service"]
"""Who an account is for."""

AccountName: TypeAlias = str
"""The name of an account."""

AlertSeverity: TypeAlias = Literal["info", "warning", "critical"]
"""How severe an alert is."""

ApprovalState: TypeAlias = Literal["waiting", "approved", "denied", "withdrawn", "expired", "done", "failed"]
"""State of a pending act."""

Architecture: TypeAlias = Literal["x86_64", "aarch64"]
"""The machine architecture of a profile, build, release and device."""

AskedAct: TypeAlias = AskedActRevokeDevices | AskedActStartRollout | AskedActSupersedeRollout | AskedActNextWave | AskedActPinFleet | AskedActOrderUpdates | AskedActSetReleasePath | AskedActShowRecoveryKey | AskedActSetPolicy
"""An act for which an approval is requested, as its own request has it."""

Aspect: TypeAlias = Literal["instance_identity", "configuration", "executables", "file_system", "hardware", "firmware"]
"""What a claim is about (AR4SI, 2.3: the trustworthiness vector)."""

BaseName: TypeAlias = Literal["debian", "nixos"]
"""The distribution that images are made of."""

Basis: TypeAlias = Literal["proved", "reported", "unknown"]
"""What is known of a device that has a package."""

BondMode: TypeAlias = Literal["active-backup", "802.3ad", "balance-rr"]
"""How the interfaces of a bond are used (systemd.netdev(5))."""

BootKeyChange: TypeAlias = BootKeyChangeBeginEpoch | BootKeyChangeEndEpoch | BootKeyChangeForbid
"""A change of the Secure Boot keys of a device."""

BootSecretPhase: TypeAlias = Literal["settled", "trial", "searching"]
"""What a device does with the values of a secret of its boot."""

BootVariable: TypeAlias = Literal["PK", "KEK", "db", "dbx"]
"""A Secure Boot variable (UEFI 2.10, 32.4)."""

BuildPhase: TypeAlias = Literal["queued", "running", "succeeded", "failed"]
"""Phase of a build."""

CheckResult: TypeAlias = Literal["ok", "warning", "failed"]
"""The result of a check, from good to bad."""

CommandKind: TypeAlias = CommandKindReport | CommandKindReboot | CommandKindClearAlarm | CommandKindNewRecoveryKey | CommandKindTrySecrets | CommandKindAttest | CommandKindRotateKey | CommandKindLogs | CommandKindDiagnostic | CommandKindSupportBundle | CommandKindFactoryReset
"""What a command asks a device to do."""

Contact: TypeAlias = Literal["waiting", "silent", "reached"]
"""Whether the version that a device fell back to reaches the server."""

DeliveryStatus: TypeAlias = Literal["waiting", "delivered", "failed"]
"""State of a delivery."""

DeviceChange: TypeAlias = DeviceChangeLabel | DeviceChangeUnlabel | DeviceChangeRevoke | DeviceChangeCommand
"""A change of many devices."""

DeviceId: TypeAlias = str
"""The id of a device."""

DevicePhase: TypeAlias = DevicePhasePending | DevicePhaseQueued | DevicePhaseRetrying | DevicePhaseBlocked | DevicePhaseOffered | DevicePhaseHeld | DevicePhaseUnreached | DevicePhaseStaging | DevicePhaseStaged | DevicePhaseRebooting | DevicePhaseTrying | DevicePhaseUnconfirmed | DevicePhaseProving | DevicePhaseSilent | DevicePhaseSucceeded | DevicePhaseAttestationFailed | DevicePhaseRolledBack | DevicePhaseRevoked | DevicePhaseFailed
"""State of a device in a rollout."""

Dhcp: TypeAlias = Literal["yes", "no", "ipv4", "ipv6"]
"""Which addresses come from DHCP."""

Direction: TypeAlias = Literal["incoming", "forward"]
"""The direction of a rule."""

EmailAddress: TypeAlias = str
"""An e-mail address."""

EndingKind: TypeAlias = Literal["root", "root_crl", "intermediate_ca", "former_ca", "server_certificate", "device_crl", "api_certificate", "boot_certificate", "manufacturer_crl"]
"""What ends."""

Event: TypeAlias = EventDevice | EventRollout | EventBuild | EventBuildLog | EventProfile | EventFleet | EventRelease | EventAlerts
"""`GET /events`: the data of a server-sent event."""

FailureCode: TypeAlias = Literal["manifest_untrusted", "too_old", "wrong_image", "stage_failed", "arm_failed", "unreachable", "rolled_back_before", "not_in_log", "log_stale", "log_split", "revoked"]
"""Why a target could not be installed. The name is a stable code."""

Fate: TypeAlias = FateReplaced | FateRefused | FateWaiting
"""Why a held value is not in use."""

Firmware: TypeAlias = FirmwarePinned | FirmwareKnown
"""Which firmware a fleet accepts."""

FirmwareSet: TypeAlias = Literal["amd-microcode", "intel-microcode", "intel-wifi", "atheros", "broadcom", "realtek", "amd-graphics", "intel-graphics", "intel-sound"]
"""A set of firmware."""

Flavour: TypeAlias = Literal["cloud", "generic"]
"""Which kernel of the base."""

FleetId: TypeAlias = str
"""The id of a fleet."""

FragmentKind: TypeAlias = Literal["package_set", "user_set", "service_set", "baseline", "template", "profile"]
"""What a fragment is for."""

Gate: TypeAlias = Literal["revoked", "target", "runs", "offline", "hold", "pin", "line", "version", "floor", "edge", "release", "proof", "level", "penalty", "rollout", "hook", "wave", "cap", "budget", "heard", "window", "device"]
"""A condition on an offer."""

GateState: TypeAlias = Literal["open", "waits", "closed"]
"""The state of a gate."""

GuardedAct: TypeAlias = GuardedActRevokeDevices | GuardedActStartRollout | GuardedActSupersedeRollout | GuardedActNextWave | GuardedActPinFleet | GuardedActOrderUpdates | GuardedActSetReleasePath | GuardedActShowRecoveryKey | GuardedActSetPolicy
"""An act as it is approved: nothing in it is looked up again when it is performed."""

InitrdDrivers: TypeAlias = Literal["usb-storage", "mmc", "raid"]
"""A set of drivers in the initrd."""

Kind: TypeAlias = Literal["offline", "drift", "trust-drop", "failed-update", "alarm", "certificate", "disk", "flapping", "crl", "audit-gap", "fixes"]
"""What a rule watches."""

LabelKey: TypeAlias = str
"""The key of a label."""

LabelType: TypeAlias = LabelTypeText | LabelTypeNumber | LabelTypeBoolean | LabelTypeChoice
"""What values a label can have."""

Level: TypeAlias = Literal["self_reported", "token", "unverified_tpm", "observed_boot", "verified_boot", "verified_firmware"]
"""Attestation level: how much is proved about a device. Each level requires everything that the
levels below it require.
"""

Line: TypeAlias = str
"""The name of a profile and of the versions that are built from it."""

Lockdown: TypeAlias = Literal["automatic", "integrity", "confidentiality"]
"""Kernel lockdown (kernel_lockdown(7))."""

OnReset: TypeAlias = Literal["wipe", "keep"]
"""What a factory reset does with a directory."""

OverTls: TypeAlias = Literal["no", "opportunistic", "yes"]
"""DNS over TLS (resolved.conf(5))."""

Permission: TypeAlias = Literal["view", "audit", "operate", "enroll", "revoke", "rollout", "secrets", "recovery", "policy", "build", "release", "server", "accounts"]
"""What a request needs."""

Protocol: TypeAlias = Literal["tcp", "udp"]
"""Transport protocol."""

ReleaseName: TypeAlias = str
"""The name of a release: image line and version, for example kiosk@2."""

Renewal: TypeAlias = RenewalServer | RenewalPeople | RenewalNobody
"""Who renews what ends."""

RevocationReason: TypeAlias = Literal["unspecified", "key_compromise", "cessation_of_operation", "privilege_withdrawn", "certificate_hold"]
"""Why a certificate is revoked (RFC 5280, 5.3.1)."""

Role: TypeAlias = Literal["viewer", "operator", "builder", "approver", "admin"]
"""What an account may do: a named set of permissions."""

RollbackReason: TypeAlias = RollbackReasonVerity | RollbackReasonHealth | RollbackReasonServerUnreachable | RollbackReasonBootRefused
"""Why a boot of the target failed, as found afterwards."""

RolloutEnd: TypeAlias = RolloutEndSucceeds | RolloutEndStops | RolloutEndFails | RolloutEndWaits | RolloutEndTooLong
"""How a rollout is expected to end."""

RolloutErrorsMax: TypeAlias = RolloutErrorsMaxCount | RolloutErrorsMaxPercent
"""Number of errors that is accepted."""

RolloutExpected: TypeAlias = Literal["updates", "by_floor", "runs_it", "offline", "below_level", "too_old", "other_line", "on_hold", "pinned", "blocked_way", "in_penalty", "rolled_back_before"]
"""What a device is expected to do when it is offered the release."""

RolloutGateVerdict: TypeAlias = RolloutGateVerdictAllows | RolloutGateVerdictDenies | RolloutGateVerdictFailed
"""Whether a wave may begin."""

RolloutMinAvailable: TypeAlias = RolloutMinAvailableCount | RolloutMinAvailablePercent
"""How many devices of a group the rollout leaves alone."""

RolloutOnError: TypeAlias = Literal["pause", "abort", "roll_back"]
"""What happens when there are too many errors."""

RolloutPhase: TypeAlias = Literal["ready", "starting", "running", "pausing", "paused", "succeeded", "failed", "aborting", "aborted"]
"""Phase of a rollout."""

RolloutWaveSize: TypeAlias = RolloutWaveSizeCount | RolloutWaveSizePercent | RolloutWaveSizeList | RolloutWaveSizeFilter
"""How far a rollout goes with a wave. Numbers count the devices of earlier waves, and leave out
those that are unreached: another device takes their place.
"""

RolloutWaveStage: TypeAlias = RolloutWaveStageDue | RolloutWaveStageOpen | RolloutWaveStageSoaking
"""What a wave does."""

RolloutWaveStart: TypeAlias = RolloutWaveStartAfterSuccess | RolloutWaveStartAt | RolloutWaveStartByHand | RolloutWaveStartByApproval
"""When a wave starts."""

SecretName: TypeAlias = str
"""The name of a secret, and of its file in /run/fleeti-secrets."""

Severity: TypeAlias = Literal["error", "warning"]
"""Whether a finding makes a profile unusable."""

SiteType: TypeAlias = Literal["text", "address", "hostname", "url", "integer"]
"""The type of a site value."""

Slot: TypeAlias = Literal["a", "b"]
"""The slot that a device runs from."""

State: TypeAlias = Literal["open", "acknowledged", "resolved"]
"""State of an alert."""

Suggestion: TypeAlias = SuggestionValue | SuggestionName
"""What the author of a field probably meant."""

Suite: TypeAlias = Literal["security", "updates", "backports"]
"""A suite of the archive besides the main one."""

TargetSource: TypeAlias = Literal["pin", "downgrade", "rollout", "way_back", "fleet_pin", "channel"]
"""Where a target comes from."""

Tier: TypeAlias = Literal["none", "affirming", "warning", "contraindicated"]
"""The tier of a claim (AR4SI, 2.3.2: trustworthiness tiers)."""

TpmKind: TypeAlias = Literal["processor", "hardware", "virtual"]
"""What kind of TPM a manufacturer makes, as stated by an operator."""

UnitState: TypeAlias = Literal["enabled", "disabled", "masked"]
"""Whether a unit starts at boot."""

UpdateOrder: TypeAlias = UpdateOrderHold | UpdateOrderUnhold | UpdateOrderPin | UpdateOrderDowngrade | UpdateOrderUnpin | UpdateOrderSkipWindows | UpdateOrderObserveWindows | UpdateOrderMove
"""`POST /devices/{device}/updates`: what an operator orders for a device."""

UpdateState: TypeAlias = UpdateStateIdle | UpdateStateStaging | UpdateStateStaged | UpdateStateArmed | UpdateStateTrying | UpdateStateUnconfirmed | UpdateStateRolledBack | UpdateStateFailed
"""State of the update of a device."""

UpdateWindow: TypeAlias = str
"""A window: `[DAYS] FROM-UNTIL [ZONE] [fits TIME]`, as in `mon-fri 22:00-05:00 Europe/Berlin fits 30m`."""

Verity: TypeAlias = Literal["verified", "corrupted", "absent"]
"""State of dm-verity under the root file system."""

Version: TypeAlias = str
"""A version: numbers without leading zeros, joined by dots."""

ViewName: TypeAlias = str
"""The name of a saved view."""

WifiSecurity: TypeAlias = Literal["open", "wpa2", "wpa3", "eap_tls"]
"""How a device authenticates to a Wi-Fi network."""

WorkerName: TypeAlias = str
"""The name of a build worker."""

__all__ = [
    "About",
    "AccessControl",
    "Account",
    "AccountDetails",
    "AccountKind",
    "AccountName",
    "AcknowledgeAlert",
    "AddReceiver",
    "AddTpmManufacturers",
    "Alert",
    "AlertChange",
    "AlertDetails",
    "AlertSeverity",
    "ApiToken",
    "Approval",
    "ApprovalDetails",
    "ApprovalPolicy",
    "ApprovalState",
    "Approver",
    "Architecture",
    "Artifact",
    "AskedAct",
    "AskedActNextWave",
    "AskedActOrderUpdates",
    "AskedActPinFleet",
    "AskedActRevokeDevices",
    "AskedActSetPolicy",
    "AskedActSetReleasePath",
    "AskedActShowRecoveryKey",
    "AskedActStartRollout",
    "AskedActSupersedeRollout",
    "AskedFleet",
    "Aspect",
    "Attestation",
    "AttestationPolicy",
    "AttestationResult",
    "Audit",
    "AuditConsistency",
    "AuditEntries",
    "AuditProof",
    "BaseName",
    "Basis",
    "BlockedWay",
    "Bond",
    "BondMode",
    "BootKeyChange",
    "BootKeyChangeBeginEpoch",
    "BootKeyChangeEndEpoch",
    "BootKeyChangeForbid",
    "BootProof",
    "BootSecret",
    "BootSecretPhase",
    "BootSignatures",
    "BootSummary",
    "BootVariable",
    "Bridge",
    "Build",
    "BuildEvidence",
    "BuildPhase",
    "Change",
    "ChangeBoot",
    "ChangeDevices",
    "ChangeLabels",
    "Channel",
    "Check",
    "CheckResult",
    "CheckedProfile",
    "Claim",
    "CommandKind",
    "CommandKindAttest",
    "CommandKindClearAlarm",
    "CommandKindDiagnostic",
    "CommandKindFactoryReset",
    "CommandKindLogs",
    "CommandKindNewRecoveryKey",
    "CommandKindReboot",
    "CommandKindReport",
    "CommandKindRotateKey",
    "CommandKindSupportBundle",
    "CommandKindTrySecrets",
    "CommandStatus",
    "Contact",
    "Container",
    "Counts",
    "CreateAccount",
    "CreateBuild",
    "CreateCommand",
    "CreateEnrollment",
    "CreateReadmission",
    "CreateRollout",
    "CreateSilence",
    "CreateToken",
    "CreateWebhook",
    "CreateWorker",
    "CreatedAccount",
    "CreatedToken",
    "CreatedWebhook",
    "CreatedWorker",
    "Decide",
    "DeclareLabelKey",
    "Delivery",
    "DeliveryStatus",
    "Device",
    "DeviceChange",
    "DeviceChangeCommand",
    "DeviceChangeLabel",
    "DeviceChangeRevoke",
    "DeviceChangeUnlabel",
    "DeviceId",
    "DevicePhase",
    "DevicePhaseAttestationFailed",
    "DevicePhaseBlocked",
    "DevicePhaseFailed",
    "DevicePhaseHeld",
    "DevicePhaseOffered",
    "DevicePhasePending",
    "DevicePhaseProving",
    "DevicePhaseQueued",
    "DevicePhaseRebooting",
    "DevicePhaseRetrying",
    "DevicePhaseRevoked",
    "DevicePhaseRolledBack",
    "DevicePhaseSilent",
    "DevicePhaseStaged",
    "DevicePhaseStaging",
    "DevicePhaseSucceeded",
    "DevicePhaseTrying",
    "DevicePhaseUnconfirmed",
    "DevicePhaseUnreached",
    "DeviceState",
    "DevicesChanged",
    "Dhcp",
    "Diagnosis",
    "Diagnostic",
    "Difference",
    "Direction",
    "Dns",
    "Drift",
    "DropIn",
    "Effects",
    "EmailAddress",
    "EmailDelivery",
    "EmailReceiver",
    "Ending",
    "EndingKind",
    "Enrollment",
    "EnrollmentRecord",
    "Event",
    "EventAlerts",
    "EventBuild",
    "EventBuildLog",
    "EventDevice",
    "EventFleet",
    "EventProfile",
    "EventRelease",
    "EventRollout",
    "Extension",
    "FailureCode",
    "Fate",
    "FateRefused",
    "FateReplaced",
    "FateWaiting",
    "FieldError",
    "File",
    "Finding",
    "Firewall",
    "FirewallRule",
    "Firmware",
    "FirmwareKeys",
    "FirmwareKnown",
    "FirmwarePinned",
    "FirmwareSet",
    "Flavour",
    "Fleet",
    "FleetFixes",
    "FleetId",
    "FleetSecret",
    "Floors",
    "Forgive",
    "FoundPackage",
    "FoundUnit",
    "FragmentKind",
    "Gate",
    "GateCheck",
    "GateState",
    "Grant",
    "Group",
    "GuardedAct",
    "GuardedActNextWave",
    "GuardedActOrderUpdates",
    "GuardedActPinFleet",
    "GuardedActRevokeDevices",
    "GuardedActSetPolicy",
    "GuardedActSetReleasePath",
    "GuardedActShowRecoveryKey",
    "GuardedActStartRollout",
    "GuardedActSupersedeRollout",
    "Hardware",
    "HealthCheck",
    "History",
    "Identity",
    "ImportBundle",
    "ImportLabels",
    "ImportRow",
    "Imported",
    "IndexedSuite",
    "InitrdDrivers",
    "Interface",
    "Intermediate",
    "Kernel",
    "Kind",
    "LabelKey",
    "LabelKeyInfo",
    "LabelType",
    "LabelTypeBoolean",
    "LabelTypeChoice",
    "LabelTypeNumber",
    "LabelTypeText",
    "LastRefresh",
    "LeftOut",
    "Level",
    "LibraryEntry",
    "Line",
    "Lockdown",
    "LoginSession",
    "MadeOf",
    "Match",
    "Me",
    "MeasuredPcr",
    "Metrics",
    "MissingFix",
    "Network",
    "NextWave",
    "OnReset",
    "OverTls",
    "OwnPackage",
    "PackageDevice",
    "PackageDevices",
    "PackageRelease",
    "Pair",
    "Paired",
    "Passkey",
    "PasswordLink",
    "Passwords",
    "PauseRollouts",
    "PausedRollouts",
    "Peer",
    "Permission",
    "PinFleet",
    "Problem",
    "Profile",
    "ProfileChanges",
    "ProfileRevision",
    "ProfileText",
    "Progress",
    "Protocol",
    "ProvedDevice",
    "Provision",
    "Provisioned",
    "Proxy",
    "Readmission",
    "RecoveryKeyStatus",
    "RefreshSchedule",
    "Release",
    "ReleaseEvidence",
    "ReleaseLog",
    "ReleaseName",
    "ReleasePackage",
    "ReleasePath",
    "Renewal",
    "RenewalNobody",
    "RenewalPeople",
    "RenewalServer",
    "Replace",
    "Repository",
    "RequestApproval",
    "RequestSignature",
    "RevocationReason",
    "Revoke",
    "Role",
    "RollbackReason",
    "RollbackReasonBootRefused",
    "RollbackReasonHealth",
    "RollbackReasonServerUnreachable",
    "RollbackReasonVerity",
    "Rollout",
    "RolloutBudget",
    "RolloutDevice",
    "RolloutDuration",
    "RolloutEnd",
    "RolloutEndFails",
    "RolloutEndStops",
    "RolloutEndSucceeds",
    "RolloutEndTooLong",
    "RolloutEndWaits",
    "RolloutErrors",
    "RolloutErrorsMax",
    "RolloutErrorsMaxCount",
    "RolloutErrorsMaxPercent",
    "RolloutExcused",
    "RolloutExpected",
    "RolloutExpectedDevices",
    "RolloutForecast",
    "RolloutGateAnswer",
    "RolloutGateAsked",
    "RolloutGateVerdict",
    "RolloutGateVerdictAllows",
    "RolloutGateVerdictDenies",
    "RolloutGateVerdictFailed",
    "RolloutMinAvailable",
    "RolloutMinAvailableCount",
    "RolloutMinAvailablePercent",
    "RolloutOffers",
    "RolloutOnError",
    "RolloutPhase",
    "RolloutPlan",
    "RolloutRate",
    "RolloutSummary",
    "RolloutWave",
    "RolloutWaveForecast",
    "RolloutWaveSize",
    "RolloutWaveSizeCount",
    "RolloutWaveSizeFilter",
    "RolloutWaveSizeList",
    "RolloutWaveSizePercent",
    "RolloutWaveStage",
    "RolloutWaveStageDue",
    "RolloutWaveStageOpen",
    "RolloutWaveStageSoaking",
    "RolloutWaveStart",
    "RolloutWaveStartAfterSuccess",
    "RolloutWaveStartAt",
    "RolloutWaveStartByApproval",
    "RolloutWaveStartByHand",
    "RolloutWaves",
    "Rule",
    "RuleStatus",
    "Sample",
    "SaveView",
    "Searched",
    "Secret",
    "SecretName",
    "SecureBoot",
    "Security",
    "ServerContact",
    "Service",
    "SetRefreshSchedule",
    "SetRule",
    "SetSecret",
    "Severity",
    "ShowRecoveryKey",
    "ShownRecoveryKey",
    "Signatory",
    "SignatureStatus",
    "SignedBootProof",
    "SignedBundle",
    "SignedBy",
    "SignedTransition",
    "Silence",
    "SiteType",
    "SiteValue",
    "Slot",
    "Software",
    "Ssh",
    "State",
    "StateDirectory",
    "Storage",
    "SudoRule",
    "Suggestion",
    "SuggestionName",
    "SuggestionValue",
    "Suite",
    "SuiteSearch",
    "SupportKey",
    "SwitchIssuer",
    "TargetSource",
    "Telemetry",
    "Tier",
    "Time",
    "Timer",
    "Tpm",
    "TpmKind",
    "TpmManufacturer",
    "TpmManufacturers",
    "TrustStatus",
    "UnitState",
    "UpdateHold",
    "UpdateOrder",
    "UpdateOrderDowngrade",
    "UpdateOrderHold",
    "UpdateOrderMove",
    "UpdateOrderObserveWindows",
    "UpdateOrderPin",
    "UpdateOrderSkipWindows",
    "UpdateOrderUnhold",
    "UpdateOrderUnpin",
    "UpdatePenalty",
    "UpdatePin",
    "UpdateState",
    "UpdateStateArmed",
    "UpdateStateFailed",
    "UpdateStateIdle",
    "UpdateStateRolledBack",
    "UpdateStateStaged",
    "UpdateStateStaging",
    "UpdateStateTrying",
    "UpdateStateUnconfirmed",
    "UpdateTarget",
    "UpdateWindow",
    "UpdateWindows",
    "UrgentRollout",
    "UrgentRolloutCounts",
    "UsbGuard",
    "User",
    "VariableWrite",
    "Verity",
    "Version",
    "VersionRange",
    "View",
    "ViewName",
    "Vlan",
    "Webhook",
    "Why",
    "Wifi",
    "WifiSecurity",
    "WireGuard",
    "Worker",
    "WorkerName",
]
