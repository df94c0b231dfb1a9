# Generated from fleeti-server/openapi.json by `cargo xtask sdk`.
"""The operations of the API, by resource, for asyncio."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Mapping, Sequence
from os import PathLike
from typing import Any, Literal

from . import _aio, _base
from . import _aio_extras as _extras
from . import models as m


class Accounts(_aio.Resource):
    """Operations of the tag `accounts`."""

    __slots__ = ()

    async def list(self) -> builtins.list[m.Account]:
        """List accounts."""
        answer = await _aio.call(self._core, "GET", "/api/v1/accounts")
        return _base.read(answer, lambda v: [m.Account._read(x) for x in _base.items(v)])

    async def add(
        self,
        *,
        name: m.AccountName,
        kind: m.AccountKind,
        grants: Sequence[m.Grant] = (),
    ) -> m.CreatedAccount:
        """Add an account. For a person, the response contains a one-time link that sets the password."""
        answer = await _aio.call(self._core, "POST", "/api/v1/accounts", body=m.CreateAccount(name=name, kind=kind, grants=grants))
        return _base.read(answer, lambda v: m.CreatedAccount._read(v))

    async def get(self, account: str) -> m.AccountDetails:
        """Get an account, with everything that accepts its holder."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/accounts/{_base.segment(account)}")
        return _base.read(answer, lambda v: m.AccountDetails._read(v))

    async def disable(self, account: str) -> m.Account:
        """Disable an account. Its login sessions end, and its API tokens do not count."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/accounts/{_base.segment(account)}/disable")
        return _base.read(answer, lambda v: m.Account._read(v))

    async def enable(self, account: str) -> m.Account:
        """Enable a disabled account."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/accounts/{_base.segment(account)}/enable")
        return _base.read(answer, lambda v: m.Account._read(v))

    async def grant_role(self, account: str, grant: m.Grant | Mapping[str, Any]) -> m.Account:
        """Give an account a role."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/accounts/{_base.segment(account)}/grants", body=grant)
        return _base.read(answer, lambda v: m.Account._read(v))

    async def remove_role(self, account: str, grant: m.Grant | Mapping[str, Any]) -> m.Account:
        """Take a role from an account."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/accounts/{_base.segment(account)}/grants/remove", body=grant)
        return _base.read(answer, lambda v: m.Account._read(v))

    async def create_link(self, account: str) -> m.PasswordLink:
        """Make a one-time link with which a person sets a new password. An earlier link no longer counts.
        Only this response contains it.
        """
        answer = await _aio.call(self._core, "POST", f"/api/v1/accounts/{_base.segment(account)}/link")
        return _base.read(answer, lambda v: m.PasswordLink._read(v))

    async def offboard(self, account: str) -> m.AccountDetails:
        """End everything of an account that the server can end: its roles, password, passkeys, login
        sessions, API tokens, link, and the enrollment tokens that no device has used.
        """
        answer = await _aio.call(self._core, "POST", f"/api/v1/accounts/{_base.segment(account)}/offboard")
        return _base.read(answer, lambda v: m.AccountDetails._read(v))

    async def end_account_sessions(self, account: str) -> None:
        """End all login sessions of an account."""
        await _aio.call(self._core, "DELETE", f"/api/v1/accounts/{_base.segment(account)}/sessions")

    async def list_account_sessions(self, account: str) -> builtins.list[m.LoginSession]:
        """List the login sessions of an account."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/accounts/{_base.segment(account)}/sessions")
        return _base.read(answer, lambda v: [m.LoginSession._read(x) for x in _base.items(v)])

    async def end_account_session(self, account: str, session: str) -> None:
        """End a login session of an account."""
        await _aio.call(self._core, "DELETE", f"/api/v1/accounts/{_base.segment(account)}/sessions/{_base.segment(session)}")

    async def get_me(self) -> m.Me:
        """Get the account and credential of this request, and what they permit."""
        answer = await _aio.call(self._core, "GET", "/api/v1/me")
        return _base.read(answer, lambda v: m.Me._read(v))

    async def list_passkeys(self) -> builtins.list[m.Passkey]:
        """List the passkeys of the own account. They are added on the page of the account."""
        answer = await _aio.call(self._core, "GET", "/api/v1/passkeys")
        return _base.read(answer, lambda v: [m.Passkey._read(x) for x in _base.items(v)])

    async def remove_passkey(self, passkey: str) -> None:
        """Remove a passkey of the own account or, as an administrator, of any account. The login sessions
        that it began end.
        """
        await _aio.call(self._core, "DELETE", f"/api/v1/passkeys/{_base.segment(passkey)}")

    async def list_sessions(self) -> builtins.list[m.LoginSession]:
        """List the login sessions of the own account."""
        answer = await _aio.call(self._core, "GET", "/api/v1/sessions")
        return _base.read(answer, lambda v: [m.LoginSession._read(x) for x in _base.items(v)])

    async def end_session(self, session: str) -> builtins.list[m.LoginSession]:
        """End a login session of the own account."""
        answer = await _aio.call(self._core, "DELETE", f"/api/v1/sessions/{_base.segment(session)}")
        return _base.read(answer, lambda v: [m.LoginSession._read(x) for x in _base.items(v)])

    async def list_tokens(self) -> builtins.list[m.ApiToken]:
        """List the API tokens of the own account."""
        answer = await _aio.call(self._core, "GET", "/api/v1/tokens")
        return _base.read(answer, lambda v: [m.ApiToken._read(x) for x in _base.items(v)])

    async def create_token(
        self,
        *,
        label: str,
        valid_s: int,
        account: m.AccountName | None = None,
        permissions: Sequence[m.Permission] | None = None,
    ) -> m.CreatedToken:
        """Create an API token of the own account or, as an administrator, of a service account. Only this
        response contains it.
        """
        answer = await _aio.call(self._core, "POST", "/api/v1/tokens", body=m.CreateToken(label=label, valid_s=valid_s, account=account, permissions=permissions))
        return _base.read(answer, lambda v: m.CreatedToken._read(v))

    async def remove_token(self, token: str) -> None:
        """Remove an API token of the own account or, as an administrator, of any account."""
        await _aio.call(self._core, "DELETE", f"/api/v1/tokens/{_base.segment(token)}")


class Alerts(_aio.Resource):
    """Operations of the tag `alerts`."""

    __slots__ = ()

    async def list_rules(self) -> builtins.list[m.RuleStatus]:
        """List the rules that count now: the shipped ones, and what operators changed and added."""
        answer = await _aio.call(self._core, "GET", "/api/v1/alert-rules")
        return _base.read(answer, lambda v: [m.RuleStatus._read(x) for x in _base.items(v)])

    async def remove_rule(self, rule: str) -> None:
        """Remove an added rule, or the change of a shipped one."""
        await _aio.call(self._core, "DELETE", f"/api/v1/alert-rules/{_base.segment(rule)}")

    async def get_rule(self, rule: str) -> m.RuleStatus:
        """Get a rule as it counts now."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/alert-rules/{_base.segment(rule)}")
        return _base.read(answer, lambda v: m.RuleStatus._read(v))

    async def set_rule(
        self,
        rule: str,
        *,
        kind: m.Kind,
        threshold: int,
        severity: m.AlertSeverity,
        enabled: bool,
        fleets: Sequence[m.FleetId] = (),
    ) -> m.RuleStatus:
        """Change a shipped rule, or add or change another one."""
        answer = await _aio.call(self._core, "PUT", f"/api/v1/alert-rules/{_base.segment(rule)}", body=m.SetRule(kind=kind, threshold=threshold, severity=severity, enabled=enabled, fleets=fleets))
        return _base.read(answer, lambda v: m.RuleStatus._read(v))

    def list(
        self,
        *,
        all: bool | None = None,
        fleet: m.FleetId | None = None,
    ) -> AsyncIterator[m.Alert]:
        """List alerts, newest first, one page at a time. Without `all` only those that are not resolved.

        all: Return also resolved alerts.
        fleet: Return only alerts about this fleet and its devices.
        """

        async def page(after: str | None) -> builtins.list[m.Alert]:
            answer = await _aio.call(self._core, "GET", _base.target("/api/v1/alerts", {"all": all, "fleet": fleet, "after": after, "limit": 500}))
            return _base.read(answer, lambda v: [m.Alert._read(x) for x in _base.items(v)])

        return _aio.pages(page, lambda last: last.id, 500)

    async def get(self, alert: str) -> m.AlertDetails:
        """Get an alert with its history."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/alerts/{_base.segment(alert)}")
        return _base.read(answer, lambda v: m.AlertDetails._read(v))

    async def acknowledge(self, alert: str, *, note: str | None = None) -> m.AlertDetails:
        """Acknowledge an open alert: an operator takes care of it."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/alerts/{_base.segment(alert)}/acknowledge", body=m.AcknowledgeAlert(note=note))
        return _base.read(answer, lambda v: m.AlertDetails._read(v))

    async def list_receivers(self) -> builtins.list[m.EmailReceiver]:
        """List the receivers of e-mail about alerts."""
        answer = await _aio.call(self._core, "GET", "/api/v1/email-receivers")
        return _base.read(answer, lambda v: [m.EmailReceiver._read(x) for x in _base.items(v)])

    async def add_receiver(
        self,
        *,
        address: m.EmailAddress,
        severity: m.AlertSeverity,
        fleets: Sequence[m.FleetId] = (),
    ) -> m.EmailReceiver:
        """Add a receiver, which gets e-mail about alerts from now on."""
        answer = await _aio.call(self._core, "POST", "/api/v1/email-receivers", body=m.AddReceiver(address=address, severity=severity, fleets=fleets))
        return _base.read(answer, lambda v: m.EmailReceiver._read(v))

    async def remove_receiver(self, receiver: str) -> None:
        """Remove a receiver with its e-mails."""
        await _aio.call(self._core, "DELETE", f"/api/v1/email-receivers/{_base.segment(receiver)}")

    async def disable_receiver(self, receiver: str) -> None:
        """Send a receiver no e-mail, also none that waits."""
        await _aio.call(self._core, "POST", f"/api/v1/email-receivers/{_base.segment(receiver)}/disable")

    async def list_emails(self, receiver: str) -> builtins.list[m.EmailDelivery]:
        """List the newest e-mails to a receiver, newest first."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/email-receivers/{_base.segment(receiver)}/emails")
        return _base.read(answer, lambda v: [m.EmailDelivery._read(x) for x in _base.items(v)])

    async def enable_receiver(self, receiver: str) -> None:
        """Send a receiver e-mail again."""
        await _aio.call(self._core, "POST", f"/api/v1/email-receivers/{_base.segment(receiver)}/enable")

    async def test_receiver(self, receiver: str) -> None:
        """Send a test e-mail to a receiver."""
        await _aio.call(self._core, "POST", f"/api/v1/email-receivers/{_base.segment(receiver)}/test")

    async def list_silences(self) -> builtins.list[m.Silence]:
        """List silences and maintenance windows that have not ended."""
        answer = await _aio.call(self._core, "GET", "/api/v1/silences")
        return _base.read(answer, lambda v: [m.Silence._read(x) for x in _base.items(v)])

    async def add_silence(
        self,
        *,
        valid_s: int,
        reason: str,
        device: m.DeviceId | None = None,
        fleet: m.FleetId | None = None,
        from_s: int | None = None,
        rule: str | None = None,
    ) -> m.Silence:
        """Add a silence: nobody is told of alerts that begin while it lasts."""
        answer = await _aio.call(self._core, "POST", "/api/v1/silences", body=m.CreateSilence(valid_s=valid_s, reason=reason, device=device, fleet=fleet, from_s=from_s, rule=rule))
        return _base.read(answer, lambda v: m.Silence._read(v))

    async def remove_silence(self, silence: str) -> None:
        """Remove a silence."""
        await _aio.call(self._core, "DELETE", f"/api/v1/silences/{_base.segment(silence)}")

    async def list_webhooks(self) -> builtins.list[m.Webhook]:
        """List webhooks, without their secrets."""
        answer = await _aio.call(self._core, "GET", "/api/v1/webhooks")
        return _base.read(answer, lambda v: [m.Webhook._read(x) for x in _base.items(v)])

    async def add_webhook(self, *, url: str, events: Sequence[str]) -> m.CreatedWebhook:
        """Add a webhook, which gets events from now on. Only this response contains its secret."""
        answer = await _aio.call(self._core, "POST", "/api/v1/webhooks", body=m.CreateWebhook(url=url, events=events))
        return _base.read(answer, lambda v: m.CreatedWebhook._read(v))

    async def remove_webhook(self, webhook: str) -> None:
        """Remove a webhook with its deliveries."""
        await _aio.call(self._core, "DELETE", f"/api/v1/webhooks/{_base.segment(webhook)}")

    async def list_deliveries(self, webhook: str) -> builtins.list[m.Delivery]:
        """List the newest deliveries of a webhook, newest first."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/webhooks/{_base.segment(webhook)}/deliveries")
        return _base.read(answer, lambda v: [m.Delivery._read(x) for x in _base.items(v)])

    async def test_webhook(self, webhook: str) -> None:
        """Send the event `webhook.test` to a webhook."""
        await _aio.call(self._core, "POST", f"/api/v1/webhooks/{_base.segment(webhook)}/test")


