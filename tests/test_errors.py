from __future__ import annotations

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity import errors

TREE = {
    "NothingCompared": 2, "ConfigError": 3, "MissingExtra": 3, "AudioError": 3, "ModelError": 3, "TargetError": 4,
    "GoldenError": 5, "AnchorError": 1, "NotAccepted": 1,
}  # fmt: skip


@pytest.mark.parametrize(("name", "code"), TREE.items())
def test_each_class_has_the_exit_code_of_the_contract(name: str, code: int) -> None:
    assert getattr(errors, name).exit_code == code


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = dict(re.findall(r"[├└]── (\w+) +(\d+)", errors.__doc__ or ""))
    real = {
        name: str(cls.exit_code)
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, errors.ParityError) and cls is not errors.ParityError
    }
    assert drawn == real == {name: str(code) for name, code in TREE.items()}


def test_an_error_says_what_is_wrong_and_what_to_type() -> None:
    e = errors.ConfigError("no such thing", "type this")
    assert (str(e), e.message, e.hint) == ("no such thing", "no such thing", "type this")
    assert errors.ConfigError("no such thing").hint is None


def test_the_first_of_the_precedence_wins() -> None:
    assert errors.PRECEDENCE == (70, 130, 3, 5, 4, 1, 2, 0)
    assert errors.worst([]) == 0
    assert errors.worst([2, 1]) == 1
    assert errors.worst([0, 2]) == 2
    assert errors.worst([1, 5, 4]) == 5


@given(st.lists(st.sampled_from(errors.PRECEDENCE), min_size=1))
def test_the_worst_is_one_of_them_and_none_comes_before_it(codes: list[int]) -> None:
    worst = errors.worst(iter(codes))
    assert worst in codes
    assert all(errors.PRECEDENCE.index(worst) <= errors.PRECEDENCE.index(c) for c in codes)


@pytest.mark.parametrize(("name", "cls"), [
    ("ModelError", errors.ModelError), ("worst", errors.ParityError), ("Iterable", errors.ParityError),
    ("nonsense", errors.ParityError), (3, errors.ParityError),
])  # fmt: skip
def test_a_name_from_a_worker_is_looked_up_in_the_tree_only(name: object, cls: type) -> None:
    assert errors.named(name) is cls
