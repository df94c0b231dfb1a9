"""The exceptions, all below `FleetiError`. Each has `hint`: what to do, or None.

A request that the server refuses raises the class of its problem code (RFC 9457):

>>> issubclass(BY_CODE["not_found"], RefusedError)
True
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


class FleetiError(Exception):
    """Base class of all errors of fleeti. `hint` says what to do, or is None."""

    hint: str | None

    def __init__(self, text: str, hint: str | None = None) -> None:
        super().__init__(text)
        self.hint = hint


class UntrustedError(FleetiError):
    """A signature or digest does not verify. Do not use what it is about."""


class InvalidError(FleetiError):
    """A profile, plan, certificate or other argument is not valid."""


class ProfileError(InvalidError):
    """A profile has errors. `findings` has all of them, with path, line and remedy."""

    def __init__(self, findings: Sequence[Any]) -> None:
        first = findings[0]
        more = f", and {len(findings) - 1} more" if len(findings) > 1 else ""
        super().__init__(f"line {first.line}: {first.path}: {first.message}{more}", first.remedy)
        self.findings = findings


class ConnectionError(FleetiError):
    """The server could not be reached, or its response could not be read."""


class AnswerError(ConnectionError):
    """A response does not have the documented form."""


class RolloutError(FleetiError):
    """A rollout ended without success. `rollout` is what it came to."""

    def __init__(self, text: str, rollout: Any) -> None:
        super().__init__(text, "look at its devices with `rollouts.get_pages`")
        self.rollout = rollout


class RefusedError(FleetiError):
    """The server refused the request.

    `code` is the stable problem code, `status` the HTTP status, and `errors` everything that is
    wrong in the body: mappings with `path`, `message` and `remedy`.
    """

    def __init__(
        self, text: str, hint: str | None, code: str, status: int, errors: Sequence[dict[str, Any]]
    ) -> None:
        super().__init__(text, hint)
        self.code = code
        self.status = status
        self.errors = errors


class MalformedError(RefusedError):
    """The body is not valid JSON."""


class InvalidRequestError(RefusedError):
    """A value in the request is missing or not allowed; `errors` lists all of them."""


class AuthenticationError(RefusedError):
    """The token is missing or wrong."""


class ForbiddenError(RefusedError):
    """The token does not permit the request."""


class SecondPersonError(ForbiddenError):
    """The act needs the approval of a second person."""


class NotFoundError(RefusedError):
    """The resource does not exist."""


class MethodNotAllowedError(RefusedError):
    """The resource does not support this method."""


class ConflictError(RefusedError):
    """The resource already exists, or its state does not permit the request."""


class InProgressError(ConflictError):
    """The same request, by its idempotency key, is being worked on. Repeat it in a moment."""


class PreconditionFailedError(RefusedError):
    """A precondition of the request does not hold."""


class TooLargeError(RefusedError):
    """The request is larger than allowed."""


class UnsupportedMediaTypeError(RefusedError):
    """The body has a media type that the server does not read."""


class RangeNotSatisfiableError(RefusedError):
    """The requested range has no byte of the file."""


class UntrustedRequestError(RefusedError, UntrustedError):
    """A signature or digest of the request does not verify."""


class RequestTimeoutError(RefusedError):
    """The request did not arrive in time."""


class TooManyError(RefusedError):
    """Too many requests. Retry later."""


class FullError(RefusedError):
    """The server's disk is full."""


class UnavailableError(RefusedError):
    """The server is overloaded, or a part of it is unavailable. Retry later."""


class ServerError(RefusedError):
    """A fault in the server; its log has the details."""


BY_CODE: dict[str, type[RefusedError]] = {
    "malformed": MalformedError,
    "invalid": InvalidRequestError,
    "unauthenticated": AuthenticationError,
    "forbidden": ForbiddenError,
    "second_person": SecondPersonError,
    "not_found": NotFoundError,
    "method_not_allowed": MethodNotAllowedError,
    "conflict": ConflictError,
    "in_progress": InProgressError,
    "precondition_failed": PreconditionFailedError,
    "too_large": TooLargeError,
    "unsupported_media_type": UnsupportedMediaTypeError,
    "range_not_satisfiable": RangeNotSatisfiableError,
    "untrusted": UntrustedRequestError,
    "timeout": RequestTimeoutError,
    "too_many": TooManyError,
    "full": FullError,
    "unavailable": UnavailableError,
    "internal": ServerError,
}
"""The class of each problem code. A code of a later server raises `RefusedError` itself."""


def _refused(code: str, problem: bytes) -> RefusedError:
    """The exception of a problem. The compiled half calls it."""
    value = json.loads(problem)
    kind = BY_CODE.get(code, RefusedError)
    return kind(value["detail"], value.get("hint"), code, value["status"], value.get("errors", []))
