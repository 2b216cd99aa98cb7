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


class _Once(NumpyBackend):
    """Spoils the spectrum of the chunk that begins with the frame `at`."""

    at: int

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        found = [dict(of) for of in super().features(clips, frontend, taps)]
        for clip, of in zip(clips, found, strict=True):
            if f", frames {self.at} to" in clip.name:
                self.spoil(of)
        return found

    def spoil(self, of: dict[Tap, Any]) -> None:
        raise NotImplementedError


class LosesABin(_Once):
    """One bin fewer in the first chunk."""

    at = 0

    def spoil(self, of: dict[Tap, Any]) -> None:
        of["features/spectrum"] = np.ascontiguousarray(of["features/spectrum"][:, :-1])


class LosesATap(_Once):
    """No spectrum in a later chunk, of one, three or seven frames."""

    at = 21

    def spoil(self, of: dict[Tap, Any]) -> None:
        del of["features/spectrum"]


class LosesALabel(OnnxRuntime):
    """One label fewer in every other chunk."""

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        with super().open(artifact, threads) as session:
            yield _Narrow(session)


class _Narrow:
    def __init__(self, session: Session) -> None:
        self._session, self._runs = session, 0
        self.tensors = session.tensors

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        self._runs += 1
        found = dict(self._session.run(inputs, taps))
        if self._runs % 2:
            found["model/frames"] = found["model/frames"][..., :-1]
        return found
