"""TensorFlow Lite for Microcontrollers: the interpreter that a board runs, here in a worker process of its own.

It checks nothing of a file before it reads it, hangs in some loops and says why it can't run a model on stderr only. So
a file is taken apart first, by the schema that comes with the package, and refused for what is known not to work.

The deployed file is run as it is for its outputs; inner tensors are read from a second interpreter that preserves them.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from tflite_micro.python.tflite_micro import runtime as tflm
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from parity.errors import ConfigError, ModelError
from parity.protocols import Artifact, Session, Tap, Taps, Tensor, Unsupported
from parity.taps import MODEL_INPUT

_TYPES = {
    value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")
}  # "float32", "int8", ... as NumPy has them
_OPERATORS = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_ROOMY = 16 * 2**20
"""Bytes of arena where none is asked for: more than any board has, so that only what is missing can fail."""
_KEPT = 1024
"""Tensors that its memory planner can hold at a time, as its own message says ("Too many buffers")."""
_LEAST = 1024
"""Bytes of arena below which nothing is tried: with less than half of it the interpreter writes beyond and dies."""


class TflmRuntime:
    """Option: `arena`, the bytes of working memory that the deployed interpreter gets (16 MiB where it isn't said)."""

    def __init__(self, arena: str | None = None) -> None:
        if arena is not None and not (arena.isdecimal() and _LEAST <= int(arena) < 2**31):
            raise ConfigError(f"arena={arena} is not a number of bytes, {_LEAST} or more", "write tflm:arena=20000")
        self._arena = None if arena is None else int(arena)

    def versions(self) -> Mapping[str, str]:
        return {"tflite-micro": version("tflite-micro")}

    def supports(self, artifact: Artifact) -> Unsupported | None:
        if artifact.format != "tflite":
            return Unsupported(f"tflite-micro doesn't read {artifact.format} files")
        try:
            data, model = _read(artifact.path)
        except ModelError:
            return None  # opening it says so
        if (reason := _known_not_to_work(model)) is not None:
            return Unsupported(f"tflite-micro {reason}")
        if (said := _refusal(data, _roomy(data))) is not None:
            return Unsupported(f"tflite-micro can't allocate it: {said}")
        kept = len(model.subgraphs[0].tensors)
        if kept > _KEPT and any(port.name not in _outputs(model) for port in artifact.taps.values()):
            return Unsupported(f"tflite-micro keeps {_KEPT} tensors apart; to read layers of this file takes {kept}")
        if self._arena is not None and _refusal(data, self._arena) is not None:
            return Unsupported(f"it needs an arena of {_smallest(data)} bytes, and has {self._arena}")
        return None

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        yield _TflmSession(artifact, self._arena)


def arena_bytes(path: Path) -> int:
    """The fewest bytes of arena in which a model allocates and answers, measured.

    `python -m parity.runtimes.tflm FILE` prints it, in a process of its own: the interpreter may die of a file.
    ModelError where the file can't be read, or doesn't run in any arena.
    """
    data, model = _read(str(path))
    if (reason := _known_not_to_work(model) or _refusal(data, _roomy(data))) is not None:
        raise ModelError(f"{path} doesn't run under tflite-micro: {reason}", "see `parity list systems`")
    return _smallest(data)


def _smallest(data: bytes) -> int:
    low, high = _LEAST - 1, _roomy(data)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _refusal(data, middle) is None else (middle, high)
    return high


def _read(path: str) -> tuple[bytes, Any]:
    """A model's bytes, and what is in them. ModelError where a field points out of the file."""
    try:
        data = Path(path).read_bytes()
        if data[4:8] != b"TFL3":
            raise ValueError("it isn't a TensorFlow Lite file")
        model = tflm.convert_bytearray_to_object(bytearray(data))
        if not (model.subgraphs and model.operatorCodes and model.buffers):
            raise ValueError("it has no network")
        for graph in model.subgraphs:
            for tensor in graph.tensors:
                stored = model.buffers[tensor.buffer].data
                if stored is None or not len(stored):
                    continue
                wanted = int(np.prod(tensor.shape)) * np.dtype(_TYPES[tensor.type]).itemsize
                if len(stored) != wanted:
                    raise ValueError(f"tensor {tensor.name!r} has {len(stored)} bytes of {wanted}")
    except Exception as e:  # the generated reader raises whatever indexing raises
        raise ModelError(f"tflite-micro can't load {path}: {e}", "convert it again") from None
    return data, model


def _operators(model: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, operator and graph of each operator."""
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = tflm.get_builtin_code_from_operator_code(model.operatorCodes[operator.opcodeIndex])
            yield _OPERATORS.get(code, str(code)), operator, graph


def _known_not_to_work(model: Any) -> str | None:
    graph = model.subgraphs[0]
    if any(_TYPES[graph.tensors[i].type] == "uint8" for i in graph.inputs):
        return "has no kernels for uint8 models any more"
    for name, operator, graph in _operators(model):
        if name == "WHILE":
            return "hangs in loops (WHILE): unroll the recurrence"
        types = [_TYPES[graph.tensors[i].type] for i in operator.inputs[:2] if i >= 0]
        if types == ["float16"] and name == "DEQUANTIZE":
            return "has no kernels for float16 weights"
        if types == ["float32", "int8"] and name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            return f"has no kernels for dynamic-range weights ({name} of float32 by int8)"
    return None


@contextmanager
def _stderr() -> Iterator[Any]:
    """A file that takes what C++ prints to stderr meanwhile."""
    with tempfile.TemporaryFile() as said:
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _refusal(data: bytes, arena: int) -> str | None:
    """What the interpreter says where it can't allocate a model in so many bytes; None where it can."""
    with _stderr() as said:
        try:
            tflm.Interpreter.from_bytes(data, arena_size=arena)
        except RuntimeError as e:
            said.seek(0)
            lines = said.read().decode(errors="replace").split("\n")
            return "; ".join(filter(None, [*(line.strip() for line in lines), str(e)]))
    return None


def _outputs(model: Any) -> set[str]:
    graph = model.subgraphs[0]
    return {graph.tensors[i].name.decode() for i in graph.outputs}


def _roomy(data: bytes) -> int:
    return max(_ROOMY, 10 * len(data))


def _tensor(t: Any) -> Tensor:
    scales = [] if t.quantization is None or t.quantization.scale is None else list(t.quantization.scale)
    one = len(scales) == 1  # more: one a channel, of weights
    signature = t.shape if t.shapeSignature is None or not len(t.shapeSignature) else t.shapeSignature
    return Tensor(
        shape=tuple(int(n) if n >= 0 else None for n in signature), dtype=_TYPES[t.type],
        scale=float(scales[0]) if one else None, zero_point=int(t.quantization.zeroPoint[0]) if one else 0,
    )  # fmt: skip


class _TflmSession:
    def __init__(self, artifact: Artifact, arena: int | None) -> None:
        self._artifact = artifact
        self._data, model = _read(artifact.path)
        graph = model.subgraphs[0]
        names = {t.name.decode(): i for i, t in enumerate(graph.tensors)}
        self._inputs = {graph.tensors[i].name.decode(): place for place, i in enumerate(graph.inputs)}
        outputs = {i: place for place, i in enumerate(graph.outputs)}
        kept = any(name == "VAR_HANDLE" for name, _, _ in _operators(model))
        self._stateful = kept or any(t.isVariable for t in graph.tensors)
        self._index: dict[Tap, int] = {}
        self._own: dict[Tap, int] = {}
        tensors: dict[Tap, Tensor] = {}
        for tap, port in {MODEL_INPUT: artifact.input, **artifact.taps}.items():
            if port.name not in (self._inputs if tap == MODEL_INPUT else names):
                raise ModelError(
                    f"{artifact.path} has no tensor {port.name!r} for {tap}",
                    f"its inputs are {sorted(self._inputs)}, its tensors {sorted(names)}: name them in system.toml",
                )
            index = self._index[tap] = names[port.name]
            tensors[tap] = _tensor(graph.tensors[index])
            if index in outputs:
                self._own[tap] = outputs[index]
        self.tensors: Mapping[Tap, Tensor] = tensors
        self._interpreter = self._load(arena or _roomy(self._data), tflm.InterpreterConfig.kAllocationRecording)
        self._inner: Any = None

    def _load(self, arena: int, config: Any) -> Any:
        try:
            return tflm.Interpreter.from_bytes(self._data, arena_size=arena, intrepreter_config=config)
        except (RuntimeError, ValueError) as e:
            raise ModelError(
                f"tflite-micro can't load {self._artifact.path} into an arena of {arena} bytes: {e}",
                "give it more (tflm:arena=...), or convert it again; what it lacks stands on stderr",
            ) from None

    def _answer(self, interpreter: Any, inputs: Mapping[str, Any]) -> None:
        if self._stateful:
            interpreter.reset()
        for name, value in inputs.items():
            interpreter.set_input(value, self._inputs[name])
        interpreter.invoke()

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        out: dict[Tap, Any] = {}
        if own := sorted(taps & self._own.keys()):
            self._answer(self._interpreter, inputs)
            out |= {tap: np.array(self._interpreter.get_output(self._own[tap])) for tap in own}
        if inner := sorted(taps - self._own.keys()):
            if self._inner is None:
                self._inner = self._load(_roomy(self._data), tflm.InterpreterConfig.kPreserveAllTensors)
            self._answer(self._inner, inputs)
            out |= {tap: np.array(self._inner.GetTensor(self._index[tap], 0)["tensor_data"]) for tap in inner}
        return out


if __name__ == "__main__":
    print(arena_bytes(Path(sys.argv[1])))
