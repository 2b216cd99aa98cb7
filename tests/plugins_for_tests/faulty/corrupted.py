"""Right answers that were spoiled on the way out: every corruption of the panel (`tests/faults/panel.py`), by name.

`Features` and `Network` compute what they should and then spoil it: option `how` names what is done, `tap` where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from parity.backends.numpy_ import NumpyBackend
from parity.frontend import Frontend
from parity.protocols import Array, Artifact, Clip, Session, Tap, Taps
from parity.runtimes.onnxrt import OnnxRuntime

SMALLEST = np.float32(2.0**-126)
"""The smallest normal float32; what is smaller is a denormal."""


def _one(x: Array, value: float) -> Array:
    """The element in the middle is another number."""
    spoilt = x.copy()
    spoilt.reshape(-1)[x.size // 2] = value
    return spoilt


def nan_for_zero(x: Array) -> Array:
    """NaN where the right value is 0."""
    spoilt = x.copy()
    spoilt.reshape(-1)[np.flatnonzero(x == 0)[0]] = np.nan
    return spoilt


def one_of_4000(x: Array) -> Array:
    """One element of several thousand is a hundredth larger, at the largest."""
    spoilt = x.copy()
    spoilt.reshape(-1)[np.abs(x).argmax()] *= 1.01
    return spoilt


def one_ulp_on_one(x: Array) -> Array:
    """The largest element moved to the next float32."""
    spoilt = x.copy()
    at = np.abs(x).argmax()
    spoilt.reshape(-1)[at] = np.nextafter(x.reshape(-1)[at], np.float32(np.inf))
    return spoilt


def repeated(x: Array) -> Array:
    """A frame late, the first one twice."""
    return np.concatenate([x[:1], x[:-1]])


def stuck(x: Array) -> Array:
    """Band 7 holds what it first had."""
    spoilt = x.copy()
    spoilt[:, 7] = x[0, 7]
    return spoilt


def bfloat16(x: Array) -> Array:
    """Cut to the 8 bits that bfloat16 keeps."""
    return (np.ascontiguousarray(x).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def flushed(x: Array) -> Array:
    """What a CPU does that flushes denormals to zero. ValueError where there is none: it would prove nothing."""
    small = (x != 0) & (np.abs(x) < SMALLEST)
    if not small.any():
        raise ValueError("no denormal to flush")
    return np.where(small, np.float32(0), x)


def negative_zeros(x: Array) -> Array:
    """-0.0 for each 0.0. ValueError where there is none."""
    if not (x == 0).any():
        raise ValueError("no zero to turn")
    return np.where(x == 0, np.float32(-0.0), x)


def next_label(x: Array) -> Array:
    """The largest logit and the runner-up in each other's place."""
    spoilt = x.copy()
    flat = spoilt.reshape(-1)
    second, first = np.argsort(flat, kind="stable")[-2:]
    flat[[first, second]] = flat[[second, first]]
    return spoilt


def tie_broken(x: Array) -> Array:
    """Of two equal largest logits the later one is the next float32: another label, within any bound."""
    spoilt = x.copy()
    flat = spoilt.reshape(-1)
    equal = np.flatnonzero(flat == flat.max())
    if equal.size < 2:
        raise ValueError("no tie to break")
    flat[equal[-1]] = np.nextafter(flat[equal[-1]], np.float32(np.inf))
    return spoilt


def tail_lost(x: Array) -> Array:
    """Probabilities below a thousandth are 0."""
    return np.where(x < 1e-3, np.float32(0), x)


def softmaxed(x: Array) -> Array:
    """Probabilities where logits are due."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True)).astype(x.dtype)


def wrapped(x: Array) -> Array:
    """Integers half their range too high, without saturation: they wrap around."""
    info = np.iinfo(x.dtype)
    return (x.astype(np.int64) + (int(info.max) - int(info.min) + 1) // 2).astype(x.dtype)


def one_step(x: Array) -> Array:
    """One element of the integers is a step higher, at a value that isn't the highest."""
    spoilt = x.copy()
    spoilt.reshape(-1)[np.flatnonzero(x < np.iinfo(x.dtype).max)[0]] += 1
    return spoilt


