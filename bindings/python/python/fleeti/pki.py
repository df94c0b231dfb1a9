"""Certificates: issue them with keys of your own, which may be in a token or a service.

>>> ca_key, device_key = SoftKey.generate("p384"), SoftKey.generate("p256")
>>> ca = self_signed_root(ca_key, valid_s=3600)
>>> certificate = issue_device("dev-1", create_request(device_key), ca, ca_key, valid_s=600)
>>> device_of(certificate)
'dev-1'
"""

from __future__ import annotations

import time
from typing import Literal, Protocol

from . import _fleeti
from ._fleeti import SoftKey as SoftKey

Algorithm = Literal["p256", "p384", "rsa2048", "ed25519"]
"""The type of a key, which determines its signatures."""


class Signer(Protocol):
    """A key that signs. The private key stays where it is."""

    @property
    def algorithm(self) -> Algorithm:
        """The type of the key."""
        ...

    @property
    def public_key_der(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Signs a message with the hash of the key's type; ECDSA as DER, RSA as PKCS#1 v1.5."""
        ...


def create_request(key: Signer) -> str:
    """A certificate request (PKCS#10, PEM) that proves possession of a key."""
    return _fleeti.create_request(key)


def self_signed_root(key: Signer, *, valid_s: int, now_s: int | None = None) -> str:
    """The certificate of a root, PEM. `fleeti pki init` makes a whole hierarchy."""
    return _fleeti.self_signed_root(key, _now(now_s), valid_s)


def issue_intermediate(
    purpose: Literal["device", "server", "operator"],
    request: str,
    issuer: str,
    key: Signer,
    *,
    valid_s: int,
    now_s: int | None = None,
) -> str:
    """The certificate of an intermediate CA, PEM, for the key of a request."""
    return _fleeti.issue(("intermediate", purpose), request, issuer, key, (_now(now_s), valid_s))


def issue_device(
    device: str, request: str, issuer: str, key: Signer, *, valid_s: int, now_s: int | None = None
) -> str:
    """The certificate of a device, PEM, for the key of a request.

    `issuer` is the certificate of the CA (PEM), `key` its key. Verifies the request's proof of
    possession, and raises `UntrustedError` if it is wrong.
    """
    return _fleeti.issue(("device", device), request, issuer, key, (_now(now_s), valid_s))


def device_of(certificate: str) -> str:
    """The id of the device in a certificate, PEM."""
    return _fleeti.device_of(certificate)


def is_signed_by(certificate: str, issuer: str) -> bool:
    """Whether the key of a certificate signed another one. Checks neither names nor validity."""
    return _fleeti.is_signed_by(certificate, issuer)


def _now(now_s: int | None) -> int:
    return int(time.time()) if now_s is None else now_s
