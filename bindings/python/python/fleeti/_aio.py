"""How requests are sent from asyncio.

The compiled half runs a request on its own thread and calls back when it ends. No thread waits for
a request, and a request ends when its task is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from os import PathLike
from typing import Any, TypeVar

from . import _base, _fleeti
from ._base import Core as Core
from ._base import Resource as Resource

T = TypeVar("T")


async def _wait(start: Callable[[Callable[[Any, BaseException | None], None]], _fleeti.Task]) -> Any:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def done(value: Any, error: BaseException | None) -> None:
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:
            pass  # the loop was closed meanwhile

    task = start(done)
    try:
        return await future
    finally:
        task.cancel()


async def call(
    core: _fleeti.Core, method: str, path: str, *, body: object = None, file: str | PathLike[str] | None = None
) -> bytes:
    request = (method, path, _base.content(body), _base.path_of(file))
    answer: bytes = await _wait(lambda done: core.start(request, done))
    return answer


async def open_events(core: _fleeti.Core) -> _fleeti.EventStream:
    stream: _fleeti.EventStream = await _wait(core.start_events)
    return stream


async def next_event(stream: _fleeti.EventStream) -> bytes | None:
    data: bytes | None = await _wait(stream.start_next)
    return data


async def events(core: _fleeti.Core, reader: Callable[[Any], T]) -> AsyncIterator[T | None]:
    stream = await open_events(core)
    while True:
        yield _base.event(await next_event(stream), reader)


async def pages(
    page: Callable[[str | None], Awaitable[list[T]]], key: Callable[[T], str], size: int
) -> AsyncIterator[T]:
    after: str | None = None
    while True:
        found = await page(after)
        for item in found:
            yield item
        if len(found) < size:
            return
        after = key(found[-1])


async def chain(
    page: Callable[[str | None], Awaitable[T]], after: Callable[[T], str | None]
) -> AsyncIterator[T]:
    last: str | None = None
    while True:
        found = await page(last)
        yield found
        last = after(found)
        if last is None:
            return


async def lines(page: Callable[[int], Awaitable[Sequence[str]]], first: int) -> AsyncIterator[str]:
    while found := await page(first):
        for line in found:
            yield line
        first += len(found)
