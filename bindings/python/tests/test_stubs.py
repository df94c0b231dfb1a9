"""The stubs of the compiled half; `stubtest` of mypy compares them with it (`cargo xtask python`)."""

import inspect

import fleeti
from fleeti import _fleeti, errors


def test_everything_public_is_documented() -> None:
    for name in fleeti.__all__:
        assert inspect.getdoc(getattr(fleeti, name)), name


def test_each_code_of_a_problem_has_an_exception_of_its_own() -> None:
    assert list(errors.BY_CODE) == _fleeti.problem_codes()
    assert len(set(errors.BY_CODE.values())) == len(errors.BY_CODE)
