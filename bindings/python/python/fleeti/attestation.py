"""What a TPM quote proves, without a server.

`verify` checks that a quote answers one challenge and that the logs lead to the quoted PCRs;
`appraise` compares it with the release that the device should run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from . import _base, _fleeti
from . import models as m
from ._fleeti import VerifiedEvidence as VerifiedEvidence


class Evidence(_base.Model):
    """What a device sends."""

    quote: bytes
    """TPMS_ATTEST."""
    signature: bytes
    """TPMT_SIGNATURE over it."""
    pcrs: Mapping[int, bytes]
    """PCR values, SHA-256, by number."""
    firmware_log: bytes
    """The event log of the firmware (TCG2)."""
    phases_log: bytes = b""
    """The event log of user space."""


class Reference(_base.Model):
    """The expected values of a release."""

    release: str
    kernel_image: bytes
    """Authenticode digest of its UKI."""
    pcr_11: bytes
    """PCR 11 after the last boot phase."""
    pcr_9: bytes | None = None
    """PCR 9; None if not known."""
    is_revoked: bool = False


class Appraisal(_base.Model):
    """An attestation result: what evidence proves."""

    level: m.Level
    claims: Sequence[m.Claim]
    release: str | None
    """The release that was measured; None if it is no known one."""


def verify(evidence: Evidence, *, device: str, nonce: bytes, attestation_key: bytes) -> VerifiedEvidence:
    """Verifies evidence as the answer of the TPM with this key (TPMT_PUBLIC) to a challenge of 32 bytes.

    Raises `UntrustedError` for the first check that fails. The caller makes each nonce once.
    """
    e = evidence
    return _fleeti.verify_evidence(
        (e.quote, e.signature, dict(e.pcrs), e.firmware_log, e.phases_log), device, nonce, attestation_key
    )


def appraise(evidence: VerifiedEvidence, references: Iterable[Reference], *, boot_loaders: Iterable[bytes]) -> Appraisal:
    """Appraises verified evidence by the releases that the device may run, and by the boot loaders
    that it may have: Authenticode digests of EFI binaries, 32 bytes each.

    Only releases are known here: without an endorsed TPM and Secure Boot keys, claims about these
    are not affirmed.
    """
    known = [(r.release, r.kernel_image, r.pcr_9, r.pcr_11, r.is_revoked) for r in references]
    value = json.loads(_fleeti.appraise(evidence, known, list(boot_loaders)))
    claims = [m.Claim.from_json(claim) for claim in value["claims"]]
    return Appraisal(level=value["level"], claims=claims, release=value["release"])