class Approvals(_aio.Resource):
    """Operations of the tag `approvals`."""

    __slots__ = ()

    async def get_approval_policy(self) -> m.ApprovalPolicy:
        """Get which acts need a second person."""
        answer = await _aio.call(self._core, "GET", "/api/v1/approval-policy")
        return _base.read(answer, lambda v: m.ApprovalPolicy._read(v))

    async def set_approval_policy(
        self,
        approval_policy: m.ApprovalPolicy | Mapping[str, Any],
    ) -> m.ApprovalPolicy:
        """Set which acts need a second person. Where any does already, this needs one as well."""
        answer = await _aio.call(self._core, "PUT", "/api/v1/approval-policy", body=approval_policy)
        return _base.read(answer, lambda v: m.ApprovalPolicy._read(v))

    async def list(self) -> builtins.list[m.Approval]:
        """List acts that wait for a second person, and then the newest that waited."""
        answer = await _aio.call(self._core, "GET", "/api/v1/approvals")
        return _base.read(answer, lambda v: [m.Approval._read(x) for x in _base.items(v)])

    async def request(
        self,
        *,
        act: m.AskedAct,
        reason: str,
        valid_s: int | None = None,
    ) -> m.Approval:
        """Request the approval of a second person. The caller needs what the act needs."""
        answer = await _aio.call(self._core, "POST", "/api/v1/approvals", body=m.RequestApproval(act=act, reason=reason, valid_s=valid_s))
        return _base.read(answer, lambda v: m.Approval._read(v))

    async def get(self, approval: str) -> m.ApprovalDetails:
        """Get an act that waits for a second person, or waited, with exactly what is performed."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/approvals/{_base.segment(approval)}")
        return _base.read(answer, lambda v: m.ApprovalDetails._read(v))

    async def approve_act(self, approval: str, *, note: str | None = None) -> m.Approval:
        """Approve an act as a second person. The server performs exactly what was requested, or refuses it;
        a recovery key waits for its requester.
        """
        answer = await _aio.call(self._core, "POST", f"/api/v1/approvals/{_base.segment(approval)}/approve", body=m.Decide(note=note))
        return _base.read(answer, lambda v: m.Approval._read(v))

    async def deny_act(self, approval: str, *, note: str | None = None) -> m.Approval:
        """Deny an act as a second person, or withdraw an own one."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/approvals/{_base.segment(approval)}/deny", body=m.Decide(note=note))
        return _base.read(answer, lambda v: m.Approval._read(v))

    async def collect_recovery_key(self, approval: str) -> m.ShownRecoveryKey:
        """Show the recovery key of an approved act to its requester, once."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/approvals/{_base.segment(approval)}/recovery-key")
        return _base.read(answer, lambda v: m.ShownRecoveryKey._read(v))


class Attestation(_aio.Resource):
    """Operations of the tag `attestation`."""

    __slots__ = ()

    async def get(self, device: str) -> m.Attestation:
        """Get the attestation of a device: its level, the claims behind it, and its measurements."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/devices/{_base.segment(device)}/attestation")
        return _base.read(answer, lambda v: m.Attestation._read(v))

    async def accept_firmware(self, device: str) -> m.Attestation:
        """Accept the current firmware of a device."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/devices/{_base.segment(device)}/attestation/accept-firmware")
        return _base.read(answer, lambda v: m.Attestation._read(v))

    async def challenge(self, device: str) -> None:
        """Request evidence from a connected device now. The device answers within seconds, or not at all."""
        await _aio.call(self._core, "POST", f"/api/v1/devices/{_base.segment(device)}/attestation/challenge")

    async def get_ear(self, device: str) -> Any:
        """Get the attestation as an unsigned EAT Attestation Result (draft-ietf-rats-ear-04). 404 if the
        device has never sent evidence.
        """
        return _base.as_json(await _aio.call(self._core, "GET", f"/api/v1/devices/{_base.segment(device)}/attestation/ear"))

    async def get_policy(self, fleet: str) -> m.AttestationPolicy:
        """Get the appraisal policy of a fleet."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/fleets/{_base.segment(fleet)}/attestation-policy")
        return _base.read(answer, lambda v: m.AttestationPolicy._read(v))

    async def set_policy(
        self,
        fleet: str,
        attestation_policy: m.AttestationPolicy | Mapping[str, Any],
    ) -> m.AttestationPolicy:
        """Set the appraisal policy of a fleet. What the policy leaves out, no device gets."""
        answer = await _aio.call(self._core, "PUT", f"/api/v1/fleets/{_base.segment(fleet)}/attestation-policy", body=attestation_policy)
        return _base.read(answer, lambda v: m.AttestationPolicy._read(v))

    async def challenge_fleet(self, fleet: str) -> m.AskedFleet:
        """Request evidence from every connected device of a fleet."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/fleets/{_base.segment(fleet)}/attestation/challenge")
        return _base.read(answer, lambda v: m.AskedFleet._read(v))

    async def list_manufacturers(self) -> m.TpmManufacturers:
        """List the trusted TPM manufacturers, and the files that the server cannot read."""
        answer = await _aio.call(self._core, "GET", "/api/v1/tpm-manufacturers")
        return _base.read(answer, lambda v: m.TpmManufacturers._read(v))

    async def add_manufacturers(
        self,
        *,
        kind: m.TpmKind,
        file: str,
    ) -> builtins.list[m.TpmManufacturer]:
        """Trust the TPM manufacturers in a file. The server then appraises all TPMs of devices again."""
        answer = await _aio.call(self._core, "POST", "/api/v1/tpm-manufacturers", body=m.AddTpmManufacturers(kind=kind, file=file))
        return _base.read(answer, lambda v: [m.TpmManufacturer._read(x) for x in _base.items(v)])

    async def remove_manufacturer(self, id: str) -> m.TpmManufacturer:
        """Stop trusting a TPM manufacturer. The server then appraises all TPMs of devices again."""
        answer = await _aio.call(self._core, "DELETE", f"/api/v1/tpm-manufacturers/{_base.segment(id)}")
        return _base.read(answer, lambda v: m.TpmManufacturer._read(v))


class Audit(_aio.Resource):
    """Operations of the tag `audit`."""

    __slots__ = ()

    async def get_checkpoint(self) -> str:
        """Get the current checkpoint (C2SP): the signed size and root hash of the audit log."""
        return _base.as_text(await _aio.call(self._core, "GET", "/api/v1/audit/checkpoint"))

    async def get_consistency(self, *, old: int, new: int) -> m.AuditConsistency:
        """Get the consistency proof between two checkpoints.

        old: Size of the older checkpoint, in entries.
        new: Size of the newer checkpoint, in entries.
        """
        answer = await _aio.call(self._core, "GET", _base.target("/api/v1/audit/consistency", {"old": old, "new": new}))
        return _base.read(answer, lambda v: m.AuditConsistency._read(v))

    def list_entries(self, *, from_: int = 0) -> AsyncIterator[str]:
        """List entries of the audit log, oldest first."""

        async def page(number: int) -> Sequence[str]:
            answer = await _aio.call(self._core, "GET", _base.target("/api/v1/audit/entries", {"from": number, "limit": 1000}))
            return _base.read(answer, lambda v: m.AuditEntries._read(v)).lines

        return _aio.lines(page, from_)

    async def get_proof(self, number: int) -> m.AuditProof:
        """Get the inclusion proof of an entry."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/audit/entries/{_base.segment(number)}/proof")
        return _base.read(answer, lambda v: m.AuditProof._read(v))


