"""A device by paho-mqtt: HOST PORT ID FOLDER SUBSCRIBE PUBLISH REPORT."""

import json
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE_S = 30
host, port, device, folder, down, up, report = sys.argv[1:]


def connect():
    """A connected client, its messages, and whether the server knew the session."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=device, protocol=mqtt.MQTTv5)
    client.tls_set(f"{folder}/root.pem", f"{folder}/chain.pem", f"{folder}/key.pem")
    connected, messages, subscribed = queue.Queue(), queue.Queue(), queue.Queue()
    client.on_connect = lambda _c, _u, flags, reason, _p: connected.put((flags.session_present, reason))
    client.on_subscribe = lambda _c, _u, _mid, reasons, _p: subscribed.put(reasons)
    client.on_message = lambda _c, _u, message: messages.put(message)
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 3600
    client.connect(host, int(port), clean_start=False, properties=properties)
    client.loop_start()
    present, reason = connected.get(timeout=PATIENCE_S)
    assert not reason.is_failure, reason
    return client, messages, subscribed, present


client, messages, subscribed, present = connect()
assert not present
client.subscribe(down, qos=1)
assert [reason.value for reason in subscribed.get(timeout=PATIENCE_S)] == [1]
message = messages.get(timeout=PATIENCE_S)
assert (message.topic, message.qos, message.retain) == (down, 1, False)
generation = json.loads(message.payload)["generation"]
with open(report, "rb") as file:
    client.publish(up, file.read(), qos=1).wait_for_publish(PATIENCE_S)
client.disconnect()
client.loop_stop()

client, messages, _, present = connect()
assert present
assert json.loads(messages.get(timeout=PATIENCE_S).payload)["generation"] == generation
client.disconnect()
client.loop_stop()
print(f"desired state of generation {generation}; report acknowledged; the session went on")
