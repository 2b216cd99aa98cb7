"""The search: which setting, or which two, make the oracle compute what the candidate computed.

Tap by tap where there are taps between: what diverges first is explained first, with settings of the stages since the
last tap that is right; the next divergence is looked for under that. So two settings at different stages are two
searches. With the last tap alone pairs are tried too: the settings that come nearest, each with all others on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from parity import frontend as fe
from parity.explain import catalogue
from parity.explain.cases import Case, Fit, halves, measure, total
from parity.explain.definition import Definition
from parity.explain.estimate import Build, Model, best_starts, cost, refine, simpler
from parity.explain.settings import GENERIC, USUAL, Knob, Setting
from parity.protocols import Tap
from parity.sources import Progress, silent

_BEAM, _ESTIMATED = 40, 12
"""Settings that pairs are begun with; and the first of them, which everything is tried on top of."""
_NEARER = 0.7
"""What may be left, at most, of the size of the error that a setting explains."""
_POLISHED = 6
"""Pairs whose numbers are estimated anew together, for each first setting."""


@dataclass(frozen=True, eq=False)
class Part:
    """An entry of the catalogue, and the value of it if it is a knob."""

    entry: Setting | Knob
    value: float = 0.0
    place: int = 0
    """In the catalogue."""

    @property
    def setting(self) -> Setting:
        """What it comes to."""
        return self.entry.at(self.value) if isinstance(self.entry, Knob) else self.entry


@dataclass(frozen=True, eq=False)
class Trial:
    """Settings, the definition that they make, and how near it comes."""

    parts: tuple[Part, ...]
    definition: Definition
    fit: Fit

    @property
    def order(self) -> tuple[int, int, int, int, tuple[int, ...]]:
        """The simplest first: fewer settings, more usual ones, the catalogue's order."""
        ranks = [p.setting.rank for p in self.parts]
        digits = sum(len(f"{p.value:.12g}") for p in self.parts if isinstance(p.entry, Knob))
        return (
            len(ranks),
            max(ranks, default=0) * 10 + (15 if digits > 7 else 0),
            sum(ranks),
            digits,
            tuple(p.place for p in self.parts),
        )


def build(d: Definition, parts: Sequence[Part]) -> Definition | None:
    """All settings, one after the other."""
    found: Definition | None = d
    for p in parts:
        found = None if found is None else p.setting.change(found)
    return found


