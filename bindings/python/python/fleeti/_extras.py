"""Methods of resources that are more than one request."""

from __future__ import annotations

import time
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from . import _base, _fleeti
from . import models as m
from .errors import RolloutError


def target_of(rollout: str) -> str:
    return _base.target(f"/api/v1/rollouts/{_base.segment(rollout)}", {"limit": 1})


def read_rollout(answer: bytes) -> m.Rollout:
    return _base.read(answer, m.Rollout._read)


def ended(rollout: m.Rollout) -> bool:
    """Whether nothing more happens without an operator. Raises for an end without success."""
    if rollout.phase in ("paused", "failed", "aborted"):
        counts = rollout.counts
        raise RolloutError(
            f"{rollout.release} in {rollout.fleet} is {rollout.phase}: {counts.succeeded} of {counts.total} devices "
            f"succeeded, {counts.failed} failed",
            rollout,
        )
    return rollout.phase == "succeeded"


def is_about(data: bytes | None, rollout: str) -> bool:
    """Whether an event may be about this rollout: None says that events were missed."""
    if data is None:
        return True
    value: Any = _base.as_json(data)
    return isinstance(value, dict) and value.get("type") == "rollout" and value.get("id") == rollout


class Rollouts(_base.Resource):
    """What the generated class begins with."""

    __slots__ = ()

    def wait(self, rollout: str, *, timeout_s: float | None = None) -> m.Rollout:
        """Waits until a rollout has succeeded, and returns it.

        Raises `RolloutError` when it is paused, aborted or failed, and `TimeoutError` after
        `timeout_s` seconds.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        # Before the state is read, so that no event is missed.
        stream = self._core.events()
        while True:
            found = read_rollout(_base.call(self._core, "GET", target_of(rollout)))
            if ended(found):
                return found
            while not is_about(stream.next(None if end is None else end - time.monotonic()), rollout):
                pass


def upload_of(release: str, file: str) -> str:
    return f"/api/v1/releases/{_base.segment(release)}/files/{_base.segments(file)}"


def publish_of(release: str) -> str:
    return f"/api/v1/releases/{_base.segment(release)}/publish"


class Releases(_base.Resource):
    """What the generated class begins with."""

    __slots__ = ()

    def publish_directory(self, directory: str | PathLike[str]) -> m.Release:
        """Uploads a release directory and publishes it. The server verifies it first."""
        release, files = _fleeti.release_files(fspath(directory))
        for file in files:
            _base.call(self._core, "PUT", upload_of(release, file), file=Path(directory, file))
        return _base.read(_base.call(self._core, "POST", publish_of(release)), m.Release._read)
