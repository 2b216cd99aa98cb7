"""ONNX by the reference implementation of the onnx package: plain NumPy, operator by operator as the standard says.

It shares no kernel with ONNX Runtime, fuses nothing and optimizes nothing, so that reading a layer changes nothing:
where the two disagree, it is not the file. Slow: 0.13 to 0.4 s were measured for a clip of
commands-cnn, where ONNX Runtime takes 0.4 ms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from parity.errors import ModelError
from parity.protocols import Artifact, Session, Tap, Taps, Tensor, Unsupported
from parity.taps import MODEL_INPUT


class OnnxReferenceRuntime:
    """`onnx.reference.ReferenceEvaluator`; it has no threads of its own."""

    def versions(self) -> Mapping[str, str]:
        return {"onnx": onnx.__version__, "numpy": np.__version__}

    def supports(self, artifact: Artifact) -> Unsupported | None:
        if artifact.format != "onnx":
            return Unsupported(f"onnx.reference doesn't read {artifact.format} files")
        if artifact.precision != "float32" and (lacks := _lacking(artifact.path)):
            return Unsupported(f"onnx.reference: {lacks[0].lower()}{lacks[1:]}")
        return None

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        yield _ReferenceSession(artifact)


def _lacking(path: str) -> str | None:
    """Which operator of a file onnx.reference hasn't in its opset; None where it has all, or the file can't be read."""
    try:
        ReferenceEvaluator(onnx.load(Path(path), format="protobuf"))
    except RuntimeError as e:
        return str(e).partition(",")[0] if str(e).startswith("No implementation for operator") else None
    except Exception:  # protobuf raises types of its own; `open` says what is wrong
        return None
    return None


def _load(path: str) -> tuple[Any, Any]:
    """The model and its evaluator."""
    try:
        model = onnx.load(Path(path), format="protobuf")
        onnx.checker.check_model(model)
        return model, ReferenceEvaluator(model)
    except OSError as e:
        raise ModelError(f"{path} can't be read: {e.strerror}", "export it again") from None
    except Exception as e:  # protobuf, the checker and the evaluator raise types of their own
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise ModelError(f"onnx.reference can't load {path}: {reason}", "export it again") from None


class _ReferenceSession:
    def __init__(self, artifact: Artifact) -> None:
        model, self._evaluator = _load(artifact.path)
        graph = model.graph
        weights = {w.name for w in graph.initializer}  # old files list them among the inputs too
        inputs = {i.name: i.type.tensor_type for i in graph.input if i.name not in weights}
        if artifact.input.name not in inputs:
            raise ModelError(
                f"{artifact.path} has no input {artifact.input.name!r}",
                f"name one of {', '.join(map(repr, inputs))} in system.toml",
            )
        self._names = {tap: port.name for tap, port in artifact.taps.items()}
        given = {name for node in graph.node for name in node.output}
        if missing := {tap: name for tap, name in self._names.items() if name not in given}:
            which = ", ".join(f"{name!r} for {tap}" for tap, name in missing.items())
            outputs = ", ".join(repr(o.name) for o in graph.output)
            raise ModelError(
                f"{artifact.path} has no tensor {which}",
                f"its own outputs are {outputs}; name an inner tensor as Netron shows it",
            )
        found = inputs[artifact.input.name]
        shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in found.shape.dim)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(found.elem_type).name
        self.tensors: Mapping[Tap, Tensor] = {MODEL_INPUT: Tensor(shape=shape, dtype=dtype)}

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        if not taps:
            return {}
        # Every result by name. Copies: an operator that only reshapes gives a view of what another tap holds.
        every = self._evaluator.run(None, dict(inputs), intermediate=True)
        return {tap: np.array(every[self._names[tap]]) for tap in taps}
