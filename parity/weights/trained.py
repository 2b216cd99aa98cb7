"""The trained side: the layers of a PyTorch network, and what each becomes in a file of a format. Imports PyTorch.

Which batch normalization follows which convolution is seen by running the network once: it is the one that is given
the very tensor that the convolution gave. A file that was exported for inference has the two in one,

    W' = W · s,   b' = (b - mean) · s + beta,   s = gamma / sqrt(variance + eps)   (Ioffe and Szegedy 2015)

which is worked out here in float64; the exporter does it in float32, a few roundings of 2^-24 an element.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from parity.protocols import Array
from parity.weights.pieces import Layer, Piece, Role, U

ROUNDINGS = 8
"""Roundings of float32 allowed where batch normalization was folded in: at most 2.4 were seen in the bundled files."""
OTHER_EPS = (1e-3, 1e-6, 0.0)
"""Other frameworks' defaults of eps, and none: what is looked for where a folded weight is wrong."""

# (format, kind of layer) -> the gates in the file's order, as places in PyTorch's (LSTM i, f, g, o; GRU r, z, n).
GATES: Mapping[tuple[str, str], tuple[Sequence[int], str]] = {
    ("onnx", "LSTM"): ((0, 3, 1, 2), "gates i, f, g, o stand as i, o, f, g"),
    ("onnx", "GRU"): ((1, 0, 2), "gates r, z, n stand as z, r, n"),
    ("tflite", "GRU"): ((1, 0, 2), "gates r, z, n stand as z, r, n"),
}
SUMMED = {("tflite", "LSTM")}
"""Where the two biases of a layer are one, their sum."""


def _array(tensor: Any) -> Array:
    return np.asarray(tensor.detach().numpy(), np.float64)


class _Seen:
    """What was given to and by each module in one run: batch normalizations by convolution, shapes before a flatten."""

    def __init__(self, network: Any, shape: Sequence[int]) -> None:
        self.norms: dict[str, tuple[str, Any]] = {}
        self.before: dict[str, tuple[int, ...]] = {}
        self.order: list[str] = []
        made: list[tuple[Any, str]] = []
        last: list[tuple[int, ...]] = []

        def note(name: str, module: Any) -> Any:
            def hook(_module: Any, inputs: Any, output: Any) -> None:
                self.order.append(name)
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    giver = next((who for tensor, who in made if tensor is inputs[0]), None)
                    if giver is not None:
                        self.norms[giver] = name, module
                if isinstance(module, torch.nn.Linear) and last:
                    self.before[name] = last[-1]
                if isinstance(output, torch.Tensor):
                    made.append((output, name))
                    if output.ndim == 4:
                        last.append(tuple(output.shape))

            return hook

        hooks = [m.register_forward_hook(note(n, m)) for n, m in network.named_modules() if not list(m.children())]
        with torch.inference_mode():
            network(torch.zeros(*shape))
        for h in hooks:
            h.remove()


def _folded(name: str, weight: Array, bias: Array | None, norm: tuple[str, Any], eps: float) -> tuple[Piece, Piece]:
    """Weight and bias of a convolution with its batch normalization folded in."""
    bn_name, bn = norm
    gamma, beta, mean, variance = (_array(t) for t in (bn.weight, bn.bias, bn.running_mean, bn.running_var))
    s = gamma / np.sqrt(variance + eps)
    b = np.zeros_like(mean) if bias is None else bias
    how = f"{bn_name} folded in (eps {eps:g})"
    w = weight * s.reshape(-1, *[1] * (weight.ndim - 1))
    room = ROUNDINGS * U * (np.abs(b * s) + np.abs(mean * s) + np.abs(beta))
    return (
        Piece(name=f"{name}.weight", how=how, role="convolution", value=w, room=ROUNDINGS * U * np.abs(w)),
        Piece(name=f"{name}.bias", how=how, role="vector", value=(b - mean) * s + beta, room=room),
    )


def _convolution(name: str, module: Any, norm: tuple[str, Any] | None, form: str) -> list[Layer]:
    weight = _array(module.weight)
    bias = None if module.bias is None else _array(module.bias)
    plain = [Piece(name=f"{name}.weight", how="as trained", role="convolution", value=weight)]
    if bias is not None:
        plain.append(Piece(name=f"{name}.bias", how="as trained", role="vector", value=bias))
    if norm is None:
        return [Layer(name=name, ways=[plain])]
    bn_name, bn = norm
    w, b = _folded(name, weight, bias, norm, bn.eps)
    others = [_folded(name, weight, bias, norm, eps) for eps in OTHER_EPS if eps != bn.eps]
    w, b = (
        Piece(name=p.name, how=p.how, role=p.role, value=p.value, room=p.room,
              others=tuple((o[i].how, o[i].value) for o in others))
        for i, p in enumerate((w, b))
    )  # fmt: skip
    return [Layer(name=name, ways=[[w, b], plain + _norm(bn_name, bn)])]


