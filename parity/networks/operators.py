"""The operators that round, in float64 NumPy, with their rounding left to an `Arithmetic`.

Definitions: the ONNX operator specification. Tensors are `[copies, ...]`. Operators that only move numbers about are
run by the onnx package's own reference implementation (`parity.networks.graph`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from parity.errors import ModelError
from parity.networks.arithmetic import Arithmetic
from parity.protocols import Array

Attributes = Mapping[str, Any]
Operator = Callable[[Sequence[Any], Attributes, Arithmetic], Sequence[Array]]


def _pads(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int],
          a: Attributes) -> list[tuple[int, int]]:  # fmt: skip
    """Zeros before and after each spatial axis."""
    n, auto = len(kernel), a.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        pads = a.get("pads") or [0] * (2 * n)
        return [(pads[i], pads[i + n]) for i in range(n)]
    if auto == "VALID":
        return [(0, 0)] * n
    out = []
    for i in range(n):
        total = max(0, (-(-size[i] // stride[i]) - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 - size[i])
        small, large = total // 2, total - total // 2
        out.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return out


def _padded(x: Array, pads: Sequence[tuple[int, int]], fill: float) -> Array:
    """As `np.pad` of the spatial axes, which spends more on its arguments than small layers do on all else."""
    if not any(map(any, pads)):
        return x
    sizes = [before + n + after for n, (before, after) in zip(x.shape[2:], pads, strict=True)]
    out = np.full((*x.shape[:2], *sizes), fill, x.dtype)
    inner = [slice(before, before + n) for n, (before, _) in zip(x.shape[2:], pads, strict=True)]
    out[(slice(None), slice(None), *inner)] = x
    return out


def _windows(x: Array, kernel: Sequence[int], a: Attributes, fill: float) -> Array:
    """`[n, c, *out, *kernel]`: what each output of a convolution or a pool looks at, a view."""
    n = len(kernel)
    stride, dilation = a.get("strides") or [1] * n, a.get("dilations") or [1] * n
    pads = _pads(x.shape[2:], kernel, stride, dilation, a)
    if a.get("ceil_mode"):
        for i in range(n):
            reach = x.shape[2 + i] + sum(pads[i]) - (kernel[i] - 1) * dilation[i] - 1
            last = -(-reach // stride[i])
            if last * stride[i] >= x.shape[2 + i] + pads[i][0]:
                last -= 1  # a window that would start beyond what there is
            pads[i] = (pads[i][0], pads[i][1] + max(0, last * stride[i] - reach))
    x = _padded(x, pads, fill)
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(x, extent, axis=tuple(range(2, 2 + n)))
    steps = [slice(None, None, s) for s in stride]
    inner = [slice(None, None, d) for d in dilation]
    return seen[(slice(None), slice(None), *steps, *inner)]


def conv(inputs: Sequence[Any], a: Attributes, arithmetic: Arithmetic) -> Sequence[Array]:
    """Conv: `[n, c, ...]`, `[o, c / groups, ...]` (and `[o]`) -> `[n, o, ...]`."""
    x, w, bias = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
    groups, kernel = a.get("group", 1), w.shape[2:]
    stored = arithmetic.weights(w, 0)
    seen = _windows(arithmetic.operand(x, w), kernel, a, 0.0)
    out, per = seen.shape[2 : 2 + len(kernel)], w.shape[1]
    depthwise = per == 1 and groups == x.shape[1] and w.shape[0] == groups

    def summed(seen: Array, stored: Array) -> Array:
        if depthwise:
            flat = seen.reshape(len(seen), groups, int(np.prod(out)), -1)
            y = np.matmul(flat, stored.reshape(len(stored), groups, -1, 1))[..., 0]
        else:
            flat = np.moveaxis(seen, range(2, 2 + len(kernel)), range(-len(kernel), 0))  # [n, c, *kernel, *out]
            flat = np.ascontiguousarray(flat).reshape(len(seen), groups, per * int(np.prod(kernel)), int(np.prod(out)))
            y = np.matmul(stored.reshape(len(stored), groups, w.shape[0] // groups, -1), flat)
        return np.asarray(y.reshape(len(seen), w.shape[0], *out))

    y = summed(seen, stored)
    if bias is not None:
        b = arithmetic.bias(bias)
        y = y + b.reshape(*b.shape, *[1] * len(out))
    fan_in = per * int(np.prod(kernel))
    return [arithmetic.rounded(y, fan_in, terms=lambda: summed(np.square(seen[:1]), np.square(w[None])))]


def _pool(inputs: Sequence[Any], a: Attributes, fill: float) -> Array:
    kernel = a["kernel_shape"]
    return _windows(inputs[0], kernel, a, fill).reshape(*inputs[0].shape[:2], -1, int(np.prod(kernel)))


def _out(inputs: Sequence[Any], a: Attributes) -> tuple[int, ...]:
    kernel = a["kernel_shape"]
    return _windows(inputs[0][:1, :1], kernel, a, 0.0).shape[2 : 2 + len(kernel)]


def max_pool(inputs: Sequence[Any], a: Attributes, arithmetic: Arithmetic) -> Sequence[Array]:
    """MaxPool: exact."""
    kernel = a["kernel_shape"]
    seen = _windows(inputs[0], kernel, a, -np.inf)
    # One place of the kernel after another: gathering each window first takes three times as long.
    return [functools.reduce(np.maximum, (seen[(..., *at)] for at in np.ndindex(*kernel)))]


def average_pool(inputs: Sequence[Any], a: Attributes, arithmetic: Arithmetic) -> Sequence[Array]:
    """AveragePool; what was padded counts where `count_include_pad` says so."""
    if a.get("ceil_mode") and a.get("count_include_pad"):
        raise ModelError("AveragePool with ceil_mode and count_include_pad isn't derived", "declare its bound")
    sums = _pool(inputs, a, 0.0).sum(axis=-1)
    counted = float(np.prod(a["kernel_shape"]))
    count = counted if a.get("count_include_pad") else _pool([np.ones_like(inputs[0][:1])], a, 0.0).sum(axis=-1)
    y = (sums / count).reshape(*sums.shape[:2], *_out(inputs, a))
    return [arithmetic.rounded(y, int(counted))]


def gemm(inputs: Sequence[Any], a: Attributes, arithmetic: Arithmetic) -> Sequence[Array]:
    """Gemm with constant weights: alpha·x·w + beta·c."""
    x, w = inputs[0], inputs[1]
    if a.get("transA"):
        raise ModelError("Gemm that transposes its first input isn't derived", "declare its bound")
    w = w if a.get("transB") else w.T  # [out, in]
    stored = arithmetic.weights(w, 0)
    y = np.matmul(arithmetic.operand(x, w)[:, None, :], np.swapaxes(stored, 1, 2))[:, 0] * a.get("alpha", 1.0)
    if len(inputs) > 2 and inputs[2] is not None:
        y = y + a.get("beta", 1.0) * arithmetic.bias(inputs[2])
    scale = a.get("alpha", 1.0) ** 2
    return [arithmetic.rounded(y, w.shape[1], terms=lambda: np.square(x[:1]) @ np.square(w).T * scale)]


def constant_matmul(inputs: Sequence[Any], a: Attributes, arithmetic: Arithmetic) -> Sequence[Array]:
    """MatMul of a tensor with a constant `[in, out]`."""
    x, w = inputs
    stored = arithmetic.weights(w, w.ndim - 1)
    stored = stored.reshape(len(stored), *[1] * (x.ndim - 1 - w.ndim), *w.shape) if x.ndim > w.ndim + 1 else stored
    y = np.matmul(arithmetic.operand(x, w), stored)
    if w.ndim > 2:
        return [arithmetic.rounded(y, w.shape[-2])]
    return [arithmetic.rounded(y, w.shape[-2], terms=lambda: np.square(x[:1]) @ np.square(w))]


def softmax(inputs: Sequence[Any], a: Attributes, arithmetic: Arithmetic) -> Sequence[Array]:
    """Softmax. Each probability rounds by its own size, and by the exponent that it comes from."""
    x, axis = inputs[0], a.get("axis", -1)
    below = x - x.max(axis=axis, keepdims=True)
    e = np.exp(below)
    y = e / e.sum(axis=axis, keepdims=True)
    return [y + (arithmetic.rounded(y, x.shape[axis], relative=True) - y) * (1.0 + np.abs(below))]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def batch_normalization(inputs: Sequence[Any], a: Attributes, arithmetic: Arithmetic) -> Sequence[Array]:
    """BatchNormalization with its statistics."""
    x, scale, bias, mean, variance = inputs[:5]
    shape = (1, -1, *[1] * (x.ndim - 2))
    factor = scale / np.sqrt(variance + a.get("epsilon", 1e-5))
    return [arithmetic.rounded((x - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape), 4)]


_CELL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


def _recurrent(kind: str, inputs: Sequence[Any], a: Attributes) -> tuple[list[Any], list[int]]:
    """The inputs, and the time steps' order of each direction. ModelError for what no bound is derived of."""
    given = [*inputs, *[None] * (8 - len(inputs))]
    directions = given[1].shape[0]
    plain = a.get("activations") in (None, _CELL[kind] * directions)
    if (
        not plain
        or a.get("clip")
        or a.get("input_forget")
        or a.get("layout")
        or given[4] is not None
        or given[7] is not None
    ):
        raise ModelError(f"a bound isn't derived of this form of {kind} (activations, clip, layout, lengths)",
                         "declare its bound")  # fmt: skip
    direction = a.get("direction", "forward")
    return given, {"forward": [1], "reverse": [-1], "bidirectional": [1, -1]}[direction]


