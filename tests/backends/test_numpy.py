"""NumPy alone: the conformance suite, and that nothing on the way is wider than float32."""

from __future__ import annotations

import numpy as np
import pytest

from parity import frontend as fe
from parity.backends import reference
from parity.testing import RECIPES, SOUNDS, BackendConformance


class TestNumpyConformance(BackendConformance):
    spec = "numpy"


@pytest.mark.parametrize("name", RECIPES)
def test_every_stage_keeps_the_precision_of_its_input(name: str) -> None:
    frontend = RECIPES[name]
    x = SOUNDS[0].samples
    for tap, stage in frontend.stages().items():
        x = reference.stage(frontend, tap, x)
        if isinstance(stage, fe.Spectrum):
            x = x.astype(np.float32)  # NumPy 1.x has no float32 FFT; the backend rounds here
        assert x.dtype == frontend.dtype(tap), tap


def test_a_cepstrum_of_silence_is_as_exact_as_any_other() -> None:
    # Added one by one, 257 equal float32 terms were five times the bound of a DCT off.
    frontend = RECIPES["mfcc"]
    silence = np.full((3, 257), -100.0, np.float32)
    got = reference.stage(frontend, "features/cepstrum", silence)
    exact = reference.stage(frontend, "features/cepstrum", silence.astype(np.float64))
    assert np.abs(got - exact).max() < 2.0**-24 * np.abs(exact).max() * 8
