"""How far a network's answers may move, remembered: of a clip like one that was worked out before it is as far.

The bounds of activations cost a hundred times as much as a clip (`parity.runtimes.monte_carlo`). A search needs to know
roughly how near a clip comes to its bounds, and exactly only for those that come nearest.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from parity.protocols import Array

NEAR = 0.4
"""Decades in which inputs, their room and the answers of two clips may differ: then one stands for the other."""


def _decades(x: Array) -> float:
    finite = np.abs(np.asarray(x, np.float64)[np.isfinite(x)])
    return float(np.log10(np.sqrt(np.square(finite).mean()) + 1e-45)) if finite.size else 40.0


class Sensitivity:
    """The half-widths of some clips, by the size of what the network was fed with, of its room and of the answers."""

    def __init__(self) -> None:
        self._keys = np.zeros((0, 3))
        self._halves: list[Mapping[str, Array]] = []

    @staticmethod
    def _key(fed: Array, moved: Array, answers: Mapping[str, Array]) -> Array:
        whole = [np.asarray(a, np.float64).reshape(-1) for a in answers.values()]
        return np.array([_decades(fed), _decades(moved), _decades(np.concatenate([*whole, np.zeros(1)]))])

    def __len__(self) -> int:
        return len(self._halves)

    def add(self, fed: Array, moved: Array, answers: Mapping[str, Array], halves: Mapping[str, Array]) -> None:
        """Remember the half-widths of a clip: its features, their room, and the reference's arrays at the taps."""
        self._keys = np.vstack([self._keys, self._key(fed, moved, answers)])
        self._halves.append(halves)

    def guess(self, fed: Array, moved: Array, answers: Mapping[str, Array]) -> Mapping[str, Array] | None:
        """The half-widths of the nearest clip; None where none is near."""
        if not self._halves:
            return None
        apart = np.abs(self._keys - self._key(fed, moved, answers)).max(axis=1)
        nearest = int(apart.argmin())
        if not apart[nearest] <= NEAR:
            return None
        halves = self._halves[nearest]
        fits = all(
            half.shape == answers[tap].shape for t, half in halves.items() if (tap := t.partition(":")[0]) in answers
        )
        return halves if fits else None