class Builds(_aio.Resource):
    """Operations of the tag `builds`."""

    __slots__ = ()

    async def list(
        self,
        *,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> builtins.list[m.Build]:
        """List builds, newest first, one page at a time. `Link` has the address of the next page.

        cursor: Where the page begins, from the `Link` of the page before; absent for the first page.
        limit: Maximum number of items in the page, 1 to 500; default 200.
        """
        answer = await _aio.call(self._core, "GET", _base.target("/api/v1/builds", {"cursor": cursor, "limit": limit}))
        return _base.read(answer, lambda v: [m.Build._read(x) for x in _base.items(v)])

    async def create(
        self,
        *,
        profile: m.Profile,
        version: m.Version,
        refresh_lock: bool | None = None,
        refresh_packages: Sequence[str] = (),
    ) -> m.Build:
        """Queue a build."""
        answer = await _aio.call(self._core, "POST", "/api/v1/builds", body=m.CreateBuild(profile=profile, version=version, refresh_lock=refresh_lock, refresh_packages=refresh_packages))
        return _base.read(answer, lambda v: m.Build._read(v))

    async def get(self, build: str) -> m.Build:
        """Get a build."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/builds/{_base.segment(build)}")
        return _base.read(answer, lambda v: m.Build._read(v))

    async def approve_signature(
        self,
        build: str,
        signed_by: m.SignedBy | Mapping[str, Any],
    ) -> m.SignatureStatus:
        """Approve a signing request, with the approver's own signature. The last approval that is needed
        starts signing and publication.
        """
        answer = await _aio.call(self._core, "POST", f"/api/v1/builds/{_base.segment(build)}/approvals", body=signed_by)
        return _base.read(answer, lambda v: m.SignatureStatus._read(v))

    async def get_record(self, build: str) -> bytes:
        """Get the record of a build. Approvers sign the digest of exactly these bytes."""
        return await _aio.call(self._core, "GET", f"/api/v1/builds/{_base.segment(build)}/record")

    async def sign(self, build: str) -> m.Build:
        """Sign a build and publish it as a release, if the signing service holds the release key and needs
        no approvals.
        """
        answer = await _aio.call(self._core, "POST", f"/api/v1/builds/{_base.segment(build)}/sign")
        return _base.read(answer, lambda v: m.Build._read(v))

    async def get_signature(self, build: str) -> m.SignatureStatus:
        """Get the approvals of a build: how many the signing service needs, who may give them, and who
        did.
        """
        answer = await _aio.call(self._core, "GET", f"/api/v1/builds/{_base.segment(build)}/signature")
        return _base.read(answer, lambda v: m.SignatureStatus._read(v))

    async def request_signature(
        self,
        build: str,
        *,
        intent: str,
        by: m.SignedBy,
    ) -> m.SignatureStatus:
        """Request the signature of a build, with the requester's own signature."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/builds/{_base.segment(build)}/signature", body=m.RequestSignature(intent=intent, by=by))
        return _base.read(answer, lambda v: m.SignatureStatus._read(v))


class Commands(_aio.Resource):
    """Operations of the tag `commands`."""

    __slots__ = ()

    async def get(self, command: str) -> m.CommandStatus:
        """Get the status of a command."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/commands/{_base.segment(command)}")
        return _base.read(answer, lambda v: m.CommandStatus._read(v))

    async def cancel(self, command: str) -> m.CommandStatus:
        """Cancel a command. The device is asked to stop it, or not to begin it."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/commands/{_base.segment(command)}/cancel")
        return _base.read(answer, lambda v: m.CommandStatus._read(v))

    async def get_command_result(self, command: str) -> bytes:
        """Get the result of a command: the text of logs and diagnostics, or an encrypted support bundle."""
        return await _aio.call(self._core, "GET", f"/api/v1/commands/{_base.segment(command)}/result")

    async def list(self, device: str) -> builtins.list[m.CommandStatus]:
        """List the newest commands of a device, newest first."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/devices/{_base.segment(device)}/commands")
        return _base.read(answer, lambda v: [m.CommandStatus._read(x) for x in _base.items(v)])

    async def create(
        self,
        device: str,
        *,
        kind: m.CommandKind,
        valid_s: int,
        confirm: str | None = None,
    ) -> m.CommandStatus:
        """Queue a command for a device."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/devices/{_base.segment(device)}/commands", body=m.CreateCommand(kind=kind, valid_s=valid_s, confirm=confirm))
        return _base.read(answer, lambda v: m.CommandStatus._read(v))


