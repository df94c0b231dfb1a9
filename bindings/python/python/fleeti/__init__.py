"""Fleeti for Python: the API of a server, and the work that needs none.

    import fleeti

    client = fleeti.Client.from_environment()
    plan = fleeti.planning.plan("1", "10%", "100%")
    rollout = client.rollouts.start(release="kiosk@2", fleet="demo", plan=plan)
    client.rollouts.wait(rollout.id)

`Client` blocks, `AsyncClient` is for asyncio; both have a method for each operation of the API.
`models` has their values, `errors` the exceptions. `profiles`, `planning`, `attestation`, `pki` and
`verify_release` need no server.
"""

from typing import TYPE_CHECKING

from . import attestation, errors, models, pki, planning, profiles
from ._fleeti import Artifact, VerifiedRelease, verify_release
from .client import Client
from .errors import (
    AnswerError,
    AuthenticationError,
    ConflictError,
    ConnectionError,
    FleetiError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    ProfileError,
    RefusedError,
    RolloutError,
    UntrustedError,
)

if TYPE_CHECKING:
    from .aio import AsyncClient

__all__ = [
    "AnswerError",
    "Artifact",
    "AsyncClient",
    "AuthenticationError",
    "Client",
    "ConflictError",
    "ConnectionError",
    "FleetiError",
    "ForbiddenError",
    "InvalidError",
    "NotFoundError",
    "ProfileError",
    "RefusedError",
    "RolloutError",
    "UntrustedError",
    "VerifiedRelease",
    "attestation",
    "errors",
    "models",
    "pki",
    "planning",
    "profiles",
    "verify_release",
]


def __getattr__(name: str) -> object:
    # asyncio takes longer to import than everything else together.
    if name == "AsyncClient":
        from .aio import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
