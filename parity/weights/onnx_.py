"""Constants of an ONNX file, as its operators use them: Conv, Gemm, MatMul, LSTM, GRU, BatchNormalization, Add.

Quantized weights are read through their DequantizeLinear (QDQ), as the operator gets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from parity.errors import ModelError
from parity.protocols import Array
from parity.weights.pieces import Constant, Reading, Role, half_spacing


@dataclass(frozen=True, eq=False)
class _Value:
    value: Array
    half_step: Array
    stored: str


def _float(x: Array) -> _Value:
    value = np.asarray(x, np.float64)
    step = half_spacing(value) if x.dtype == np.float16 else np.zeros_like(value)
    return _Value(value, step, x.dtype.name)


def _attributes(node: Any) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


class _Graph:
    """Values that are known without running."""

    def __init__(self, graph: Any) -> None:
        self._raw: dict[str, Array] = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self._made: dict[str, Any] = {out: n for n in graph.node for out in n.output}
        for n in graph.node:
            if n.op_type == "Constant" and (value := _attributes(n).get("value")) is not None:
                self._raw[n.output[0]] = numpy_helper.to_array(value)

    def value(self, name: str) -> tuple[str, _Value] | None:
        """(own name, numbers) of a constant; None where it is worked out or holds no weights."""
        if name in self._raw:
            x = self._raw[name]
            return (name, _float(x)) if x.dtype in (np.float32, np.float16, np.float64) else None
        node = self._made.get(name)
        if node is None:
            return None
        if node.op_type == "Identity":
            return self.value(node.input[0])
        if node.op_type == "Transpose" and (found := self.value(node.input[0])) is not None:
            axes = _attributes(node).get("perm")
            own, v = found
            return own, _Value(v.value.transpose(axes), v.half_step.transpose(axes), v.stored)
        if node.op_type == "DequantizeLinear" and node.input[0] in self._raw:
            return node.input[0], self._dequantized(node)
        return None

    def _dequantized(self, node: Any) -> _Value:
        x, scale = self._raw[node.input[0]], self._raw[node.input[1]].astype(np.float64)
        zero = self._raw[node.input[2]].astype(np.float64) if len(node.input) > 2 else np.zeros_like(scale)
        if scale.ndim:
            axis = _attributes(node).get("axis", 1) % x.ndim
            shape = [-1 if i == axis else 1 for i in range(x.ndim)]
            scale, zero = (a.reshape(shape) if a.size > 1 else a.reshape([1] * x.ndim) for a in (scale, zero))
        value = (x.astype(np.float64) - zero) * scale
        return _Value(value, np.broadcast_to(scale / 2.0, value.shape), x.dtype.name)


def _recurrent(node: Any, index: int, v: _Value) -> list[tuple[str, Role, _Value]]:
    """W [ways, gates, in], R [ways, gates, units] and B [ways, 2 gates] of an LSTM or GRU, one a direction."""
    found: list[tuple[str, Role, _Value]] = []
    for way in range(len(v.value)):
        part = _Value(v.value[way], v.half_step[way], v.stored)
        if index < 3:
            found.append((f"[{way}]", "matrix", part))
            continue
        half = len(part.value) // 2
        for at in (slice(0, half), slice(half, None)):
            where = f"[{way}, {at.start}:{at.stop or ''}]"
            found.append((where, "vector", _Value(part.value[at], part.half_step[at], part.stored)))
    return found


def _used(node: Any, index: int, v: _Value) -> list[tuple[str, Role, _Value]]:
    """What an operator takes its `index`-th input for: (place in it, role, numbers in PyTorch's axes)."""
    op = node.op_type
    if op == "Conv":
        return [("", "convolution" if index == 1 else "vector", v)]
    if op in ("LSTM", "GRU"):
        return _recurrent(node, index, v) if index in (1, 2, 3) and v.value.ndim in (2, 3) else []
    if op in ("Gemm", "MatMul") and index < 2 and v.value.ndim == 2:
        across = op == "MatMul" or not _attributes(node).get("transB", 0)
        turned = _Value(v.value.T, v.half_step.T, v.stored) if across else v
        return [("", "matrix", turned)]
    flat = _Value(v.value.reshape(-1), v.half_step.reshape(-1), v.stored)
    return [("", "vector", flat)] if v.value.size > 1 and v.value.size == max(v.value.shape) else []


def read(path: Path) -> Reading:
    """What an ONNX file holds. ModelError where it can't be read."""
    try:
        model = onnx.load(path)
    except Exception as e:  # protobuf raises its own types
        raise ModelError(f"{path} can't be read as ONNX: {e}", "export it again") from None
    graph = _Graph(model.graph)
    found: dict[tuple[str, str], Constant] = {}
    problems = []
    for node in model.graph.node:
        if node.op_type in ("DequantizeLinear", "QuantizeLinear", "Identity", "Transpose", "Constant"):
            continue
        for index, name in enumerate(node.input):
            if (known := graph.value(name)) is None:
                continue
            own, v = known
            for place, role, part in _used(node, index, v):
                found.setdefault((own + place, role), Constant(
                    name=own + place, role=role, value=part.value, half_step=part.half_step, stored=part.stored,
                ))  # fmt: skip
        problems += _settings(node)
    return Reading(constants=list(found.values()), problems=problems)


def _settings(node: Any) -> list[tuple[str, str]]:
    """Attributes that make other weights of the same numbers than PyTorch's."""
    attributes: Mapping[str, Any] = _attributes(node)
    if node.op_type == "GRU" and attributes.get("linear_before_reset", 0) != 1:
        return [(node.name, "linear_before_reset is 0; a GRU of PyTorch's form needs 1")]
    return []
