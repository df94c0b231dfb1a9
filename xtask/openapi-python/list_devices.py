"""Lists the devices of a server with a client that openapi-python-client generates from the OpenAPI document.

    list_devices.py DOCUMENT FOLDER

The generated package, with its types, goes to FOLDER.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

document, folder = Path(sys.argv[1]), Path(sys.argv[2])


def without_boolean_items(value: object) -> object:
    """The generator does not read `"items": false`, which JSON Schema allows after `prefixItems`."""
    if isinstance(value, dict):
        return {k: without_boolean_items(v) for k, v in value.items() if not (k == "items" and isinstance(v, bool))}
    if isinstance(value, list):
        return [without_boolean_items(v) for v in value]
    return value


plain = folder / "openapi.json"
plain.write_text(json.dumps(without_boolean_items(json.loads(document.read_text()))))
generator = Path(sys.executable).with_name("openapi-python-client")
command = [generator, "generate", "--path", plain, "--meta", "none", "--output-path", folder / "fleeti_generated"]
generated = subprocess.run(command, capture_output=True, text=True)
if generated.returncode != 0:
    raise SystemExit(generated.stdout + generated.stderr)

sys.path.insert(0, str(folder))
from fleeti_generated import AuthenticatedClient  # noqa: E402
from fleeti_generated.api.devices import get_device, list_devices  # noqa: E402
from fleeti_generated.models import Problem  # noqa: E402

client = AuthenticatedClient(base_url=os.environ["FLEETI_SERVER"], token=os.environ["FLEETI_TOKEN"])
devices = list_devices.sync(client=client, limit=500)
if not isinstance(devices, list):
    raise SystemExit(f"refused: {devices}")
for device in devices:
    print(device.id, device.fleet)
missing = get_device.sync("dev-nobody", client=client)
assert isinstance(missing, Problem), missing
print(missing.status, missing.type_)
