"""Weights of convolutions and matrices: turned, lost, in another order, stored in fewer bits."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from parity.explain.patches import Made, Shapes
from parity.explain.surgery import RECURRENT, Network, Patch, attribute
from parity.protocols import Array

BITS = (8, 7, 6, 5, 4, 3, 2)


def turned_or_lost(network: Network, i: int, shapes: Shapes) -> Made:
    """Edits of the weights of a convolution or a matrix, and of its bias."""
    node = network.nodes[i]
    weight, bias = node.input[1], network.bias(i)
    w = network.weights[weight]
    if bias:
        b = network.weights[bias]
        if np.any(b):
            yield "network.bias-missing", "bias missing", Patch(weights={bias: np.zeros_like(b)})
            yield "network.bias-twice", "bias added twice", Patch(weights={bias: 2.0 * b})
            yield "network.bias-twice", "bias subtracted", Patch(weights={bias: -b})
    yield "network.weights-zero", "all weights 0", Patch(weights={weight: np.zeros_like(w)})
    if node.op_type == "Conv" and max(w.shape[2:]) > 1:
        spatial = tuple(range(2, w.ndim))
        yield "network.kernel-flipped", "kernels flipped: convolution for correlation", Patch(
            weights={weight: np.flip(w, spatial)})  # fmt: skip
        for axis in spatial if len(spatial) > 1 else ():
            yield "network.kernel-flipped", f"kernels flipped along axis {axis}", Patch(
                weights={weight: np.flip(w, axis)})  # fmt: skip
        if w.ndim == 4 and w.shape[2] == w.shape[3]:
            yield "network.kernel-transposed", "axes of the kernels exchanged", Patch(
                weights={weight: np.swapaxes(w, 2, 3)})  # fmt: skip
        elif w.ndim == 4:
            other = w.reshape(*w.shape[:2], w.shape[3], w.shape[2]).swapaxes(2, 3)
            yield "network.kernel-transposed", "kernels read in the other order of axes", Patch(weights={weight: other})
    if w.shape[0] == w.shape[1] > 1:
        yield "network.weights-transposed", "weights transposed", Patch(weights={weight: np.swapaxes(w, 0, 1)})
    if node.op_type in ("Gemm", "MatMul"):
        yield from _flattened(network, i, shapes)


def _flattened(network: Network, i: int, shapes: Shapes) -> Made:
    """A layer after a flatten, its columns in another order of the axes."""
    node = network.nodes[i]
    maker = network.maker.get(node.input[0])
    if maker is None or network.nodes[maker].op_type not in ("Flatten", "Reshape"):
        return
    before = shapes.get(network.nodes[maker].input[0], ())[1:]
    w = network.weights[node.input[1]]
    columns_last = node.op_type == "Gemm" and attribute(node, "transB", 0)
    turned = w if columns_last else w.T
    if sum(s > 1 for s in before) < 2 or int(np.prod(before)) != turned.shape[1]:
        return
    places = np.arange(turned.shape[1]).reshape(before)
    seen = {tuple(places.ravel())}
    for axes in itertools.permutations(range(len(before))):
        order = places.transpose(axes).ravel()
        last = "the channel last" if axes[-1] == 0 else f"the axes in the order {', '.join(map(str, axes))}"
        for ours, words in ((order, f"what comes in is flattened with {last}"),
                            (np.argsort(order), f"weights are in the order of a flatten with {last}")):  # fmt: skip
            if tuple(ours) in seen:
                continue
            seen.add(tuple(ours))
            made = np.empty_like(turned)
            made[:, ours] = turned
            patch = Patch(weights={node.input[1]: made if columns_last else made.T})
            yield "network.flatten-order", words, patch


def stored(network: Network, i: int) -> Made:
    """What storing the weights in fewer bits makes of them."""
    node = network.nodes[i]
    names = [n for n in node.input[1 : 3 if node.op_type in RECURRENT else 2] if n in network.weights]
    axis = 1 if node.op_type in RECURRENT else 0 if attribute(node, "transB", 0) or node.op_type == "Conv" else -1
    values = {n: network.weights[n] for n in names}
    bias = network.bias(i)
    both = {**values, **({bias: network.weights[bias]} if bias else {})}

    def made(of: Mapping[str, Array], rounded: Any) -> Patch:
        return Patch(weights={n: rounded(w) for n, w in of.items()})

    for of, words in ((both, "weights and bias"), (values, "weights")):
        yield "network.weights-float16", f"{words} in float16", made(of, _float16)
        yield "network.weights-bfloat16", f"{words} in bfloat16", made(of, bfloat16)
        if not bias:
            break
    for bits in BITS:
        most = 2.0 ** (bits - 1) - 1.0
        yield "network.weights-quantized", f"weights in {bits} bits, a step a tensor", made(
            values, lambda w, m=most: on_grid(w, np.abs(w).max() / m))  # fmt: skip
        yield "network.weights-quantized", f"weights in {bits} bits, a step a channel", made(
            values, lambda w, m=most: on_grid(w, _by_channel(w, axis) / m))  # fmt: skip
        yield "network.weights-quantized", f"weights in {bits} bits from least to largest, a step a tensor", made(
            values, lambda w, b=bits: _affine(w, b))  # fmt: skip
    for decimals in (4, 3, 2, 1):
        yield "network.weights-quantized", f"weights and bias with {decimals} decimals", made(
            both, lambda w, d=decimals: np.round(w, d))  # fmt: skip
    yield "network.weights-scaled", "weights negated", made(values, np.negative)


def _float16(w: Array) -> Array:
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


def _by_channel(w: Array, axis: int) -> Array:
    others = tuple(k for k in range(w.ndim) if k != axis % w.ndim)
    return np.asarray(np.abs(w).max(axis=others, keepdims=True))


def _affine(w: Array, bits: int) -> Array:
    low, high = min(float(w.min()), 0.0), max(float(w.max()), 0.0)
    step = max(high - low, 1e-30) / (2.0**bits - 1.0)
    zero = np.round(-low / step)
    return np.asarray((np.clip(np.round(w / step) + zero, 0, 2.0**bits - 1) - zero) * step)
