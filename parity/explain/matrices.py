"""Weights of convolutions and matrices: turned, lost, in another order."""

from __future__ import annotations

import itertools

import numpy as np

from parity.explain.patches import Made, Shapes
from parity.explain.surgery import Network, Patch, attribute


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
