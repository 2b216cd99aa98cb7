"""From copies of an activation to how far a faithful implementation may be from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parity import layout
from parity.errors import ModelError
from parity.networks.arithmetic import PRECISIONS
from parity.protocols import Array

_FLOATS, _INTEGERS = (9.0, 6.0), (16.0, 12.0)
SPREADS: dict[str, tuple[float, float]] = {
    "float32": (9.0, 3.0), "float16": _FLOATS, "bfloat16": _FLOATS, "dynamic": (12.0, 8.0),
    "int8": _INTEGERS, "uint8": _INTEGERS, "qnnpack-int8": _INTEGERS, "x86-int8": _INTEGERS,
}  # fmt: skip
"""Half-width of the bound in spreads, by precision, of a tensor with positions (time, frequency) and of one without:
twice the largest error seen (CONTRIBUTING.md, "Bounds"). It is seen among many more numbers in the one than in the
other, and so further out."""

TINY = 2.0**-126
"""The smallest normal number: what is below may be flushed to zero."""


@dataclass(frozen=True, eq=False)
class Moved:
    """How copies of a tensor lie about the first: half-width = by + C·spread - reach, whichever is wider of several.

    `by`: how far all of them are moved alike, where a clamp cuts them off; `reach`: how far an element is from where
    its activation lets anything through.
    """

    by: Array
    spread: Array
    reach: Array | float = 0.0

    def half_width(self, factor: float) -> Array:
        """How far each element may move."""
        return np.asarray(np.maximum(self.by + factor * self.spread - self.reach, 0.0))

    def factor(self, error: Array) -> Array:
        """The least factor that allows each error."""
        with np.errstate(divide="ignore", invalid="ignore"):
            needed = (error + self.reach - self.by) / self.spread
        return np.where(error > 0.0, np.nan_to_num(np.maximum(needed, 0.0), nan=np.inf, posinf=np.inf), 0.0)


def _positions(names: str, shape: Sequence[int]) -> tuple[int, ...]:
    """The axes of time and frequency, where there is more than one position."""
    found = tuple(i for i, letter in enumerate(names) if letter in "TF")
    return found if np.prod([shape[i] for i in found]) >= 2 else ()


def _moved(exact: Array, copies: Array, axes: str, relative: bool, least: float) -> tuple[Array, Array, Array]:
    """By how much the copies are moved alike, their spread about that, and its floor: half the channel's.

    A channel's is at least `least` of the whole tensor's.
    """
    names = layout.plain(axes)
    first = names.index("N")
    base = np.take(copies, [0], axis=first)
    if base.shape != exact.shape or not np.allclose(base, exact, rtol=1e-9, atol=1e-12, equal_nan=True):
        raise ModelError(
            "a copy that wasn't moved has other activations: clips of a batch don't stand apart",
            "is the batch axis N where the layout says, and does the graph keep it?",
        )
    moved = np.delete(copies, 0, axis=first) - exact
    by = np.abs(moved.mean(axis=first, keepdims=True))
    own = moved.std(axis=first, keepdims=True, ddof=1)
    if relative:
        size = np.maximum(np.abs(exact), TINY)
        floor = size * np.sqrt(np.square(own / size).mean())
    else:
        positions = _positions(names, exact.shape) or tuple(range(exact.ndim))
        floor = np.sqrt(np.square(own).mean(axis=positions, keepdims=True))
        floor = np.maximum(floor, least * np.sqrt(np.square(own).mean()))
    return by, own, 0.5 * floor


def moved(
    exact: Array, copies: Array, axes: str, operator: str, precision: str,
    before: tuple[Array, Array] | None = None,
) -> list[Moved]:  # fmt: skip
    """How far each element of an activation is moved by what a precision rounds, `exact`'s shape.

    `exact` is a tensor of one clip in the layout `axes` (see `parity.layout`), `copies` the same with several along
    the axis `N`, the first unmoved. The spread of few copies is itself uncertain: its root mean square over the
    channel is the floor, and a tenth of the whole tensor's, where no copy woke a channel that is off. What a Softmax
    gives in floats rounds by its own size, so there the floor is relative.

    `before`: both of what a Relu or a Clip made it from. An element that it cut off has no spread of its own, however
    near the edge it was; its spread before tells.
    ModelError where the first copy isn't what was computed alone: the axes are others than the layout says.
    """
    by, own, floor = _moved(exact, copies, axes, operator == "Softmax" and not PRECISIONS[precision].levels, 0.1)
    if before is None:
        return [Moved(by, np.maximum(own, floor))]
    by_before, own_before, floor_before = _moved(*before, axes, False, 0.0)
    reach = np.abs(before[0] - exact)
    return [Moved(by_before, np.maximum(own_before, floor_before), reach), Moved(by, own)]


def half_width(parts: Sequence[Moved], axes: str, precision: str) -> Array:
    """How far each element may move, float64: the widest of what moves it."""
    factor = SPREADS[precision][0 if _positions(layout.plain(axes), parts[0].by.shape) else 1]
    return np.asarray(np.maximum.reduce([p.half_width(factor) for p in parts]) + TINY)