class Search:
    """Over the neighbourhood of one recipe, for one candidate."""

    def __init__(self, cases: Sequence[Case], frontend: fe.Frontend, step: Progress = silent) -> None:
        self.cases = list(cases)
        self.flow = {t: i for i, t in enumerate(frontend.taps)}
        self._step = step
        self._nearest: Trial | None = None

    @property
    def tried(self) -> int:
        """Recipes that were computed."""
        return sum(c.computed for c in self.cases)

    def fit(self, d: Definition, tap: Tap, bounded: bool = True) -> Fit:
        """One definition at one tap, all clips that have it."""
        return total([measure(c, d, tap, bounded) for c in self.cases if tap in c.given])

    def telling(self, d: Definition, tap: Tap) -> Case:
        """The clip that says most of what is wrong at a tap: wrong in many elements, and with much in it."""

        def worth(c: Case) -> tuple[float, float]:
            f = measure(c, d, tap, bounded=True)
            x = c.given[tap]
            outside = 1.0 if not f.fits else 1.0 - f.share_inside
            return min(outside, 0.5), float(x.std()) if x.size else 0.0

        return max((c for c in self.cases if tap in c.given), key=worth)

    def explain(self, d: Definition, tap: Tap, known: Tap | None) -> list[Trial]:
        """Settings under which `tap` is right on all clips, the simplest first; else the nearest, one only.

        `known` is the last tap before that is right: stages up to it are left alone.
        """
        self._nearest = None
        case = self.telling(d, tap)
        entries = self.entries(d, tap, known)
        singles = self.singles(d, entries, case, tap)
        if found := self._complete(d, singles, tap):
            return found
        pairs = self.pairs(d, singles, case, tap, known)
        if found := self._complete(d, pairs, tap):
            return found
        if known is not None:
            # What the last tap doesn't show may still be set before it.
            done = {place for place, _ in entries}
            earlier = [(place, e) for place, e in self.entries(d, tap, None) if place not in done]
            if found := self._complete(d, self.singles(d, earlier, case, tap), tap):
                return found
        nearest = sorted((t for t in [*singles, *pairs] if t.fit.fits), key=lambda t: (t.fit.rms, t.order))[:8]
        measured = [replace(t, fit=self.fit(t.definition, tap)) for t in nearest]
        measured = [t for t in measured if t.fit.fits]
        return sorted(measured, key=lambda t: (t.fit.rms, t.order))[:1]

    def so_far(self, tap: Tap) -> list[Trial]:
        """The nearest of what was tried before the search was interrupted."""
        t = self._nearest
        return [] if t is None else [replace(t, fit=self.fit(t.definition, tap))]

    def _noted(self, trials: Sequence[Trial]) -> Sequence[Trial]:
        for t in trials:
            if t.fit.fits and (self._nearest is None or t.fit.rms < self._nearest.fit.rms):
                self._nearest = t
        return trials

    def entries(self, d: Definition, tap: Tap, known: Tap | None) -> list[tuple[int, Setting | Knob]]:
        """What there is to change after `known` and up to `tap`, with its place in the catalogue."""
        after = -1 if known is None else self.flow[known]
        found = catalogue.entries(d.frontend)
        return [(i, e) for i, e in enumerate(found) if after < self.flow.get(e.tap, 99) <= self.flow[tap]]

    def singles(
        self, d: Definition, entries: Sequence[tuple[int, Setting | Knob]], case: Case, tap: Tap
    ) -> list[Trial]:
        """Each entry alone, on one clip; knobs at their best value."""
        case.settle(d, tap)
        base = measure(case, d, tap, bounded=False)
        found: list[Trial] = []
        for done, (place, e) in enumerate(entries):
            self._step(f"settings tried at {tap}", done, len(entries))
            if isinstance(e, Knob):
                found += self._noted(self._turned(d, (), e, place, case, tap))
                continue
            changed = e.change(d)
            if changed is None:
                continue
            f = measure(case, changed, tap, bounded=False)
            if f.fits and (not base.fits or f.rms < base.rms):
                f = measure(case, changed, tap, bounded=True)
            found += self._noted([Trial((Part(e, place=place),), changed, f)])
            if e.others and f.fits and not f.complete and (not base.fits or f.rms <= _NEARER * base.rms):
                found += self.singles(d, [(place, other) for other in e.others], case, tap)
        return found

    def _turned(
        self, d: Definition, before: tuple[Part, ...], knob: Knob, place: int, case: Case, tap: Tap
    ) -> list[Trial]:
        """A knob at its best value, after other parts (those of which that are knobs are estimated anew)."""
        ready = build(d, before)
        weights = None if ready is None else halves(case, ready, tap)
        parts = (*before, Part(knob, knob.starts[0] if knob.starts else 0.0, place))
        if ready is None or weights is None:
            return []
        if weights.shape != case.given[tap].shape:
            trials = [self._trial(d, (*before, Part(knob, x, place)), case, tap) for x in knob.starts]
            return [t for t in trials if t is not None and t.fit.fits]
        moving = [i for i, p in enumerate(parts) if isinstance(p.entry, Knob)]
        knobs = _knobs(parts)

        def make(values: Sequence[float]) -> Definition | None:
            return build(d, _set(parts, moving, values))

        model = Model(case, tap, make, weights)
        fixed = [parts[i].value for i in moving[:-1]]
        starts = best_starts(knob, model, fixed)
        values = [*fixed, starts[0]]
        if knob.estimate and not knob.whole:
            # The sign of an offset, and the side of a gain, aren't always seen from the usual values.
            found = [refine(knobs, model, [*fixed, x]) for x in starts[: 1 if before else 2]]
            values = min(found, key=lambda v: cost(model.residual(v)))
        if isinstance(ready.frontend.stages()[tap], fe.Quantize) and knob.estimate and not knob.whole:
            values = self._sharpened(make, knobs, values, case, tap)
        if any(_idle(k, x) for k, x in zip(knobs, values, strict=True)):
            return []
        return self._rounded(d, parts, moving, values, model, case, tap)

    def _sharpened(self, make: Build, knobs: Sequence[Knob], values: list[float], case: Case, tap: Tap) -> list[float]:
        """Integers say more of a number than its least squares: the value under which most of them are right."""

        def right(x: list[float]) -> int:
            d = make(x)
            return -1 if d is None else measure(case, d, tap, bounded=True).inside

        best, now = right(values), list(values)
        for i, k in enumerate(knobs):
            step = 0.08 * (1.0 if k.positive else max(abs(now[i]), 1e-3))
            while step > 1e-7 * max(abs(now[i]), 1e-3):
                for sign in (1.0, -1.0):
                    moved = [*now]
                    moved[i] = now[i] * (1.0 + sign * step) if k.positive else now[i] + sign * step
                    if k.low < moved[i] < k.high and (found := right(moved)) > best:
                        best, now = found, moved
                        break
                else:
                    step /= 2.0
        return now

    def _rounded(self, d: Definition, parts: tuple[Part, ...], moving: Sequence[int], values: Sequence[float],
                 model: Model, case: Case, tap: Tap) -> list[Trial]:  # fmt: skip
        """The trial at the values found, or at rounder ones where these are within bound too."""
        first = self._trial(d, _set(parts, moving, values), case, tap)
        if first is None:
            return []
        if first.fit.share_inside < 0.3:
            return [first]
        best, now = first, list(values)
        for place in range(len(now)):
            for x in simpler(now[place]):
                rounder = [*now]
                rounder[place] = x
                t = self._trial(d, _set(parts, moving, rounder), case, tap)
                if t is None or any(_idle(k, v) for k, v in zip(_knobs(t.parts), rounder, strict=True)):
                    continue
                if t.fit.complete and self.fit(t.definition, tap).complete:
                    best, now = t, rounder
                    break
                if t.fit.inside > best.fit.inside:
                    best, now = t, rounder
        return [best]

    def _trial(
        self, d: Definition, parts: tuple[Part, ...], case: Case, tap: Tap, bounded: bool = True
    ) -> Trial | None:
        changed = build(d, parts)
        return None if changed is None else Trial(parts, changed, measure(case, changed, tap, bounded))

    def pairs(self, d: Definition, singles: Sequence[Trial], case: Case, tap: Tap, known: Tap | None) -> list[Trial]:
        """Two settings at once: the nearest first, each with everything else on top, until a pair explains all."""
        usable = [t for t in singles if t.fit.fits and t.parts[0].setting.rank < GENERIC]
        found: list[Trial] = []
        # Two settings that give a wrong shape each may give the right one together: another FFT and its pooling.
        unfit = [t for t in singles if not t.fit.fits and t.parts[0].setting.rank == USUAL]
        beam = [*_beam(usable)[:_BEAM], *(unfit if len(usable) > len(unfit) else ())]
        for i, first in enumerate(beam):
            self._step(f"pairs of settings tried at {tap}, by the first of them", i, len(beam))
            case.settle(first.definition, tap)
            here = self._on_top(d, first, case, tap, known, estimate=i < _ESTIMATED)
            found += self._noted(here)
            if done := self._complete(d, here, tap):
                found += self._alike(d, done[0], case, tap, known)
                break
        case.settle(d, tap)
        return found

    def _on_top(
        self, d: Definition, first: Trial, case: Case, tap: Tap, known: Tap | None, estimate: bool
    ) -> list[Trial]:
        keys = {p.setting.key for p in first.parts}
        plain: list[Trial] = []
        found: list[Trial] = []
        moving = any(isinstance(p.entry, Knob) for p in first.parts)
        for place, e in self.entries(first.definition, tap, known):
            if e.key in keys or e.rank >= GENERIC:
                continue
            if not estimate and self.flow[e.tap] < self.flow[first.parts[0].entry.tap]:
                continue  # tried the other way round, where the first stages needn't be computed again
            if isinstance(e, Knob):
                if estimate:
                    found += self._turned(d, first.parts, e, place, case, tap)
                continue
            t = self._trial(d, (*first.parts, Part(e, place=place)), case, tap, bounded=False)
            if t is not None and t.fit.fits:
                plain.append(t)
        # Each of two must matter: the second must come nearer than the first alone does.
        found = [t for t in found if t.fit.rms <= _NEARER * first.fit.rms]
        plain.sort(key=lambda t: (t.fit.rms, t.order))
        for t in plain[: _POLISHED if moving else 3 * _POLISHED]:
            if moving:
                found += self._polished(d, t, case, tap)
            else:
                found.append(replace(t, fit=measure(case, t.definition, tap, bounded=True)))
        return [t for t in found if t.fit.rms <= _NEARER * first.fit.rms]

    def _alike(self, d: Definition, pair: Trial, case: Case, tap: Tap, known: Tap | None) -> list[Trial]:
        """Pairs that share one setting with a pair that explains all, and explain as much."""
        found = []
        for kept in pair.parts:
            ready = build(d, (kept,))
            if ready is None:
                continue
            entries = [(i, e) for i, e in self.entries(ready, tap, known) if e.rank < GENERIC]
            entries = [(i, e) for i, e in entries if e.key != kept.setting.key]
            alone = self.singles(ready, entries, case, tap)
            found += [replace(t, parts=(kept, *t.parts)) for t in alone if t.fit.complete]
        return found

    def _polished(self, d: Definition, t: Trial, case: Case, tap: Tap) -> list[Trial]:
        """A number estimated alone is off where another setting was wrong as well: estimated again with that."""
        knobs = [p for p in t.parts if isinstance(p.entry, Knob)]
        rest = tuple(p for p in t.parts if not isinstance(p.entry, Knob))
        return self._turned(d, rest, knobs[0].entry, knobs[0].place, case, tap) if len(knobs) == 1 else []  # type: ignore[arg-type]

    def _complete(self, d: Definition, trials: Sequence[Trial], tap: Tap) -> list[Trial]:
        """Those that hold on every clip; generic ones only where there is nothing else."""
        before = self.fit(d, tap, bounded=False)
        found = []
        for t in sorted((t for t in trials if t.fit.complete), key=lambda t: t.order):
            everywhere = self.fit(t.definition, tap)
            # A change that computes in more roundings has wider bounds: it must be nearer too, not only within them.
            if everywhere.complete and everywhere.rms <= _NEARER * before.rms:
                found.append(replace(t, fit=everywhere))
        named = [t for t in found if all(p.setting.rank < GENERIC for p in t.parts)]
        return named or found


