"""LiteRT on quantized files, gone wrong as a deployment does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from parity.protocols import Artifact, Session, Tap, Taps
from parity.runtimes.tflite import TfliteRuntime

Change = Callable[[Any], Any]


class _Session:
    def __init__(self, session: Session, feed: Change, give: Mapping[Tap, Change]) -> None:
        self._session, self._feed, self._give = session, feed, give
        self.tensors = session.tensors

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        out = self._session.run({name: self._feed(x) for name, x in inputs.items()}, taps)
        return {tap: self._give.get(tap, lambda x: x)(x) for tap, x in out.items()}


class _Faulty(TfliteRuntime):
    give: ClassVar[Mapping[Tap, Change]] = {}

    def feed(self, x: Any) -> Any:
        return x

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        with super().open(artifact, threads) as session:
            yield _Session(session, self.feed, self.give)


def _steps(n: int) -> Change:
    def off(x: Any) -> Any:
        held = np.iinfo(x.dtype)
        return np.clip(x.astype(np.int32) + n, held.min, held.max).astype(x.dtype)

    return off


class ZeroPointOff(_Faulty):
    """The application quantizes the input with a zero point that is one off."""

    def feed(self, x: Any) -> Any:
        return _steps(1)(x)


class KernelOff(_Faulty):
    """A kernel of the third layer rounds four steps too high."""

    give: ClassVar[Mapping[Tap, Change]] = {"model/relu3": _steps(4)}


class Turned(_Faulty):
    """The logits come in the wrong order."""

    give: ClassVar[Mapping[Tap, Change]] = {"model/logits": lambda x: x[:, ::-1].copy()}


class StemOff(_Faulty):
    """The first kernel of a mel40 network rounds four steps too high, where no gap is known."""

    give: ClassVar[Mapping[Tap, Change]] = {"model/stem": _steps(4)}


class BlockOff(_Faulty):
    """A block of mel40-mobilenetv2 is further off than its known gap."""

    give: ClassVar[Mapping[Tap, Change]] = {"model/block5": _steps(20)}


class Coarse(_Faulty):
    """It says of the logits that their step is ten times as coarse, and moves them by one of those."""

    give: ClassVar[Mapping[Tap, Change]] = {"model/logits": _steps(10)}

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        with super().open(artifact, threads) as session:
            logits = session.tensors["model/logits"]
            assert logits.scale is not None
            session.tensors = {
                **session.tensors, "model/logits": dataclasses.replace(logits, scale=10 * logits.scale)
            }  # fmt: skip
            yield session
