"""Batch normalization that was folded into a convolution: what else it may have been folded with.

The trained weights say it: W' = W·s, b' = (b - mean)·s + beta with s = gamma / sqrt(variance + eps) (Ioffe and Szegedy
2015). Needs the system's PyTorch artifact, and PyTorch; without either there is nothing to try.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from parity import layout
from parity.errors import ParityError
from parity.explain import stored
from parity.explain.patches import Edit
from parity.explain.surgery import Network, Patch, altered, attribute, chain
from parity.protocols import Array
from parity.system import System

EPS = (1e-2, 1e-3, 1e-4, 1e-6, 1e-7, 1e-8, 0.0, 1e-5)


@dataclass(frozen=True, eq=False)
class Norm:
    """A convolution's weights as they were trained, and the batch normalization behind it."""

    weight: Array
    bias: Array
    gamma: Array
    beta: Array
    mean: Array
    variance: Array
    eps: float

    def folded(self, **other: Any) -> tuple[Array, Array]:
        """Weight and bias of the two in one; `other` replaces any of their parts."""
        part = {**self.__dict__, **other}
        s = part["gamma"] / np.sqrt(part["variance"] + part["eps"])
        w = part["weight"] * s.reshape(-1, *[1] * (self.weight.ndim - 1))
        return w, (part["bias"] - part["mean"]) * s + part["beta"]


def catalogue(system: System, network: Network) -> list[Edit]:
    """Edits of batch normalizations: folded ones by the trained weights, others by the graph's own."""
    return [*_folded(system, network), *_own(network)]


def trained(system: System) -> list[Norm]:
    """Every convolution with a batch normalization behind it, in the order in which they run."""
    if importlib.util.find_spec("torch") is None:
        return []
    from parity.cost import example
    from parity.runtimes.torch_ import build
    from parity.weights import check
    from parity.weights import trained as layers

    source = check.parent(system)
    if source is None or source.network is None:
        return []
    try:
        net = build(source.network, Path(source.path))
        shape = layout.native(np.zeros(example(system, source), np.float32), source.input.layout).shape
        pairs = layers.normalized(net, shape)
    except (ParityError, RuntimeError, ValueError, NotImplementedError):
        return []

    def array(t: Any) -> Array:
        return np.asarray(t.detach().numpy(), np.float64)

    found = []
    for conv, bn in pairs:
        if bn.weight is None or bn.running_mean is None:
            continue
        w = array(conv.weight)
        bias = np.zeros(len(w)) if conv.bias is None else array(conv.bias)
        found.append(Norm(w, bias, array(bn.weight), array(bn.bias), array(bn.running_mean), array(bn.running_var),
                          float(bn.eps)))  # fmt: skip
    return found


def _folded(system: System, network: Network) -> Iterator[Edit]:
    left = trained(system)
    for i in network.layers:
        node = network.nodes[i]
        if node.op_type != "Conv" or not network.bias(i):
            continue
        w, b = network.weights[node.input[1]], network.weights[node.input[2]]
        norm = next((n for n in left if _is(n, w, b)), None)
        if norm is not None:
            left.remove(norm)
            for key, phrase, patch in _ways(norm, node, network):
                yield Edit(key, phrase, patch, network.name(i))


def _is(norm: Norm, w: Array, b: Array) -> bool:
    if norm.weight.shape != w.shape or not (np.isfinite(w).all() and np.isfinite(b).all()):
        return False
    ours, bias = norm.folded()
    return bool(np.allclose(ours, w, rtol=1e-4, atol=1e-6 * np.abs(w).max())
                and np.allclose(bias, b, rtol=1e-3, atol=1e-5 * max(1e-9, np.abs(b).max())))  # fmt: skip


