"""A pair, and what it is held to: judges one drawn clip after another, or what a network was fed with.

The same jobs and verdicts as a run's. Two things are other than in a run: bounds of activations are guessed from like
clips (`parity.sensitivity`) unless a clip comes near them, and a plugin that died is started again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from parity import plan, policy, sources
from parity.bounds import networks
from parity.bounds.features import Interval
from parity.errors import NothingCompared, ParityError
from parity.evidence import Evidence
from parity.expected import Expected, Given, fed, heard
from parity.judge import Judge, Judged
from parity.plan import Plan
from parity.protocols import Arithmetic, Array, Artifact, Clip, ClipOutput, Failure, Job, JobResult, Outputs, Tap
from parity.records import Verdict
from parity.seen import Refused, Seen, Unheld, guessed
from parity.sensitivity import Sensitivity
from parity.taps import LABEL, MODEL_INPUT, REGENERATED_TAPS
from parity.targets.local import LocalTarget

EXACT_FROM = 0.25
"""Errors over a guessed bound from here on are judged again by a bound that is worked out."""


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """A clip, or the features `[frames, bands]` that a network is fed with in its place, under a name."""

    clip: Clip
    features: Array | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Case:
    """One clip on its way to verdicts: what it is, what was asked of it, and what the pair, and the other, gave."""

    given: Given
    taps: frozenset[Tap]
    """Of the network."""
    whole: bool
    """At every tap, with isolated errors."""
    result: JobResult
    other: JobResult | None
    right: Mapping[Tap, Array]
    """What the network's taps are held to."""


