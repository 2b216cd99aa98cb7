"""From copies of an activation to how far a faithful implementation may be from it."""

from __future__ import annotations

import numpy as np

from parity import layout
from parity.errors import ModelError
from parity.protocols import Array

SPREADS: dict[str, float] = {"float32": 8.0, "float16": 8.0, "bfloat16": 8.0, "dynamic": 8.0}
"""Half-width of the bound in spreads, by precision: twice the largest error seen (CONTRIBUTING.md, "Bounds")."""

TINY = 2.0**-126
"""The smallest normal number: what is below may be flushed to zero."""


def half_width(exact: Array, copies: Array, axes: str, operator: str, precision: str) -> Array:
    """How far each element may move, float64 of `exact`'s shape: C·max(its spread, half the spread of its channel).

    `exact` is a tensor of one clip in the layout `axes` (see `parity.layout`), `copies` the same with several along
    the axis `N`, the first unmoved. The spread of few copies is itself uncertain: its root mean square over the
    channel is the floor, and a tenth of the whole tensor's, where no copy woke a channel that is off. What a Softmax
    gives rounds by its own size, so there the floor is relative.
    ModelError where the first copy isn't what was computed alone: the axes are others than the layout says.
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
    own = np.sqrt(np.square(moved).mean(axis=first, keepdims=True))
    if operator == "Softmax":
        size = np.maximum(np.abs(exact), TINY)
        floor = size * np.sqrt(np.square(own / size).mean())
    else:
        positions = tuple(i for i, letter in enumerate(names) if letter in "TF")
        if not positions or np.prod([exact.shape[i] for i in positions]) < 2:
            positions = tuple(range(exact.ndim))
        whole = np.sqrt(np.square(own).mean())
        floor = np.maximum(np.sqrt(np.square(own).mean(axis=positions, keepdims=True)), 0.1 * whole)
    return np.asarray(SPREADS[precision] * np.maximum(own, 0.5 * floor) + TINY)
