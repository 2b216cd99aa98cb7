"""Arrays in the files of goldens: nothing is narrower than it was, and a damaged file raises nothing of its own."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parity import packed
from parity.bounds.features import Interval
from parity.errors import GoldenError

ROOMS = hnp.arrays(
    np.float64, 20,
    elements=st.floats(0.0, allow_nan=False) | st.sampled_from((0.0, 1e-46, 1e-40, 2.0**-149, 3e38, 1e300)),
)  # fmt: skip


@given(ROOMS)
def test_a_bound_is_rounded_up_never_down_and_by_an_eighth_at_most(room: np.ndarray[Any, Any]) -> None:
    up = packed.rounded_up(room)
    assert up.dtype == np.float32
    assert np.all(up >= room)
    normal = (room > 1e-37) & (room < 1e38)
    assert np.all(up[normal] <= room[normal] * 1.125)
    assert np.all(up[room == 0.0] == 0.0)


@given(st.data())
def test_an_interval_survives_storage_at_least_as_wide(data: st.DataObject) -> None:
    value = data.draw(hnp.arrays(np.float64, 6, elements=st.floats(-1e6, 1e6) | st.just(-np.inf)))
    below, above = (data.draw(hnp.arrays(np.float64, 6, elements=st.floats(0.0, 1e3))) for _ in range(2))
    x = Interval(value, value - below, np.where(np.isinf(value), -30.0, value + above))
    tap = "features/spectrum"
    kept = packed.unpack_features(packed.unpack(packed.pack(packed.pack_features({tap: x})), Path("x")))[tap]
    np.testing.assert_array_equal(kept.value, value.astype(np.float32))
    assert np.all(kept.lo <= x.lo)
    assert np.all(kept.hi >= x.hi)


def test_bounds_of_a_rounded_transform_are_stored_where_they_differ() -> None:
    value = np.array([1.0, 300.0, -np.inf])
    wide = Interval(value, value - 1e-3, np.array([1.001, 300.001, -20.0]))
    narrow = Interval(value, value - 1e-5, np.array([1.00001, 300.00001, -30.0]))
    tap, same = "features/spectrum", "features/filterbank"
    arrays = packed.pack_features({tap: wide, same: wide}, {tap: narrow, same: wide})
    assert [n for n in arrays if n.endswith(packed.ROUNDED)] == [f"{tap}:above{packed.ROUNDED}"] or sorted(
        n for n in arrays if n.endswith(packed.ROUNDED)
    ) == [f"{tap}:above{packed.ROUNDED}", f"{tap}:below{packed.ROUNDED}"]
    data = packed.pack(arrays)
    kept = packed.unpack_features(packed.unpack(data, Path("x")), packed.ROUNDED)
    assert kept.keys() == {tap}
    assert np.all(kept[tap].lo <= narrow.lo)
    assert np.all(kept[tap].hi >= narrow.hi)
    assert np.all(kept[tap].hi[:2] <= narrow.hi[:2] + 2.5e-5)
    usual = packed.unpack(data, Path("x"), packed.ROUNDED)
    assert not any(n.endswith(packed.ROUNDED) for n in usual)
    assert packed.unpack_features(usual).keys() == {tap, same}


def test_an_array_file_is_read_without_pickle() -> None:
    # pack can't write one either, so this is NumPy's own file of an object.
    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(GoldenError, match="can't be read"):
        packed.unpack(buffer.getvalue(), Path("x.npz"))


@given(st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_a_damaged_array_file_raises_nothing_else(at: int, value: int, cut: bool) -> None:
    whole = packed.pack({"model/x": np.arange(12.0).reshape(3, 4), "model/y": np.zeros(500, np.float32)})
    at %= len(whole)
    damaged = whole[:at] if cut else whole[:at] + bytes([value]) + whole[at + 1 :]
    with contextlib.suppress(GoldenError):
        packed.unpack(damaged, Path("x.npz"))
