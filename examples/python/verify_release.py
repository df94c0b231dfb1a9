"""Verify a release directory: verify_release.py RELEASE TRUST"""

import sys

import fleeti

try:
    verified = fleeti.verify_release(sys.argv[1], sys.argv[2])
except fleeti.UntrustedError as e:
    sys.exit(f"do not use it: {e}")
print(f"{verified.release}: {len(verified.artifacts)} files, root hash {verified.root_hash}")
