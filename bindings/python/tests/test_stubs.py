"""The stubs are checked in; this compares them with what the compiled half really has."""

import ast
import inspect
from pathlib import Path

import fleeti
from fleeti import _fleeti

STUBS = ast.parse((Path(fleeti.__file__).parent / "_fleeti.pyi").read_text())


def stubbed() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for node in STUBS.body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = {n.name for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")}
        elif isinstance(node, ast.FunctionDef):
            found[node.name] = {a.arg for a in node.args.args}
    return found


def real() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, value in vars(_fleeti).items():
        if name.startswith("_"):
            continue
        if inspect.isclass(value):
            inherited = set(dir(Exception)) if issubclass(value, Exception) else set()
            found[name] = {n for n in dir(value) if not n.startswith("_")} - inherited
        else:
            found[name] = set(inspect.signature(value).parameters)
    return found


def test_the_stubs_are_what_the_module_has() -> None:
    assert stubbed() == real()


def test_everything_public_is_exported() -> None:
    assert sorted(fleeti.__all__) == sorted(real())


def test_everything_public_is_documented() -> None:
    for name in fleeti.__all__:
        assert inspect.getdoc(getattr(fleeti, name)), name
