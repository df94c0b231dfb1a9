"""Validates profile documents by a JSON Schema: SCHEMA GOOD... -- BAD..."""

import json
import sys
import tomllib

from jsonschema import Draft202012Validator


def read(path):
    with open(path, "rb") as file:
        return tomllib.load(file)


with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
split = sys.argv.index("--")
wrong = []
for path in sys.argv[2:split]:
    for error in validator.iter_errors(read(path)):
        wrong.append(f"{path}: {error.json_path}: {error.message}")
bad = sys.argv[split + 1 :]
wrong += [f"{path}: is accepted" for path in bad if validator.is_valid(read(path))]
print(f"{split - 2} accepted, {len(bad)} refused, {len(wrong)} wrong")
sys.exit("\n".join(wrong) or 0)
