"""What a traced int8 graph says, operator by operator: integers to numbers, arithmetic in float64, one rounding.

Nothing of an engine is used where numbers are made: no packed kernels, no rounded bias, no fixed-point multiplier. An
operator that only moves or compares integers (max-pool, clamp, concatenate, reshape) is PyTorch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from parity.errors import ModelError


def numbers(q: Tensor) -> Tensor:
    """scale · (integer - zero point), float64; scale and zero point of the tensor or of each output channel."""
    integers = q.int_repr().double()
    if q.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return (integers - q.q_zero_point()) * q.q_scale()
    shape = [-1] + [1] * (q.dim() - 1)
    zero, scale = q.q_per_channel_zero_points().double(), q.q_per_channel_scales().double()
    return (integers - zero.reshape(shape)) * scale.reshape(shape)


def quantized(x: Tensor, scale: float, zero_point: int) -> Tensor:
    """The nearest quint8 (ties to the even one), within 0 and 255."""
    integers = torch.clamp(torch.round(x.double() / float(scale)) + int(zero_point), 0, 255).to(torch.uint8)
    return torch._make_per_tensor_quantized_tensor(integers, float(scale), int(zero_point))


def _conv2d(x: Tensor, packed: Any, scale: float, zero_point: int, *, relu: bool = False) -> Tensor:
    ops = torch.ops.quantized
    weight, bias = ops.conv2d_unpack(packed)
    y = F.conv2d(
        numbers(x), numbers(weight), None if bias is None else bias.double(), ops.conv2d_stride(packed),
        ops.conv2d_padding(packed), ops.conv2d_dilation(packed), ops.conv2d_groups(packed),
    )  # fmt: skip
    return quantized(y.clamp(min=0.0) if relu else y, scale, zero_point)


def _linear(x: Tensor, packed: Any, scale: float, zero_point: int, *, relu: bool = False) -> Tensor:
    weight, bias = torch.ops.quantized.linear_unpack(packed)
    y = F.linear(numbers(x), numbers(weight), None if bias is None else bias.double())
    return quantized(y.clamp(min=0.0) if relu else y, scale, zero_point)


def _add(a: Tensor, b: Tensor, scale: float, zero_point: int, *, relu: bool = False) -> Tensor:
    y = numbers(a) + numbers(b)
    return quantized(y.clamp(min=0.0) if relu else y, scale, zero_point)


def _mean(x: Tensor, dims: Any, keep: bool, dtype: Any) -> Tensor:
    if not x.is_quantized:
        return torch.mean(x, dims, keep, dtype=dtype)
    return quantized(numbers(x).mean(dims, keep), x.q_scale(), x.q_zero_point())


_BY_DEFINITION: Mapping[str, Callable[..., Any]] = {
    "aten::quantize_per_tensor": lambda x, scale, zero_point, _: quantized(x, scale, zero_point),
    "aten::dequantize": lambda q: numbers(q).float(),
    "aten::mean": _mean,
    "quantized::conv2d": _conv2d,
    "quantized::conv2d_relu": lambda *given: _conv2d(*given, relu=True),
    "quantized::linear": _linear,
    "quantized::linear_relu": lambda *given: _linear(*given, relu=True),
    "quantized::add": _add,
    "quantized::add_relu": lambda *given: _add(*given, relu=True),
    "aten::Int": int,
    "prim::NumToTensor": torch.tensor,
    "prim::ListConstruct": lambda *given: list(given),
    "prim::TupleConstruct": lambda *given: given,
    "prim::ListUnpack": tuple,
    "prim::TupleUnpack": tuple,
}


def _call(node: Any, given: list[Any]) -> Any:
    kind = node.kind()
    if kind == "prim::Constant":
        return node.output().toIValue() if node.hasAttribute("value") else None
    if kind == "prim::GetAttr":
        return getattr(given[0], node.s("name"))
    if kind in _BY_DEFINITION:
        return _BY_DEFINITION[kind](*given)
    space, _, name = kind.partition("::")
    if space != "aten" or not hasattr(torch.ops.aten, name):
        raise ModelError(f"the reference kernels don't know {kind}", "compare engines instead: torch-int8:engine=...")
    return getattr(torch.ops.aten, name)(*given)


def evaluate(model: Any, x: Tensor, names: Iterable[str]) -> tuple[Any, dict[str, Tensor]]:
    """What a traced module gives for its input, and the values of its inlined graph that bear `names`."""
    graph, wanted = model.inlined_graph, set(names)
    own, given = list(graph.inputs())
    known: dict[str, Any] = {own.debugName(): model, given.debugName(): x}
    for node in graph.nodes():
        result = _call(node, [known[v.debugName()] for v in node.inputs()])
        outputs = [v.debugName() for v in node.outputs()]
        several = node.kind() in ("prim::ListUnpack", "prim::TupleUnpack")
        known.update(zip(outputs, result if several else [result], strict=True))
    (output,) = graph.outputs()
    return known[output.debugName()], {name: known[name] for name in wanted}
