"""How a network's arithmetic rounds: Monte Carlo arithmetic (Parker 1997) for the precisions that files are made in.

A graph is run in float64 on several copies of a clip at once, and after each primitive operation (inside a recurrence:
at every time step) each copy but the first gets another draw of what that operation may have rounded. How far the
copies spread around the first says how far a faithful implementation may be.

An operation that sums n products is off by about u·sqrt(n) times the size of what it sums (Higham 2002, 3.1, and
Higham & Mary 2019 for the root): the element's own size, the tensor's root mean square in the clip, and the root of the
sum of the squared products stand for that; the last counts where large products cancel, as they do in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from parity.protocols import Array

FLOAT32, FLOAT16, BFLOAT16 = 2.0**-24, 2.0**-11, 2.0**-8
"""Unit roundoff: half the spacing of numbers at 1."""


class Arithmetic(Protocol):
    """What happens to numbers on their way through a graph. Axis 0 of every tensor is the batch of copies."""

    def rounded(self, x: Array, fan_in: int, relative: bool = False, terms: Callable[[], Array] | None = None) -> Array:
        """An operation's output, each element the sum of `fan_in` terms; `relative`: it rounds by its own size only.

        `terms` gives the sum of the squared terms, `[1, ...]`, of the first copy.
        """
        ...

    def bias(self, b: Array) -> Array:
        """What is added to a sum of products as the file stores it, `[1 or copies, ...]`."""
        ...

    def weights(self, w: Array, axis: int | None) -> Array:
        """Weights as the file stores them, `[1 or copies, ...]`; `axis` (of `w`) counts output channels."""
        ...

    def operand(self, x: Array) -> Array:
        """What a multiplication by weights takes in: some formats quantize it on the way."""
        ...

    def tensor(self, name: str, x: Array) -> Array:
        """A tensor as the file keeps it between operations, under the graph's name."""
        ...


class Exact:
    """float64 as it is."""

    def rounded(self, x: Array, fan_in: int, relative: bool = False, terms: Callable[[], Array] | None = None) -> Array:
        return x

    def bias(self, b: Array) -> Array:
        return b[None]

    def weights(self, w: Array, axis: int | None) -> Array:
        return w[None]

    def operand(self, x: Array) -> Array:
        return x

    def tensor(self, name: str, x: Array) -> Array:
        return x


@dataclass(frozen=True)
class Precision:
    """What a class of files rounds. Roundoffs are relative, `steps` are halves of quantization steps."""

    operations: float = FLOAT32
    """Unit roundoff of each operation's output."""
    stored: float = 0.0
    """Unit roundoff of the stored weights and biases; 0: float32, as trained."""
    weight_steps: bool = False
    """Weights are integers, symmetric, a scale an output channel."""
    operand_steps: bool = False
    """What meets the weights is quantized as it comes, a scale a tensor of a clip (dynamic range)."""
    tensor_steps: bool = False
    """Every tensor between operations is quantized by a fixed scale."""


PRECISIONS = {
    "float32": Precision(),
    "float16": Precision(stored=FLOAT16),
    "bfloat16": Precision(stored=BFLOAT16),
    "dynamic": Precision(weight_steps=True, operand_steps=True),
}
"""Weights in 16 bits are multiplied in float32, as TensorFlow Lite's files and ONNX Runtime's on a CPU are."""


class Noise:
    """Another draw of what a precision rounds, for each copy but the first, which stays exact."""

    def __init__(self, precision: Precision, copies: int, seed: int) -> None:
        self._precision, self._copies = precision, copies
        self._draws = np.random.default_rng(seed)

    def drawn(self, shape: tuple[int, ...]) -> Array:
        """float64 in ±1, uniform; zeros for the first copy."""
        draw = self._draws.random(shape, np.float32)
        draw *= 2.0
        draw -= 1.0
        # A recurrent network's sequences have time first, and the copies behind it.
        axis = 0 if shape[0] == self._copies else shape.index(self._copies)
        np.moveaxis(draw, axis, 0)[0] = 0.0
        return draw.astype(np.float64)

    def rounded(self, x: Array, fan_in: int, relative: bool = False, terms: Callable[[], Array] | None = None) -> Array:
        size = np.abs(x)
        if not relative:
            size += np.sqrt(np.square(x).mean(axis=tuple(range(1, x.ndim)), keepdims=True))
        if terms is not None:
            size += np.sqrt(terms())
        size *= self._precision.operations * np.sqrt(fan_in)
        size *= self.drawn(x.shape)
        size += x
        return size

    def bias(self, b: Array) -> Array:
        p = self._precision
        return b[None] + p.stored * np.abs(b) * self.drawn((self._copies, *b.shape)) if p.stored else b[None]

    def weights(self, w: Array, axis: int | None) -> Array:
        p = self._precision
        if p.stored:
            return w[None] + p.stored * np.abs(w) * self.drawn((self._copies, *w.shape))
        if p.weight_steps:
            # The scale is the largest of an output channel over 127; half of it is what rounding moves.
            others = tuple(i for i in range(w.ndim) if i != axis)
            half = np.abs(w).max(axis=others, keepdims=True) / 254.0
            return w[None] + half * self.drawn((self._copies, *w.shape))
        return w[None]

    def operand(self, x: Array) -> Array:
        if not self._precision.operand_steps:
            return x
        half = np.abs(x).max(axis=tuple(range(1, x.ndim)), keepdims=True) / 254.0
        return x + half * self.drawn(x.shape)

    def tensor(self, name: str, x: Array) -> Array:
        return x
