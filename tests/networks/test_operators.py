"""The operators of a graph in float64, against PyTorch's in float64, over what ONNX lets them be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from parity.errors import ModelError
from parity.networks import operators
from parity.networks.arithmetic import PRECISIONS, Exact, Noise
from parity.protocols import Array

EXACT = Exact()


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def tensor(x: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x))


def close(given: Array, right: torch.Tensor) -> None:
    np.testing.assert_allclose(given, right.detach().numpy(), rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    groups=st.sampled_from([1, 2, 4]), per=st.integers(1, 3), out=st.integers(1, 3),
    kernel=st.tuples(*[st.integers(1, 3)] * 2), stride=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    dilation=st.tuples(*[st.integers(1, 2)] * 2), pads=st.tuples(*[st.integers(0, 2)] * 4), bias=st.booleans(),
)  # fmt: skip
def test_a_convolution(
    groups: int, per: int, out: int, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int],
    pads: tuple[int, ...], bias: bool,
) -> None:  # fmt: skip
    x, w = random(2, groups * per, 9, 8), random(groups * out, per, *kernel, seed=1)
    b = random(groups * out, seed=2) if bias else None
    a = {"strides": list(stride), "dilations": list(dilation), "pads": list(pads), "group": groups}
    (y,) = operators.conv([x, w, b], a, EXACT)
    padded = functional.pad(tensor(x), (pads[1], pads[3], pads[0], pads[2]))
    close(y, functional.conv2d(padded, tensor(w), None if b is None else tensor(b), stride, 0, dilation, groups))


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("size", "kernel", "stride"), [(9, 3, 2), (8, 3, 2), (7, 4, 1), (10, 5, 3), (4, 1, 2)])
def test_padding_that_keeps_the_size(auto: str, size: int, kernel: int, stride: int) -> None:
    x, w = random(1, 1, size), random(1, 1, kernel, seed=1)
    a = {"strides": [stride], "auto_pad": auto}
    (y,) = operators.conv([x, w], a, EXACT)
    total = 0 if auto == "VALID" else max(0, (-(-size // stride) - 1) * stride + kernel - size)
    before = total // 2 if auto == "SAME_UPPER" else total - total // 2
    close(y, functional.conv1d(functional.pad(tensor(x), (before, total - before)), tensor(w), stride=stride))


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0)])
def test_pools(ceil: bool, kernel: int, stride: int, pad: int) -> None:
    x = random(2, 3, 7, 9)
    a = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4, "ceil_mode": int(ceil)}
    close(operators.max_pool([x], a, EXACT)[0], functional.max_pool2d(tensor(x), kernel, stride, pad, ceil_mode=ceil))
    for counted in (False, True):
        if counted and ceil:
            with pytest.raises(ModelError, match="AveragePool"):
                operators.average_pool([x], a | {"count_include_pad": 1}, EXACT)
            continue
        right = functional.avg_pool2d(tensor(x), kernel, stride, pad, ceil_mode=ceil, count_include_pad=counted)
        close(operators.average_pool([x], a | {"count_include_pad": int(counted)}, EXACT)[0], right)


def test_gemm_and_matmul() -> None:
    x, w, b = random(3, 5), random(4, 5, seed=1), random(4, seed=2)
    a: Mapping[str, Any] = {"transB": 1, "alpha": 0.5, "beta": 2.0}
    np.testing.assert_allclose(operators.gemm([x, w, b], a, EXACT)[0], 0.5 * x @ w.T + 2.0 * b, rtol=1e-14)
    np.testing.assert_allclose(operators.gemm([x, w.T], {}, EXACT)[0], x @ w.T, rtol=1e-14)
    with pytest.raises(ModelError, match="transposes"):
        operators.gemm([x.T, w.T], {"transA": 1}, EXACT)
    frames = random(3, 7, 5)
    np.testing.assert_allclose(operators.constant_matmul([frames, w.T], {}, EXACT)[0], frames @ w.T, rtol=1e-14)


def test_softmax_and_normalization() -> None:
    x = random(2, 4, 5) * 30.0
    close(operators.softmax([x], {"axis": 1}, EXACT)[0], functional.softmax(tensor(x), 1))
    mean, variance, scale, bias = (np.abs(random(4, seed=s)) + 0.1 for s in range(4))
    y = operators.batch_normalization([x, scale, bias, mean, variance], {"epsilon": 1e-3}, EXACT)[0]
    right = functional.batch_norm(tensor(x), *map(tensor, (mean, variance, scale, bias)), eps=1e-3)
    close(y, right)
    assert operators.sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


def to_onnx(w: torch.Tensor, order: tuple[int, ...]) -> Array:
    """PyTorch's gates in ONNX's order."""
    parts = w.detach().numpy().reshape(len(order), -1, *w.shape[1:])
    return np.concatenate([parts[i] for i in order])


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_layers(kind: str, direction: str) -> None:
    torch.manual_seed(0)
    both = direction == "bidirectional"
    net = getattr(torch.nn, kind)(5, 4, bidirectional=both).double()
    x = random(6, 3, 5)
    order = (0, 3, 1, 2) if kind == "LSTM" else (1, 0, 2)
    names = ["l0", "l0_reverse"][: 1 + both]
    w, r = (np.stack([to_onnx(getattr(net, f"weight_{p}h_{n}"), order) for n in names]) for p in "ih")
    b = np.stack([np.concatenate([to_onnx(getattr(net, f"bias_{p}h_{n}"), order) for p in "ih"]) for n in names])
    run = operators.lstm if kind == "LSTM" else operators.gru
    a = {"direction": direction, "linear_before_reset": 1, "hidden_size": 4}
    y, *last = run([x, w, r, b], a, EXACT)
    right, state = net(tensor(x[::-1] if direction == "reverse" else x))
    right = right.reshape(6, 3, 1 + both, 4).permute(0, 2, 1, 3)
    close(y[::-1] if direction == "reverse" else y, right)
    for got, wanted in zip(last, state if kind == "LSTM" else [state], strict=True):
        close(got, wanted)


def test_a_gru_that_resets_before_it_multiplies() -> None:
    x, w, r, b, h = (random(*s, seed=i) for i, s in enumerate([(1, 2, 3), (1, 6, 3), (1, 6, 2), (1, 12), (1, 2, 2)]))
    y, _ = operators.gru([x, w, r, b, None, h], {}, EXACT)
    gates = x[0] @ w[0].T + b[0, :6]
    kept = h[0] @ r[0, :4].T + b[0, 6:10]
    z, reset = np.split(operators.sigmoid(gates[:, :4] + kept), 2, axis=1)
    new = np.tanh(gates[:, 4:] + (reset * h[0]) @ r[0, 4:].T + b[0, 10:])
    np.testing.assert_allclose(y[0, 0], (1 - z) * new + z * h[0], rtol=1e-13)
    linear, _ = operators.gru([x, w, r, b, None, h], {"linear_before_reset": 1}, EXACT)
    assert np.abs(linear - y).max() > 1e-3


@pytest.mark.parametrize("a", [{"clip": 1.0}, {"activations": ["Relu", "Tanh"]}, {"layout": 1}])
def test_forms_that_nothing_is_derived_of(a: Mapping[str, Any]) -> None:
    with pytest.raises(ModelError, match="GRU"):
        operators.gru([random(1, 2, 3), random(1, 6, 3), random(1, 6, 2)], a, EXACT)


@pytest.mark.parametrize("kind", ["conv", "gemm", "softmax", "lstm", "gru"])
def test_the_first_copy_stays_exact_and_others_move_by_roundoff(kind: str) -> None:
    copies, x = 9, random(1, 3, 8)
    inputs, a, axis = {
        "conv": ([np.repeat(x, copies, 0), random(2, 3, 3)], {}, 0),
        "gemm": ([np.repeat(x[:, 0], copies, 0), random(8, 4)], {}, 0),
        "softmax": ([np.repeat(x[:, 0], copies, 0)], {}, 0),
        "lstm": ([np.repeat(x, copies, 0).transpose(1, 0, 2), random(1, 16, 8), random(1, 16, 4)], {}, 2),
        "gru": ([np.repeat(x, copies, 0).transpose(1, 0, 2), random(1, 12, 8), random(1, 12, 4)], {}, 2),
    }[kind]
    run = getattr(operators, kind)
    right = run(inputs, a, EXACT)[0]
    noisy = run(inputs, a, Noise(PRECISIONS["float32"], copies, 0))[0]
    moved = np.moveaxis(noisy - right, axis, 0)
    assert not moved[0].any()
    others = np.abs(moved[1:]).max()
    assert 2.0**-26 < others < 2.0**-14
    assert not np.array_equal(moved[1], moved[2])
