from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parity.targets import wire

LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text()
DTYPES = [np.dtype(name) for name in sorted(wire.DTYPES)]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=1, min_side=0, max_dims=4, max_side=4))
)
KEYS = st.text().filter(lambda k: k != "$array")
MESSAGES = st.recursive(
    LEAVES | ARRAYS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)
)


def reader(data: bytes) -> Callable[[int], bytes]:
    rest = memoryview(data)

    def read(n: int) -> bytes:
        nonlocal rest
        if n > len(rest):
            raise EOFError
        part, rest = rest[:n], rest[n:]
        return bytes(part)

    return read


def there_and_back(message: Any) -> Any:
    return wire.decode(reader(b"".join(wire.encode(message))))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


@given(MESSAGES)
def test_there_and_back(message: Any) -> None:
    assert same(message, there_and_back(message))


def test_arrays_arrive_contiguous_and_can_be_written_to() -> None:
    got = there_and_back({"x": np.arange(6, dtype=np.int16).reshape(2, 3).T})["x"]
    assert got.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert got.flags.c_contiguous
    got[0, 0] = 9


def test_arrays_in_another_byte_order_arrive_with_their_values() -> None:
    got = there_and_back({"x": np.arange(6, dtype=">f4")})["x"]
    assert got.dtype == np.float32
    assert got.tolist() == [0, 1, 2, 3, 4, 5]


def test_messages_follow_one_another() -> None:
    read = reader(b"".join(b"".join(wire.encode({"n": n, "x": np.zeros(n)})) for n in range(3)))
    assert [wire.decode(read)["n"] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(EOFError):
        wire.decode(read)


@pytest.mark.parametrize(
    "array", [np.array([{}], object), np.array(["text"]), np.array([(1, 2)], "i4,i4"), np.array(["2024"], "M8[D]")]
)
def test_an_array_of_objects_or_text_cant_be_sent(array: Any) -> None:
    with pytest.raises(wire.WireError, match="can't be sent"):
        wire.encode({"x": array})


def framed(text: bytes, arrays: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + arrays


def body(arrays: Any, value: Any = None) -> bytes:
    return framed(json.dumps({"$": value, "$arrays": arrays}).encode(), b"\0" * 64)


@pytest.mark.parametrize(
    "hostile",
    [
        framed(b""), framed(b"not json"), framed(b"\xff\xfe"), framed(b"[]"), framed(b"3"), framed(b"{}"),
        framed(b'{"$": 1}'), framed(b"[" * 200_000), framed(b'{"$": ' + b"[" * 200_000), (2**63).to_bytes(8, "little"),
        (wire.MAX_JSON + 1).to_bytes(8, "little"), body(3), body([3]), body([["float32"]]), body([["float32", 3]]),
        body([["float32", [1], 1]]), body([[["float32"], [1]]]), body([["object", [1]]]), body([["O", [1]]]),
        body([["<f4", [1]]]), body([["float32", [-1]]]), body([["float32", [1.0]]]), body([["float32", [True]]]),
        body([["float32", ["1"]]]), body([["float32", [2**40]]]), body([["float32", [2**20, 2**20]]]),
        body([["float32", [0, 2**70]]]),
        body([["float32", [1] * 65]]), body([["float32", [2**28]], ["float32", [2**28]], ["float32", [1]]]),
        body([], {"$array": 0}), body([["float32", [1]]], {"$array": 1}), body([["float32", [1]]], {"$array": -1}),
        body([["float32", [1]]], {"$array": "0"}), body([["float32", [1]]], {"$array": 0.0}),
        body([["float32", [1]]], {"$array": True}), body([["float32", [1]]], {"$array": None}),
    ],
)  # fmt: skip
def test_what_is_hostile_is_a_wire_error_before_memory_is_taken(hostile: bytes) -> None:
    taken = 0

    def read(n: int) -> bytes:
        nonlocal taken
        taken += n
        assert taken < 2**32, "asked for more memory than a message may take"
        part = real(n) if n <= 10**6 else b"\0" * 0
        if n > 10**6:
            raise wire.WireError("the test's own: this much would be read")
        return part

    real = reader(hostile)
    with pytest.raises(wire.WireError):
        wire.decode(read)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_an_end_or_a_wire_error(data: bytes) -> None:
    for stream in (framed(data), data):
        with contextlib.suppress(wire.WireError, EOFError):
            wire.decode(reader(stream))


@given(MESSAGES, st.data())
def test_a_flipped_byte_is_a_message_an_end_or_a_wire_error(message: Any, data: st.DataObject) -> None:
    whole = bytearray(b"".join(wire.encode(message)))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(wire.WireError, EOFError):
        wire.decode(reader(bytes(whole)))


def test_an_empty_array_with_sides_beyond_what_can_be_counted_is_no_message() -> None:
    described = [["float32", [0, 1 << 31, 1 << 31, 1 << 31]]]
    text = json.dumps({"$": {"$array": 0}, "$arrays": described}).encode()
    with pytest.raises(wire.WireError, match="an array of shape"):
        wire.decode(io.BytesIO(len(text).to_bytes(8, "little") + text).read)
