"""Verify signed releases, and use the API of a Fleeti server.

    import fleeti
    verified = fleeti.verify_release("releases/2", "public")
"""

from ._fleeti import (
    Artifact,
    AuthenticationError,
    Client,
    ConnectionError,
    Device,
    FleetiError,
    NotFoundError,
    RefusedError,
    UntrustedError,
    VerifiedRelease,
    verify_release,
)

__all__ = [
    "Artifact",
    "AuthenticationError",
    "Client",
    "ConnectionError",
    "Device",
    "FleetiError",
    "NotFoundError",
    "RefusedError",
    "UntrustedError",
    "VerifiedRelease",
    "verify_release",
]
