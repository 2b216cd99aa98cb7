"""Plugins that go wrong at work once, or each time, and tell how often they were tried."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from parity.backends.numpy_ import NumpyBackend
from parity.frontend import Frontend
from parity.protocols import Array, Artifact, Clip, Session, Tap, Taps, Unsupported
from parity.runtimes.onnxrt import OnnxRuntime


def _tell(told: str) -> None:
    """A byte more in the file `told`."""
    with Path(told).open("ab") as f:
        f.write(b".")


class RaisesFor(NumpyBackend):
    """Raises where the clip of a name is among those it is given."""

    def __init__(self, clip: str) -> None:
        self._clip = clip

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        if self._clip in [c.name for c in clips]:
            raise ValueError(f"{self._clip} is too quiet for me")
        return super().features(clips, frontend, taps)


class Dies(NumpyBackend):
    def __init__(self, told: str) -> None:
        self._told = told

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        _tell(self._told)
        os.abort()


class Hangs(Dies):
    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        _tell(self._told)
        time.sleep(100_000)
        return []


class DiesOpening(OnnxRuntime):
    def __init__(self, told: str) -> None:
        super().__init__()
        self._told = told

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        _tell(self._told)
        os.abort()
        yield


class _Nothing:
    tensors: Mapping[Tap, None] = {}

    def __init__(self, told: str) -> None:
        self._told = told

    def run(self, inputs: Mapping[str, object], taps: frozenset[Tap]) -> Taps:
        _tell(self._told)
        time.sleep(100_000)
        return {}


class HangsRunning(DiesOpening):
    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        yield _Nothing(self._told)


class ReadsAll(OnnxRuntime):
    """Says that it reads files of every format."""

    def supports(self, artifact: Artifact) -> Unsupported | None:
        return None


class LastStageOnly(NumpyBackend):
    """Gives the features alone, and raises where it is asked for more."""

    def taps(self, frontend: Frontend) -> frozenset[Tap]:
        return frozenset({frontend.output})

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        if taps != self.taps(frontend):
            raise KeyError(*sorted(taps - self.taps(frontend)))
        return super().features(clips, frontend, taps)


class SaysNo(NumpyBackend):
    """Says why not in a word, where an `Unsupported` is due."""

    def supports(self, frontend: Frontend) -> Unsupported | None:
        return "no"  # type: ignore[return-value]


class Slow(OnnxRuntime):
    """Right, in half a second a clip; tells of each before it begins."""

    def __init__(self, told: str) -> None:
        super().__init__()
        self._told = told

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        with super().open(artifact, threads) as session:
            run = session.run

            def slowly(inputs: Mapping[str, Array], taps: frozenset[Tap]) -> Taps:
                _tell(self._told)
                time.sleep(0.5)
                return run(inputs, taps)

            session.run = slowly  # type: ignore[method-assign]
            yield session