def _norm(name: str, module: Any) -> list[Piece]:
    names = ("weight", "bias", "running_mean", "running_var")
    return [
        Piece(name=f"{name}.{n}", how="as trained", role="vector", value=_array(getattr(module, n))) for n in names
    ]  # fmt: skip


def _linear(name: str, module: Any, before: tuple[int, ...] | None, form: str) -> list[Layer]:
    weight = _array(module.weight)
    how = "as trained"
    if form == "tflite" and before is not None and int(np.prod(before[1:])) == weight.shape[1] != before[1]:
        # After a flatten TensorFlow has the channel last, so that the columns stand in another order.
        weight = weight.reshape(len(weight), *before[1:]).transpose(0, 2, 3, 1).reshape(weight.shape)
        how = "columns with the channel last"
    pieces = [Piece(name=f"{name}.weight", how=how, role="matrix", value=weight)]
    if module.bias is not None:
        pieces.append(Piece(name=f"{name}.bias", how="as trained", role="vector", value=_array(module.bias)))
    return [Layer(name=name, ways=[pieces])]


def _recurrent(name: str, module: Any, form: str) -> list[Layer]:
    kind = str(module.mode)  # of a subclass too
    gates = 4 if kind == "LSTM" else 3
    order, how = GATES.get((form, kind), (range(gates), "as trained"))

    def turned(x: Array) -> Array:
        parts = np.split(x, gates, axis=0)
        return np.concatenate([parts[i] for i in order])

    found = []
    suffixes = [f"_l{k}{way}" for k in range(module.num_layers) for way in ["", "_reverse"][: 1 + module.bidirectional]]
    for suffix in suffixes:

        def piece(what: str, role: Role, suffix: str = suffix) -> Piece:
            value = turned(_array(getattr(module, what + suffix)))
            return Piece(name=f"{name}.{what}{suffix}", how=how, role=role, value=value)

        pieces, also = [piece("weight_ih", "matrix"), piece("weight_hh", "matrix")], list[Piece]()
        if module.bias:
            both = [piece("bias_ih", "vector"), piece("bias_hh", "vector")]
            if (form, kind) in SUMMED:
                total = both[0].value + both[1].value
                both = [Piece(name=f"{both[0].name} + bias_hh{suffix}", how="the two biases' sum", role="vector",
                              value=total, room=U * np.abs(total))]  # fmt: skip
            pieces += both
            if (form, kind) == ("tflite", "GRU"):
                # Unrolled: where the first state is zero, a step's recurrent product is its bias, gate by gate.
                parts = zip("zrn", np.split(both[1].value, gates), strict=True)
                also = [Piece(name=f"{both[1].name}, gate {g}", how="as trained", role="vector", value=v)
                        for g, v in parts]  # fmt: skip
        found.append(Layer(name=name + suffix, ways=[pieces], also=also))
    return found


def layers(network: Any, shape: Sequence[int], form: str) -> list[Layer]:
    """The layers of a trained network in flow order, as a file of format `form` may hold them.

    `shape` is that of an input, in PyTorch's order. NotImplementedError names a layer with weights of another kind.
    """
    seen = _Seen(network, shape)
    modules = dict(network.named_modules())
    names = list(dict.fromkeys(seen.order))
    found: list[Layer] = []
    folded = {name for name, _ in seen.norms.values()}
    for name in names:
        module = modules[name]
        if isinstance(module, torch.nn.modules.conv._ConvNd):
            found += _convolution(name, module, seen.norms.get(name), form)
        elif isinstance(module, torch.nn.Linear):
            found += _linear(name, module, seen.before.get(name), form)
        elif isinstance(module, torch.nn.LSTM | torch.nn.GRU):
            found += _recurrent(name, module, form)
        elif isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and name not in folded:
            found.append(Layer(name=name, ways=[_norm(name, module)]))
        elif list(module.parameters(recurse=False)) and name not in folded:
            raise NotImplementedError(f"{name}, a {type(module).__name__}")
    return found
