"""Methods of resources that are more than one request, for asyncio."""

from __future__ import annotations

import asyncio
from os import PathLike, fspath
from pathlib import Path

from . import _aio, _base, _extras, _fleeti
from . import models as m


class Rollouts(_base.Resource):
    """What the generated class for asyncio begins with."""

    __slots__ = ()

    async def wait(self, rollout: str, *, timeout_s: float | None = None) -> m.Rollout:
        """Waits until a rollout has succeeded, and returns it.

        Raises `RolloutError` when it is paused, aborted or failed, and `TimeoutError` after
        `timeout_s` seconds.
        """
        async with asyncio.timeout(timeout_s):
            # Before the state is read, so that no event is missed.
            stream = await _aio.open_events(self._core)
            while True:
                found = _extras.read_rollout(await _aio.call(self._core, "GET", _extras.target_of(rollout)))
                if _extras.ended(found):
                    return found
                while not _extras.is_about(await _aio.next_event(stream), rollout):
                    pass


class Releases(_base.Resource):
    """What the generated class for asyncio begins with."""

    __slots__ = ()

    async def publish_directory(self, directory: str | PathLike[str]) -> m.Release:
        """Uploads a release directory and publishes it. The server verifies it first."""
        release, files = _fleeti.release_files(fspath(directory))
        for file in files:
            await _aio.call(self._core, "PUT", _extras.upload_of(release, file), file=Path(directory, file))
        return _base.read(await _aio.call(self._core, "POST", _extras.publish_of(release)), m.Release._read)
