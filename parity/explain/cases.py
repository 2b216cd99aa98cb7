"""The evidence as the search wants it: a clip, the candidate's arrays in float64, and what a definition makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from parity import frontend as fe
from parity.bounds.interval import Interval, U
from parity.evidence import Evidence
from parity.explain import bound
from parity.explain.definition import Arrays, Definition, run, seen
from parity.protocols import Arithmetic, Array, Tap


@dataclass(eq=False)
class Case:
    """One clip. `given` has the candidate's arrays; `cache` what one definition computed, for the next to share."""

    name: str
    samples: Array
    given: Mapping[Tap, Array]
    arithmetic: Arithmetic = "float32"
    """What the candidate computes in, which says how wide its bounds are."""
    like: tuple[Definition, Arrays] | None = None
    computed: int = 0
    weighed: tuple[Definition, Tap, Array | None] | None = None
    """The last of `halves`."""

    def arrays(self, d: Definition, upto: Tap) -> Arrays | None:
        """What `d` computes, as far as `upto`; None where it can't be computed from this clip."""
        self.computed += 1
        try:
            with np.errstate(all="ignore"):
                return run(d, self.samples, upto, self.like)
        except (ValueError, IndexError, ZeroDivisionError):
            return None

    def settle(self, d: Definition, upto: Tap) -> None:
        """Take `d` as what most of the next definitions share their first stages with."""
        found = self.arrays(d, upto)
        self.like = None if found is None else (d, found)


def cases(evidence: Sequence[Evidence], frontend: fe.Frontend, arithmetic: Arithmetic = "float32") -> list[Case]:
    """One a clip; taps that aren't of the recipe are left out."""
    known = set(frontend.taps)
    return [
        Case(
            e.clip.name,
            e.clip.samples.astype(np.float64),
            {t: np.asarray(a).astype(np.float64) for t, a in e.features.items() if t in known},
            arithmetic,
        )
        for e in evidence
    ]


@dataclass(frozen=True)
class Fit:
    """How near a definition comes at one tap: of one clip, or of all of them together."""

    squares: float
    """Sum of squared differences over elements that are finite in both."""
    count: int
    inside: int
    """Elements within bound; -1 where nobody looked."""
    worst: float
    """Largest difference; infinite where one side isn't finite."""
    fits: bool = True
    """The shape is the candidate's."""
    unlike: float = 1.0
    """What no scale and offset can mend, as a share: small where a setting of that kind is missing beside this one."""
    unlike_by_band: float = 1.0
    """The same with a scale and an offset a band."""

    @property
    def rms(self) -> float:
        """Root mean square; infinite where the shape is another, or only one side finite."""
        if not np.isfinite(self.worst):
            return float("inf")
        return (self.squares / self.count) ** 0.5 if self.fits and self.count else float("inf")

    @property
    def share_inside(self) -> float:
        """Share of the elements within bound."""
        return max(0, self.inside) / self.count if self.fits and self.count else 0.0

    @property
    def complete(self) -> bool:
        """Every element is within its bound."""
        return self.fits and self.inside == self.count


NO_FIT = Fit(0.0, 0, 0, float("inf"), fits=False)


def measure(case: Case, d: Definition, tap: Tap, bounded: bool) -> Fit:
    """Compare what `d` computes at a tap with the candidate's; with `bounded` element by element with its bound too."""
    arrays = case.arrays(d, tap)
    if arrays is None or tap not in arrays or tap not in case.given:
        return NO_FIT
    return compared(case, d, tap, arrays, bounded)


def compared(case: Case, d: Definition, tap: Tap, arrays: Arrays, bounded: bool) -> Fit:
    """The same, of what was computed already."""
    c, value = case.given[tap], np.asarray(seen(d, tap, arrays[tap]), np.float64)
    if c.shape != value.shape or not c.size:
        return NO_FIT
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(c - value)
        same = c == value
        finite = np.isfinite(difference)
        squares = float(np.square(difference[finite]).sum())
        worst = float(difference[finite].max(initial=0.0)) if (finite | same).all() else float("inf")
    inside = -1
    if bounded:
        upto = {t: arrays[t] for t in list(arrays)[: list(arrays).index(tap) + 1]}
        try:
            inside = int(np.count_nonzero(within(c, interval(case, d, upto, tap))))
        except ValueError:  # arrays in an order that no bound is known for
            return NO_FIT
    if not finite.all():
        return Fit(squares, c.size, inside, worst)
    return Fit(squares, c.size, inside, worst, True, _unlike(c.reshape(-1, 1), value.reshape(-1, 1)), _unlike(c, value))


def _unlike(a: Array, b: Array) -> float:
    """1 - r² of what is left of each column's mean, columns by their own size."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    size = np.square(a).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        left = size - np.square((a * b).sum(axis=0)) / np.square(b).sum(axis=0)
    left = np.where(np.isfinite(left), left, size)
    whole = float(size.sum())
    return float(left.sum()) / whole if whole > 0 else 1.0


def interval(case: Case, d: Definition, arrays: Arrays, tap: Tap) -> Interval:
    """Value and bound of a tap."""
    with np.errstate(all="ignore"):
        return bound.intervals(d, arrays, case.arithmetic)[tap]


def within(c: Array, x: Interval) -> Array:
    """By the rule of `parity.compare`; one more rounding, that of the tap itself, for candidates in float32."""
    with np.errstate(invalid="ignore"):
        return (x.lo <= c) & (c <= x.hi) | (np.isnan(c) & np.isnan(x.value))


def halves(case: Case, d: Definition, tap: Tap) -> Array | None:
    """How far each element may be from what `d` computes, never zero: what errors are weighed by, `[...]`."""
    if case.weighed is None or case.weighed[:2] != (d, tap):
        case.weighed = (d, tap, _halves(case, d, tap))
    return case.weighed[2]


def _halves(case: Case, d: Definition, tap: Tap) -> Array | None:
    arrays = case.arrays(d, tap)
    if arrays is None:
        return None
    x = interval(case, d, arrays, tap)
    with np.errstate(invalid="ignore"):
        half = np.maximum(x.hi - x.value, x.value - x.lo)
    c = case.given[tap]
    size = float(np.abs(c[np.isfinite(c)]).max(initial=0.0)) or 1.0
    half = np.where(np.isfinite(half), half, size)
    for hook in d.views(tap):
        half = half if hook.step is None else half + 0.5 * hook.step(x.value)
    whole = isinstance(d.frontend.stages()[tap], fe.Quantize | fe.Micro)
    return np.maximum(half, 0.5 if whole else U * size)


def total(fits: Sequence[Fit]) -> Fit:
    """All clips together."""
    if not all(f.fits for f in fits):
        return NO_FIT
    inside = -1 if any(f.inside < 0 for f in fits) else sum(f.inside for f in fits)
    return Fit(sum(f.squares for f in fits), sum(f.count for f in fits), inside, max(f.worst for f in fits))
