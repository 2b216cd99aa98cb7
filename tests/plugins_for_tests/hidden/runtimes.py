"""ONNX Runtime with a defect that few inputs show."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from parity.protocols import Artifact, Session, Tap, Taps
from parity.runtimes.onnxrt import OnnxRuntime


class _Session:
    def __init__(self, session: Session, artifact: Artifact, runtime: _Hidden) -> None:
        self._session, self._artifact, self._runtime = session, artifact, runtime
        self.tensors = session.tensors

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        return self._runtime.computed(self._session, self._artifact, inputs, taps)


class _Hidden(OnnxRuntime):
    def computed(self, session: Session, artifact: Artifact, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        raise NotImplementedError

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        with super().open(artifact, threads) as session:
            yield _Session(session, artifact, self)


class NaiveSoftmax(_Hidden):
    """exp(x) / sum(exp(x)) without taking the largest away: infinite above 88.7 in float32."""

    def computed(self, session: Session, artifact: Artifact, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        out = dict(session.run(inputs, taps | {"model/logits"}))
        with np.errstate(over="ignore", invalid="ignore"):
            e = np.exp(out["model/logits"].astype(np.float64)).astype(np.float32)  # rounded once
            out["model/probabilities"] = e / e.sum(axis=-1, keepdims=True)
        return {t: a for t, a in out.items() if t in taps}


class NeverReset(_Hidden):
    """A recurrent network goes on from where the clip before ended: here, from its last frame."""

    def __init__(self) -> None:
        super().__init__()
        self._before: np.ndarray[Any, Any] | None = None

    def computed(self, session: Session, artifact: Artifact, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        (name, x), before = next(iter(inputs.items())), self._before
        self._before = x[:, -1:].copy()
        if before is None:
            return session.run(inputs, taps)
        out = session.run({name: np.concatenate([before, x], axis=1)}, taps)
        timed = {t for t in taps if "T" in artifact.taps[t].layout}
        return {t: a[:, 1:] if t in timed else a for t, a in out.items()}


class ScalesByThePeak(_Hidden):
    """Scales its input to ±1 by the reciprocal of its peak, and back: infinite where the peak is a denormal number."""

    def computed(self, session: Session, artifact: Artifact, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        (name, x) = next(iter(inputs.items()))
        peak = np.abs(x).max(initial=np.float32(0.0))
        if peak < np.finfo(np.float32).tiny and peak > 0:
            with np.errstate(over="ignore", invalid="ignore"):
                x = (x * (np.float32(1.0) / peak)) * peak
        return session.run({**inputs, name: x}, taps)


class Segfaults(_Hidden):
    """Reads memory that isn't its own where a feature is larger than it has seen in training."""

    def computed(self, session: Session, artifact: Artifact, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        if float(np.abs(next(iter(inputs.values()))).max()) > 1e3:
            ctypes.string_at(0)
        return session.run(inputs, taps)
