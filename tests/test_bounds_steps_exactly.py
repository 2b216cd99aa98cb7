"""What quantization steps allow, to the last number."""

from __future__ import annotations

import numpy as np
import pytest

from parity.bounds import steps
from parity.bounds.features import Interval
from parity.protocols import Array, Raw

U = 2.0**-24


def array(*values: float) -> Array:
    return np.array(values, np.float64)


def raw(dtype: str = "int8", scale: float = 0.5, zero_point: int = 3) -> Raw:
    return Raw(np.zeros(3, dtype), scale, zero_point)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_a_value_may_be_half_a_step_away_and_no_further_than_integers_hold(dtype: str) -> None:
    held = np.iinfo(dtype)
    low, high = 0.5 * (held.min - 3), 0.5 * (held.max - 3)
    x = Interval(array(1.0, -2.0, 500.0), array(0.75, -1000.0, 499.0), array(1.5, -1.0, 501.0))
    found = steps.rounded(x, raw(dtype))
    half = 0.25 + 4.0 * U * (np.abs(x.value) + 1.5)
    np.testing.assert_allclose(found.lo, np.minimum(x.value, np.clip(x.lo, low, high) - half), rtol=1e-15)
    np.testing.assert_allclose(found.hi, np.maximum(x.value, np.clip(x.hi, low, high) + half), rtol=1e-15)
    assert found.lo[0] == 0.75 - half[0]
    assert found.hi[2] == 500.0, "the golden itself is never left out"
    assert found.value is x.value


def test_the_golden_is_within_where_what_integers_hold_lies_above_it() -> None:
    x = Interval(array(-500.0), array(-501.0), array(-499.0))
    found = steps.rounded(x, raw())
    assert found.lo[0] == -500.0
    assert found.hi[0] == 0.5 * (-128 - 3) + 0.25 + 4.0 * U * (500.0 + 1.5)


def test_of_one_tensor_there_is_one_scale() -> None:
    one = raw()
    assert steps.unlike(None, one) is steps.unlike(one, None) is steps.unlike(one, raw()) is None
    assert steps.unlike(raw(scale=0.5 * (1.0 + 0.9e-6)), one) is None
    assert steps.unlike(raw(scale=-0.5 * (1.0 + 0.9e-6)), raw(scale=-0.5)) is None
    assert steps.unlike(raw(scale=0.0), raw(scale=0.0)) is None
    told = "where the kernels have 0.5 and 3 for the same tensor"
    assert steps.unlike(raw(scale=0.5 * (1.0 + 2e-6)), one) == f"a scale of 0.500001 and a zero point of 3, {told}"
    assert steps.unlike(raw(zero_point=4), one) == f"a scale of 0.5 and a zero point of 4, {told}"


def test_steps_are_counted_between_integers_of_one_shape() -> None:
    golden = np.array([[1, 2], [250, 4]], np.uint8)
    fed = np.array([[1, 5], [3, 4]], np.uint8)
    assert steps.moved(fed, golden) == 3.0 + 247.0
    assert steps.moved(fed.reshape(4), golden) == 0.0
    assert steps.moved(None, golden) == 0.0
    assert steps.moved(fed, golden.astype(np.float32)) == 0.0


def test_what_integers_cannot_hold_is_half_a_step_beyond_their_ends() -> None:
    tensor = raw(zero_point=28)  # -78 to 49.5
    edges = array(-78.25, 49.75)
    assert steps.saturated(edges, tensor) == 0.0
    assert steps.saturated(np.add(edges, [-0.001, 0.0]), tensor) == 0.5
    assert steps.saturated(np.add(edges, [0.0, 0.001]), tensor) == 0.5
    assert steps.saturated(np.array([100], np.uint8), tensor) == 1.0
    assert steps.saturated([49.0], tensor) == 0.0  # type: ignore[arg-type]
    # In double: a float32 that its own rounding puts beyond the edge is beyond it.
    coarse = raw(scale=0.7, zero_point=1)
    edge = 0.7 * (127 - 1) + 0.5 * 0.7
    assert float(np.float32(edge)) > edge
    assert steps.saturated(np.array([edge], np.float32), coarse) == 1.0
    assert steps.saturated(np.zeros(0), tensor) == 0.0
