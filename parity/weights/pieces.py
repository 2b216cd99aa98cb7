"""What a check of weights speaks of: constants found in a file, and pieces that training says should be there.

Both are in PyTorch's axes and float64, so that they can be laid on each other: a convolution `[out, in, ...]`, a
matrix `[out, in]`, a vector `[out]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from parity.protocols import Array

Role = Literal["convolution", "matrix", "vector"]
U = 2.0**-24
"""Unit roundoff of float32."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Constant:
    """A tensor of numbers in a model file, as an operator uses it."""

    name: str
    """The file's own name."""
    role: Role
    """What the operator takes it for: it says which axes it has, and what it may be compared with."""
    value: Array
    """float64, dequantized, in PyTorch's axes."""
    half_step: Array
    """How far rounding to the stored type moves a number: half a quantization step; zeros for float32."""
    stored: str = "float32"
    """The dtype in the file."""
    trained: str | None = None
    """The trained tensor that it is, where the file keeps the trained names."""
    slot: str = ""
    """What the operator itself calls it (`weight_ih`, `running_var`); '' where it doesn't tell."""
    eps: float | None = None
    """Of the batch normalization that uses it."""
    uses: tuple[int, ...] = ()
    """The operators that use it, as `Reading.flow` numbers them."""
    optional: bool = False
    """One number: it may be a trained one, and needs no explanation where it isn't."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Piece:
    """A constant that training says a file should hold."""

    name: str
    """Of the trained tensor: `conv1.weight`."""
    how: str
    """What was done to it: `as trained`, `with bn1 folded in`."""
    role: Role
    value: Array
    """float64."""
    room: Array | float = 0.0
    """How far float32 arithmetic at export may move it."""
    slot: str = ""
    """What an operator that tells its inputs apart calls it."""
    eps: float | None = None
    """Of the batch normalization that it belongs to."""
    others: tuple[tuple[str, Array], ...] = ()
    """Mistakes that are made here, with what they would give: named when one of them fits."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A trained layer: the ways in which a file may hold it. Each way is complete in itself."""

    name: str
    ways: Sequence[Sequence[Piece]]
    also: Sequence[Piece] = ()
    """What a file may hold beside any of them: parts that a converter worked out of a layer's first step."""
    once: bool = True
    """Run once for an input: it has one place in the flow."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a file holds: its constants, settings that are as much a part of a layer as its weights, and what is odd."""

    constants: Sequence[Constant]
    problems: Sequence[tuple[str, str]] = field(default=())
    """(name in the file, what is wrong with it) of settings that change what the weights mean."""
    flow: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """Operator -> those that take what it gives. Empty where it isn't known."""


def half_spacing(value: Array) -> Array:
    """Half the distance between float16 numbers at each value: how far rounding to float16 moves one."""
    with np.errstate(over="ignore"):
        return np.spacing(np.abs(value).astype(np.float16)).astype(np.float64) / 2.0
