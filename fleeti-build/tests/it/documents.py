"""Reads an SBOM and a provenance with the official libraries. With a third argument it first removes that field."""
import json, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1 import statement_pb2

documents = {}
for name, path in (("bom", sys.argv[1]), ("statement", sys.argv[2])):
    with open(path) as f:
        documents[name] = json.load(f)
harm = sys.argv[3].split(".")
if harm[0]:
    at = documents[harm[0]]
    for step in harm[1:-1]:
        at = at[int(step) if step.isdigit() else step]
    at.pop(harm[-1])

error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(documents["bom"]))
if error:
    sys.exit(f"SBOM: {error}")
refs = [component["bom-ref"] for component in documents["bom"]["components"]]
if len(refs) != len(set(refs)):
    sys.exit("SBOM: a bom-ref is used twice")

read = json_format.ParseDict(documents["statement"], statement_pb2.Statement())
statement = Statement([], "", {})
statement.pb = read
statement.validate()
predicate = json_format.ParseDict(documents["statement"]["predicate"], provenance_pb2.Provenance())
if not predicate.build_definition.build_type or not predicate.run_details.builder.id:
    sys.exit("provenance: no type of build or no builder")
