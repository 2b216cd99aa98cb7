"""A stream that goes wrong: a state that isn't carried over, or that comes back in another order; frames begun anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from parity.backends.numpy_ import NumpyBackend
from parity.frontend import Frontend
from parity.protocols import Artifact, Clip, Session, Tap, Taps
from parity.runtimes.onnxrt import OnnxRuntime


class _Session:
    def __init__(self, session: Session, runtime: _Faulty) -> None:
        self._session, self._runtime = session, runtime
        self.tensors = session.tensors

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        return self._session.run({**inputs, "state": self._runtime.spoil(inputs["state"])}, taps)


class _Faulty(OnnxRuntime):
    def spoil(self, state: Any) -> Any:
        raise NotImplementedError

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        with super().open(artifact, threads) as session:
            yield _Session(session, self)


class Forgets(_Faulty):
    """Starts every chunk from zeros."""

    def spoil(self, state: Any) -> Any:
        return np.zeros_like(state)


class Swaps(_Faulty):
    """Hands each layer the other's state."""

    def spoil(self, state: Any) -> Any:
        return np.ascontiguousarray(state[::-1])


class StartsAnew(NumpyBackend):
    """Silences the first frame of every chunk up to its last hop: a buffer that isn't carried over."""

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        def begun(clip: Clip) -> Clip:
            samples = clip.samples.copy()
            samples[: frontend.frame.length - frontend.frame.hop] = 0.0
            return Clip(clip.name, samples, clip.rate, clip.sha256)

        return super().features([begun(c) for c in clips], frontend, taps)
