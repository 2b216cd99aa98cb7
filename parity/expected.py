"""What a clip should give at every tap: from a golden, or worked out now by the oracle and a reference runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from parity.backends import reference
from parity.bounds.features import Interval, U, bounds
from parity.frontend import Frontend
from parity.protocols import Array, Clip, Tap
from parity.taps import REGENERATED_TAPS


@dataclass(frozen=True)
class Expected:
    """A clip and what is right for it."""

    clip: Clip
    features: Mapping[Tap, Interval]
    """Oracle and derived bounds at the taps of the frontend."""
    reference: Array
    """The oracle's features, rounded to what the network is fed with: input of the isolated runs."""
    model: Mapping[Tap, Array] = field(default_factory=dict)
    """Arrays at the network's taps; the decision's source always, layers where they are known."""
    halves: Mapping[str, Array] = field(default_factory=dict)
    """Half-widths of their derived bounds, under the names of `parity.bounds.networks`."""


def stored(x: Interval) -> Interval:
    """The interval around the float32 that a golden stores, with half an ulp added to the bound."""
    value = x.value.astype(np.float32).astype(np.float64)
    with np.errstate(invalid="ignore"):
        half_ulp = np.where(np.isfinite(value), U * np.abs(value), 0.0)
    return Interval(value, np.minimum(x.lo, value) - half_ulp, np.maximum(x.hi, value) + half_ulp)


def features_of(clip: Clip, frontend: Frontend) -> tuple[dict[Tap, Interval], Array]:
    """Oracle, bounds and the network's input for a clip, worked out now."""
    with np.errstate(invalid="ignore"):  # the difference of two infinities: who asks sees the NaN
        arrays = reference.oracle(frontend, clip)
        return bounds(frontend, arrays), network_input(arrays[frontend.output], frontend)


def network_input(features: Array, frontend: Frontend) -> Array:
    """The oracle's features in the dtype that the recipe declares."""
    return np.ascontiguousarray(features, dtype=frontend.dtype(frontend.output))


def regenerated(clip: Clip, frontend: Frontend, wanted: frozenset[Tap] = REGENERATED_TAPS) -> dict[Tap, Array]:
    """The taps that only move samples about (audio, frames, windowed), float64, as far as the last one wanted.

    Goldens keep their digests only.
    """
    x, out = clip.samples.astype(np.float64), {}
    moved = [tap for tap in frontend.taps if tap in REGENERATED_TAPS]
    for i, tap in enumerate(moved):
        if wanted.isdisjoint(moved[i:]):
            break
        x = out[tap] = reference.stage(frontend, tap, x)
    return out