HOW: Mapping[str, Callable[[Array], Array]] = {
    "nan": lambda x: _one(x, np.nan),
    "inf": lambda x: _one(x, np.inf),
    "-inf": lambda x: _one(x, -np.inf),
    "nan-for-zero": nan_for_zero,
    "all-nan": lambda x: np.full_like(x, np.nan),
    "empty": lambda x: x[:0],
    "float64": lambda x: x.astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "int32": lambda x: x.astype(np.int32),
    "int8-for-uint8": lambda x: x.view(np.int8),
    "complex64": lambda x: x.astype(np.complex64),
    "bool": lambda x: x > 0,
    "batch-axis": lambda x: x[None],
    "flat": lambda x: x.reshape(-1),
    "transposed": lambda x: x.swapaxes(-1, -2).copy(),
    "one-frame": lambda x: x[:1],
    "one-band": lambda x: x[:, :1],
    "one-number": lambda x: x.reshape(-1)[0].copy(),
    "two-batches": lambda x: np.concatenate([x, x]),
    "frame-more": lambda x: np.concatenate([x, x[-1:]]),
    "frame-fewer": lambda x: x[:-1],
    "one-of-4000": one_of_4000,
    "one-ulp-on-one": one_ulp_on_one,
    "gain-1.001": lambda x: x * np.float32(1.001),
    "offset": lambda x: x + np.float32(1e-3),
    "frame-late": lambda x: np.roll(x, 1, axis=0),
    "frame-twice": repeated,
    "time-reversed": lambda x: x[::-1].copy(),
    "bands-reversed": lambda x: x[:, ::-1].copy(),
    "band-stuck": stuck,
    "zeros": np.zeros_like,
    "negated": lambda x: -x,
    "mean-everywhere": lambda x: np.full_like(x, x.mean()),
    "as-float16": lambda x: x.astype(np.float16).astype(np.float32),
    "as-bfloat16": bfloat16,
    "bytes-swapped": lambda x: np.ascontiguousarray(x).byteswap(),
    "highest": lambda x: np.full_like(x, np.iinfo(x.dtype).max),
    "lowest": lambda x: np.full_like(x, np.iinfo(x.dtype).min),
    "wrapped": wrapped,
    "one-step": one_step,
    "next-label": next_label,
    "tie-broken": tie_broken,
    "tail-lost": tail_lost,
    "softmaxed": softmaxed,
    "labels-turned": lambda x: x[..., ::-1].copy(),
    # What must pass.
    "nothing": lambda x: x,
    "one-ulp": lambda x: np.where(x == 0, x, np.nextafter(x, np.float32(np.inf), dtype=np.float32)),
    "negative-zero": negative_zeros,
    "denormals-flushed": flushed,
    "column-major": np.asfortranarray,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}  # fmt: skip
"""Array at a tap -> what is given in its stead."""


def _without(taps: dict[Tap, Array], tap: Tap) -> dict[Tap, Array]:
    return {t: a for t, a in taps.items() if t != tap}


def _neighbour(taps: dict[Tap, Array], tap: Tap) -> Tap:
    """The tap that follows in the order in which they were given, or the one before the last."""
    names = list(taps)
    at = names.index(tap)
    return names[at + 1] if at + 1 < len(names) else names[at - 1]


TAPS: Mapping[str, Callable[[dict[Tap, Array], Tap], dict[Tap, Array]]] = {
    "lost": _without,
    "renamed": lambda taps, tap: _without(taps, tap) | {f"{tap}_0": taps[tap]},
    "capital": lambda taps, tap: _without(taps, tap) | {tap.title(): taps[tap]},
    "swapped": lambda taps, tap: taps | {tap: taps[_neighbour(taps, tap)], _neighbour(taps, tap): taps[tap]},
    "another-tap": lambda taps, tap: taps | {tap: taps[_neighbour(taps, tap)]},
    "extra": lambda taps, tap: taps | {f"{tap}:copy": taps[tap]},
}
"""All the arrays of a clip -> what is given in their stead."""

Batch = list[dict[Tap, Array]]
CLIPS: Mapping[str, Callable[[Batch], Batch]] = {
    "two-of-five": lambda clips: clips[:2],
    "none": lambda clips: [],
    "one-too-many": lambda clips: [*clips, clips[-1]],
    "clips-turned": lambda clips: clips[::-1],
    "first-for-all": lambda clips: [clips[0]] * len(clips),
}
"""The arrays of all clips -> what is given in their stead."""


def spoiled(taps: Taps, how: str, tap: Tap) -> dict[Tap, Any]:
    """The arrays of one clip, spoiled at `tap` where it is among them."""
    given = {t: np.asarray(a) for t, a in taps.items()}
    if how in CLIPS or tap not in given:
        return given
    return TAPS[how](given, tap) if how in TAPS else given | {tap: HOW[how](given[tap])}


class Features(NumpyBackend):
    """NumPy's features, spoiled."""

    def __init__(self, how: str, tap: str = "") -> None:
        self._how, self._tap = how, tap

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        found = [spoiled(a, self._how, self._tap) for a in super().features(clips, frontend, taps)]
        return CLIPS[self._how](found) if self._how in CLIPS else found


class _Session:
    def __init__(self, session: Session, how: str, tap: str) -> None:
        self._session, self._how, self._tap = session, how, tap
        self._before: Taps | None = None
        self.tensors = session.tensors

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        given = self._session.run(inputs, taps)
        if self._how == "first-for-all":
            self._before = self._before or {t: np.array(a) for t, a in given.items()}
            return {t: self._before.get(t, a) for t, a in given.items()}
        return spoiled(given, self._how, self._tap)


class Network(OnnxRuntime):
    """ONNX Runtime's activations, spoiled in the file's own layout."""

    def __init__(self, how: str, tap: str = "", opt: str = "all") -> None:
        super().__init__(opt)
        self._how, self._tap = how, tap

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        with super().open(artifact, threads) as session:
            yield _Session(session, self._how, self._tap)
