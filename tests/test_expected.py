from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parity.backends import reference
from parity.bounds.features import Interval
from parity.expected import features_of, network_input, regenerated, stored
from parity.taps import REGENERATED_TAPS
from parity.testing import RECIPES, SOUNDS


@given(st.data())
def test_what_is_stored_is_the_float32_and_admits_all_that_was_admitted(data: st.DataObject) -> None:
    value: np.ndarray[Any, Any] = data.draw(hnp.arrays(np.float64, 5, elements=st.floats(-1e30, 1e30)))
    room = data.draw(hnp.arrays(np.float64, 5, elements=st.floats(0.0, 1e3)))
    exact = Interval(value, value - room, value + room)
    kept = stored(exact)
    np.testing.assert_array_equal(kept.value, value.astype(np.float32))
    assert np.all(kept.lo <= exact.lo)
    assert np.all(kept.hi >= exact.hi)
    assert np.all((kept.lo <= kept.value) & (kept.value <= kept.hi))
    assert np.all(kept.hi - kept.lo <= (exact.hi - exact.lo) + 2.0**-22 * np.abs(value) + 1e-44)


def test_an_infinite_value_stays_so() -> None:
    x = Interval(np.array([-np.inf]), np.array([-np.inf]), np.array([-20.0]))
    kept = stored(x)
    assert (kept.value[0], kept.lo[0], kept.hi[0]) == (-np.inf, -np.inf, -20.0)


@pytest.mark.parametrize("name", RECIPES)
def test_the_network_is_fed_with_the_oracles_features_in_the_declared_dtype(name: str) -> None:
    frontend = RECIPES[name]
    for clip in SOUNDS:
        exact, fed = features_of(clip, frontend)
        assert set(exact) == set(frontend.taps)
        assert fed.dtype == frontend.dtype(frontend.output)
        assert fed.flags.c_contiguous
        np.testing.assert_array_equal(fed, network_input(reference.oracle(frontend, clip)[frontend.output], frontend))


@pytest.mark.parametrize("name", RECIPES)
def test_regenerated_taps_are_the_oracles(name: str) -> None:
    frontend = RECIPES[name]
    right = reference.oracle(frontend, SOUNDS[0])
    for tap, value in regenerated(SOUNDS[0], frontend).items():
        assert value.tobytes() == np.ascontiguousarray(right[tap]).tobytes(), tap
    assert regenerated(SOUNDS[0], frontend).keys() == REGENERATED_TAPS & set(frontend.taps)