class Devices(_aio.Resource):
    """Operations of the tag `devices`."""

    __slots__ = ()

    async def change(
        self,
        *,
        filter: str,
        change: m.DeviceChange,
        confirm: str | None = None,
        expected: int | None = None,
    ) -> m.DevicesChanged:
        """Preview or make a change of all devices that a filter matches."""
        answer = await _aio.call(self._core, "POST", "/api/v1/device-changes", body=m.ChangeDevices(filter=filter, change=change, confirm=confirm, expected=expected))
        return _base.read(answer, lambda v: m.DevicesChanged._read(v))

    def list(
        self,
        *,
        fleet: m.FleetId | None = None,
        filter: str | None = None,
        drift: bool | None = None,
    ) -> AsyncIterator[m.Device]:
        """List devices, ordered by id, one page at a time.

        fleet: Return only devices of this fleet.
        filter: Return only devices that this filter matches, such as `site=berlin and version<2`. An account
        with roles for single fleets sees the devices of these.
        drift: Return only devices that run another release than their desired one.
        """

        async def page(after: str | None) -> builtins.list[m.Device]:
            answer = await _aio.call(self._core, "GET", _base.target("/api/v1/devices", {"after": after, "limit": 500, "fleet": fleet, "filter": filter, "drift": drift}))
            return _base.read(answer, lambda v: [m.Device._read(x) for x in _base.items(v)])

        return _aio.pages(page, lambda last: last.id, 500)

    async def get(self, device: str) -> m.Device:
        """Get a device."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/devices/{_base.segment(device)}")
        return _base.read(answer, lambda v: m.Device._read(v))

    async def describe(
        self,
        device: str,
        *,
        name: str | None = None,
        note: str | None = None,
    ) -> m.Device:
        """Change the name and the note of a device."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/devices/{_base.segment(device)}/about", body=m.About(name=name, note=note))
        return _base.read(answer, lambda v: m.Device._read(v))

    async def change_boot(
        self,
        device: str,
        *,
        change: m.BootKeyChange,
        may_end_fallback: bool | None = None,
    ) -> m.Device:
        """Change the Secure Boot keys of a device. The device applies the change once it learns of it."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/devices/{_base.segment(device)}/boot-keys", body=m.ChangeBoot(change=change, may_end_fallback=may_end_fallback))
        return _base.read(answer, lambda v: m.Device._read(v))

    async def get_certificate(self, device: str) -> str:
        """Get the certificate of a device, PEM."""
        return _base.as_text(await _aio.call(self._core, "GET", f"/api/v1/devices/{_base.segment(device)}/certificate"))

    async def get_drift(self, device: str) -> m.Drift:
        """Get how a device differs from what is desired of it."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/devices/{_base.segment(device)}/drift")
        return _base.read(answer, lambda v: m.Drift._read(v))

    async def forgive(self, device: str, *, version: m.Version) -> m.Device:
        """Allow a device to try a version again after a rollback."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/devices/{_base.segment(device)}/forgive", body=m.Forgive(version=version))
        return _base.read(answer, lambda v: m.Device._read(v))

    async def get_history(
        self,
        device: str,
        *,
        from_s: int | None = None,
        until_s: int | None = None,
    ) -> m.History:
        """Get what a device was in a span of time, and its metrics.

        from_s: From when on, Unix seconds; absent for the beginning. The first state is the one of that time.
        until_s: Until when, Unix seconds; absent for now.
        """
        answer = await _aio.call(self._core, "GET", _base.target(f"/api/v1/devices/{_base.segment(device)}/history", {"from_s": from_s, "until_s": until_s}))
        return _base.read(answer, lambda v: m.History._read(v))

    async def change_labels(
        self,
        device: str,
        *,
        remove: Sequence[m.LabelKey] = (),
        set: Mapping[str, str] | None = None,
    ) -> m.Device:
        """Set and remove labels of a device."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/devices/{_base.segment(device)}/labels", body=m.ChangeLabels(remove=remove, set=set))
        return _base.read(answer, lambda v: m.Device._read(v))

    async def get_recovery_key(self, device: str) -> m.RecoveryKeyStatus:
        """Check whether the server keeps a recovery key for the data partition of a device."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/devices/{_base.segment(device)}/recovery-key")
        return _base.read(answer, lambda v: m.RecoveryKeyStatus._read(v))

    async def show_recovery_key(
        self,
        device: str,
        *,
        reason: str,
        previous: bool | None = None,
    ) -> m.ShownRecoveryKey:
        """Show the recovery key of a device. The server first records operator and reason in the audit
        log. Once the device learns of that, it makes a new key at its next boot.
        """
        answer = await _aio.call(self._core, "POST", f"/api/v1/devices/{_base.segment(device)}/recovery-key", body=m.ShowRecoveryKey(reason=reason, previous=previous))
        return _base.read(answer, lambda v: m.ShownRecoveryKey._read(v))

    async def release_hold(self, device: str) -> m.Device:
        """Release a hold, the only revocation that can be undone."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/devices/{_base.segment(device)}/release-hold")
        return _base.read(answer, lambda v: m.Device._read(v))

    async def replace(self, device: str, *, with_: m.DeviceId) -> m.Device:
        """Put an enrolled device in the place of another one, and revoke that one."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/devices/{_base.segment(device)}/replace", body=m.Replace(with_=with_))
        return _base.read(answer, lambda v: m.Device._read(v))

    async def revoke(self, device: str, *, reason: m.RevocationReason | None = None) -> m.Device:
        """Revoke the certificate of a device and disconnect the device at once."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/devices/{_base.segment(device)}/revoke", body=m.Revoke(reason=reason))
        return _base.read(answer, lambda v: m.Device._read(v))

    async def order_updates(
        self,
        device: str,
        update_order: m.UpdateOrder | Mapping[str, Any],
    ) -> m.Why:
        """Hold the updates of a device, pin it to a release, end either, or move it to another fleet."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/devices/{_base.segment(device)}/updates", body=update_order)
        return _base.read(answer, lambda v: m.Why._read(v))

    async def get_why(self, device: str) -> m.Why:
        """Explain why a device is, or is not, offered a release: all gates in order, and what would change
        those that do not let the offer through.
        """
        answer = await _aio.call(self._core, "GET", f"/api/v1/devices/{_base.segment(device)}/why")
        return _base.read(answer, lambda v: m.Why._read(v))

    async def get_record_without_token(self) -> m.EnrollmentRecord:
        """Get the enrollment record without a token: the device shows a pairing code, which an operator
        enters.
        """
        answer = await _aio.call(self._core, "GET", "/api/v1/enrollment-record")
        return _base.read(answer, lambda v: m.EnrollmentRecord._read(v))

    async def list_fleets(self) -> builtins.list[m.Fleet]:
        """List fleets that have, or had, a device."""
        answer = await _aio.call(self._core, "GET", "/api/v1/fleets")
        return _base.read(answer, lambda v: [m.Fleet._read(x) for x in _base.items(v)])

    async def get_channel(self, fleet: str) -> m.Channel:
        """Get what the devices of a fleet should run."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/fleets/{_base.segment(fleet)}/channel")
        return _base.read(answer, lambda v: m.Channel._read(v))

    async def pin_fleet(
        self,
        fleet: str,
        *,
        reason: str,
        release: m.ReleaseName | None = None,
    ) -> m.Channel:
        """Pin a fleet to a release, or end that. Its devices are offered the release when they next report or
        connect, without waves.
        """
        answer = await _aio.call(self._core, "PUT", f"/api/v1/fleets/{_base.segment(fleet)}/channel", body=m.PinFleet(reason=reason, release=release))
        return _base.read(answer, lambda v: m.Channel._read(v))

    async def provision(
        self,
        fleet: str,
        *,
        valid_s: int,
        ek_sha256: str | None = None,
        fleet_keys: bool | None = None,
        proxy: str | None = None,
        release: m.ReleaseName | None = None,
    ) -> m.Provisioned:
        """Provision a new device: create its id, its enrollment token and its Secure Boot keys. Only this
        response contains the token.
        """
        answer = await _aio.call(self._core, "POST", f"/api/v1/fleets/{_base.segment(fleet)}/devices", body=m.Provision(valid_s=valid_s, ek_sha256=ek_sha256, fleet_keys=fleet_keys, proxy=proxy, release=release))
        return _base.read(answer, lambda v: m.Provisioned._read(v))

    async def create_enrollment(self, fleet: str, *, valid_s: int) -> m.Enrollment:
        """Create a one-time enrollment token. Only this response contains it."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/fleets/{_base.segment(fleet)}/enrollments", body=m.CreateEnrollment(valid_s=valid_s))
        return _base.read(answer, lambda v: m.Enrollment._read(v))

    async def get_fixes(self, fleet: str) -> m.FleetFixes:
        """Get the security fixes that the release of a fleet lacks."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/fleets/{_base.segment(fleet)}/fixes")
        return _base.read(answer, lambda v: m.FleetFixes._read(v))

    async def readmit_fleet(self, fleet: str, *, reason: str, valid_s: int) -> m.Readmission:
        """Readmit devices of a fleet whose certificates have expired and whose keys are files. An attacker
        with a copy of such a device's disk can then connect as that device.
        """
        answer = await _aio.call(self._core, "POST", f"/api/v1/fleets/{_base.segment(fleet)}/readmission", body=m.CreateReadmission(reason=reason, valid_s=valid_s))
        return _base.read(answer, lambda v: m.Readmission._read(v))

    async def import_labels(
        self,
        *,
        rows: Sequence[m.ImportRow],
        dry_run: bool | None = None,
    ) -> m.Imported:
        """Set names, notes and labels of many devices: of all rows, or of none."""
        answer = await _aio.call(self._core, "POST", "/api/v1/label-imports", body=m.ImportLabels(rows=rows, dry_run=dry_run))
        return _base.read(answer, lambda v: m.Imported._read(v))

    async def list_label_keys(self) -> builtins.list[m.LabelKeyInfo]:
        """List label keys."""
        answer = await _aio.call(self._core, "GET", "/api/v1/label-keys")
        return _base.read(answer, lambda v: [m.LabelKeyInfo._read(x) for x in _base.items(v)])

    async def remove_label_key(self, key: str) -> None:
        """Remove a label key that no device has."""
        await _aio.call(self._core, "DELETE", f"/api/v1/label-keys/{_base.segment(key)}")

    async def declare_label_key(self, key: str, *, of: m.LabelType) -> m.LabelKeyInfo:
        """Declare a label key, or change what values it can have."""
        answer = await _aio.call(self._core, "PUT", f"/api/v1/label-keys/{_base.segment(key)}", body=m.DeclareLabelKey(of=of))
        return _base.read(answer, lambda v: m.LabelKeyInfo._read(v))

    async def find_package(
        self,
        *,
        q: str,
        after: str | None = None,
        limit: int | None = None,
    ) -> m.PackageDevices:
        """Find the devices that have a package: those that prove it, those that report it, and those of
        which it is not known.

        q: A package or a source package, perhaps with `<`, `<=`, `=`, `>=` or `>` and a version.
        after: The last id of the previous page; empty for the first page.
        limit: Maximum number of devices in the page, 1 to 500; default 100.
        """
        answer = await _aio.call(self._core, "GET", _base.target("/api/v1/packages/devices", {"q": q, "after": after, "limit": limit}))
        return _base.read(answer, lambda v: m.PackageDevices._read(v))

    async def enter_code(self, *, code: str, fleet: m.FleetId) -> m.Paired:
        """Enter the pairing code that a device shows, so that it may enroll into the fleet."""
        answer = await _aio.call(self._core, "POST", "/api/v1/pairings", body=m.Pair(code=code, fleet=fleet))
        return _base.read(answer, lambda v: m.Paired._read(v))

    async def list_views(self) -> builtins.list[m.View]:
        """List saved views."""
        answer = await _aio.call(self._core, "GET", "/api/v1/views")
        return _base.read(answer, lambda v: [m.View._read(x) for x in _base.items(v)])

    async def remove_view(self, view: str) -> None:
        """Remove a saved view."""
        await _aio.call(self._core, "DELETE", f"/api/v1/views/{_base.segment(view)}")

    async def get_view(self, view: str) -> m.View:
        """Get a saved view."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/views/{_base.segment(view)}")
        return _base.read(answer, lambda v: m.View._read(v))

    async def save_view(self, view: str, *, filter: str) -> m.View:
        """Save a view, in place of an earlier one of its name."""
        answer = await _aio.call(self._core, "PUT", f"/api/v1/views/{_base.segment(view)}", body=m.SaveView(filter=filter))
        return _base.read(answer, lambda v: m.View._read(v))


class Events(_aio.Resource):
    """Operations of the tag `events`."""

    __slots__ = ()

    def stream(self) -> AsyncIterator[m.Event | None]:
        """Watch changes as server-sent events. A change that is stored has an id: a client that reconnects
        with `Last-Event-ID` gets those that it missed. After the event `gap` (the id is too old, or
        unknown) or `lagged`, the client must read the resources again. A client gets changes of what it
        may read.
        """
        return _aio.events(self._core, lambda v: m._read_Event(v))


class Profiles(_aio.Resource):
    """Operations of the tag `profiles`."""

    __slots__ = ()

    async def list(self) -> builtins.list[m.ProfileRevision]:
        """List the newest revision of each profile."""
        answer = await _aio.call(self._core, "GET", "/api/v1/profiles")
        return _base.read(answer, lambda v: [m.ProfileRevision._read(x) for x in _base.items(v)])

    async def save(self, profile: m.Profile | Mapping[str, Any]) -> m.ProfileRevision:
        """Save a profile as the next revision of its line. An unchanged profile keeps its revision."""
        answer = await _aio.call(self._core, "POST", "/api/v1/profiles", body=profile)
        return _base.read(answer, lambda v: m.ProfileRevision._read(v))

    async def check_document(self, *, text: str) -> m.CheckedProfile:
        """Check a document. Saves nothing."""
        answer = await _aio.call(self._core, "POST", "/api/v1/profiles/check", body=m.ProfileText(text=text))
        return _base.read(answer, lambda v: m.CheckedProfile._read(v))

    async def save_document(self, *, text: str) -> m.ProfileRevision:
        """Save a document as the next revision of its profile. The document is TOML and may extend
        fragments. An unchanged document keeps its revision.
        """
        answer = await _aio.call(self._core, "POST", "/api/v1/profiles/documents", body=m.ProfileText(text=text))
        return _base.read(answer, lambda v: m.ProfileRevision._read(v))

    async def list_library(self) -> builtins.list[m.LibraryEntry]:
        """List the fragments that profiles can extend: package sets, user sets, service sets, baselines,
        templates and profiles of this server.
        """
        answer = await _aio.call(self._core, "GET", "/api/v1/profiles/library")
        return _base.read(answer, lambda v: [m.LibraryEntry._read(x) for x in _base.items(v)])

    async def search_packages(self, *, q: str, limit: int | None = None) -> m.SuiteSearch:
        """Search the packages and units of the suite that images are made from. Without words the answer
        only says which suite is searched.

        q: Words, separated by spaces.
        limit: Maximum number of packages, and of units, 1 to 100; default 20.
        """
        answer = await _aio.call(self._core, "GET", _base.target("/api/v1/profiles/packages", {"q": q, "limit": limit}))
        return _base.read(answer, lambda v: m.SuiteSearch._read(v))

    async def remove_refresh_schedule(self, line: str) -> None:
        """Stop building a line with refreshed packages by a schedule."""
        await _aio.call(self._core, "DELETE", f"/api/v1/profiles/{_base.segment(line)}/refresh-schedule")

    async def get_refresh_schedule(self, line: str) -> m.RefreshSchedule:
        """Get when a line is built with refreshed packages, and what happened the last time."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/profiles/{_base.segment(line)}/refresh-schedule")
        return _base.read(answer, lambda v: m.RefreshSchedule._read(v))

    async def set_refresh_schedule(
        self,
        line: str,
        *,
        window: m.UpdateWindow,
    ) -> m.RefreshSchedule:
        """Set when a line is built with refreshed packages: once each time that the window opens, from the
        newest revision of its profile.
        """
        answer = await _aio.call(self._core, "PUT", f"/api/v1/profiles/{_base.segment(line)}/refresh-schedule", body=m.SetRefreshSchedule(window=window))
        return _base.read(answer, lambda v: m.RefreshSchedule._read(v))

    async def list_revisions(self, line: str) -> builtins.list[m.ProfileRevision]:
        """List the newest revisions of a profile."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/profiles/{_base.segment(line)}/revisions")
        return _base.read(answer, lambda v: [m.ProfileRevision._read(x) for x in _base.items(v)])

    async def get_revision(self, line: str, number: int) -> m.ProfileRevision:
        """Get a revision of a profile."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/profiles/{_base.segment(line)}/revisions/{_base.segment(number)}")
        return _base.read(answer, lambda v: m.ProfileRevision._read(v))

    async def get_changes(self, line: str, number: int, to: int) -> m.ProfileChanges:
        """Get what differs between two revisions of a profile, and what that changes on a device."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/profiles/{_base.segment(line)}/revisions/{_base.segment(number)}/changes/{_base.segment(to)}")
        return _base.read(answer, lambda v: m.ProfileChanges._read(v))


class Releases(_extras.Releases):
    """Operations of the tag `releases`."""

    __slots__ = ()

    async def list(
        self,
        *,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> builtins.list[m.Release]:
        """List releases, newest first, one page at a time. `Link` has the address of the next page.

        cursor: Where the page begins, from the `Link` of the page before; absent for the first page.
        limit: Maximum number of items in the page, 1 to 500; default 200.
        """
        answer = await _aio.call(self._core, "GET", _base.target("/api/v1/releases", {"cursor": cursor, "limit": limit}))
        return _base.read(answer, lambda v: [m.Release._read(x) for x in _base.items(v)])

    async def get(self, release: str) -> m.Release:
        """Get a release."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/releases/{_base.segment(release)}")
        return _base.read(answer, lambda v: m.Release._read(v))

    async def prove(
        self,
        release: str,
        *,
        proof: str,
        signatures: Sequence[tuple[str, str]],
    ) -> m.Release:
        """Add the boot proof of a release: a statement, signed by release keys, that a device booted it
        and measured what its manifest predicts.
        """
        answer = await _aio.call(self._core, "PUT", f"/api/v1/releases/{_base.segment(release)}/boot-proof", body=m.SignedBootProof(proof=proof, signatures=signatures))
        return _base.read(answer, lambda v: m.Release._read(v))

    async def get_release_evidence(self, release: str) -> m.ReleaseEvidence:
        """Get the evidence of a release in one document: signatures, approvals, builds, rollouts, what devices proved when, and the audit entries about all of them with their inclusion proofs."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/releases/{_base.segment(release)}/evidence")
        return _base.read(answer, lambda v: m.ReleaseEvidence._read(v))

    async def get_file(self, release: str, path: str) -> bytes:
        """Get the manifest, a signature of it, the SBOM or the provenance of a published release."""
        return await _aio.call(self._core, "GET", f"/api/v1/releases/{_base.segment(release)}/files/{_base.segments(path)}")

    async def upload_file(self, release: str, path: str, file: str | PathLike[str]) -> None:
        """Upload a file of a release that is not published yet."""
        await _aio.call(self._core, "PUT", f"/api/v1/releases/{_base.segment(release)}/files/{_base.segments(path)}", file=file)

    async def get_release_path(self, release: str) -> m.ReleasePath:
        """Get the ways to a release: whether it is a floor, and from which versions it is not offered."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/releases/{_base.segment(release)}/path")
        return _base.read(answer, lambda v: m.ReleasePath._read(v))

    async def set_release_path(
        self,
        release: str,
        release_path: m.ReleasePath | Mapping[str, Any],
    ) -> m.ReleasePath:
        """Replace the ways to a release. A device with a version below a floor is offered the floor before a
        higher version; a device with a blocked version is not offered the release.
        """
        answer = await _aio.call(self._core, "PUT", f"/api/v1/releases/{_base.segment(release)}/path", body=release_path)
        return _base.read(answer, lambda v: m.ReleasePath._read(v))

    async def publish(self, release: str) -> m.Release:
        """Verify an uploaded release and publish it. A published release never changes."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/releases/{_base.segment(release)}/publish")
        return _base.read(answer, lambda v: m.Release._read(v))

    async def revoke(self, release: str) -> m.Release:
        """Revoke a release. Its rollouts end, and no device gets it any more."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/releases/{_base.segment(release)}/revoke")
        return _base.read(answer, lambda v: m.Release._read(v))


