"""ONNX Runtime without a memory, or with a wrong one: what goes wrong where a network's state is carried by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from parity.protocols import Artifact, Session, Tap, Taps
from parity.runtimes.onnxrt import OnnxRuntime


class _Session:
    def __init__(self, session: Session, runtime: _Spoiled) -> None:
        self._session, self._runtime = session, runtime
        self.tensors = session.tensors

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        return self._session.run(self._runtime.spoil(dict(inputs)), taps)


class _Spoiled(OnnxRuntime):
    def spoil(self, inputs: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        with super().open(artifact, threads) as session:
            yield _Session(session, self)


class Forgets(_Spoiled):
    """Every chunk starts from nothing."""

    def spoil(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs | {"state": np.zeros_like(inputs["state"])}


class SwapsStates(_Spoiled):
    """Hidden and cell state in each other's place."""

    def spoil(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return inputs | {"state": np.ascontiguousarray(inputs["state"][::-1])}


class NoContext(_Spoiled):
    """Zeros for the samples before a chunk."""

    def spoil(self, inputs: dict[str, Any]) -> dict[str, Any]:
        x = inputs["input"].copy()
        x[:, :64] = 0.0
        return inputs | {"input": x}


class NeverResets(_Spoiled):
    """A clip goes on from where the one before it ended."""

    _kept: Any = None

    def spoil(self, inputs: dict[str, Any]) -> dict[str, Any]:
        fresh = not inputs["state"].any()
        if fresh and self._kept is not None:
            inputs = inputs | {"state": self._kept}
        self._kept = inputs["state"]
        return inputs
