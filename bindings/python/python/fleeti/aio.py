"""The client of a server for asyncio."""

from __future__ import annotations

from typing import Self

from ._aio_resources import Resources
from .client import environment


class AsyncClient(Resources):
    """As `Client`, for asyncio: methods are awaited, and lists are asynchronous iterators."""

    __slots__ = ()

    @classmethod
    def from_environment(cls) -> Self:
        """A client by FLEETI_SERVER, FLEETI_TOKEN_FILE or FLEETI_TOKEN, and FLEETI_FINGERPRINT."""
        url, token, insecure, fingerprint = environment()
        return cls(url, token, insecure=insecure, fingerprint=fingerprint)