class Rollouts(_extras.Rollouts):
    """Operations of the tag `rollouts`."""

    __slots__ = ()

    async def pause_all(self, *, reason: str) -> m.PausedRollouts:
        """Pause all rollouts that run, of the fleets that the caller may roll out to: at most 1000. Each has an entry in the audit log. A rollout whose devices still join, or that waits for the end of another one, is left and named."""
        answer = await _aio.call(self._core, "POST", "/api/v1/rollout-pauses", body=m.PauseRollouts(reason=reason))
        return _base.read(answer, lambda v: m.PausedRollouts._read(v))

    async def plan(
        self,
        *,
        release: m.ReleaseName,
        fleet: m.FleetId,
        plan: m.RolloutPlan | None = None,
        urgent: m.UrgentRollout | None = None,
    ) -> m.RolloutForecast:
        """Plan a rollout: what it would come to if it started now, computed from what is known of the devices. Starts nothing."""
        answer = await _aio.call(self._core, "POST", "/api/v1/rollout-plans", body=m.CreateRollout(release=release, fleet=fleet, plan=plan, urgent=urgent))
        return _base.read(answer, lambda v: m.RolloutForecast._read(v))

    async def list(
        self,
        *,
        fleet: m.FleetId | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> builtins.list[m.RolloutSummary]:
        """List rollouts, newest first, one page at a time. `Link` has the address of the next page.

        fleet: Return only rollouts to this fleet.
        cursor: Where the page begins, from the `Link` of the page before; absent for the first page.
        limit: Maximum number of items in the page, 1 to 500; default 200.
        """
        answer = await _aio.call(self._core, "GET", _base.target("/api/v1/rollouts", {"fleet": fleet, "cursor": cursor, "limit": limit}))
        return _base.read(answer, lambda v: [m.RolloutSummary._read(x) for x in _base.items(v)])

    async def start(
        self,
        *,
        release: m.ReleaseName,
        fleet: m.FleetId,
        plan: m.RolloutPlan | None = None,
        urgent: m.UrgentRollout | None = None,
    ) -> m.RolloutSummary:
        """Start a rollout: to everybody at once, or in waves. The devices of a large fleet join in chunks, while the rollout is `starting`."""
        answer = await _aio.call(self._core, "POST", "/api/v1/rollouts", body=m.CreateRollout(release=release, fleet=fleet, plan=plan, urgent=urgent))
        return _base.read(answer, lambda v: m.RolloutSummary._read(v))

    async def get(
        self,
        rollout: str,
        *,
        category: Literal["failed", "unconfirmed", "moving", "waiting", "pending", "queued", "unreached", "succeeded"] | None = None,
        after: m.DeviceId | None = None,
        limit: int | None = None,
    ) -> m.Rollout:
        """Get a rollout, with a page of its devices.

        category: Return only devices of this category.
        after: The last device of the previous page; absent for the first page.
        limit: Maximum number of devices in the page, 1 to 1000; default 100.
        """
        answer = await _aio.call(self._core, "GET", _base.target(f"/api/v1/rollouts/{_base.segment(rollout)}", {"category": category, "after": after, "limit": limit}))
        return _base.read(answer, lambda v: m.Rollout._read(v))

    def get_pages(
        self,
        rollout: str,
        *,
        category: Literal["failed", "unconfirmed", "moving", "waiting", "pending", "queued", "unreached", "succeeded"] | None = None,
    ) -> AsyncIterator[m.Rollout]:
        """Every page: Get a rollout, with a page of its devices.

        category: Return only devices of this category.
        """

        async def page(after: str | None) -> m.Rollout:
            answer = await _aio.call(self._core, "GET", _base.target(f"/api/v1/rollouts/{_base.segment(rollout)}", {"category": category, "after": after, "limit": 1000}))
            return _base.read(answer, lambda v: m.Rollout._read(v))

        return _aio.chain(page, lambda last: last.next)

    async def abort(self, rollout: str) -> m.RolloutSummary:
        """Abort a rollout. Devices that have not started the update keep what they run. The offers of a
        large fleet are withdrawn in chunks, while the rollout is `aborting`.
        """
        answer = await _aio.call(self._core, "POST", f"/api/v1/rollouts/{_base.segment(rollout)}/abort")
        return _base.read(answer, lambda v: m.RolloutSummary._read(v))

    async def begin_wave(
        self,
        rollout: str,
        *,
        reason: str,
        over_gate: bool | None = None,
    ) -> m.RolloutSummary:
        """Begin the next wave of a rollout, whatever it waits for: its time, its soak time, or an operator."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/rollouts/{_base.segment(rollout)}/next", body=m.NextWave(reason=reason, over_gate=over_gate))
        return _base.read(answer, lambda v: m.RolloutSummary._read(v))

    async def pause(self, rollout: str) -> m.RolloutSummary:
        """Pause a rollout. No other device is offered the release, and those that have not rebooted into it
        lose their offer; of a large fleet in chunks, while the rollout is `pausing`.
        """
        answer = await _aio.call(self._core, "POST", f"/api/v1/rollouts/{_base.segment(rollout)}/pause")
        return _base.read(answer, lambda v: m.RolloutSummary._read(v))

    async def resume(self, rollout: str) -> m.RolloutSummary:
        """Resume a rollout that is paused. Its errors so far are accepted."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/rollouts/{_base.segment(rollout)}/resume")
        return _base.read(answer, lambda v: m.RolloutSummary._read(v))

    async def roll_back(
        self,
        rollout: str,
        *,
        reason: str,
        over_gate: bool | None = None,
    ) -> m.RolloutSummary:
        """Roll a rollout back: another rollout takes its devices back to the release that most of them ran before. An active one is aborted first."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/rollouts/{_base.segment(rollout)}/roll-back", body=m.NextWave(reason=reason, over_gate=over_gate))
        return _base.read(answer, lambda v: m.RolloutSummary._read(v))

    async def supersede(
        self,
        rollout: str,
        *,
        release: m.ReleaseName,
        fleet: m.FleetId,
        plan: m.RolloutPlan | None = None,
        urgent: m.UrgentRollout | None = None,
    ) -> m.RolloutSummary:
        """Start a rollout in place of an active one of its fleet, which is aborted. It is `ready` until the last offer of that one is withdrawn."""
        answer = await _aio.call(self._core, "POST", f"/api/v1/rollouts/{_base.segment(rollout)}/supersede", body=m.CreateRollout(release=release, fleet=fleet, plan=plan, urgent=urgent))
        return _base.read(answer, lambda v: m.RolloutSummary._read(v))


class Secrets(_aio.Resource):
    """Operations of the tag `secrets`."""

    __slots__ = ()

    async def list(self, fleet: str) -> builtins.list[m.FleetSecret]:
        """List the names of the secrets of a fleet. The API never returns a secret's value."""
        answer = await _aio.call(self._core, "GET", f"/api/v1/fleets/{_base.segment(fleet)}/secrets")
        return _base.read(answer, lambda v: [m.FleetSecret._read(x) for x in _base.items(v)])

    async def remove(self, fleet: str, name: str) -> builtins.list[m.FleetSecret]:
        """Remove a secret of a fleet."""
        answer = await _aio.call(self._core, "DELETE", f"/api/v1/fleets/{_base.segment(fleet)}/secrets/{_base.segment(name)}")
        return _base.read(answer, lambda v: [m.FleetSecret._read(x) for x in _base.items(v)])

    async def set(self, fleet: str, name: str, *, value: str) -> builtins.list[m.FleetSecret]:
        """Set a secret of a fleet. Devices get it once they reach the policy's minimum level for secrets."""
        answer = await _aio.call(self._core, "PUT", f"/api/v1/fleets/{_base.segment(fleet)}/secrets/{_base.segment(name)}", body=m.SetSecret(value=value))
        return _base.read(answer, lambda v: [m.FleetSecret._read(x) for x in _base.items(v)])


