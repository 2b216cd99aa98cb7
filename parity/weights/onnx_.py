"""Constants of an ONNX file, as its operators use them: Conv, Gemm, MatMul, LSTM, GRU, BatchNormalization, Add.

Quantized weights are read through their DequantizeLinear (QDQ), as the operator gets them; what a Gemm multiplies
with (alpha, beta) is multiplied in.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
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

_NORM = {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"}
_CELL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}
"""The activations of PyTorch's cells, which are the defaults; of two directions, twice."""


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
        if node.op_type == "DequantizeLinear" and (plain := self._plain(node.input[0])) is not None:
            dequantized = self._dequantized(node, plain[1])
            return None if dequantized is None else (plain[0], dequantized)
        return None

    def _plain(self, name: str) -> tuple[str, Array] | None:
        """(own name, numbers as they are stored) of a constant, through Identity: exporters share equal ones so."""
        while name not in self._raw:
            node = self._made.get(name)
            if node is None or node.op_type != "Identity":
                return None
            name = node.input[0]
        return name, self._raw[name]

    def _dequantized(self, node: Any, x: Array) -> _Value | None:
        given = [self._plain(name) for name in node.input[1:3] if name]
        if not given or None in given:
            return None  # a scale that is worked out
        scale, *zeros = (found[1].astype(np.float64) for found in given if found is not None)
        zero = zeros[0] if zeros else np.zeros_like(scale)
        if scale.ndim:
            axis = _attributes(node).get("axis", 1) % x.ndim
            shape = [-1 if i == axis else 1 for i in range(x.ndim)]
            scale, zero = (a.reshape(shape) if a.size > 1 else a.reshape([1] * x.ndim) for a in (scale, zero))
        value = (x.astype(np.float64) - zero) * scale
        return _Value(value, np.broadcast_to(scale / 2.0, value.shape), x.dtype.name)


_Part = tuple[str, Role, str, _Value]
"""Place in the constant, role, slot, numbers in PyTorch's axes."""


def _recurrent(index: int, v: _Value) -> list[_Part]:
    """W [ways, gates, in], R [ways, gates, units] and B [ways, 2 gates] of an LSTM or GRU, one a direction."""
    found: list[_Part] = []
    for way in range(len(v.value)):
        part = _Value(v.value[way], v.half_step[way], v.stored)
        if index < 3:
            found.append((f"[{way}]", "matrix", "weight_ih" if index == 1 else "weight_hh", part))
            continue
        half = len(part.value) // 2
        for slot, at in (("bias_ih", slice(0, half)), ("bias_hh", slice(half, None))):
            where = f"[{way}, {at.start}:{at.stop or ''}]"
            found.append((where, "vector", slot, _Value(part.value[at], part.half_step[at], part.stored)))
    return found


def _times(v: _Value, factor: float) -> _Value:
    return v if factor == 1.0 else _Value(v.value * factor, v.half_step * abs(factor), v.stored)


def _used(node: Any, index: int, v: _Value) -> list[_Part]:
    """What an operator takes its `index`-th input for."""
    op, attributes = node.op_type, _attributes(node)
    if op == "Conv":
        return [("", "convolution", "", v) if index == 1 else ("", "vector", "conv_bias", v)]
    if op == "BatchNormalization":
        return [("", "vector", _NORM[index], v)] if index in _NORM else []
    if op in _CELL and index in (1, 2, 3):
        return _recurrent(index, v)
    if op in ("Gemm", "MatMul") and index < 2 and v.value.ndim == 2:
        # W x and x W': as first factor a matrix is [out, in], as second [in, out].
        across = (index == 1) != bool(attributes.get("transB" if index else "transA", 0))
        turned = _Value(v.value.T, v.half_step.T, v.stored) if across else v
        return [("", "matrix", "", _times(turned, attributes.get("alpha", 1.0)))]
    flat = _Value(v.value.reshape(-1), v.half_step.reshape(-1), v.stored)
    if op == "Gemm":
        flat = _times(flat, attributes.get("beta", 1.0))
    return [("", "vector", "", flat)] if v.value.size == max(v.value.shape, default=1) else []


def read(path: Path) -> Reading:
    """What an ONNX file holds. ModelError where it can't be read."""
    try:
        model = onnx.load(path)
    except Exception as e:  # protobuf raises its own types
        raise ModelError(f"{path} can't be read as ONNX: {e}", "export it again") from None
    try:
        return _read(model.graph)
    except (ValueError, IndexError, KeyError, TypeError) as e:  # numbers that don't fill their shape, axes it hasn't
        raise ModelError(f"{path} can't be read: a constant in it is damaged: {e}", "export it again") from None


def _read(content: Any) -> Reading:
    graph = _Graph(content)
    found: dict[tuple[str, str, str], Constant] = {}
    uses: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    problems = []
    for number, node in enumerate(content.node):
        if node.op_type in ("DequantizeLinear", "QuantizeLinear", "Identity", "Transpose", "Constant"):
            continue
        for index, name in enumerate(node.input):
            if (known := graph.value(name)) is None:
                continue
            own, v = known
            for place, role, slot, part in _used(node, index, v):
                key = own + place, role, slot
                uses[key].append(number)
                found.setdefault(key, Constant(
                    name=own + place, role=role, slot=slot, value=part.value, half_step=part.half_step,
                    stored=part.stored, eps=_eps(node), optional=part.value.size == 1 and not slot,
                ))  # fmt: skip
        problems += _settings(node)
    constants = [dataclasses.replace(c, uses=tuple(uses[key])) for key, c in found.items()]
    return Reading(constants=constants, problems=problems, flow=_flow(content.node))


def _eps(node: Any) -> float | None:
    return float(_attributes(node).get("epsilon", 1e-5)) if node.op_type == "BatchNormalization" else None


def _flow(nodes: Any) -> dict[int, list[int]]:
    """Operator -> those that take what it gives, by their places in the file."""
    takers: dict[str, list[int]] = defaultdict(list)
    for number, node in enumerate(nodes):
        for name in node.input:
            takers[name].append(number)
    return {number: [t for out in node.output if out for t in takers[out]] for number, node in enumerate(nodes)}


def _settings(node: Any) -> list[tuple[str, str]]:
    """Attributes that make other weights of the same numbers than PyTorch's."""
    attributes: Mapping[str, Any] = _attributes(node)
    if node.op_type == "GRU" and attributes.get("linear_before_reset", 0) != 1:
        return [(node.name, "linear_before_reset is 0; a GRU of PyTorch's form needs 1")]
    if node.op_type in _CELL:
        cells = [a.decode() for a in attributes.get("activations", [])]
        ways = 2 if attributes.get("direction") == b"bidirectional" else 1
        odd = {
            f"activations are {', '.join(cells)}": cells not in ([], _CELL[node.op_type] * ways),
            "clip is set": "clip" in attributes,
            "input_forget is 1": attributes.get("input_forget", 0) == 1,
            "direction is reverse": attributes.get("direction") == b"reverse",
        }
        return [(node.name, f"{what}; PyTorch's {node.op_type} isn't so") for what, is_so in odd.items() if is_so]
    return []
