"""The trained side: the layers of a PyTorch network, and what each becomes in a file of a format. Imports PyTorch.

Which batch normalization follows which convolution is seen by running the network once: it is the one that is given
the very tensor that the convolution gave, with nothing between them. A file that was exported for inference has the
two in one,

    W' = W · s,   b' = (b - mean) · s + beta,   s = gamma / sqrt(variance + eps)   (Ioffe and Szegedy 2015)

which is worked out here in float64; the exporter does it in float32, a few roundings of 2^-24 an element.
"""

from __future__ import annotations

import dataclasses
import re
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
NORM = ("weight", "bias", "running_mean", "running_var")
_OWN = frozenset(NORM)
BY_NAME = ("torchscript", "torch-export")
"""Formats that keep the trained names, so that a tensor of any shape is found."""
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
        made: list[tuple[Any, str, Any, int]] = []
        last: list[tuple[int, ...]] = []

        def note(name: str, module: Any) -> Any:
            def hook(_module: Any, inputs: Any, output: Any) -> None:
                self.order.append(name)
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    # The last that gave it: an activation in place gives the tensor that it took.
                    last_made = next((m for m in reversed(made) if m[0] is inputs[0]), None)
                    if last_made is not None and _is_convolution(last_made[2]) and last_made[3] == inputs[0]._version:
                        self.norms[last_made[1]] = name, module
                if isinstance(module, torch.nn.Linear) and last:
                    self.before[name] = last[-1]
                if isinstance(output, torch.Tensor):
                    made.append((output, name, module, output._version))
                    if output.ndim == 4:
                        last.append(tuple(output.shape))

            return hook

        hooks = [m.register_forward_hook(note(n, m)) for n, m in network.named_modules() if not list(m.children())]
        try:
            with torch.no_grad():  # in inference mode tensors don't count their versions
                network(torch.zeros(*shape))
        finally:
            for h in hooks:
                h.remove()


def _is_convolution(module: Any) -> bool:
    return isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Conv3d)


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
        Piece(name=f"{name}.bias", how=how, role="vector", slot="conv_bias", value=(b - mean) * s + beta, room=room),
    )


def _convolution(name: str, module: Any, norm: tuple[str, Any] | None, form: str) -> list[Layer]:
    weight = _array(module.weight)
    bias = None if module.bias is None else _array(module.bias)
    plain = [Piece(name=f"{name}.weight", how="as trained", role="convolution", value=weight)]
    if bias is not None:
        plain.append(Piece(name=f"{name}.bias", how="as trained", role="vector", slot="conv_bias", value=bias))
    if norm is None:
        return [Layer(name=name, ways=[plain])]
    bn_name, bn = norm
    w, b = _folded(name, weight, bias, norm, bn.eps)
    others = [_folded(name, weight, bias, norm, eps) for eps in OTHER_EPS if eps != bn.eps]
    w, b = (
        Piece(name=p.name, how=p.how, role=p.role, slot=p.slot, value=p.value, room=p.room,
              others=tuple((o[i].how, o[i].value) for o in others))
        for i, p in enumerate((w, b))
    )  # fmt: skip
    return [Layer(name=name, ways=[[w, b], *([*plain, *way] for way in _norm(bn_name, bn))])]