class Server(_aio.Resource):
    """Operations of the tag `server`."""

    __slots__ = ()

    async def get_diagnosis(self) -> m.Diagnosis:
        """Examine the server: what works, what ends when, and what to do about it."""
        answer = await _aio.call(self._core, "GET", "/api/v1/doctor")
        return _base.read(answer, lambda v: m.Diagnosis._read(v))

    async def document(self) -> Any:
        """Get this document. It contains no secrets."""
        return _base.as_json(await _aio.call(self._core, "GET", "/api/v1/openapi.json"))

    async def healthz(self) -> str:
        """Check that the server can serve devices."""
        return _base.as_text(await _aio.call(self._core, "GET", "/healthz"))

    async def livez(self) -> str:
        """Check that the server process runs."""
        return _base.as_text(await _aio.call(self._core, "GET", "/livez"))

    async def metrics(self) -> str:
        """Get figures about the server, in the text format of Prometheus."""
        return _base.as_text(await _aio.call(self._core, "GET", "/metrics"))

    async def crl(self, issuer: str) -> bytes:
        """Get the CRL of an intermediate CA for devices, DER (RFC 5280). The path contains the id of its
        key, as in the distribution point of each certificate.
        """
        return await _aio.call(self._core, "GET", f"/pki/{_base.segment(issuer)}.crl")

    async def readyz(self) -> str:
        """Check that the server is ready; the error names everything that is missing."""
        return _base.as_text(await _aio.call(self._core, "GET", "/readyz"))