def _beam(singles: Sequence[Trial]) -> list[Trial]:
    """What to begin a pair with: by what is left, by what no scale and offset would mend, by elements that are right.

    The best of each key comes before the second best of any: a setting that comes near in many values isn't likelier.
    """
    orders = (
        sorted(singles, key=lambda t: (t.fit.rms, t.order)),
        sorted(singles, key=lambda t: (t.fit.unlike, t.order)),
        sorted(singles, key=lambda t: (t.fit.unlike_by_band, t.order)),
        sorted(singles, key=lambda t: (-t.fit.share_inside, t.order)),
    )
    mixed = list(dict.fromkeys(t for level in zip(*orders, strict=True) for t in level))
    seen: dict[str, int] = {}
    turn = []
    for i, t in enumerate(mixed):
        key = t.parts[0].setting.key
        turn.append((seen.get(key, 0), i, t))
        seen[key] = seen.get(key, 0) + 1
    return [t for _, _, t in sorted(turn, key=lambda x: x[:2])]


def _knobs(parts: Sequence[Part]) -> list[Knob]:
    return [p.entry for p in parts if isinstance(p.entry, Knob)]


def _idle(k: Knob, x: float) -> bool:
    """A value that changes nothing is no explanation."""
    return k.neutral is not None and abs(x - k.neutral) <= 1e-6 * max(abs(k.neutral), 1e-3 if k.positive else 1.0)


def _set(parts: tuple[Part, ...], moving: Sequence[int], values: Sequence[float]) -> tuple[Part, ...]:
    new = list(parts)
    for i, x in zip(moving, values, strict=True):
        new[i] = replace(parts[i], value=x)
    return tuple(new)
