"""How a network's arithmetic rounds: Monte Carlo arithmetic (Parker 1997) for the precisions that files are made in.

A graph is run in float64 on several copies of a clip at once, and after each primitive operation (inside a recurrence:
at every time step) each copy but the first gets another draw of what that operation may have rounded. How far the
copies spread around the first says how far a faithful implementation may be.

An operation that sums n products is off by about u·sqrt(n) times the size of what it sums (Higham 2002, 3.1, and
Higham & Mary 2019 for the root): the element's own size, the tensor's root mean square in the clip, and the root of the
sum of the squared products stand for that; the last counts where large products cancel, as they do in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

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

    def operand(self, x: Array, w: Array) -> Array:
        """What a multiplication by the weights `w` takes in: some formats quantize it on the way."""
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

    def operand(self, x: Array, w: Array) -> Array:
        return x

    def tensor(self, name: str, x: Array) -> Array:
        return x


class Held(NamedTuple):
    """What a tensor of integers can hold, in steps of twice `half`.

    It is cut off at its own range, or at that of all tensors that share its scale, as the format has it: from one to
    the other of `low`, and of `high`.
    """

    low: tuple[float, float]
    high: tuple[float, float]
    half: float
    rounds: bool = True
    """Whether what comes in is rounded to the steps; else it was, before an activation, and is only cut off."""
    cuts: bool = True
    """Whether it is cut off at the ends."""


@dataclass(frozen=True)
class Precision:
    """What a class of files rounds."""

    operations: float = FLOAT32
    """Unit roundoff of each operation's output; 0: integers are summed exactly."""
    stored: float = 0.0
    """Unit roundoff of the stored weights and biases; 0: float32, as trained."""
    weight_levels: float = 0.0
    """Steps from 0 to the largest weight, where weights are integers; 0: they aren't."""
    per_tensor: bool = False
    """One scale for all weights of an operation, not one for each output channel."""
    fewest: int = 0
    """Weights of fewer elements stay as trained."""
    operand_steps: bool = False
    """What meets the weights is quantized as it comes, a scale a tensor of a clip (dynamic range)."""
    levels: int = 0
    """Steps from the least to the largest number of a tensor between operations; 0: tensors aren't quantized."""
    spare: int = 0
    """Steps that the integers have above the range: what they hold, where only the scale leaves a bit unused."""
    fuses: tuple[str, ...] = ("Relu", "Clip")
    """Operators whose input is never stored where they alone take it: the operator before them gives their output."""
    quantizes_again: tuple[str, ...] = ()
    """Operators that only move numbers, and whose output has a range of its own all the same."""
    keeps_scale: tuple[str, ...] = ()
    """Operators, beside those that only move numbers, whose output has their input's scale."""


_PARTS = ("Slice", "Split")
_MEANS = ("ReduceMean", "GlobalAveragePool", "AveragePool")

PRECISIONS = {
    "float32": Precision(),
    "float16": Precision(stored=FLOAT16),
    "bfloat16": Precision(stored=BFLOAT16),
    "dynamic": Precision(weight_levels=127.0, fewest=1024, operand_steps=True),
    "int8": Precision(operations=0.0, weight_levels=127.0, levels=255, keeps_scale=("AveragePool",)),
    "uint8": Precision(operations=0.0, weight_levels=127.0, levels=255, keeps_scale=("AveragePool",)),
    "qnnpack-int8": Precision(
        operations=0.0, weight_levels=127.5, per_tensor=True, levels=255, quantizes_again=_PARTS, keeps_scale=_MEANS
    ),
    "x86-int8": Precision(
        operations=0.0,
        weight_levels=127.5,
        levels=127,
        spare=128,
        fuses=("Relu",),
        quantizes_again=_PARTS,
        keeps_scale=_MEANS,
    ),
}
"""Weights in 16 bits are multiplied in float32, as TensorFlow Lite's files and ONNX Runtime's on a CPU are.

TensorFlow Lite and ONNX Runtime: a scale an output channel, from -127 to 127 (TensorFlow Lite's int8 specification);
dynamic range leaves weights of fewer than 1,024 elements alone (`minimum_elements_for_weights` of its quantizer).
PyTorch: `default_weight_observer` of qnnpack has one scale a tensor, from -128 to 127; `reduce_range` of x86 makes
scales as for 7 bits, in integers of 8, and its clamps are of what is stored already. Its means keep their input's
scale, and the parts that a tensor is split into have ranges of their own.
"""


