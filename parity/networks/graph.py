"""An ONNX graph in float64, an operation at a time.

What rounds is in `parity.networks.operators`; everything else is run by the onnx package's reference implementation,
whose results, where they aren't moved numbers, are rounded here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from parity.errors import ModelError
from parity.networks.arithmetic import Arithmetic, Exact
from parity.networks.operators import CUTS, MOVES, OPERATORS, constant_matmul
from parity.protocols import Array

_MOVED = frozenset((
    "Concat", "Dropout", "Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze",
))  # fmt: skip
"""Operators that may as well come before an activation that cuts off: each number stays, or the largest of some."""

_FLOAT, _DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE


def load(path: str | Path) -> onnx.ModelProto:
    """The model of a file. ModelError where it can't be read."""
    try:
        model = onnx.load(Path(path), format="protobuf")
        onnx.checker.check_model(model)
    except OSError as e:
        raise ModelError(f"{path} can't be read: {e.strerror}", "export it again") from None
    except Exception as e:  # protobuf and the checker raise types of their own
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise ModelError(f"{path} is not an ONNX model: {reason}", "export it again") from None
    return model


def in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose weights, constants and casts are float64 instead of float32."""
    double = onnx.ModelProto()
    double.CopyFrom(model)
    for i, tensor in enumerate(double.graph.initializer):
        double.graph.initializer[i].CopyFrom(_widened(tensor))
    for node in double.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.CopyFrom(_widened(attribute.t))
            elif attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
                raise ModelError(f"a bound isn't derived through {node.op_type}", "unroll it, or declare the bounds")
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == _FLOAT:
                attribute.i = _DOUBLE
    return double


def _widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.data_type != _FLOAT:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name)


class Graph:
    """A network that runs in float64 on `[copies, ...]` inputs; `inputs` are its names, in the file's order."""

    def __init__(self, model: onnx.ModelProto) -> None:
        double = in_double(model)
        try:
            self._evaluator = ReferenceEvaluator(double)
        except RuntimeError as e:  # an operator that the reference implementation lacks
            raise ModelError(f"a bound isn't derived: {e}", "declare the bounds") from None
        self._attributes = [
            {a.name: _plain(onnx.helper.get_attribute_value(a)) for a in n.attribute} for n in double.graph.node
        ]
        self._last_use: dict[str, int] = {}
        for i, node in enumerate(double.graph.node):
            self._last_use |= dict.fromkeys(node.input, i)
        weights = {w.name for w in double.graph.initializer}
        self.inputs = [i.name for i in double.graph.input if i.name not in weights]
        self.tensors = {name for n in double.graph.node for name in n.output}
        self.constants: set[str] = set(self._evaluator.rt_inits_)
        self.operators = {name: n.op_type for n in double.graph.node for name in n.output}
        self.before: dict[str, str] = {}
        """Tensor -> the name under which `run` gives it as it would be without the last activation that cut it off,
        if one did and its numbers were only moved about since."""
        for node in double.graph.node:
            if node.op_type in CUTS or (node.op_type in _MOVED and any(x in self.before for x in node.input)):
                self.before[node.output[0]] = f"{node.output[0]}:before"

    def run(
        self, feed: Mapping[str, Array], wanted: Iterable[str], arithmetic: Arithmetic | None = None
    ) -> dict[str, Array]:
        """The wanted tensors by name, float64 `[copies, ...]`. ModelError where an operator can't be run."""
        how = arithmetic or Exact()
        kept, out = set(wanted), {}
        values: dict[str, Any] = {"": None, **self._evaluator.rt_inits_}
        uncut = self._uncut(kept)
        known = set(self.constants)
        for name, x in feed.items():
            values[name] = how.tensor(name, np.asarray(x, np.float64)) if np.issubdtype(x.dtype, np.floating) else x
        for i, node in enumerate(self._evaluator.rt_nodes_):
            inputs = [values[name] for name in node.input]
            try:
                results = self._results(i, node, inputs, known, how)
            except ModelError:
                raise
            except Exception as e:  # shapes that don't fit, an attribute that isn't known
                raise ModelError(f"{node.op_type} can't be run in float64: {e}", "declare the bounds") from None
            if node.output[0] in uncut:
                at = self.before[node.output[0]]
                values[at] = self._before(i, node, values, known)
                if at in kept:
                    out[at] = values[at]
            if all(name in known for name in node.input if name):
                known |= set(node.output)
            for name, value in zip(node.output, results, strict=False):
                if isinstance(value, np.ndarray) and value.dtype == np.float64 and name not in known:
                    value = how.tensor(name, value)
                values[name] = value
                if name in kept:
                    out[name] = value
            for name in set(node.input):
                if self._last_use.get(name) == i and name not in self.constants:
                    values.pop(name, None)
        return out

    def _uncut(self, wanted: set[str]) -> set[str]:
        """The tensors that are needed as they would be without their activation."""
        needed = {name for name, at in self.before.items() if at in wanted}
        for node in reversed(self._evaluator.rt_nodes_):
            if node.output[0] in needed and node.op_type not in CUTS:
                needed |= {name for name in node.input if name in self.before}
        return needed

    def _before(self, i: int, node: Any, values: Mapping[str, Any], known: set[str]) -> Any:
        if node.op_type in CUTS:
            return values[node.input[0]]
        inputs = [values[self.before.get(name, name)] for name in node.input]
        return self._results(i, node, inputs, known, Exact())[0]

    def _results(self, i: int, node: Any, inputs: Sequence[Any], known: set[str], how: Arithmetic) -> Sequence[Any]:
        kind = node.op_type
        if kind == "MatMul" and node.input[1] in known and node.input[0] not in known:
            return constant_matmul(inputs, self._attributes[i], how)
        if kind in OPERATORS:
            return OPERATORS[kind](inputs, self._attributes[i], how)
        results: Sequence[Any] = node.run(*inputs)
        if kind in MOVES or all(name in known for name in node.input if name):
            return results
        return [
            how.rounded(y, _fan_in(kind, inputs, y)) if isinstance(y, np.ndarray) and y.dtype == np.float64 else y
            for y in results
        ]


def _plain(value: Any) -> Any:
    return (
        value.decode() if isinstance(value, bytes) else [_plain(v) for v in value] if isinstance(value, list) else value
    )


def _fan_in(kind: str, inputs: Sequence[Any], y: Array) -> int:
    """Terms that an element of an operator's output sums."""
    if kind == "MatMul":
        return int(inputs[0].shape[-1])
    if kind.startswith(("Reduce", "Global", "LayerNorm", "InstanceNorm", "LpNorm", "Sum", "Mean")):
        return max(1, inputs[0].size // max(1, y.size))
    return 2