def _squares(*pairs: Array) -> Array:
    """The sum of the squared products of inputs with weights, `[1, out]`, of the first copy."""
    return np.asarray(sum(np.square(x[:1]) @ np.square(w).T for x, w in zip(pairs[::2], pairs[1::2], strict=True)))


def lstm(inputs: Sequence[Any], a: Attributes, arithmetic: Arithmetic) -> Sequence[Array]:
    """LSTM: `[time, n, in]` -> `[time, directions, n, hidden]`, last h, last c; rounding at every time step."""
    (x, w, r, b, _, h0, c0, _), order = _recurrent("LSTM", inputs, a)
    time, n, hidden = x.shape[0], x.shape[1], r.shape[2]
    y = np.zeros((time, len(order), n, hidden))
    last_h, last_c = [], []
    for d, step in enumerate(order):
        ww, rr = (np.swapaxes(arithmetic.weights(m[d], 0), 1, 2) for m in (w, r))
        bias: Any = 0.0 if b is None else arithmetic.bias(b[d][: 4 * hidden] + b[d][4 * hidden :])
        h = np.zeros((n, hidden)) if h0 is None else h0[d]
        c = np.zeros((n, hidden)) if c0 is None else c0[d]
        for t in range(time)[::step]:
            taken, kept = arithmetic.operand(x[t], w[d]), arithmetic.operand(h, r[d])
            gates = np.matmul(taken[:, None], ww)[:, 0] + np.matmul(kept[:, None], rr)[:, 0] + bias
            terms = functools.partial(_squares, x[t], w[d], h, r[d])
            gates = arithmetic.rounded(gates, x.shape[2] + hidden, terms=terms)
            i, o, f = (arithmetic.rounded(sigmoid(g), 1) for g in np.split(gates[:, : 3 * hidden], 3, axis=1))
            g = arithmetic.rounded(np.tanh(gates[:, 3 * hidden :]), 1)
            c = arithmetic.rounded(f * c + i * g, 2)
            h = arithmetic.rounded(o * np.tanh(c), 2)
            y[t, d] = h
        last_h.append(h)
        last_c.append(c)
    return [y, np.stack(last_h), np.stack(last_c)]


