"""What happens to the sound before the recipe: other filters, a sample late, a frame that is kept twice."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.signal

from parity.evidence import Evidence
from parity.explain import Explanation, explain
from parity.explain.catalogue import resampling
from parity.protocols import Array, Clip
from tests.explain.test_features import clips, evidence, first, frontend
from tests.mutants import featurizer


@pytest.mark.parametrize("n", [1600, 1601])
@pytest.mark.parametrize("to", resampling.RATES)
def test_the_filters_are_scipys(n: int, to: int) -> None:
    x = np.random.default_rng(n).standard_normal(n)
    ratio = Fraction(to, 16000)
    right = scipy.signal.resample_poly(x, ratio.numerator, ratio.denominator)
    np.testing.assert_allclose(resampling.polyphase(x, 16000, to), right, atol=1e-13)
    np.testing.assert_allclose(resampling.fourier(x, 16000, to), scipy.signal.resample(x, n * to // 16000), atol=1e-13)


def _wrong(name: str, **change: Any) -> Explanation:
    """The explanation of a front end of the tests' own, on clips that aren't a second long."""
    settings = replace(featurizer.settings(frontend(name)), **change)
    given = [Clip(c.name, c.samples[: 15000 - 7 * i], c.rate, "") for i, c in enumerate(clips(name))]
    return explain(frontend(name), [Evidence(name, c, featurizer.compute(settings, c.samples)) for c in given])


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("commands-cnn", {"shift": 1}, "samples 1 late, before the clip is padded or cut"),
        ("commands-cnn", {"through_rate": 8000}, "samples by way of 8000 Hz by scipy.signal.resample_poly"),
        ("tiny-conv", {"taken_at": 22050}, "samples at 22050 Hz by scipy.signal.resample_poly, not 16000 Hz"),
    ],
)
def test_what_is_done_before_padding_is_named(name: str, change: dict[str, Any], words: str) -> None:
    e = _wrong(name, **change)
    assert e.complete
    assert [c.words for f in e.findings for c in f.alternatives[0]] == [words]


@pytest.mark.parametrize("late", [True, False])
def test_a_frame_that_is_kept_twice(late: bool) -> None:
    given = evidence("commands-cnn", last=False)

    def moved(x: Array) -> Array:
        return np.concatenate([x[:1], x[:-1]] if late else [x[1:], x[-1:]])

    for one in given:
        object.__setattr__(one, "features", {t: a if a.ndim < 2 else moved(a) for t, a in one.features.items()})
    e = explain(frontend("commands-cnn"), given)
    assert e.complete
    assert first(e) == ["frame.rolled"]
    words = f"frames one {'late, the first' if late else 'early, the last'} twice"
    assert e.findings[0].alternatives[0][0].words == words
