"""What the generated modules are made of: how values are read and written, and how requests are sent."""

from __future__ import annotations

import json
from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence
from os import PathLike, fspath
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform
from urllib.parse import quote, urlencode

from . import _fleeti
from .errors import AnswerError

T = TypeVar("T")


class Unreadable(Exception):
    """A value has another form than the document says."""


M = TypeVar("M", bound="Model")


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Model:
    """A value of the API.

    Type checkers treat it as an immutable dataclass. At runtime it is less: hundreds of dataclasses
    would take most of a short program's time.
    """

    _secrets: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **fields: Any) -> None:
        names = self._names()
        unknown = fields.keys() - set(names)
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {min(unknown)!r}")
        for name in names:
            if name not in fields and not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} needs {name!r}")
        self.__dict__.update(fields)

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return tuple(cls.__annotations__)

    @classmethod
    def _read(cls, value: Any) -> Self:
        raise NotImplementedError

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Reads a value of `json.loads`. Raises `AnswerError` for one of another form."""
        return _checked(cls._read, value)

    def to_json(self) -> dict[str, Any]:
        """The value for `json.dumps`, without fields that are absent."""
        written: dict[str, Any] = _plain(self)
        return written

    def replace(self, **changes: Any) -> Self:
        """A copy with other values of some fields."""
        return type(self)(**{**self.__dict__, **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; make another with replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._names())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = (
            f"{name}={'...' if name in self._secrets else repr(value)}"
            for name in self._names()
            if (value := getattr(self, name)) is not None and value != ()
        )
        return f"{type(self).__name__}({', '.join(shown)})"


def made(cls: type[M], fields: dict[str, Any]) -> M:
    """A value whose fields were read."""
    value = object.__new__(cls)
    value.__dict__.update(fields)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Model):
        fields = ((name, getattr(value, name)) for name in value._names())
        # `()` is the value of a list that is absent. A list without entries is `[]`.
        return {name.removesuffix("_"): _plain(v) for name, v in fields if v is not None and v != ()}
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def text(value: Any) -> str:
    if type(value) is not str:
        raise Unreadable(f"a text was expected instead of {value!r}")
    return value


def choice(value: Any) -> Any:
    return text(value)


def integer(value: Any) -> int:
    if type(value) is not int:
        raise Unreadable(f"an integer was expected instead of {value!r}")
    return value


def number(value: Any) -> float:
    if type(value) not in (int, float):
        raise Unreadable(f"a number was expected instead of {value!r}")
    return float(value)


def boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise Unreadable(f"true or false was expected instead of {value!r}")
    return value


def items(value: Any) -> list[Any]:
    if type(value) is not list:
        raise Unreadable(f"a list was expected instead of {value!r}")
    return value


def pair(value: Any) -> tuple[str, str]:
    first, second = items(value) if len(items(value)) == 2 else (None, None)
    return text(first), text(second)


def entries(value: Any) -> ItemsView[str, Any]:
    if type(value) is not dict:
        raise Unreadable(f"an object was expected instead of {value!r}")
    return value.items()


def unknown_variant(name: str, value: Any) -> Unreadable:
    return Unreadable(f"{value!r} is no {name}")


_NOT_DOCUMENTED = "the server's response does not have the documented form: "
_SAME_VERSION = "check that server and package have the same version"


def _checked(reader: Callable[[Any], T], value: Any) -> T:
    try:
        return reader(value)
    except KeyError as e:
        raise AnswerError(f"{_NOT_DOCUMENTED}{e} is missing", _SAME_VERSION) from e
    except Unreadable as e:
        raise AnswerError(_NOT_DOCUMENTED + str(e)[:500], _SAME_VERSION) from e


def as_json(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except (ValueError, RecursionError) as e:
        raise AnswerError(_NOT_DOCUMENTED + str(e), _SAME_VERSION) from e


def as_text(answer: bytes) -> str:
    return answer.decode(errors="replace")


def read(answer: bytes, reader: Callable[[Any], T]) -> T:
    return _checked(reader, as_json(answer))


def segment(value: object) -> str:
    """A part of a path between two slashes."""
    plain = str(value)
    if plain in ("", ".", ".."):
        raise ValueError(f"{plain!r} is no name")
    return quote(plain, safe="")


def segments(value: object) -> str:
    """Parts of a path."""
    return "/".join(map(segment, str(value).split("/")))


def target(path: str, query: Mapping[str, object]) -> str:
    """A path with a query, without parameters that are None."""
    given = {name: _word(value) for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def _word(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def content(body: object) -> bytes | None:
    return None if body is None else json.dumps(_plain(body)).encode()


def path_of(file: str | PathLike[str] | None) -> str | None:
    return None if file is None else fspath(file)


class Core:
    """A connection to one server."""

    __slots__ = ("_core",)

    def __init__(self, url: str, token: str, *, insecure: bool = False, fingerprint: str | None = None) -> None:
        self._core = _fleeti.Core(url, token, insecure=insecure, fingerprint=fingerprint)

    def __repr__(self) -> str:
        # Shows neither the token nor the address, which may contain one.
        return f"{type(self).__name__}()"


class Resource:
    """A part of the API."""

    __slots__ = ("_core",)

    def __init__(self, core: _fleeti.Core) -> None:
        self._core = core


def call(
    core: _fleeti.Core, method: str, path: str, *, body: object = None, file: str | PathLike[str] | None = None
) -> bytes:
    return core.call((method, path, content(body), path_of(file)))


def events(core: _fleeti.Core, reader: Callable[[Any], T]) -> Iterator[T | None]:
    stream = core.events()
    while True:
        yield event(stream.next(None), reader)


def event(data: bytes | None, reader: Callable[[Any], T]) -> T | None:
    """An event; None if the caller must read everything again."""
    return None if data is None else read(data, reader)


def pages(page: Callable[[str | None], list[T]], key: Callable[[T], str], size: int) -> Iterator[T]:
    after: str | None = None
    while True:
        found = page(after)
        yield from found
        if len(found) < size:
            return
        after = key(found[-1])


def chain(page: Callable[[str | None], T], after: Callable[[T], str | None]) -> Iterator[T]:
    last: str | None = None
    while True:
        found = page(last)
        yield found
        last = after(found)
        if last is None:
            return


def lines(page: Callable[[int], Sequence[str]], first: int) -> Iterator[str]:
    while found := page(first):
        yield from found
        first += len(found)
