"""Messages between parity and its workers: JSON with arrays beside it, over any pipe.

A message is eight bytes (length of the JSON, little-endian), the JSON, then the arrays' bytes one after another; in
the JSON an array stands as `{"$array": index}` and `"$arrays"` lists dtypes and shapes. Nothing is pickled, and
nothing that arrives is believed: dtypes come from a list, sizes are checked before memory is taken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

DTYPES = frozenset(
    {"bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64",
     "complex64", "complex128"}
)  # fmt: skip
MAX_JSON = 1 << 26
MAX_ARRAYS = 1 << 31
MAX_AXES = 32


class WireError(Exception):
    """What came over the pipe is not a message."""


def _writable(data: bytes | bytearray) -> bytearray:
    return data if isinstance(data, bytearray) else bytearray(data)


def encode(message: Any) -> list[bytes | memoryview]:
    """The parts of a message, to be written one after another."""
    arrays: list[np.ndarray[Any, Any]] = []

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            if value.dtype.name not in DTYPES:
                raise WireError(f"an array of dtype {value.dtype} can't be sent")
            # What is said of an array is its dtype's name, which leaves out the order of its bytes.
            arrays.append(np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("=")))
            return {"$array": len(arrays) - 1}
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return value

    body = plain(message)
    text = json.dumps({"$": body, "$arrays": [[a.dtype.name, list(a.shape)] for a in arrays]}).encode()
    return [len(text).to_bytes(8, "little"), text, *(a.reshape(-1).view(np.uint8).data for a in arrays)]


def decode(read: Callable[[int], bytes | bytearray], most: int = MAX_ARRAYS) -> Any:
    """The next message from `read(n)`, which returns exactly n bytes. WireError for anything else.

    Its arrays together are at most `most` bytes.
    """
    size = int.from_bytes(read(8), "little")
    if size > MAX_JSON:
        raise WireError(f"a message of {size} bytes")
    try:
        whole = json.loads(read(size))
        body, described = whole["$"], [(dtype, list(shape)) for dtype, shape in whole["$arrays"]]
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise WireError(f"not a message: {e}") from None
    total, arrays = 0, []
    for dtype, shape in described:
        sizes = all(type(n) is int and 0 <= n <= MAX_ARRAYS for n in shape) and len(shape) <= MAX_AXES
        if not (isinstance(dtype, str) and dtype in DTYPES and sizes):
            raise WireError(f"an array of dtype {str(dtype)[:40]!r} and shape {str(shape)[:80]}")
        n = math.prod(shape) * np.dtype(dtype).itemsize
        total += n
        if total > most:
            raise WireError(f"arrays of over {most} bytes")
        data = _writable(read(n))
        try:
            arrays.append(np.frombuffer(data, dtype=dtype).reshape(shape))
        except ValueError as e:  # no bytes, and yet too many: one side is 0, the others beyond what NumPy counts
            raise WireError(f"an array of shape {str(shape)[:80]}: {e}") from None

    def whole_again(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {"$array"}:
                if type(value["$array"]) is not int or value["$array"] < 0:
                    raise WireError(f"no array {str(value['$array'])[:40]!r}")
                return arrays[value["$array"]]
            return {k: whole_again(v) for k, v in value.items()}
        if isinstance(value, list):
            return [whole_again(v) for v in value]
        return value

    try:
        return whole_again(body)
    except (IndexError, TypeError, RecursionError) as e:
        raise WireError(f"not a message: {e}") from None
