"""A device by aiomqtt: HOST PORT ID FOLDER SUBSCRIBE PUBLISH REPORT."""

import asyncio
import json
import sys

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE_S = 30
host, port, device, folder, down, up, report = sys.argv[1:]


def client():
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 3600
    return aiomqtt.Client(
        host,
        int(port),
        identifier=device,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=False,
        properties=properties,
        tls_params=aiomqtt.TLSParameters(f"{folder}/root.pem", f"{folder}/chain.pem", f"{folder}/key.pem"),
    )


async def next_generation(connected):
    async for message in connected.messages:
        assert str(message.topic) == down, message.topic
        return json.loads(message.payload)["generation"]


async def main():
    async with client() as connected:
        await connected.subscribe(down, qos=1)
        generation = await next_generation(connected)
        with open(report, "rb") as file:
            await connected.publish(up, file.read(), qos=1)
    # Not subscribed again: the server still knows what the session has subscribed.
    async with client() as connected:
        assert await next_generation(connected) == generation
    print(f"desired state of generation {generation}; report acknowledged; the session went on")


asyncio.run(asyncio.wait_for(main(), PATIENCE_S * 2))