class Noise:
    """Another draw of what a precision rounds, for each copy but the first, which stays exact."""

    def __init__(self, precision: Precision, copies: int, seed: int, held: Mapping[str, Held] | None = None) -> None:
        """`held`: what each tensor that is stored as integers can hold, by its name in the graph."""
        self._precision, self._copies, self._held = precision, copies, held or {}
        self._draws = np.random.default_rng(seed)

    def drawn(self, shape: tuple[int, ...]) -> Array:
        """float64 in ±1, uniform; zeros for the first copy."""
        draw = self._draws.random(shape, np.float32)
        draw *= 2.0
        draw -= 1.0
        np.moveaxis(draw, self._axis(shape), 0)[0] = 0.0
        return draw.astype(np.float64)

    def rounded(self, x: Array, fan_in: int, relative: bool = False, terms: Callable[[], Array] | None = None) -> Array:
        if not self._precision.operations:
            return x
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
        if not self._precision.stored:
            return b[None]
        return b[None] + self._stored(b) * self.drawn((self._copies, *b.shape))

    def weights(self, w: Array, axis: int | None) -> Array:
        p = self._precision
        if p.stored:
            room = self._stored(w)
        elif p.weight_levels and w.size >= p.fewest:
            others = None if p.per_tensor else tuple(i for i in range(w.ndim) if i != axis)
            room = 0.5 * np.abs(w).max(axis=others, keepdims=True) / p.weight_levels
        else:
            return w[None]
        return w[None] + room * self.drawn((self._copies, *w.shape))

    def _stored(self, w: Array) -> Array:
        # Below the smallest normal number of 16 bits, the spacing stays what it is there.
        return np.maximum(self._precision.stored * np.abs(w), 2.0**-25 if self._precision.stored == FLOAT16 else 0.0)

    def operand(self, x: Array, w: Array) -> Array:
        if not self._precision.operand_steps or w.size < self._precision.fewest:
            return x
        others = tuple(i for i in range(x.ndim) if i != self._axis(x.shape))
        return self._on_a_grid(x, np.abs(x).max(axis=others, keepdims=True) / 254.0)

    def tensor(self, name: str, x: Array) -> Array:
        if (held := self._held.get(name)) is None:
            return x
        y = self._on_a_grid(x, np.asarray(held.half)) if held.rounds else x
        if not held.cuts:
            return y
        # Zero is held exactly, so the steps, and with them the ends, lie up to half a step off.
        axis = self._axis(x.shape)
        one = tuple(n if i == axis else 1 for i, n in enumerate(x.shape))

        def end(own: float, widest: float) -> Array:
            between = 0.5 * (own + widest) + 0.5 * (own - widest) * self.drawn(one)
            return between + (held.half if own else 0.0) * self.drawn(one)

        y = np.clip(y, end(*held.low), end(*held.high))
        np.moveaxis(y, axis, 0)[0] = np.moveaxis(x, axis, 0)[0]
        return y

    def _axis(self, shape: tuple[int, ...]) -> int:
        """The axis of the copies: a recurrent network's sequences have time first, and the copies behind it."""
        return 0 if shape[0] == self._copies else shape.index(self._copies)

    def _on_a_grid(self, x: Array, half: Array) -> Array:
        """Rounded to steps of twice `half`, each copy but the first on a grid that starts elsewhere.

        Each number is off by up to half a step, evenly drawn, and equal numbers are equally off: a channel that is
        constant, as in silence, is moved as a whole, and what sums it up is moved by as many halves as it has elements.
        """
        axis = self._axis(x.shape)
        step = np.where(half > 0.0, 2.0 * half, 1.0)
        start = 0.5 * self.drawn(tuple(n if i == axis else 1 for i, n in enumerate(x.shape)))
        y = x / step
        y += start
        np.rint(y, out=y)
        y -= start
        y *= step
        np.moveaxis(y, axis, 0)[0] = np.moveaxis(x, axis, 0)[0]
        return y