def _ways(n: Norm, node: Any, network: Network) -> Iterator[tuple[str, str, Patch]]:
    zero, one = np.zeros_like(n.mean), np.ones_like(n.mean)

    def patch(**other: Any) -> Patch:
        w, b = n.folded(**other)
        return Patch(weights={node.input[1]: w, node.input[2]: b}, room=2.0)

    for eps in EPS:
        if eps != n.eps:
            yield "network.bn-eps", f"BatchNorm eps {eps:g}, not {n.eps:g}", patch(eps=eps)
    yield "network.bn-statistics", "BatchNorm's mean and variance lost (0 and 1)", patch(mean=zero, variance=one)
    yield "network.bn-mean", "BatchNorm's mean lost (0)", patch(mean=zero)
    yield "network.bn-variance", "BatchNorm's variance lost (1)", patch(variance=one)
    yield "network.bn-affine", "BatchNorm's gamma and beta lost (1 and 0)", patch(gamma=one, beta=zero)
    yield "network.bn-affine", "BatchNorm's gamma lost (1)", patch(gamma=one)
    yield "network.bn-affine", "BatchNorm's beta lost (0)", patch(beta=zero)
    none = {"gamma": one, "beta": zero, "mean": zero, "variance": one, "eps": 0.0}
    yield "network.bn-missing", "BatchNorm left out", patch(**none)
    if np.any(n.bias):
        yield "network.bias-missing", "the convolution's own bias missing before BatchNorm", patch(bias=zero)
    yield "network.bn-variance", "standard deviation for BatchNorm's variance", patch(variance=np.sqrt(n.variance))
    yield "network.bn-variance", "not the root of BatchNorm's variance", patch(variance=np.square(n.variance + n.eps))
    learned = {"bias": n.bias, "gamma": n.gamma, "beta": n.beta}
    for key, phrase, other in stored.trained(n.weight, learned, {"mean": n.mean, "variance": n.variance}):
        yield key, phrase, patch(**other)
    # Left in training mode: normalized by the mean and variance of the clip itself. A batch of one: InstanceNorm.
    out = node.output[0]
    plain = f"{out}:plain"
    before = altered(node)
    before.output[0] = plain
    norm = _by_itself(plain, out, n.weight.ndim, (n.gamma, n.beta, n.eps), network.opset)
    w, b = n.folded(**none)
    yield "network.bn-training", "BatchNorm by the clip's own mean and variance: left in training mode", Patch(
        {out: [before, *norm]}, {node.input[1]: w, node.input[2]: b}, room=2.0)  # fmt: skip


def _by_itself(taken: str, given: str, axes: int, by: tuple[Array, Array, float], opset: int) -> list[Any]:
    """(x - mean) / sqrt(variance + eps) · gamma + beta with the mean and variance of a clip's channel, step by step."""
    gamma, beta, eps = by
    where = list(range(2, axes))
    mean = ("ReduceMean", {"keepdims": 1}, (np.array(where, np.int64),)) if opset >= 18 else (
        "ReduceMean", {"keepdims": 1, "axes": where}, ())  # fmt: skip
    shape = (1, -1, *[1] * len(where))
    n = f"{given}:norm"
    return [
        *chain(taken, f"{n}/mean", mean),
        helper.make_node("Sub", [taken, f"{n}/mean"], [f"{n}/centered"]),
        helper.make_node("Mul", [f"{n}/centered", f"{n}/centered"], [f"{n}/squares"]),
        *chain(f"{n}/squares", f"{n}/deviation", mean, ("Add", {}, (np.array(eps),)), ("Sqrt", {}, ())),
        helper.make_node("Div", [f"{n}/centered", f"{n}/deviation"], [f"{n}/whitened"]),
        *chain(f"{n}/whitened", given, ("Mul", {}, (gamma.reshape(shape),)), ("Add", {}, (beta.reshape(shape),))),
    ]


def _own(network: Network) -> Iterator[Edit]:
    """BatchNormalization that the graph has as an operator of its own."""
    for i, node in enumerate(network.nodes):
        names = list(node.input[1:5])
        if node.op_type != "BatchNormalization" or not all(n in network.weights for n in names):
            continue
        where, now = network.name(i), attribute(node, "epsilon", 1e-5)
        gamma, beta, mean, variance = names
        zero, one = np.zeros_like(network.weights[mean]), np.ones_like(network.weights[mean])
        for eps in EPS:
            if not np.isclose(eps, now):
                made = Patch({node.output[0]: [altered(node, epsilon=eps)]})
                yield Edit("network.bn-eps", f"BatchNorm eps {eps:g}, not {now:g}", made, where)
        for key, words, weights in (
            ("bn-statistics", "BatchNorm's mean and variance lost (0 and 1)", {mean: zero, variance: one}),
            ("bn-mean", "BatchNorm's mean lost (0)", {mean: zero}),
            ("bn-variance", "BatchNorm's variance lost (1)", {variance: one}),
            ("bn-affine", "BatchNorm's gamma and beta lost (1 and 0)", {gamma: one, beta: zero}),
            ("bn-affine", "BatchNorm's gamma lost (1)", {gamma: one}),
            ("bn-affine", "BatchNorm's beta lost (0)", {beta: zero}),
        ):
            yield Edit(f"network.{key}", words, Patch(weights=weights), where)
        made = Patch({node.output[0]: chain(node.input[0], node.output[0], ("Identity", {}, ()))})
        yield Edit("network.bn-missing", "BatchNorm left out", made, where)
        trained = _by_itself(node.input[0], node.output[0], 4,
                             (network.weights[gamma], network.weights[beta], now), network.opset)  # fmt: skip
        yield Edit("network.bn-training", "BatchNorm by the clip's own mean and variance: left in training mode",
                   Patch({node.output[0]: trained}), where)  # fmt: skip