def _norm(name: str, module: Any) -> list[list[Piece]]:
    """Batch normalization by itself: as it was trained, or as one factor and one addend a channel."""
    if any(getattr(module, n) is None for n in NORM):
        raise NotImplementedError(f"{name}, a {type(module).__name__} without {' or '.join(NORM)}")
    gamma, beta, mean, variance = (_array(getattr(module, n)) for n in NORM)
    trained = [
        Piece(name=f"{name}.{n}", how="as trained", role="vector", slot=n, value=value,
              eps=module.eps if n == "running_var" else None)
        for n, value in zip(NORM, (gamma, beta, mean, variance), strict=True)
    ]  # fmt: skip
    s = gamma / np.sqrt(variance + module.eps)
    how = f"as a factor and an addend (eps {module.eps:g})"
    room = ROUNDINGS * U * (np.abs(mean * s) + np.abs(beta))
    return [trained, [
        Piece(name=f"{name}.weight", how=how, role="vector", slot="factor", value=s, room=ROUNDINGS * U * np.abs(s)),
        Piece(name=f"{name}.bias", how=how, role="vector", slot="addend", value=beta - mean * s, room=room),
    ]]  # fmt: skip


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
            return Piece(name=f"{name}.{what}{suffix}", how=how, role=role, slot=what, value=value)

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

    `shape` is that of an input, in PyTorch's order. Every tensor of its state is in one of them, but those that count
    batches; NotImplementedError names a layer, or a tensor, of a kind that isn't known.
    """
    seen = _Seen(network, shape)
    modules = dict(network.named_modules())
    names = list(dict.fromkeys(seen.order))
    found: list[Layer] = []
    folded = {name for name, _ in seen.norms.values()}
    covered: set[int] = set()
    for name in names:
        module = modules[name]
        before = len(found)
        if _is_convolution(module):
            found += _convolution(name, module, seen.norms.get(name), form)
        elif isinstance(module, torch.nn.Linear):
            found += _linear(name, module, seen.before.get(name), form)
        elif isinstance(module, torch.nn.LSTM | torch.nn.GRU):
            found += _recurrent(name, module, form)
        elif isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and name not in folded:
            found.append(Layer(name=name, ways=_norm(name, module)))
        elif list(module.parameters(recurse=False)) and name not in folded:
            raise NotImplementedError(f"{name}, a {type(module).__name__}")
        if seen.order.count(name) > 1:
            found[before:] = [dataclasses.replace(layer, once=False) for layer in found[before:]]
        known = [n for n in module.state_dict() if n in _OWN or re.match(r"(weight|bias)_(ih|hh)_l\d+(_reverse)?$", n)]
        covered |= {id(getattr(module, n)) for n in known}
    return found + _others(network, shape, covered, form)


def normalized(network: Any, shape: Sequence[int]) -> list[tuple[Any, Any]]:
    """Each convolution with the batch normalization that follows it, in the order of their names in the network."""
    modules = dict(network.named_modules())
    return [(modules[name], bn) for name, (_, bn) in _Seen(network, shape).norms.items()]


def _others(network: Any, shape: Sequence[int], covered: set[int], form: str) -> list[Layer]:
    """Tensors that are in no layer: a network's own. One channel by channel is looked for as it was trained.

    One that the output doesn't depend on may be in a file, and need not.
    """
    found = []
    for name, tensor in network.state_dict(keep_vars=True).items():
        if id(tensor) in covered or name.endswith("num_batches_tracked"):
            continue
        value = _array(tensor)
        role: Role = "vector" if value.ndim == 1 else "matrix" if value.ndim == 2 else "convolution"
        piece = Piece(name=name, how="as trained", role=role, value=value)
        if _idle(network, shape, tensor):
            found.append(Layer(name=name, ways=[[]], also=[piece]))
            continue
        if role != "vector" and form not in BY_NAME:
            raise NotImplementedError(f"{name}, a tensor {list(value.shape)} that no layer of a known kind takes in")
        found.append(Layer(name=name, ways=[[piece]]))
    return found


def _idle(network: Any, shape: Sequence[int], tensor: torch.Tensor) -> bool:
    """Whether the output stays a number where the tensor is none: then it isn't worked out with it."""
    if not tensor.is_floating_point():
        return False
    with torch.no_grad():
        kept = tensor.detach().clone()
        tensor.fill_(float("nan"))
        try:
            given = network(torch.zeros(*shape))
        finally:
            tensor.copy_(kept)
    outputs = [t for t in torch.utils._pytree.tree_leaves(given) if isinstance(t, torch.Tensor)]
    return bool(outputs) and not any(bool(t.isnan().any()) for t in outputs)
