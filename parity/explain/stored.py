"""Weights stored in fewer bits: float16, bfloat16, whole steps, decimals; as a graph holds them, and as trained.

A graph holds a convolution with its batch normalization folded in. Weights that were rounded before that are others
than the folded ones rounded, so both are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from parity.explain.patches import Made
from parity.explain.surgery import RECURRENT, Network, Patch, attribute
from parity.protocols import Array

BITS = (8, 7, 6, 5, 4, 3, 2)
DECIMALS = (4, 3, 2, 1)
BEFORE = ", before BatchNorm was folded in"
EVERY = "weights, bias and BatchNorm's statistics"
BOTH = "weights and bias"
WEIGHTS = "weights"
Rounding = Callable[[Array], Array]


def floats() -> Iterator[tuple[str, str, Rounding]]:
    """Key, words, and what a narrower float makes of an array."""
    yield "network.weights-float16", "in float16", float16
    yield "network.weights-bfloat16", "in bfloat16", bfloat16


def decimals() -> Iterator[tuple[str, str, Rounding]]:
    """The same of numbers that were written down with few decimals."""
    for n in DECIMALS:
        yield "network.weights-quantized", f"with {n} decimals", partial(_written, places=n)


def steps(axis: int) -> Iterator[tuple[str, str, Rounding]]:
    """The same of few bits. `axis`: of the channels that may have a step each."""
    key = "network.weights-quantized"
    for bits in BITS:
        most = 2.0 ** (bits - 1) - 1.0
        yield key, f"in {bits} bits, a step a tensor", partial(_even, most=most, axis=None)
        yield key, f"in {bits} bits, a step a channel", partial(_even, most=most, axis=axis)
        yield key, f"in {bits} bits from least to largest, a step a tensor", partial(_affine, bits=bits)


def held(network: Network, i: int) -> Made:
    """What storing a layer's weights in fewer bits makes of them: all of them, its weights, one of its matrices."""
    node = network.nodes[i]
    names = [n for n in node.input[1 : 3 if node.op_type in RECURRENT else 2] if n in network.weights]
    axis = 1 if node.op_type in RECURRENT else 0 if attribute(node, "transB", 0) or node.op_type == "Conv" else -1
    bias = [b] if (b := network.bias(i)) else []

    def made(of: Sequence[str], rounded: Rounding) -> Patch:
        return Patch(weights={n: rounded(network.weights[n]) for n in of})

    parts = [(WEIGHTS, names)]
    if len(names) == 2:
        parts += [("input's weights", names[:1]), ("recurrent weights", names[1:])]
    for words, of in [(BOTH, names + bias), *parts] if bias else parts:
        for key, how, rounded in floats():
            yield key, f"{words} {how}", made(of, rounded)
    for words, of in parts:
        for key, how, rounded in steps(axis):
            yield key, f"{words} {how}", made(of, rounded)
    for key, how, rounded in decimals():
        yield key, f"{BOTH if bias else WEIGHTS} {how}", made(names + bias, rounded)
    yield "network.weights-scaled", "weights negated", made(names, np.negative)


def trained(weight: Array, learned: Mapping[str, Array], statistics: Mapping[str, Array]) -> Iterator[
    tuple[str, str, Mapping[str, Array]]
]:  # fmt: skip
    """Rounded before folding: key, phrase, and by name what a convolution and its batch normalization are then.

    `learned`: its bias, gamma and beta; `statistics`: mean and variance.
    """
    weights = {"weight": weight}
    both = {**weights, **learned}
    for words, of in ((WEIGHTS, weights), (BOTH, both), (EVERY, {**both, **statistics})):
        for key, how, rounded in (*floats(), *(decimals() if of is not weights else ())):
            yield key, f"{words} {how}{BEFORE}", {n: rounded(x) for n, x in of.items()}
    for key, how, rounded in steps(0):
        yield key, f"{WEIGHTS} {how}{BEFORE}", {"weight": rounded(weight)}


def lesser(phrase: str) -> Iterator[str]:
    """What the same is called at layers that have less to round: no batch normalization, no bias; the nearest first."""
    for more, less in ((BEFORE, ""), (EVERY, BOTH), (BOTH, WEIGHTS)):
        if more in phrase:
            phrase = phrase.replace(more, less)
            yield phrase


def float16(w: Array) -> Array:
    """Rounded to float16."""
    with np.errstate(over="ignore"):
        return w.astype(np.float16).astype(np.float64)


def bfloat16(w: Array) -> Array:
    """Rounded to bfloat16, half to even."""
    bits = w.astype(np.float32).view(np.uint32).astype(np.uint64)
    kept = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return kept.astype(np.uint32).view(np.float32).astype(np.float64)


def on_grid(w: Array, step: Array | float) -> Array:
    """Rounded to whole steps, half to even."""
    step = np.maximum(step, 1e-30)
    return np.asarray(np.round(w / step) * step)


def _written(w: Array, places: int) -> Array:
    return np.asarray(np.round(w, places))


def _even(w: Array, most: float, axis: int | None) -> Array:
    """Steps on both sides of zero, `most` of them on each; of a channel along an axis, or of the whole."""
    return on_grid(w, (np.abs(w).max() if axis is None else _by_channel(w, axis)) / most)


def _by_channel(w: Array, axis: int) -> Array:
    others = tuple(k for k in range(w.ndim) if k != axis % w.ndim)
    return np.asarray(np.abs(w).max(axis=others, keepdims=True))


def _affine(w: Array, bits: int) -> Array:
    low, high = min(float(w.min()), 0.0), max(float(w.max()), 0.0)
    step = max(high - low, 1e-30) / (2.0**bits - 1.0)
    zero = np.round(-low / step)
    return np.asarray((np.clip(np.round(w / step) + zero, 0, 2.0**bits - 1) - zero) * step)