class Trust(_aio.Resource):
    """Operations of the tag `trust`."""

    __slots__ = ()

    async def list_transitions(self) -> builtins.list[m.SignedTransition]:
        """List transitions: signed documents by which old trust anchors (root CA, release keys, audit log
        key) introduce new ones.
        """
        answer = await _aio.call(self._core, "GET", "/api/v1/transitions")
        return _base.read(answer, lambda v: [m.SignedTransition._read(x) for x in _base.items(v)])

    async def import_transition(
        self,
        signed_transition: m.SignedTransition | Mapping[str, Any],
    ) -> builtins.list[m.SignedTransition]:
        """Import a transition, and announce it to devices. The server keeps it forever. Importing it again
        with other signatures adds these signatures.
        """
        answer = await _aio.call(self._core, "POST", "/api/v1/transitions", body=signed_transition)
        return _base.read(answer, lambda v: [m.SignedTransition._read(x) for x in _base.items(v)])

    async def get(self) -> m.TrustStatus:
        """Get the trust bundle: which intermediate CAs count, which of them issue, and how many devices
        have the bundle.
        """
        answer = await _aio.call(self._core, "GET", "/api/v1/trust-bundle")
        return _base.read(answer, lambda v: m.TrustStatus._read(v))

    async def import_bundle(
        self,
        *,
        bundle: m.SignedBundle,
        transcript: str,
        transcript_signature: str,
        anyway: bool | None = None,
    ) -> m.TrustStatus:
        """Import the result of a root ceremony: a trust bundle, and the transcript of how it was made."""
        answer = await _aio.call(self._core, "POST", "/api/v1/trust-bundle", body=m.ImportBundle(bundle=bundle, transcript=transcript, transcript_signature=transcript_signature, anyway=anyway))
        return _base.read(answer, lambda v: m.TrustStatus._read(v))

    async def switch_issuer(
        self,
        *,
        purpose: str,
        certificate_sha256: str,
        anyway: bool | None = None,
    ) -> m.TrustStatus:
        """Make another intermediate CA of the trust bundle the issuer."""
        answer = await _aio.call(self._core, "POST", "/api/v1/trust-bundle/issuer", body=m.SwitchIssuer(purpose=purpose, certificate_sha256=certificate_sha256, anyway=anyway))
        return _base.read(answer, lambda v: m.TrustStatus._read(v))


class Workers(_aio.Resource):
    """Operations of the tag `workers`."""

    __slots__ = ()

    async def list(self) -> builtins.list[m.Worker]:
        """List build workers."""
        answer = await _aio.call(self._core, "GET", "/api/v1/workers")
        return _base.read(answer, lambda v: [m.Worker._read(x) for x in _base.items(v)])

    async def add(self, *, name: m.WorkerName) -> m.CreatedWorker:
        """Add a build worker. Only this response contains its token."""
        answer = await _aio.call(self._core, "POST", "/api/v1/workers", body=m.CreateWorker(name=name))
        return _base.read(answer, lambda v: m.CreatedWorker._read(v))

    async def remove(self, worker: str) -> builtins.list[m.Worker]:
        """Remove a build worker. Its token is no longer valid."""
        answer = await _aio.call(self._core, "DELETE", f"/api/v1/workers/{_base.segment(worker)}")
        return _base.read(answer, lambda v: [m.Worker._read(x) for x in _base.items(v)])


