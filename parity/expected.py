"""What a clip should give at every tap: from a golden, or worked out now by the oracle and a reference runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from parity.backends import reference
from parity.bounds import networks
from parity.bounds.features import Interval, U, bounds
from parity.frontend import Frontend
from parity.protocols import Arithmetic, Array, Clip, Tap
from parity.taps import REGENERATED_TAPS


@dataclass(frozen=True)
class Expected:
    """A clip and what is right for it."""

    clip: Clip
    features: Mapping[Tap, Interval]
    """Oracle and derived bounds at the taps of the frontend, of float32 arithmetic; none of a network's input alone."""
    reference: Array
    """The oracle's features, rounded to what the network is fed with: input of the isolated runs."""
    model: Mapping[Tap, Array] = field(default_factory=dict)
    """Arrays at the network's taps; the decision's source always, layers where they are known."""
    halves: Mapping[str, Array] = field(default_factory=dict)
    """Half-widths of their derived bounds, under the names of `parity.bounds.networks`."""
    rounded: Mapping[Tap, Interval] = field(default_factory=dict)
    """As `features`, of the arithmetic `float64-rounded`, where it was asked for and differs."""

    precisions: frozenset[str] | None = None
    """Of the files that are held to it; None: of all."""

    @property
    def of_network(self) -> bool:
        """Whether it is of a network's input that no clip gives: no features are right or wrong, and no samples."""
        return not self.features

    def holds(self, precision: str) -> bool:
        """Whether a file of a precision is held to it."""
        return self.precisions is None or precision in self.precisions

    def interval(self, tap: Tap, arithmetic: Arithmetic) -> Interval:
        """What a backend of a class of arithmetic is held to at a tap."""
        own = self.rounded.get(tap) if arithmetic == "float64-rounded" else None
        return self.features[tap] if own is None else own


@dataclass(frozen=True, eq=False)
class Given:
    """What is judged here and now: a clip with its features, or what a network is fed with and no clip gives."""

    clip: Clip
    features: Mapping[Tap, Interval]
    """Oracle and bounds of float32 arithmetic; none of a network's input alone."""
    reference: Array
    """What the network is fed with."""
    moved: Array
    """How far each of its elements may move: see `parity.bounds.networks.moved`."""
    rounded: Mapping[Tap, Interval] = field(default_factory=dict)
    """As `features`, of the arithmetic `float64-rounded`, where it was asked for."""

    def expected(self, model: Mapping[Tap, Array], halves: Mapping[str, Array]) -> Expected:
        """With what is right at the network's taps, and by how much that may move."""
        return Expected(self.clip, self.features, self.reference, model, halves, self.rounded)


def heard(clip: Clip, frontend: Frontend, classes: Iterable[Arithmetic]) -> Given:
    """A clip, its features and their bounds; `classes` of arithmetic beside float32."""
    found, reference = bounds_of(clip, frontend, {"float32", *classes})
    moved = networks.moved(frontend, found["float32"][frontend.output])
    return Given(clip, found["float32"], reference, moved, found.get("float64-rounded", {}))


def fed(clip: Clip, features: Array) -> Given:
    """What a network alone is fed with; the clip names it."""
    return Given(clip, {}, features, np.zeros(features.shape))


def stored(x: Interval) -> Interval:
    """The interval around the float32 that a golden stores, with half an ulp added to the bound on either side."""
    with np.errstate(over="ignore"):
        value = x.value.astype(np.float32).astype(np.float64)
    half_ulp = U * np.abs(value) + 2.0**-150 * (x.value != 0.0)  # denormals have fewer bits
    with np.errstate(invalid="ignore"):
        lo, hi = value - (x.value - x.lo) - half_ulp, value + (x.hi - x.value) + half_ulp
    finite = np.isfinite(value) & np.isfinite(x.value)
    if not finite.all():
        lo, hi = np.where(finite, lo, np.minimum(x.lo, value)), np.where(finite, hi, np.maximum(x.hi, value))
    return Interval(value, lo, hi)


def features_of(clip: Clip, frontend: Frontend) -> tuple[dict[Tap, Interval], Array]:
    """Oracle, bounds of float32 arithmetic and the network's input for a clip, worked out now."""
    classes, fed = bounds_of(clip, frontend, ("float32",))
    return classes["float32"], fed


def bounds_of(
    clip: Clip, frontend: Frontend, classes: Iterable[Arithmetic]
) -> tuple[dict[Arithmetic, dict[Tap, Interval]], Array]:
    """Oracle, bounds of each class of arithmetic and the network's input for a clip, worked out now."""
    with np.errstate(invalid="ignore"):  # the difference of two infinities: who asks sees the NaN
        arrays = reference.oracle(frontend, clip)
        found = {c: bounds(frontend, arrays, c) for c in classes}
    return found, network_input(arrays[frontend.output], frontend)


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
