"""Numbers with few digits, as text files hold them: seen from the numbers, and no other cause is named for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from parity.evidence import Evidence
from parity.explain import explain, wording, written
from parity.protocols import Array
from tests.explain.test_features import evidence, first, frontend


def text(x: Array, form: str) -> Array:
    """What is read again where each number was written by a format."""
    return np.array([float(form.format(v)) for v in x.ravel()], np.float32).reshape(x.shape)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e5])
@pytest.mark.parametrize("count", range(1, 7))
def test_digits_are_counted(size: float, count: int) -> None:
    x = (size * np.random.default_rng(count).standard_normal(2000)).astype(np.float32)
    assert written.found([x]) is None
    assert written.found([text(x, f"{{:.{count}g}}")]) == written.Digits(count, "significant digits")
    if size == 1.0:
        assert written.found([text(x, f"{{:.{count}f}}")]) == written.Digits(count, "decimals")


def test_a_few_round_numbers_say_nothing() -> None:
    assert written.found([np.zeros(100), np.full(100, np.nan)]) is None
    assert written.found([np.array([0.5, 1.0, 2.0])]) is None
    assert written.Digits(0, "decimals").words == "numbers written with no decimals"
    assert written.Digits(1, "significant digits").words == "numbers written with 1 significant digit"


def dumped(name: str, form: str, last: bool = True, **changed: Any) -> list[Evidence]:
    given = evidence(name, last, **changed)
    for e in given:
        object.__setattr__(e, "features", {tap: text(a, form) for tap, a in e.features.items()})
    return given


@pytest.mark.parametrize(
    ("form", "words"), [("{:.4f}", "4 decimals"), ("{:.2f}", "2 decimals"), ("{:.4g}", "4 significant digits")]
)
def test_they_explain_what_they_cut_off(form: str, words: str) -> None:
    e = explain(frontend("commands-cnn"), dumped("commands-cnn", form))
    assert e.complete
    assert first(e) == ["dump.digits"]
    assert f"numbers written with {words}: 100 % of the error explained (" in wording.lines(e)[1]


def test_of_every_tap_that_was_written() -> None:
    e = explain(frontend("mfcc-lstm"), dumped("mfcc-lstm", "{:.6g}", last=False))
    assert e.complete
    assert first(e) == ["dump.digits"]
    assert e.findings[0].tap == "features/audio"


@pytest.mark.parametrize(
    ("name", "form", "key", "changed"),
    [
        ("commands-cnn", "{:.4f}", "window.periodic", {"periodic": False}),
        ("commands-cnn", "{:.4f}", "log.offset", {"offset": 1.1e-6}),
        ("mfcc-lstm", "{:.2f}", "dct.lifter", {"lifter": 17}),
    ],
)
def test_a_setting_is_found_beneath_them(name: str, form: str, key: str, changed: dict[str, Any]) -> None:
    e = explain(frontend(name), dumped(name, form, **changed))
    assert e.complete
    assert [sorted({c.key for c in f.alternatives[0]}) for f in e.findings] == [sorted({key, "dump.digits"})]


def test_noise_is_not_explained_by_them() -> None:
    given, tap = evidence("tiny-conv", last=False), "features/windowed"
    noise = np.random.default_rng(0)
    for e in given:
        x = e.features[tap]
        arrays = dict(e.features) | {tap: text(x + 1e-3 * noise.standard_normal(x.shape), "{:.4f}")}
        object.__setattr__(e, "features", arrays)
    e = explain(frontend("tiny-conv"), given)
    assert not e.complete
    assert "nothing explains it" in wording.lines(e)[1]
