"""The client of a server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from ._resources import OPERATIONS as OPERATIONS
from ._resources import Resources


def environment() -> tuple[str, str, bool, str | None]:
    def get(name: str) -> str | None:
        return os.environ.get(name) or None

    token, file = get("FLEETI_TOKEN"), get("FLEETI_TOKEN_FILE")
    if token is None and file is not None:
        token = Path(file).read_text().strip()
    if token is None:
        raise KeyError("set FLEETI_TOKEN_FILE to the path of a file with an API token, or FLEETI_TOKEN to the token")
    url = get("FLEETI_SERVER") or "http://127.0.0.1:8080"
    return url, token, get("FLEETI_INSECURE") == "true", get("FLEETI_FINGERPRINT")


class Client(Resources):
    """A client of one server, with an attribute for each resource. Calls block; threads may share it.

    `url` is for example `http://127.0.0.1:8080`, `token` an API token. An address without TLS on
    another machine needs `insecure`: anyone on the network path can read the token. With
    `fingerprint`, as `fleeti login` prints it (`sha256:` and 64 hexadecimal digits), the client
    accepts only a server with this key.
    """

    __slots__ = ()

    @classmethod
    def from_environment(cls) -> Self:
        """A client by FLEETI_SERVER, FLEETI_TOKEN_FILE or FLEETI_TOKEN, and FLEETI_FINGERPRINT."""
        url, token, insecure, fingerprint = environment()
        return cls(url, token, insecure=insecure, fingerprint=fingerprint)
