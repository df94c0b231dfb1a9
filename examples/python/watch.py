"""Print what changes on a server, with asyncio, and stop after some events: watch.py [COUNT]"""

import asyncio
import sys

import fleeti


async def main(count: int) -> None:
    client = fleeti.AsyncClient.from_environment()
    async for event in client.events.stream():
        print(event or "events were missed")
        count -= 1
        if count == 0:
            return


asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
