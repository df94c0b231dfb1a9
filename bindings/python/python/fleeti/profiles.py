"""Profiles: read, check, resolve and compare them, without a server.

>>> text = 'schema = 1\\nname = "web"\\narchitecture = "x86_64"\\nsoftware.packages = ["nginx"]\\n'
>>> resolve(text).profile.software.packages
['nginx']
>>> check(text.replace("nginx", "Nginx!"))[0].path
'software.packages[0]'
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from . import _base, _fleeti
from . import models as m
from .errors import ProfileError


class Resolved(_base.Model):
    """A profile in which everything is said."""

    profile: m.Profile
    warnings: Sequence[m.Finding]
    """What its author should look at, ordered by line."""
    extends: Sequence[str]
    """The fragments that it extends, directly and indirectly, in the order of merging."""


def check(text: str) -> list[m.Finding]:
    """Errors and warnings of a document, TOML, ordered by line. Each has a path and a remedy."""
    return _resolve(text)[1]


def resolve(text: str) -> Resolved:
    """A document, TOML, with everything that it inherits. Raises `ProfileError` with all findings."""
    profile, findings, extends = _resolve(text)
    if profile is None:
        raise ProfileError(findings)
    return Resolved(profile=profile, warnings=findings, extends=extends)


def load(path: str | PathLike[str]) -> m.Profile:
    """The profile of a file, with everything that it inherits. Raises `ProfileError`."""
    return resolve(Path(path).read_text()).profile


def diff(before: m.Profile, after: m.Profile) -> list[m.Change]:
    """What differs between two profiles, ordered by path."""
    changes = json.loads(_fleeti.profile_diff(_written(before), _written(after)))
    return [m.Change.from_json(change) for change in changes]


def to_toml(profile: m.Profile) -> str:
    """The document of a profile."""
    return _fleeti.profile_toml(_written(profile))


def schema() -> dict[str, object]:
    """The JSON schema of a document."""
    found: dict[str, object] = json.loads(_fleeti.profile_schema())
    return found


def _written(profile: m.Profile) -> bytes:
    return _base.content(profile) or b""


def _resolve(text: str) -> tuple[m.Profile | None, list[m.Finding], list[str]]:
    value = json.loads(_fleeti.profile_resolve(text))
    findings = [m.Finding.from_json(finding) for finding in value["findings"]]
    profile = value["profile"]
    return (None if profile is None else m.Profile.from_json(profile)), findings, value["extends"]
