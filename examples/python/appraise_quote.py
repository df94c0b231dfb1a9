"""Appraise a TPM quote: appraise_quote.py DIR, as the example `appraise_quote --make DIR` writes it."""

import sys
from pathlib import Path

import fleeti
from fleeti import attestation

folder = Path(sys.argv[1])
read = {file.name: file.read_bytes() for file in folder.iterdir()}
evidence = attestation.Evidence(
    quote=read["quote"],
    signature=read["signature"],
    pcrs={int(name.removeprefix("pcr-")): value for name, value in read.items() if name.startswith("pcr-")},
    firmware_log=read["firmware.log"],
    phases_log=read["phases.log"],
)
try:
    verified = attestation.verify(evidence, device="dev-1", nonce=bytes([7] * 32), attestation_key=read["attestation.key"])
except fleeti.UntrustedError as e:
    sys.exit(f"do not believe it: {e}")
release = attestation.Reference(release="kiosk@1", kernel_image=read["kernel_image"], pcr_11=read["pcr-11"])
found = attestation.appraise(verified, [release], boot_loaders=[read["boot_loader"]])
for claim in found.claims:
    print(f"{claim.aspect}: {claim.tier}: {claim.finding}")
print(found.level, found.release)