class Contest:
    """Judges clips on the pair of a plan; where the plan has no backend, networks on features that are given."""

    def __init__(self, p: Plan, target: LocalTarget, rules: policy.Policy, against: Plan | None = None) -> None:
        """`against`: another pair, whose answers stand in the place of the oracle's and the reference runtime's.

        ConfigError where nothing can judge the network, NothingCompared where it would be held to itself.
        """
        self.plan, self._target, self._against = p, target, against
        self._reference: tuple[str, Artifact] | None = None
        self._bounder: Artifact | None = None
        if p.models:
            self._reference = None if against is not None else plan.reference(p, plan.asking(target))
            if self._reference in p.models:
                raise NothingCompared(
                    f"{self._reference[0]} would be held to itself: nothing else here can judge it",
                    "install PyTorch (pip install 'parity[torch]'), or name a pair: --against",
                )
            precisions = {a.precision for q in (p, against) if q is not None for _, a in q.models}
            self._bounder = sources.bounded_by(p.system, precisions, target)
        self._frontend = p.system.frontend
        self._classes: set[Arithmetic] = {"float32", *p.arithmetic.values()}
        if against is not None:
            self._classes |= set(against.arithmetic.values())
        self._judge = Judge(p.system, rules, target.name, own_judge=self._reference, arithmetic=p.arithmetic,
                            alone=False)  # fmt: skip
        self._staged = Judge(p.system, rules, target.name, own_judge=self._reference, arithmetic=p.arithmetic)
        # What only moves samples about shows in the stages behind it: it is looked at when all is over.
        self._late = [t for t in self._frontend.taps if t not in REGENERATED_TAPS or t == self._frontend.output]
        self._guesses = Sensitivity()
        self.worked_out = 0
        """Clips whose bounds were worked out."""

    def see(self, drawn: Drawn, after: Drawn | None = None, exact: bool = False, whole: bool = False) -> Seen:
        """What becomes of a clip; `after` is given to the same plugins before it, and not judged.

        `whole`: at every tap, and with each stage's isolated error; then bounds are exact, as they are with `exact`.
        Raises Refused where a plugin refuses the clip, Unheld where what the pair is held to fails at it.
        """
        try:
            return self._seen(drawn, after, exact, whole)
        finally:
            self._target.forgive()  # what died is started again

    def _seen(self, drawn: Drawn, after: Drawn | None, exact: bool, whole: bool) -> Seen:
        given = [self._given(d) for d in (after, drawn) if d is not None]
        taps = frozenset(self.plan.system.taps if whole else self._answers())
        stages = frozenset(() if whole else self._late)
        result = self._run(self.plan, given, taps, stages)
        other = None if self._against is None else self._run(self._against, given, taps, stages)
        case = _Case(given[-1], taps, whole, result, other, self._right(result, other))
        known = not self.plan.models or self._bounder is None
        halves: Mapping[str, Array] = {}
        if not known:
            guess = None if exact or whole else self._guesses.guess(case.given.reference, case.given.moved, case.right)
            known, halves = guess is None, self._worked_out(case) if guess is None else guess
        verdicts = self._verdicts(case, halves)
        if not known and _near(verdicts):
            known, verdicts = True, self._verdicts(case, self._worked_out(case))
        evidence = tuple(_evidence(self.plan, result, case.given.reference)) if whole else ()
        return Seen(tuple(verdicts), known, _largest(result), evidence)

    def _given(self, drawn: Drawn) -> Given:
        if drawn.features is not None:
            return fed(drawn.clip, drawn.features)
        return heard(drawn.clip, self._frontend, self._classes)

    def _answers(self) -> Sequence[Tap]:
        """The taps that are wanted of every clip, and those behind them."""
        system = self.plan.system
        first = min((i for i, tap in enumerate(system.taps) if tap in system.answers), default=0)
        return [*system.answers, *system.taps[first:]]

    def _run(self, p: Plan, given: Sequence[Given], taps: frozenset[Tap], stages: frozenset[Tap]) -> JobResult:
        kernels = [self._reference] if self._reference is not None and p is self.plan else []
        job = Job(
            system=p.system.name, frontend=p.system.frontend, clips=[g.clip for g in given], backends=list(p.backends),
            models=p.models, kernels=kernels, references=[g.reference for g in given],
            taps=[taps | {MODEL_INPUT}] * len(given), stages=stages,
        )  # fmt: skip
        try:
            (result,) = self._target.run([job])
        except ParityError as e:
            raise Refused(e.message, e.hint) from None
        return _last(result)

    def _right(self, result: JobResult, other: JobResult | None) -> dict[Tap, Array]:
        """What the network's taps are held to: of the reference runtime, or of the other pair's network."""
        if not self.plan.models:
            return {}
        spec, artifact = self._reference or (self._against or self.plan).models[0]
        if self._reference is not None:
            outputs = result.kernels[spec, artifact.precision]
        else:
            outputs = (result if other is None else other).activations["", spec, artifact.precision]
        if isinstance(outputs, Failure):
            hint = "hold it to another: " + ("--against" if self._against else "model.reference in system.toml")
            raise Unheld(f"{spec!r}, which the network is held to, failed: {outputs.reason}", hint)
        return {t: a for t, a in outputs[0].taps.items() if t != MODEL_INPUT}

    def _worked_out(self, case: _Case) -> Mapping[str, Array]:
        """The half-widths of the bounds of a clip's activations, and they are remembered."""
        assert self._bounder is not None
        given, wanted = case.given, networks.wanted(case.taps, self._bounder)
        if not self.plan.backends:
            wanted = frozenset(t for t in wanted if not t.endswith(":cumulative"))
        job = Job(
            system=self.plan.system.name, frontend=self._frontend, clips=[given.clip], references=[given.reference],
            models=[(networks.RUNTIME, self._bounder)], taps=[wanted], moved=[given.moved],
        )  # fmt: skip
        (result,) = self._target.run([job])
        (halves,) = sources.halves_of(result, self._bounder)
        self._guesses.add(given.reference, given.moved, case.right, halves)
        self.worked_out += 1
        return halves

    def _verdicts(self, case: _Case, halves: Mapping[str, Array]) -> list[Verdict]:
        judge = self._staged if case.whole else self._judge
        e = case.given.expected(case.right, halves)
        if case.other is None:
            declared = self.plan.backends
            if not case.whole:
                declared = {b: taps.intersection(self._late) for b, taps in declared.items()}
            found = judge.judge(case.result, [e], declared)
        else:
            found = self._held_to(judge, e, case.result, case.other)
        return [j.verdict for j in found if j.verdict.outcome != "unavailable"]

    def _held_to(self, judge: Judge, e: Expected, result: JobResult, other: JobResult) -> Iterator[Judged]:
        """Verdicts against the other pair: each may be off by its own bound, so the two by both together."""
        assert self._against is not None
        halves = {
            networks.name(tap, artifact.precision, path): half + e.halves[named]
            for (_, artifact), (_, other_artifact) in zip(self.plan.models, self._against.models, strict=True)
            for tap in e.model for path in networks.PATHS
            if (half := e.halves.get(networks.name(tap, artifact.precision, path))) is not None
            and (named := networks.name(tap, other_artifact.precision, path)) in e.halves
        }  # fmt: skip
        both = dataclasses.replace(e, halves=halves, rounded={})
        for backend, outputs in result.features.items():
            (name, theirs), *_ = other.features.items()
            if isinstance(theirs, Failure):
                raise Unheld(f"{name!r}, which {backend!r} is held to, failed: {theirs.reason}")
            mine, yours = (q.arithmetic.get(b, "float32") for q, b in ((self.plan, backend), (self._against, name)))
            between = {
                tap: _between(a, e.interval(tap, mine), e.interval(tap, yours))
                for tap, a in theirs[0].taps.items() if tap in e.features
            }  # fmt: skip
            declared = self.plan.backends[backend] & between.keys()
            shown = dataclasses.replace(both, features={**e.features, **between})
            yield from judge.column("features", outputs, [shown], backend=backend, declared=declared)
            for (spec, artifact), (other_spec, other_artifact) in zip(
                self.plan.models, self._against.models, strict=True
            ):
                cumulative = other.activations[name, other_spec, other_artifact.precision]
                if isinstance(cumulative, Failure):
                    raise Unheld(f"{other_spec!r}, which {spec!r} is held to, failed: {cumulative.reason}")
                right = {t: a for t, a in cumulative[0].taps.items() if t != MODEL_INPUT}
                yield from judge.column(
                    "cumulative", result.activations[backend, spec, artifact.precision],
                    [dataclasses.replace(shown, model=right)], backend=backend, runtime=spec, artifact=artifact,
                )  # fmt: skip
        for spec, artifact in self.plan.models:
            alone = result.activations["", spec, artifact.precision]
            yield from judge.column("isolated", alone, [both], runtime=spec, artifact=artifact)


