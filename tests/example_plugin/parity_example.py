"""A product's front end, and its runtime, as plugins of parity.

The front end is written for an accelerator without an FFT: the Fourier transform is two products with matrices, added
up in wide registers and rounded to float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import interpreter as litert

from parity import frontend as fe
from parity.errors import ModelError
from parity.protocols import Artifact, Clip, Session, Tap, Taps, Tensor, Unsupported

N = 512
RECIPE = fe.Frontend(
    input=fe.Input(rate=16000, length=16032),
    frame=fe.Frame(length=N, hop=160),
    window=fe.Window(name="hann"),
    spectrum=fe.Spectrum(n_fft=N),
    filterbank=fe.Mel(bands=50, fmax=8000.0, scale="htk", norm="slaney"),
    compress=fe.Log(base="10", offset=1e-6),
)
"""The only recipe that the product computes."""


def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Window times cosine, window times sine `[N, bins]`, and the filter bank `[bins, bands]`."""
    angle = 2.0 * np.pi / N * np.outer(np.arange(N), np.arange(N // 2 + 1))
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi / N * np.arange(N))[:, None]
    mel = np.linspace(0.0, 2595.0 * np.log10(1.0 + 8000.0 / 700.0), 52)
    edges = 700.0 * (10.0 ** (mel[:, None] / 2595.0) - 1.0)
    low, mid, high = edges[:-2], edges[1:-1], edges[2:]
    f = np.arange(N // 2 + 1) * 16000.0 / N
    bank = np.maximum(0.0, np.minimum((f - low) / (mid - low), (high - f) / (high - mid))) * 2.0 / (high - low)
    return window * np.cos(angle), window * np.sin(angle), bank.T.astype(np.float32)


class MatrixFrontend:
    """Log-mel features in float32."""

    def __init__(self) -> None:
        self._cosine, self._sine, self._bank = _tables()

    def versions(self) -> Mapping[str, str]:
        return {"parity-example": version("parity-example")}

    def supports(self, frontend: fe.Frontend) -> Unsupported | None:
        return None if frontend == RECIPE else Unsupported("the product computes one recipe, that of commands-cnn")

    def taps(self, frontend: fe.Frontend) -> frozenset[Tap]:
        return frozenset({"features/spectrum", "features/filterbank", "features/compressed"})

    def features(self, clips: Sequence[Clip], frontend: fe.Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        return [{tap: array for tap, array in self._features(clip).items() if tap in taps} for clip in clips]

    def _features(self, clip: Clip) -> Taps:
        x = np.zeros(16032)
        x[: len(clip.samples)] = clip.samples[:16032]
        frames = np.lib.stride_tricks.sliding_window_view(x, N)[::160]
        power = ((frames @ self._cosine) ** 2 + (frames @ self._sine) ** 2).astype(np.float32)
        bands = power @ self._bank
        logs = np.log10(bands + np.float32(1e-6))
        return {"features/spectrum": power, "features/filterbank": bands, "features/compressed": logs}


class LiteRuntime:
    """TensorFlow Lite files of float32, every tensor of which stays readable."""

    def versions(self) -> Mapping[str, str]:
        return {"parity-example": version("parity-example"), "ai-edge-litert": version("ai-edge-litert")}

    def supports(self, artifact: Artifact) -> Unsupported | None:
        if (artifact.format, artifact.precision) == ("tflite", "float32"):
            return None
        return Unsupported(f"the product runs tflite files of float32, not {artifact.format} {artifact.precision}")

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        try:
            interpreter = litert.Interpreter(
                model_content=Path(artifact.path).read_bytes(), num_threads=threads,
                experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
                experimental_preserve_all_tensors=True,
            )  # fmt: skip
            interpreter.allocate_tensors()
        except (OSError, ValueError, RuntimeError) as e:
            raise ModelError(f"{artifact.path} can't be loaded: {e}", "export it again") from None
        yield _Session(interpreter, artifact)


class _Session:
    def __init__(self, interpreter: Any, artifact: Artifact) -> None:
        self._interpreter, self._artifact = interpreter, artifact
        self._index = {d["name"]: d["index"] for d in interpreter.get_tensor_details()}
        self.tensors: Mapping[Tap, Tensor] = {}

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        for name, value in inputs.items():
            self._interpreter.set_tensor(self._index[name], value)
        self._interpreter.invoke()
        names = {tap: self._artifact.taps[tap].name for tap in taps}
        return {tap: np.array(self._interpreter.get_tensor(self._index[name])) for tap, name in names.items()}
