"""ONNX Runtime on the CPU.

The deployed file is run as it is for its own outputs. Inner tensors are read from a second session on the same bytes
with more outputs named, so that asking for a layer can't change what the deployed model answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime as ort

from parity.errors import ConfigError, ModelError
from parity.protocols import Artifact, Session, Tap, Taps, Tensor, Unsupported
from parity.taps import MODEL_INPUT

_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int8)": "int8", "tensor(uint8)": "uint8",
           "tensor(int64)": "int64", "tensor(float16)": "float16"}  # fmt: skip
_PROVIDER = "CPUExecutionProvider"
_LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    size, length = len(payload), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + payload


def with_outputs(model: bytes, names: list[str]) -> bytes:
    """A serialized ONNX model with more graph outputs.

    Protobuf merges what is appended: ModelProto.graph is field 7, GraphProto.output field 12, ValueInfoProto.name
    field 1. So the onnx package isn't needed where the model runs.
    """
    return model + _field(7, b"".join(_field(12, _field(1, name.encode())) for name in names))


class OnnxRuntime:
    """Options: `opt` all, basic or off (graph optimizations)."""

    def __init__(self, opt: str = "all") -> None:
        if opt not in _LEVELS:
            raise ConfigError(f"onnxrt has no optimization level {opt!r}", f"opt is one of {', '.join(_LEVELS)}")
        self._level = _LEVELS[opt]

    def versions(self) -> Mapping[str, str]:
        return {"onnxruntime": ort.__version__, "execution provider": _PROVIDER}

    def supports(self, artifact: Artifact) -> Unsupported | None:
        return None if artifact.format == "onnx" else Unsupported(f"ONNX Runtime doesn't read {artifact.format} files")

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.use_deterministic_compute, options.log_severity_level = True, 4
        options.graph_optimization_level = self._level
        try:
            model = Path(artifact.path).read_bytes()
        except OSError as e:
            raise ModelError(f"{artifact.path} can't be read: {e.strerror}", "export it again") from None
        yield _OnnxSession(model, artifact, options)


class _OnnxSession:
    def __init__(self, model: bytes, artifact: Artifact, options: ort.SessionOptions) -> None:
        self._model, self._artifact, self._options = model, artifact, options
        self._session = self._load(model)
        self._inner: Any = None
        self._names = {tap: port.name for tap, port in artifact.taps.items()}
        self._own = {o.name for o in self._session.get_outputs()}
        known = {i.name: i for i in self._session.get_inputs()}
        port = artifact.input.name
        for name in (n for n in (port, *(s.name for s in artifact.state), *artifact.constants) if n not in known):
            raise ModelError(
                f"{artifact.path} has no input {name!r}", f"name one of {', '.join(map(repr, known))} in system.toml"
            )
        shape = tuple(d if isinstance(d, int) else None for d in known[port].shape)
        self._steps = {tap: p for tap, p in artifact.taps.items() if p.scale is not None}
        """Taps of which system.toml says where their scale is; read with the first clip."""
        self._tensors: dict[Tap, Tensor] = {
            MODEL_INPUT: Tensor(shape=shape, dtype=_DTYPES.get(known[port].type, known[port].type))
        }
        self.tensors: Mapping[Tap, Tensor] = self._tensors

    def _load(self, model: bytes) -> Any:
        try:
            return ort.InferenceSession(model, self._options, providers=[_PROVIDER])
        except Exception as e:  # onnxruntime raises its own undocumented types
            reason = (str(e).strip().splitlines() or [type(e).__name__])[-1]
            raise ModelError(f"ONNX Runtime can't load {self._artifact.path}: {reason}", "export it again") from None

    def _with_inner(self) -> Any:
        """The session that gives inner tensors too. ModelError names the taps whose tensors aren't there."""
        steps = {n for p in self._steps.values() for n in (p.scale, p.zero_point) if n is not None}
        wanted = sorted({n for n in self._names.values() if n not in self._own} | steps)
        try:
            return self._load(with_outputs(self._model, wanted))
        except ModelError:
            # The file alone was loaded, so that it is one of the names.
            missing = {n for n in wanted if not self._loads(with_outputs(self._model, [n]))}
            if not missing:
                raise
        named = [*self._names.items(), *((t, n) for t, p in self._steps.items() for n in (p.scale, p.zero_point))]
        which = ", ".join(f"{n!r} for {t}" for t, n in named if n in missing)
        raise ModelError(
            f"{self._artifact.path} has no tensor {which}",
            f"its own outputs are {', '.join(map(repr, sorted(self._own)))}; name an inner tensor as Netron shows it",
        )

    def _loads(self, model: bytes) -> bool:
        try:
            self._load(model)
        except ModelError:
            return False
        return True

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        own = sorted(t for t in taps if self._names[t] in self._own)
        inner = sorted(taps - set(own))
        out = dict(zip(own, self._session.run([self._names[t] for t in own], dict(inputs)), strict=True)) if own else {}
        unknown = self._steps.keys() - self._tensors.keys()
        if (inner or unknown) and self._inner is None:
            self._inner = self._with_inner()
        if unknown:
            self._read_steps(inputs)
        if inner:
            out |= zip(inner, self._inner.run([self._names[t] for t in inner], dict(inputs)), strict=True)
        return out

    def _read_steps(self, inputs: Mapping[str, Any]) -> None:
        """Scales and zero points are constants of the file, and come as outputs of the inner session."""
        for tap, port in self._steps.items():
            found = self._inner.run([n for n in (port.scale, port.zero_point) if n is not None], dict(inputs))
            if any(a.size != 1 for a in found):
                raise ModelError(
                    f"{self._artifact.path}: the scale {port.scale!r} of {tap} has {found[0].size} values",
                    "name one tensor's",
                )
            zero_point = int(found[1].item()) if len(found) > 1 else 0
            self._tensors[tap] = Tensor(shape=(), dtype="", scale=float(found[0].item()), zero_point=zero_point)
