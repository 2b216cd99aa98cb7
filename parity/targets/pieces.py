"""A session of a file that takes a few frames at a time and has a memory, as one that takes a whole clip.

Each clip starts from nothing: zeros for a state that is an input and an output, zeros before its first sample, and a
file that keeps its memory to itself is told to forget. Works on the framework's own arrays; needs NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity.protocols import Array, Artifact, Session, Tap, Taps, Tensor


def remembers(artifact: Artifact) -> bool:
    """Whether a file has a memory: then a clip is run through it in pieces of the frames that it is tied to, if any."""
    return bool(artifact.state or artifact.reset or artifact.context)


def constants(artifact: Artifact) -> dict[str, Array]:
    """The inputs of a file that are the same for every piece: whole numbers int64, others float32."""
    return {k: np.asarray(v, np.int64 if isinstance(v, int) else np.float32) for k, v in artifact.constants.items()}


class InPieces:
    """Runs a clip through `session` in pieces of `artifact.frames` frames, in order; whole where that is None."""

    def __init__(self, session: Session, artifact: Artifact) -> None:
        self._session, self._artifact = session, artifact
        self.tensors: Mapping[Tap, Tensor] = session.tensors

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        a, (x,) = self._artifact, inputs.values()
        time = a.input.layout.index("T")
        size = a.frames or x.shape[time]
        if a.reset is not None:
            self._session.reset()  # type: ignore[attr-defined]  # the runtime's supports() has seen to it
        state = {s.name: np.zeros(s.shape, s.dtype) for s in a.state}
        handed_on = {s.tap: s.name for s in a.state}
        taps = taps - handed_on.keys()  # a state is between pieces: a clip has none
        values = a.input.layout.index("F")
        before = np.zeros([a.context if i == values else n for i, n in enumerate(x.shape) if i != time], x.dtype)
        parts: list[Taps] = []
        for start in range(0, x.shape[time], size):
            piece = np.take(x, range(start, min(start + size, x.shape[time])), axis=time)
            if a.context:
                # What stood just before these samples; system.toml is checked for one frame a piece.
                piece = np.concatenate([np.expand_dims(before, time), piece], axis=values)
                before = np.take(piece, range(piece.shape[values] - a.context, piece.shape[values]), axis=values)
                before = np.squeeze(before, axis=time)
            got = self._session.run({a.input.name: piece, **state, **constants(a)}, taps | handed_on.keys())
            state = {name: np.asarray(got[tap]) for tap, name in handed_on.items()}
            parts.append({tap: np.asarray(got[tap]) for tap in taps})
        if len(parts) == 1:
            return parts[0]
        return {
            tap: np.concatenate([part[tap] for part in parts], axis=a.taps[tap].layout.index("T")) for tap in taps
        }  # fmt: skip
