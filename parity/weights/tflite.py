"""Constants of a TensorFlow Lite file, as its operators use them, read from the flatbuffer without running it.

Axes are turned to PyTorch's: a convolution `[out, H, W, in]` to `[out, in, H, W]`, a depthwise one `[1, H, W, out]` to
`[out, 1, H, W]`; a fully connected layer is `[out, in]` in both.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from parity.errors import ModelError
from parity.protocols import Array
from parity.weights.pieces import Constant, Reading, Role, half_spacing

_DTYPES = {
    schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16, schema.TensorType.INT8: np.int8,
    schema.TensorType.UINT8: np.uint8, schema.TensorType.INT16: np.int16, schema.TensorType.INT32: np.int32,
}  # fmt: skip
_OPERATORS = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
# Operator -> the role of its inputs that are weights, and how their axes become PyTorch's.
_WEIGHTS: dict[str, tuple[Role, tuple[int, ...]]] = {
    "CONV_2D": ("convolution", (0, 3, 1, 2)),
    "DEPTHWISE_CONV_2D": ("convolution", (3, 0, 1, 2)),
    "FULLY_CONNECTED": ("matrix", (0, 1)),
}
_ELEMENTWISE = ("ADD", "MUL", "SUB")


def _array(data: Any, tensor: Any) -> tuple[Array, Array] | None:
    """Numbers and half steps of a constant tensor, or None where it is none or holds no weights."""
    stored = _DTYPES.get(tensor.type)
    if stored is None or data is None or not len(data):
        return None
    x = np.frombuffer(bytes(data), stored).reshape(tensor.shape if tensor.shape is not None else ())
    if np.issubdtype(x.dtype, np.floating):
        value = x.astype(np.float64)
        return value, half_spacing(value) if x.dtype == np.float16 else np.zeros_like(value)
    q = tensor.quantization
    if q is None or q.scale is None or not len(q.scale):
        return None  # sizes, axes, indices
    scale = np.asarray(q.scale, np.float64)
    zero = np.asarray(q.zeroPoint if q.zeroPoint is not None else 0, np.float64)
    if scale.size > 1:
        shape = [-1 if i == q.quantizedDimension else 1 for i in range(x.ndim)]
        scale, zero = scale.reshape(shape), np.broadcast_to(zero, scale.shape).reshape(shape)
    value = (x.astype(np.float64) - zero) * scale
    return value, np.broadcast_to(scale / 2.0, value.shape)


def _load(path: Path) -> Any:
    try:
        return schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    except OSError as e:
        raise ModelError(f"{path} can't be read: {e.strerror}", "convert it again") from None
    except Exception as e:  # flatbuffers raises struct and index errors for a damaged file
        raise ModelError(f"{path} can't be read as TensorFlow Lite: {e}", "convert it again") from None


def _operator(model: Any, op: Any) -> str:
    code = model.operatorCodes[op.opcodeIndex]
    return _OPERATORS.get(max(code.builtinCode, code.deprecatedBuiltinCode), "CUSTOM")


def read(path: Path) -> Reading:
    """What a TensorFlow Lite file holds. ModelError where it can't be read."""
    model = _load(path)
    try:
        return _read(model)
    except (ValueError, IndexError, TypeError) as e:  # numbers that don't fill their shape, indices that it hasn't
        raise ModelError(f"{path} can't be read: a tensor in it is damaged: {e}", "convert it again") from None


def _read(model: Any) -> Reading:
    found: dict[tuple[int, int, str], Constant] = {}
    uses: dict[tuple[int, int, str], list[int]] = defaultdict(list)
    flow: dict[int, list[int]] = {}
    for number, graph in enumerate(model.subgraphs):
        # float16 weights are made float32 by an operator of their own: look through it.
        through = {
            int(op.outputs[0]): int(op.inputs[0])
            for op in graph.operators
            if _operator(model, op) in ("DEQUANTIZE", "RESHAPE")
        }
        first = len(flow)
        flow |= _flow(graph, first)
        for place, op in enumerate(graph.operators, first):
            name = _operator(model, op)
            for index, given in enumerate(op.inputs if op.inputs is not None else ()):
                at = through.get(int(given), int(given))
                if at < 0 or name == "DEQUANTIZE":
                    continue
                tensor = graph.tensors[at]
                known = _array(model.buffers[tensor.buffer].data, tensor)
                use = None if known is None else _use(name, index, known[0])
                if known is None or use is None:
                    continue
                role, axes = use
                value, half = (x.transpose(axes) if role != "vector" else x.reshape(-1) for x in known)
                own = tensor.name.decode()
                uses[number, at, role].append(place)
                found.setdefault((number, at, role), Constant(
                    name=own, role=role, value=value, half_step=half, stored=np.dtype(_DTYPES[tensor.type]).name,
                    optional=value.size == 1 and name in _ELEMENTWISE,
                ))  # fmt: skip
    constants = [dataclasses.replace(c, uses=tuple(uses[key])) for key, c in found.items()]
    return Reading(constants=constants, flow=flow)


def _flow(graph: Any, first: int) -> dict[int, list[int]]:
    """Operator -> those that take what it gives, numbered from `first` in the file's order."""
    takers: dict[int, list[int]] = defaultdict(list)
    for place, op in enumerate(graph.operators, first):
        for given in op.inputs if op.inputs is not None else ():
            takers[int(given)].append(place)
    return {
        place: [t for out in (op.outputs if op.outputs is not None else ()) for t in takers[int(out)]]
        for place, op in enumerate(graph.operators, first)
    }


def _use(op: str, index: int, value: Array) -> tuple[Role, tuple[int, ...]] | None:
    """What an operator takes its `index`-th input for."""
    if op in _WEIGHTS and index == 1 and value.ndim == len(_WEIGHTS[op][1]):
        return _WEIGHTS[op]
    if op in _WEIGHTS and index == 2:
        return "vector", ()
    if op in _ELEMENTWISE and value.size == max(value.shape, default=1):
        return "vector", ()
    return None
