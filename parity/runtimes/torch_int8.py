"""PyTorch's own int8: a traced file of a network after static quantization, on the engine that it was made for.

The engine is a setting of the whole process. It is set before a file is loaded, for that packs the weights, and before
each run, for some operators look it up only then; so files of several engines can be open side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from parity import layout
from parity.errors import ConfigError
from parity.protocols import Artifact, Session, Tap, Taps, Tensor, Unsupported
from parity.runtimes.torch_int8_reference import evaluate
from parity.runtimes.torchscript import ScriptSession, value_of

FORMAT = "torchscript-int8"
ENGINES = ("qnnpack", "x86", "fbgemm", "onednn")


class TorchInt8Runtime:
    """Options: `engine` qnnpack, x86, fbgemm or onednn (else the one that the precision names: qnnpack-int8), and
    `kernels` engine (what a deployment gets) or reference (each operator by its definition, in float64).
    """

    def __init__(self, engine: str | None = None, kernels: str = "engine") -> None:
        if engine not in (None, *ENGINES):
            raise ConfigError(f"torch-int8 has no engine {engine!r}", f"engine is one of {', '.join(ENGINES)}")
        if kernels not in ("engine", "reference"):
            raise ConfigError(f"torch-int8 has no kernels {kernels!r}", "kernels is engine or reference")
        self._engine, self._kernels = engine, kernels

    def versions(self) -> Mapping[str, str]:
        return {"torch": torch.__version__}

    def _engine_of(self, artifact: Artifact) -> str:
        return self._engine or artifact.precision.removesuffix("-int8")

    def supports(self, artifact: Artifact) -> Unsupported | None:
        if artifact.format != FORMAT:
            return Unsupported(f"PyTorch's int8 engines don't run {artifact.format} files")
        engine = self._engine_of(artifact)
        if engine not in ENGINES:
            return Unsupported(f"{artifact.precision} names no engine: write {ENGINES[0]}-int8, or engine=...")
        if engine not in torch.backends.quantized.supported_engines:
            return Unsupported(f"PyTorch has no engine {engine} on this machine")
        return None

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        torch.set_num_threads(threads)
        kind = _Int8Session if self._kernels == "engine" else _ReferenceSession
        yield kind(artifact, self._engine_of(artifact))


class _Int8Session(ScriptSession):
    """Taps come as the file's integers; `tensors` has their scales and zero points."""

    def __init__(self, artifact: Artifact, engine: str) -> None:
        self._engine = engine
        self._prepare()
        super().__init__(artifact)
        # Static quantization: scales are constants, the same whatever is fed; an engine tells them with the tensors.
        frames, bands = artifact.shape
        features = np.zeros((artifact.frames or frames or 50, bands or 40), np.float32)
        zeros = {artifact.input.name: layout.native(features, artifact.input.layout)}
        seen = self.values(zeros, frozenset(artifact.taps))
        self.tensors = {tap: _tensor(t) for tap, t in seen.items()}

    def _prepare(self) -> None:
        torch.backends.quantized.engine = self._engine
        # Integers are summed exactly in any order. Where determinism is asked for, PyTorch refuses to make the output
        # of a quantized linear layer, for its memory isn't cleared before it is written.
        torch.use_deterministic_algorithms(False)

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        self._prepare()
        return {tap: (t.int_repr() if t.is_quantized else t).numpy() for tap, t in self.values(inputs, taps).items()}


class _ReferenceSession(_Int8Session):
    """The same file, each operator by its definition."""

    def values(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> dict[Tap, torch.Tensor]:
        (x,) = inputs.values()
        graph = self._model.inlined_graph
        names = {tap: value_of(graph, self._names[tap]).debugName() for tap in taps - self._own.keys()}
        with torch.inference_mode():
            output, found = evaluate(self._model, torch.from_numpy(np.array(x, order="C")), names.values())
        inner = {tap: found[name] for tap, name in names.items()}
        return inner | {tap: self._output(output, tap) for tap in taps & self._own.keys()}


def _tensor(t: torch.Tensor) -> Tensor:
    """What is known of a tensor: its dtype, and how its integers are to be read."""
    integers = t.int_repr() if t.is_quantized else t
    dtype = str(integers.dtype).removeprefix("torch.")
    if not t.is_quantized:
        return Tensor(shape=(None,) * t.dim(), dtype=dtype)
    return Tensor(shape=(None,) * t.dim(), dtype=dtype, scale=t.q_scale(), zero_point=t.q_zero_point())