class Resources(_aio.Core):
    """An attribute for each resource."""

    @property
    def accounts(self) -> Accounts:
        """Operations of the tag `accounts`."""
        return Accounts(self._core)

    @property
    def alerts(self) -> Alerts:
        """Operations of the tag `alerts`."""
        return Alerts(self._core)

    @property
    def approvals(self) -> Approvals:
        """Operations of the tag `approvals`."""
        return Approvals(self._core)

    @property
    def attestation(self) -> Attestation:
        """Operations of the tag `attestation`."""
        return Attestation(self._core)

    @property
    def audit(self) -> Audit:
        """Operations of the tag `audit`."""
        return Audit(self._core)

    @property
    def builds(self) -> Builds:
        """Operations of the tag `builds`."""
        return Builds(self._core)

    @property
    def commands(self) -> Commands:
        """Operations of the tag `commands`."""
        return Commands(self._core)

    @property
    def devices(self) -> Devices:
        """Operations of the tag `devices`."""
        return Devices(self._core)

    @property
    def events(self) -> Events:
        """Operations of the tag `events`."""
        return Events(self._core)

    @property
    def profiles(self) -> Profiles:
        """Operations of the tag `profiles`."""
        return Profiles(self._core)

    @property
    def releases(self) -> Releases:
        """Operations of the tag `releases`."""
        return Releases(self._core)

    @property
    def rollouts(self) -> Rollouts:
        """Operations of the tag `rollouts`."""
        return Rollouts(self._core)

    @property
    def secrets(self) -> Secrets:
        """Operations of the tag `secrets`."""
        return Secrets(self._core)

    @property
    def server(self) -> Server:
        """Operations of the tag `server`."""
        return Server(self._core)

    @property
    def trust(self) -> Trust:
        """Operations of the tag `trust`."""
        return Trust(self._core)

    @property
    def workers(self) -> Workers:
        """Operations of the tag `workers`."""
        return Workers(self._core)


OPERATIONS = {
    "list_accounts": "accounts.list",
    "add_account": "accounts.add",
    "get_account": "accounts.get",
    "disable_account": "accounts.disable",
    "enable_account": "accounts.enable",
    "grant_role": "accounts.grant_role",
    "remove_role": "accounts.remove_role",
    "create_link": "accounts.create_link",
    "offboard_account": "accounts.offboard",
    "end_account_sessions": "accounts.end_account_sessions",
    "list_account_sessions": "accounts.list_account_sessions",
    "end_account_session": "accounts.end_account_session",
    "get_me": "accounts.get_me",
    "list_passkeys": "accounts.list_passkeys",
    "remove_passkey": "accounts.remove_passkey",
    "list_sessions": "accounts.list_sessions",
    "end_session": "accounts.end_session",
    "list_tokens": "accounts.list_tokens",
    "create_token": "accounts.create_token",
    "remove_token": "accounts.remove_token",
    "list_rules": "alerts.list_rules",
    "remove_rule": "alerts.remove_rule",
    "get_rule": "alerts.get_rule",
    "set_rule": "alerts.set_rule",
    "list_alerts": "alerts.list",
    "get_alert": "alerts.get",
    "acknowledge_alert": "alerts.acknowledge",
    "list_receivers": "alerts.list_receivers",
    "add_receiver": "alerts.add_receiver",
    "remove_receiver": "alerts.remove_receiver",
    "disable_receiver": "alerts.disable_receiver",
    "list_emails": "alerts.list_emails",
    "enable_receiver": "alerts.enable_receiver",
    "test_receiver": "alerts.test_receiver",
    "list_silences": "alerts.list_silences",
    "add_silence": "alerts.add_silence",
    "remove_silence": "alerts.remove_silence",
    "list_webhooks": "alerts.list_webhooks",
    "add_webhook": "alerts.add_webhook",
    "remove_webhook": "alerts.remove_webhook",
    "list_deliveries": "alerts.list_deliveries",
    "test_webhook": "alerts.test_webhook",
    "get_approval_policy": "approvals.get_approval_policy",
    "set_approval_policy": "approvals.set_approval_policy",
    "list_approvals": "approvals.list",
    "request_approval": "approvals.request",
    "get_approval": "approvals.get",
    "approve_act": "approvals.approve_act",
    "deny_act": "approvals.deny_act",
    "collect_recovery_key": "approvals.collect_recovery_key",
    "get_attestation": "attestation.get",
    "accept_firmware": "attestation.accept_firmware",
    "challenge": "attestation.challenge",
    "get_ear": "attestation.get_ear",
    "get_policy": "attestation.get_policy",
    "set_policy": "attestation.set_policy",
    "challenge_fleet": "attestation.challenge_fleet",
    "list_manufacturers": "attestation.list_manufacturers",
    "add_manufacturers": "attestation.add_manufacturers",
    "remove_manufacturer": "attestation.remove_manufacturer",
    "get_checkpoint": "audit.get_checkpoint",
    "get_consistency": "audit.get_consistency",
    "list_entries": "audit.list_entries",
    "get_proof": "audit.get_proof",
    "list_builds": "builds.list",
    "create_build": "builds.create",
    "get_build": "builds.get",
    "approve_signature": "builds.approve_signature",
    "get_record": "builds.get_record",
    "sign_build": "builds.sign",
    "get_signature": "builds.get_signature",
    "request_signature": "builds.request_signature",
    "get_command": "commands.get",
    "cancel_command": "commands.cancel",
    "get_command_result": "commands.get_command_result",
    "list_commands": "commands.list",
    "create_command": "commands.create",
    "change_devices": "devices.change",
    "list_devices": "devices.list",
    "get_device": "devices.get",
    "describe_device": "devices.describe",
    "change_boot": "devices.change_boot",
    "get_certificate": "devices.get_certificate",
    "get_drift": "devices.get_drift",
    "forgive_device": "devices.forgive",
    "get_history": "devices.get_history",
    "change_labels": "devices.change_labels",
    "get_recovery_key": "devices.get_recovery_key",
    "show_recovery_key": "devices.show_recovery_key",
    "release_hold": "devices.release_hold",
    "replace_device": "devices.replace",
    "revoke_device": "devices.revoke",
    "order_updates": "devices.order_updates",
    "get_why": "devices.get_why",
    "get_record_without_token": "devices.get_record_without_token",
    "list_fleets": "devices.list_fleets",
    "get_channel": "devices.get_channel",
    "pin_fleet": "devices.pin_fleet",
    "provision_device": "devices.provision",
    "create_enrollment": "devices.create_enrollment",
    "get_fixes": "devices.get_fixes",
    "readmit_fleet": "devices.readmit_fleet",
    "import_labels": "devices.import_labels",
    "list_label_keys": "devices.list_label_keys",
    "remove_label_key": "devices.remove_label_key",
    "declare_label_key": "devices.declare_label_key",
    "find_package": "devices.find_package",
    "enter_code": "devices.enter_code",
    "list_views": "devices.list_views",
    "remove_view": "devices.remove_view",
    "get_view": "devices.get_view",
    "save_view": "devices.save_view",
    "events": "events.stream",
    "list_profiles": "profiles.list",
    "save_profile": "profiles.save",
    "check_document": "profiles.check_document",
    "save_document": "profiles.save_document",
    "list_library": "profiles.list_library",
    "search_packages": "profiles.search_packages",
    "remove_refresh_schedule": "profiles.remove_refresh_schedule",
    "get_refresh_schedule": "profiles.get_refresh_schedule",
    "set_refresh_schedule": "profiles.set_refresh_schedule",
    "list_revisions": "profiles.list_revisions",
    "get_revision": "profiles.get_revision",
    "get_changes": "profiles.get_changes",
    "list_releases": "releases.list",
    "get_release": "releases.get",
    "prove_release": "releases.prove",
    "get_release_evidence": "releases.get_release_evidence",
    "get_file": "releases.get_file",
    "upload_file": "releases.upload_file",
    "get_release_path": "releases.get_release_path",
    "set_release_path": "releases.set_release_path",
    "publish_release": "releases.publish",
    "revoke_release": "releases.revoke",
    "pause_all_rollouts": "rollouts.pause_all",
    "plan_rollout": "rollouts.plan",
    "list_rollouts": "rollouts.list",
    "start_rollout": "rollouts.start",
    "get_rollout": "rollouts.get",
    "abort_rollout": "rollouts.abort",
    "begin_wave": "rollouts.begin_wave",
    "pause_rollout": "rollouts.pause",
    "resume_rollout": "rollouts.resume",
    "roll_back_rollout": "rollouts.roll_back",
    "supersede_rollout": "rollouts.supersede",
    "list_secrets": "secrets.list",
    "remove_secret": "secrets.remove",
    "set_secret": "secrets.set",
    "get_diagnosis": "server.get_diagnosis",
    "document": "server.document",
    "healthz": "server.healthz",
    "livez": "server.livez",
    "metrics": "server.metrics",
    "crl": "server.crl",
    "readyz": "server.readyz",
    "list_transitions": "trust.list_transitions",
    "import_transition": "trust.import_transition",
    "get_trust": "trust.get",
    "import_bundle": "trust.import_bundle",
    "switch_issuer": "trust.switch_issuer",
    "list_workers": "workers.list",
    "add_worker": "workers.add",
    "remove_worker": "workers.remove",
}
"""The method of each operation of the OpenAPI document."""
