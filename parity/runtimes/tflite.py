"""TensorFlow Lite through ai-edge-litert: no TensorFlow is imported.

The deployed file is run as it is for its own outputs. Inner tensors are read from a second interpreter that preserves
them all (without that, some resolvers answer with stale memory and no error), so that asking for a layer can't change
what the deployed model answers.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

try:
    from ai_edge_litert import interpreter as litert

    _PACKAGE = "ai-edge-litert"
except ImportError:  # 32-bit boards have the older package of the same interface
    from tflite_runtime import interpreter as litert

    _PACKAGE = "tflite-runtime"

from parity.errors import ConfigError, ModelError
from parity.protocols import Artifact, Session, Tap, Taps, Tensor, Unsupported
from parity.taps import MODEL_INPUT

_RESOLVERS = {
    "xnnpack": litert.OpResolverType.AUTO,
    "builtin": litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": litert.OpResolverType.BUILTIN_REF,
}

_NO_SUCH_OPERATION = re.compile(r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'")


class TfliteRuntime:
    """Options: `resolver` xnnpack (what a deployment gets), builtin or reference (kernels)."""

    def __init__(self, resolver: str = "xnnpack") -> None:
        if resolver not in _RESOLVERS:
            raise ConfigError(f"tflite has no resolver {resolver!r}", f"resolver is one of {', '.join(_RESOLVERS)}")
        self._resolver = resolver

    def versions(self) -> Mapping[str, str]:
        try:
            return {_PACKAGE: version(_PACKAGE)}
        except PackageNotFoundError:
            return {_PACKAGE: "unknown"}

    def supports(self, artifact: Artifact) -> Unsupported | None:
        if artifact.format != "tflite":
            return Unsupported(f"TFLite doesn't read {artifact.format} files")
        if (lacks := _lacks(artifact.path)) is not None:
            had = " ".join(f"{package} {found}" for package, found in self.versions().items())
            return Unsupported(f"{had} lacks {lacks}, which the file has: it is older than what converted it")
        return None

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        yield _TfliteSession(artifact, threads, self._resolver)


def _lacks(path: str) -> str | None:
    """The operation of a file that this version of the package doesn't know, or None; other troubles are `open`'s."""
    try:
        litert.Interpreter(model_path=path, experimental_op_resolver_type=_RESOLVERS["builtin"])
    except (ValueError, RuntimeError, OSError) as e:
        found = _NO_SUCH_OPERATION.search(str(e))
        return f"{found[1]} of version {found[2]}" if found else None
    return None


def _tensor(detail: Mapping[str, Any]) -> Tensor:
    scale, zero_point = detail["quantization"]
    signature = detail.get("shape_signature", detail["shape"])
    shape = tuple(int(d) if d >= 0 else None for d in signature)
    return Tensor(shape=shape, dtype=np.dtype(detail["dtype"]).name, scale=scale or None, zero_point=int(zero_point))


def _has_resources(interpreter: Any) -> bool:
    """Whether a file keeps numbers in resource variables (VAR_HANDLE), which stay from one run to the next."""
    each = [interpreter.get_tensor_details()]
    with contextlib.suppress(AttributeError, TypeError):  # older packages know the first graph only
        each += [interpreter.get_tensor_details(i) for i in range(1, interpreter.num_subgraphs())]
    return any(np.dtype(d["dtype"]) == np.object_ for details in each for d in details)


class _TfliteSession:
    def __init__(self, artifact: Artifact, threads: int, resolver: str) -> None:
        self._artifact, self._threads = artifact, threads
        self._interpreter = self._load(_RESOLVERS[resolver], preserve=False)
        self._resolver = _RESOLVERS[resolver]
        self._inner: Any = None
        self._ran = False
        self._resources = _has_resources(self._interpreter)
        details = {d["name"]: d for d in self._interpreter.get_tensor_details() if d["name"]}
        outputs = {d["name"] for d in self._interpreter.get_output_details()}
        inputs = {d["name"]: int(d["index"]) for d in self._interpreter.get_input_details()}
        for name in (s.name for s in artifact.state if s.name not in inputs):
            raise ModelError(
                f"{artifact.path} has no input {name!r} for its state", f"name one of {', '.join(map(repr, inputs))}"
            )
        self._inputs = inputs
        self._index: dict[Tap, int] = {}
        self._own: set[Tap] = set()
        tensors: dict[Tap, Tensor] = {}
        for tap, port in {MODEL_INPUT: artifact.input, **artifact.taps}.items():
            if port.name not in details:
                raise ModelError(
                    f"{artifact.path} has no tensor {port.name!r} for {tap}",
                    f"its inputs are {[d['name'] for d in self._interpreter.get_input_details()]}, its outputs "
                    f"{sorted(outputs)}: name them in system.toml",
                )
            self._index[tap] = details[port.name]["index"]
            tensors[tap] = _tensor(details[port.name])
            if port.name in outputs:
                self._own.add(tap)
        self.tensors: Mapping[Tap, Tensor] = tensors

    def _load(self, resolver: Any, *, preserve: bool) -> Any:
        try:
            with warnings.catch_warnings():
                # It warns that preserving costs speed; that is why there is an interpreter of its own for it.
                warnings.simplefilter("ignore", UserWarning)
                interpreter = litert.Interpreter(
                    model_content=Path(self._artifact.path).read_bytes(), num_threads=self._threads,
                    experimental_op_resolver_type=resolver, experimental_preserve_all_tensors=preserve,
                )  # fmt: skip
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError, OSError) as e:
            raise ModelError(f"TFLite can't load {self._artifact.path}: {e}", "convert it again") from None
        return interpreter

    def _forget(self) -> None:
        """Each clip starts from nothing: variable tensors from zeros, resource variables as the file begins them."""
        if self._resources:  # TensorFlow Lite has no way to begin these again
            if self._ran:
                self._interpreter, self._inner = self._load(self._resolver, preserve=False), None
            self._ran = True
            return
        for interpreter in filter(None, (self._interpreter, self._inner)):
            interpreter.reset_all_variables()

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        out: dict[Tap, Any] = {}
        self._forget()
        if taps - self._own and self._inner is None:
            self._inner = self._load(self._resolver, preserve=True)
        for interpreter, wanted in ((self._interpreter, taps & self._own), (self._inner, taps - self._own)):
            if not wanted:
                continue
            interpreter.set_tensor(self._index[MODEL_INPUT], inputs[self._artifact.input.name])
            for state in self._artifact.state:
                interpreter.set_tensor(self._inputs[state.name], inputs[state.name])
            interpreter.invoke()
            out |= {tap: np.array(interpreter.get_tensor(self._index[tap])) for tap in sorted(wanted)}
        return out
