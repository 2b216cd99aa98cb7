"""Patterns that go into networks: what they render to, how they are told, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from parity.patterns import Pattern, describe, from_plain, render, to_plain

ARRAYS: list[tuple[Pattern, list[float]]] = [
    (Pattern(), [0, 0, 0, 0]),
    (Pattern(level=3.0, offset=-1.0), [2, 2, 2, 2]),
    (Pattern(kind="ramp", level=3.0), [-3, -1, 1, 3]),
    (Pattern(kind="alternating", level=2.0), [2, -2, 2, -2]),
    (Pattern(kind="one", level=5.0, at=6), [0, 0, 5, 0]),
]


@pytest.mark.parametrize(("pattern", "wanted"), ARRAYS)
def test_kinds(pattern: Pattern, wanted: list[float]) -> None:
    np.testing.assert_allclose(render(pattern, (2, 2)).ravel(), wanted, atol=1e-7)


def test_random_kinds_keep_their_size_and_their_seed() -> None:
    noise = render(Pattern(kind="noise", level=2.0, seed=1), (50, 20))
    assert 1.9 < np.abs(noise).max() <= 2.0
    assert (noise != render(Pattern(kind="noise", level=2.0, seed=2), (50, 20))).any()
    assert 0.9 < render(Pattern(kind="normal", level=1.0), (50, 20)).std() < 1.1
    rows = render(Pattern(kind="rows", level=1.0), (1, 5, 4))
    np.testing.assert_array_equal(rows[0, 0], rows[0, 4])


def test_what_is_too_small_to_be_normal_stays_what_it_is() -> None:
    x = render(Pattern(level=1e-40), (3,))
    assert x.dtype == np.float32
    assert (x > 0).all()
    assert (x < np.finfo(np.float32).tiny).all()


def test_integers_are_rounded_and_cut() -> None:
    np.testing.assert_array_equal(render(Pattern(kind="ramp", level=300.6), (3,), "int8"), [-128, 0, 127])
    for largest in (Pattern(level=1e300), Pattern(level=10**300), Pattern(level=1.7e308, offset=1.7e308)):
        assert render(largest, (1,))[0] == np.finfo(np.float32).max


@pytest.mark.parametrize(
    ("pattern", "said"),
    [(Pattern(), "constant 0"), (Pattern(level=1e-40), "constant 1e-40"), (Pattern(kind="one", level=90.0), "one 90"),
     (Pattern(kind="noise", level=3.0, offset=-6.0, seed=2), "noise 3, offset -6, seed 2")],
)  # fmt: skip
def test_a_description_names_what_matters(pattern: Pattern, said: str) -> None:
    assert describe(pattern) == said
    assert from_plain(to_plain(pattern)) == pattern


@pytest.mark.parametrize(
    "plain",
    [{"kind": "hum"}, {"level": float("inf")}, {"at": -1}, {"seed": 1.5}, {"size": 3}, {"offset": "much"},
     {"level": True}, {"seed": True}, {"seed": 2**63}, {"level": 10**400}, {"offset": -(10**400)}],
)  # fmt: skip
def test_what_is_impossible_is_refused(plain: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|unknown"):
        from_plain(plain)
