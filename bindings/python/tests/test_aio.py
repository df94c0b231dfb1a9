import asyncio
import socket
import time

import fleeti
import pytest
from conftest import Server


def test_many_requests_run_at_the_same_time(server: Server) -> None:
    async def main() -> None:
        client = fleeti.AsyncClient(server.url, server.token)
        ids = [device.id async for device in client.devices.list(fleet="demo")]
        devices = await asyncio.gather(*(client.devices.get(id) for id in ids))
        assert [device.id for device in devices] == ids and len(ids) == 3

    asyncio.run(main())


def test_a_cancelled_request_ends_and_holds_nothing() -> None:
    # A server that never answers.
    with socket.create_server(("127.0.0.1", 0)) as listener:

        async def main() -> None:
            client = fleeti.AsyncClient(f"http://127.0.0.1:{listener.getsockname()[1]}", "x")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.server.livez()
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                while connection.recv(65536):
                    pass  # the client closes the connection

        asyncio.run(main())


def test_an_event_arrives_and_waiting_has_an_end(server: Server) -> None:
    async def main() -> None:
        client = fleeti.AsyncClient(server.url, server.token)
        stream = client.events.stream()
        first = asyncio.ensure_future(anext(stream))
        profile = {"schema": 1, "name": "async", "architecture": "x86_64"}
        number = 0
        while not first.done():
            number += 1
            # Until the stream is open, events pass it by.
            await client.profiles.save({**profile, "description": str(number)})
        event = await first
        assert isinstance(event, fleeti.models.EventProfile) and event.line == "async"

    asyncio.run(main())


def test_a_blocking_wait_for_events_has_an_end(server: Server) -> None:
    client = fleeti.Client(server.url, server.token)
    stream = client._core.events()
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        stream.next(0.05)
    assert time.monotonic() - started < 5