def gru(inputs: Sequence[Any], a: Attributes, arithmetic: Arithmetic) -> Sequence[Array]:
    """GRU: `[time, n, in]` -> `[time, directions, n, hidden]`, last h; rounding at every time step."""
    (x, w, r, b, _, h0, _, _), order = _recurrent("GRU", inputs, a)
    time, n, hidden = x.shape[0], x.shape[1], r.shape[2]
    y = np.zeros((time, len(order), n, hidden))
    last = []
    for d, step in enumerate(order):
        ww, rr = (np.swapaxes(arithmetic.weights(m[d], 0), 1, 2) for m in (w, r))
        both = np.zeros(6 * hidden) if b is None else b[d]
        bw, br = arithmetic.bias(both[: 3 * hidden]), arithmetic.bias(both[3 * hidden :])
        h = np.zeros((n, hidden)) if h0 is None else h0[d]
        for t in range(time)[::step]:
            taken = np.matmul(arithmetic.operand(x[t], w[d])[:, None], ww)[:, 0] + bw
            kept = np.matmul(arithmetic.operand(h, r[d])[:, None], rr[..., : 2 * hidden])[:, 0] + br[:, : 2 * hidden]
            terms = functools.partial(_squares, x[t], w[d][: 2 * hidden], h, r[d][: 2 * hidden])
            gates = arithmetic.rounded(taken[:, : 2 * hidden] + kept, x.shape[2] + hidden, terms=terms)
            z, reset = (arithmetic.rounded(sigmoid(g), 1) for g in np.split(gates, 2, axis=1))
            before = h if a.get("linear_before_reset") else reset * h
            inner = (
                np.matmul(arithmetic.operand(before, r[d])[:, None], rr[..., 2 * hidden :])[:, 0] + br[:, 2 * hidden :]
            )
            inner = arithmetic.rounded(inner, hidden)
            inner = reset * inner if a.get("linear_before_reset") else inner
            terms = functools.partial(_squares, x[t], w[d][2 * hidden :])
            new = arithmetic.rounded(taken[:, 2 * hidden :] + inner, x.shape[2] + 1, terms=terms)
            new = arithmetic.rounded(np.tanh(new), 1)
            h = arithmetic.rounded((1.0 - z) * new + z * h, 3)
            y[t, d] = h
        last.append(h)
    return [y, np.stack(last)]


OPERATORS: Mapping[str, Operator] = {
    "Conv": conv,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "Gemm": gemm,
    "Softmax": softmax,
    "BatchNormalization": batch_normalization,
    "LSTM": lstm,
    "GRU": gru,
}

CUTS = ("Relu", "Clip")
"""Activations that let numbers through as they are, or give the end of what they let through."""

MOVES = frozenset((
    "Abs", "ArgMax", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Dropout", "Equal", "Expand", "Flatten",
    "Gather", "Greater", "Identity", "Less", "Max", "Min", "Neg", "Not", "Pad", "Range", "Relu", "Reshape", "Shape",
    "Size", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where",
))  # fmt: skip
"""Operators that only pick, move or clip numbers: nothing is rounded."""
