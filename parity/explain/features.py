"""The explanation of a feature backend, or of a dump of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from parity import frontend as fe
from parity.evidence import Evidence
from parity.explain import written
from parity.explain.cases import Fit, cases
from parity.explain.definition import Definition
from parity.explain.explanation import CLOSE, INTERRUPTED, Cause, Explanation, Finding
from parity.explain.search import Search, Trial
from parity.protocols import Arithmetic, Tap
from parity.sources import Progress, silent

_MOST = 4
"""Divergences, one after the other."""


def explain(
    frontend: fe.Frontend, evidence: Sequence[Evidence], arithmetic: Arithmetic = "float32", step: Progress = silent
) -> Explanation:
    """The settings under which the oracle computes what one candidate did, from its arrays of one clip or more.

    `arithmetic` says what it computes in: the narrower the bounds, the smaller the faults that can be told.
    KeyboardInterrupt ends the search, and what was found so far is returned. ValueError where there is no evidence, or
    none of it is at a tap of the recipe.
    """
    found = [c for c in cases(evidence, frontend, arithmetic) if c.given]
    if not found:
        raise ValueError("no arrays at a tap of the recipe")
    taps = tuple(t for t in frontend.taps if any(t in c.given for c in found))
    search, bare = Search(found, frontend, step), Definition(frontend)
    d, digits = written.definition(bare, {t: [c.given[t] for c in found if t in c.given] for t in taps})
    findings = _written(search, bare, d, digits, taps, frontend)
    complete = interrupted = False
    while True:
        fits = {t: search.fit(d, t) for t in taps}
        wrong = [t for t in taps if not fits[t].complete]
        if not wrong:
            complete = True
            break
        tap = wrong[0]
        if len(findings) == _MOST or (findings and (findings[-1].tap == tap or not findings[-1].complete)):
            break
        right = taps[: taps.index(tap)]
        try:
            trials = search.explain(d, tap, right[-1] if right else None)
        except KeyboardInterrupt:
            interrupted, trials = True, search.so_far(tap)
        if _broken(search, d, tap) and not (trials and trials[0].fit.complete):
            trials = []  # no setting makes a NaN: the rest says nothing then
        trials = _ahead(search, trials, taps)
        also = digits.get(tap)
        if also is not None and trials and _without(search, trials[0].definition, tap).complete:
            also = None  # it is within bounds whatever the digits
        findings.append(_finding(search, d, tap, fits[tap], trials, frontend, also))
        if not trials or not trials[0].fit.complete:
            break
        d = trials[0].definition
    note = INTERRUPTED if interrupted else _dtypes(frontend, evidence) if complete and not findings else ""
    first = evidence[0]
    return Explanation(
        system=first.system, backend=first.backend, clips=tuple(c.name for c in found), taps=taps,
        findings=tuple(findings), complete=complete, note=note, tried=search.tried, runtime=first.runtime,
        precision=first.precision, target=first.target, path=first.path, interrupted=interrupted,
    )  # fmt: skip


def _written(search: Search, bare: Definition, d: Definition, digits: Mapping[Tap, Cause], taps: Sequence[Tap],
             frontend: fe.Frontend) -> list[Finding]:  # fmt: skip
    """The first tap that is right but for the digits that its numbers were written with."""
    for tap in taps:
        before = search.fit(bare, tap)
        if before.complete:
            continue
        after = search.fit(d, tap)
        if tap not in digits or not after.complete:
            break
        return [
            Finding(tap, ((digits[tap],),), True, 1.0, before.share_inside, after.share_inside, _shown(before),
                    _shown(after), unit(frontend, tap))
        ]  # fmt: skip
    return []


def _without(search: Search, d: Definition, tap: Tap) -> Fit:
    """How near a definition comes where numbers are taken to have all their digits."""
    return search.fit(Definition(d.frontend, tuple(h for h in d.hooks if h.step is None)), tap)


def _ahead(search: Search, trials: list[Trial], taps: Sequence[Tap]) -> list[Trial]:
    """Of settings that explain one tap those that leave most of the later taps right: the others can be told apart."""
    if len(trials) < 2:
        return trials
    scores = [sum(search.fit(t.definition, tap).complete for tap in taps) for t in trials]
    return [t for t, score in zip(trials, scores, strict=True) if score == max(scores)]


def _finding(search: Search, d: Definition, tap: Tap, before: Fit, trials: Sequence[Trial],
             frontend: fe.Frontend, also: Cause | None = None) -> Finding:  # fmt: skip
    fit = trials[0].fit if trials else before
    share = None
    if before.fits and fit.fits and 0 < before.rms < np.inf and fit.rms < np.inf:
        share = 1.0 - fit.rms / before.rms
        if share < CLOSE and not fit.complete:
            trials, fit, share = (), before, 0.0
    shapes = ""
    if not before.fits:
        case = next(c for c in search.cases if tap in c.given)
        arrays = case.arrays(d, tap)
        theirs, ours = list(case.given[tap].shape), None if arrays is None else list(arrays[tap].shape)
        shapes = f"shape {theirs}, not {ours}"
    elif not trials and (broken := _broken(search, d, tap)):
        shapes = f"{broken} elements are NaN or infinite where the oracle's aren't"
    alternatives: dict[tuple[tuple[str, str], ...], tuple[Cause, ...]] = {}
    for t in trials:
        causes = tuple(Cause(p.setting.key, p.setting.words, p.setting.tap) for p in t.parts)
        causes += () if also is None else (also,)
        alternatives.setdefault(tuple(sorted((c.key, c.words) for c in causes)), causes)
    return Finding(
        tap=tap, alternatives=tuple(alternatives.values()), complete=bool(trials) and fit.complete, share=share,
        inside_before=before.share_inside, inside=fit.share_inside, before=_shown(before), after=_shown(fit),
        unit=unit(frontend, tap), shapes=shapes,
    )  # fmt: skip


def _broken(search: Search, d: Definition, tap: Tap) -> int:
    """Elements that aren't finite where the oracle's are."""
    found = 0
    for case in search.cases:
        arrays = case.arrays(d, tap)
        c = case.given.get(tap)
        if arrays is not None and c is not None and arrays[tap].shape == c.shape:
            found += int((~np.isfinite(c) & np.isfinite(arrays[tap])).sum())
    return found


def _shown(f: Fit) -> float | None:
    return f.worst if f.fits and np.isfinite(f.worst) else None


def unit(frontend: fe.Frontend, tap: Tap) -> str:
    """The unit of a tap, where it has one."""
    from parity import golden

    return golden.units(frontend).get(tap, "")


def _dtypes(frontend: fe.Frontend, evidence: Sequence[Evidence]) -> str:
    """What differs where no number does."""
    for e in evidence:
        for tap in frontend.taps:
            if tap in e.features and e.features[tap].dtype.name != frontend.dtype(tap):
                return f"{tap}: the numbers are right, in {e.features[tap].dtype.name}, not {frontend.dtype(tap)}"
    return "every element is within the bounds of float32: there is nothing to explain"
