"""A Java key store of certificates (JKS) without the times at which they were added."""
import hashlib, struct

HEAD = bytes.fromhex("feedfeed00000002")
CERTIFICATE = 2
PASSWORD = "changeit"  # Debian's, and everybody's: the store has no secrets


def digest(body):
    return hashlib.sha1(PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()


def without_times(store, epoch):
    """The store with every time set to `epoch`, seconds since 1970; unchanged if it is something else."""
    body = bytearray(store[:-20])
    if body[:8] != HEAD or digest(bytes(body)) != store[-20:]:
        return store
    at = 12
    for _ in range(struct.unpack_from("!I", body, 8)[0]):
        kind, length = struct.unpack_from("!IH", body, at)
        if kind != CERTIFICATE:
            return store
        at += 6 + length
        struct.pack_into("!Q", body, at, epoch * 1000)
        at += 8
        at += 2 + struct.unpack_from("!H", body, at)[0]
        at += 4 + struct.unpack_from("!I", body, at)[0]
    return bytes(body) + digest(bytes(body))