def _between(value: Array, mine: Interval, yours: Interval) -> Interval:
    """Where one may be, given the other's value, when each is within its own interval."""
    v = np.asarray(value, np.float64)
    with np.errstate(invalid="ignore"):
        lo, hi = v + (mine.lo - yours.hi), v + (mine.hi - yours.lo)
    return Interval(v, np.where(np.isnan(lo), v, lo), np.where(np.isnan(hi), v, hi))


def _last(result: JobResult) -> JobResult:
    """The results of the last clip of a job."""

    def of(outputs: Outputs) -> Outputs:
        return outputs if isinstance(outputs, Failure) else outputs[-1:]

    job = dataclasses.replace(
        result.job, clips=result.job.clips[-1:], references=result.job.references[-1:], taps=result.job.taps[-1:]
    )
    return JobResult(
        job=job, features={k: of(v) for k, v in result.features.items()},
        activations={k: of(v) for k, v in result.activations.items()},
        kernels={k: of(v) for k, v in result.kernels.items()},
    )  # fmt: skip


def _near(verdicts: Sequence[Verdict]) -> bool:
    """Whether a guess says too little: a network's error isn't far below its bound."""
    for v in verdicts:
        if not guessed(v):
            continue
        if v.tap == LABEL and (v.outcome == "fail" or v.near_tie):
            return True
        if (v.ratio or 0.0) >= EXACT_FROM or (v.outcome == "fail" and v.error is not None):
            return True
    return False


def _largest(result: JobResult) -> float:
    largest = 0.0
    outputs: list[tuple[Outputs, Tap | None]] = [(o, result.job.frontend.output) for o in result.features.values()]
    outputs += [(o, None) for o in result.activations.values()]
    for found, tap in outputs:
        for clip in [] if isinstance(found, Failure) else found:
            for t, a in clip.taps.items():
                if (tap is None or t == tap) and a.size and np.issubdtype(a.dtype, np.number):
                    most = float(np.abs(a).max())
                    largest = max(largest, most) if np.isfinite(most) else largest
    return float(np.log2(largest)) if largest > 0 else 0.0


def _evidence(p: Plan, result: JobResult, fed: Array) -> Any:
    clip, name = result.job.clips[0], p.system.name

    def only(found: Outputs) -> ClipOutput | None:
        return None if isinstance(found, Failure) else found[0]

    for backend, found in result.features.items():
        if (output := only(found)) is not None:
            yield Evidence(name, clip, features=output.taps, backend=backend)
    for (backend, spec, precision), found in sorted(result.activations.items()):
        if (output := only(found)) is None or (spec, precision) not in {(s, a.precision) for s, a in p.models}:
            continue
        given = fed
        if backend:
            features = only(result.features[backend])
            given = fed if features is None else features.taps[p.system.frontend.output]
        model = {t: a for t, a in output.taps.items() if t != MODEL_INPUT}
        path = "cumulative" if backend else "isolated"
        who: dict[str, Any] = {"backend": backend, "runtime": spec, "precision": precision, "path": path}
        yield Evidence(name, clip, model=model, fed=given, **who)
