"""Judging a run's stored arrays again, under another policy, without running anything.

What a policy decides is decided again by the same judge, from the arrays that the run kept: every tap under its rule,
labels, margins and known gaps. A verdict whose arrays weren't kept stands where the rules that apply to it allow the
same as before; where they don't, nobody can say what would become of it: it is open, and counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from parity import kept, pipeline, policy, records, sources
from parity import system as systems
from parity.allowed import Allowed
from parity.bounds.features import Interval
from parity.compare import Comparison
from parity.errors import ConfigError
from parity.expected import Expected, network_input
from parity.judge import Judge, covers
from parity.plan import Selection
from parity.policy import Policy, Rule
from parity.protocols import Array, Artifact, Clip, ClipOutput, Raw, Tap
from parity.records import LOCAL, Recorder, Run, Skipped, Verdict
from parity.report import html, junit
from parity.system import System
from parity.taps import LABEL, MARGIN, MODEL_INPUT

OPEN = "another rule applies than in the run, which didn't keep the arrays (parity run --keep all keeps them)"
Kept = Mapping[str, Mapping[str, Array]]
"""Tap -> its arrays, as `kept.of_verdict` gives them."""


class _Stored(Allowed):
    """Half-widths of activations are those that were stored, by tap."""

    def half_width(self, e: Expected, tap: Tap, artifact: Artifact, path: str) -> Array | None:
        return e.halves.get(tap)


class _Judge(Judge):
    """A judge by what was stored."""

    bounds = _Stored


@dataclass
class _Again:
    """A system of a run: as it is now, the policy that it was judged by, and the one that it is to be judged by."""

    system: System
    about: Mapping[str, Any]
    old: Policy
    new: Policy
    streamed: bool
    machines: Mapping[str, str]
    """Target -> its architecture, where the run says it."""
    columns: dict[tuple[str, ...], None] = field(default_factory=dict)

    def artifact(self, runtime: str, precision: str) -> Artifact:
        """The model file that a runtime ran. ConfigError where the system has it no more."""
        return self._file(
            next(m for m in self.about["models"] if (m["runtime"], m["precision"]) == (runtime, precision))
        )

    def _file(self, m: Mapping[str, str]) -> Artifact:
        of = self.system.streaming if self.streamed and self.system.streaming is not None else self.system
        key = (m["format"], m["precision"], m["file"])
        found = next((a for a in of.artifacts if (a.format, a.precision, Path(a.path).name) == key), None)
        if found is None:
            raise ConfigError(f"{self.system.name} has no {m['file']} any more", "make the run again")
        return found

    def machine(self, target: str) -> str:
        """A target's architecture; '' for what somebody's device computed."""
        return self.machines.get(target, "")

    def judge(self, target: str) -> Judge:
        """A judge under the new policy. Of stages by themselves nothing changes with it.

        What judged live ran here: on another machine its runtime is one like any other.
        """
        own = self.about["judge"] if target == LOCAL else None
        own_judge = None if own is None else (own["runtime"], self._file(own))
        here = self.new.on(self.machine(target))
        return _Judge(self.system, here, target, self.about["golden_labels"], None, own_judge, alone=False)


def recheck(
    folder: Path, reports: Path, tolerances: Path | None = None, golden: Path | None = None, command: str = ""
) -> tuple[Run, Path]:
    """Judge the run in `folder` again; returns the new run and its folder under `reports`. The old one isn't touched.

    Rules come from `tolerances`, or with the gaps from the folder `golden`; where neither is named, from the files
    that the run took them from, as they are now. Raises a ParityError for what must be mended first.
    """
    begun, started = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%S%z")
    old = records.read_run(folder)
    if old.recheck:
        raise ConfigError(f"{folder} is itself a recheck of {old.recheck['of']}", f"recheck {old.recheck['of']}")
    again = _systems(folder, old, tolerances, golden)
    skipped = list(old.skipped)
    if old.examples:
        reason = "generated examples aren't kept, so that they can't be judged again"
        skipped.append(Skipped(system="*", reason=reason, asked=True))
    run = msgspec.structs.replace(
        old, started=started, command=command, summaries=[], gaps={}, examples=[], evidence=[], keep="none", timings=[],
        skipped=skipped, gate={}, recheck={"of": old.name},
    )  # fmt: skip
    record = Recorder(reports, _name(reports, old.name))
    try:
        run.name = record.final.name
        counted: Counter[str] = Counter()
        unjudged: Counter[tuple[str, str, str, str, str]] = Counter()
        for verdict, how in _verdicts(folder, again):
            record.add(verdict)
            counted[how] += 1
            if how == "open":
                unjudged[verdict.system, verdict.backend, verdict.runtime, verdict.precision, verdict.target] += 1
        run.recheck |= {how: counted[how] for how in ("judged", "stand", "open")}
        run.skipped += [
            Skipped(system=s, backend=b, runtime=r, precision=p, target=t, reason=OPEN, asked=True)
            for s, b, r, p, t in unjudged
        ]
        run.gaps = _gaps(again, {s for s, *_ in unjudged})
        run.seconds = round(time.monotonic() - begun, 3)
        run.summaries = record.summaries
        run.exit_code = pipeline.exit_code(run)
        applied = policy.writer({name: a.new for name, a in again.items()})
        return run, record.finish(run, (applied, junit.write, html.write))
    except BaseException:
        record.abandon()
        raise


def _name(reports: Path, of: str) -> str:
    names = [f"{of}-recheck", *(f"{of}-recheck-{n}" for n in range(2, 1000))]
    return next(n for n in names if not (reports / n).exists() and not (reports / f".{n}.part").exists())


def _systems(folder: Path, old: Run, tolerances: Path | None, golden: Path | None) -> dict[str, _Again]:
    before = policy.applied(folder)
    if tolerances is not None and not tolerances.is_file():
        raise ConfigError(f"{tolerances} is no file", "name a file like golden/tolerances.toml")
    out = {}
    told = {LOCAL: old.environment} | old.environment.get("targets", {})
    machines = {target: e.get("cpu", {}).get("architecture", "") for target, e in told.items()}
    for name, about in old.systems.items():
        if "folder" not in about or name not in before:
            raise ConfigError(f"{folder} is of an older parity: it doesn't say how {name} was judged", "run it again")
        found = systems.load(Path(about["folder"]))
        if found.frontend.digest != about["frontend_digest"] or list(found.labels) != about["labels"]:
            raise ConfigError(f"the recipe or the labels of {name} have changed since {old.name}", "run it again")
        was = before[name]
        if golden is not None:
            now = sources.rules_for(Selection(golden=golden), found, tolerances)
        else:
            now = policy.load([was.gaps_from] if was.gaps_from is not None else [], tolerances or was.path)
        out[name] = _Again(found, about, was, now, bool(old.streaming), machines)
    return out


def _verdicts(folder: Path, again: Mapping[str, _Again]) -> Iterator[tuple[Verdict, str]]:
    """Each verdict of the run as it is now, and whether it was judged again, stands, or is open."""

    def clip_of(v: Verdict) -> tuple[str, ...]:
        return v.system, v.backend, v.runtime, v.precision, v.target, v.path, v.clip

    for key, found in groupby(records.read_verdicts(folder), clip_of):
        of, clip = again[key[0]], list(found)
        of.columns[*key[1:4], key[5], of.machine(key[4])] = None
        arrays = {v.tap: a for v in clip if _judgeable(v) and (a := kept.of_verdict(folder, v)) is not None}
        judged = _judged(of, clip[0], arrays)
        for v in clip:
            if (new := judged.get(v.tap)) is not None and _judgeable(v):
                own = {f: getattr(v, f) for f in ("own_outcome", "own_error", "own_bound", "own_ratio", "own_from")}
                yield msgspec.structs.replace(new, **own), "judged"
            elif _whatever_the_rule(v) or _same_rules(of, v):
                yield _gap_again(of.new.on(of.machine(v.target)), v), "stand"
            else:
                same = {k: getattr(v, k) for k in ("system", "backend", "runtime", "precision", "target", "path")}
                yield Verdict(**same, tap=v.tap, clip=v.clip, outcome="unsupported", message=OPEN), "open"


def _judgeable(v: Verdict) -> bool:
    """Whether a verdict was a comparison of arrays, or follows from one."""
    return v.outcome in ("pass", "fail", "gap") and not (v.error is None and v.tap not in (LABEL, MARGIN))


def _whatever_the_rule(v: Verdict) -> bool:
    """Whether no rule can change it: nothing was compared, or dtype, shape or a NaN is wrong."""
    outcome = v.covered or v.outcome
    return outcome not in ("pass", "fail") or (outcome == "fail" and v.error is None and v.tap != LABEL)


def _judged(of: _Again, first: Verdict, arrays: Kept) -> dict[str, Verdict]:
    """Tap -> the verdict of the judge on the arrays of a clip, where there are enough of them."""
    if not arrays:
        return {}
    clip = Clip(first.clip, np.zeros(0, np.float32), of.system.frontend.input.rate, "")
    taps = {tap: a["candidate"] for tap, a in arrays.items() if "candidate" in a}
    raw = {
        tap: Raw(a["integers"], float(a["scale"]), int(a["zero_point"])) for tap, a in arrays.items() if "scale" in a
    }
    output, values = ClipOutput(taps, 0.0, raw=raw), {tap: a["golden"] for tap, a in arrays.items()}
    judge, path, output_tap = of.judge(first.target), first.path, of.system.frontend.output
    if path == "features":
        right = Expected(clip, {tap: _derived(a) for tap, a in arrays.items()}, np.zeros(0))
        found = judge.column(path, [output], [right], backend=first.backend, declared=frozenset(arrays))
    else:
        if of.system.decision.source not in arrays or (path != "deployment" and MODEL_INPUT not in arrays):
            return {}
        artifact = of.artifact(first.runtime, first.precision)
        fed = arrays.get(MODEL_INPUT)
        reference = np.zeros(0) if fed is None else network_input(fed["golden"], of.system.frontend)
        features = {} if fed is None else {output_tap: _derived(fed)}
        model = {tap: value for tap, value in values.items() if tap != MODEL_INPUT}
        right = Expected(clip, features, reference, model, halves=_halves(arrays))
        kernels = [ClipOutput(values, 0.0)]
        found = judge.column(path, [output], [right], backend=first.backend, runtime=first.runtime, artifact=artifact,
                             kernels=kernels)  # fmt: skip
    follow = {LABEL, MARGIN} if path != "features" else set()
    return {j.verdict.tap: j.verdict for j in found if j.verdict.tap in arrays.keys() | follow}


def _derived(a: Mapping[str, Array]) -> Interval:
    """The interval that was derived: what was judged by, where no policy widened it."""
    return Interval(a["golden"], a.get("derived_lo", a["lo"]), a.get("derived_hi", a["hi"]))


def _halves(arrays: Kept) -> dict[str, Array]:
    """Tap -> the half-width that was derived for an activation, where one was."""
    with np.errstate(invalid="ignore"):
        return {tap: _derived(a).hi - a["golden"] for tap, a in arrays.items() if "derived_hi" in a or "derived" in a}


def _rules(p: Policy, of: _Again, v: Verdict) -> Sequence[Rule | None]:
    """The rules of a policy that a verdict went by."""
    if v.path == "features":
        return [p.rule(v.system, v.backend.partition(":")[0], "features", "", v.tap, v.clip)]
    where = (v.system, v.runtime.partition(":")[0], v.path, v.precision)
    tap = of.system.decision.source if v.tap in (LABEL, MARGIN) else v.tap
    found = [p.rule(*where, tap, v.clip)]
    if v.tap == LABEL:
        found.append(p.rule(*where, LABEL, v.clip))
    if v.tap == MODEL_INPUT and v.backend:
        output = of.system.frontend.output
        found.append(p.rule(v.system, v.backend.partition(":")[0], "features", "", output, v.clip))
    return found


def _same_rules(of: _Again, v: Verdict) -> bool:
    old, new = (p.on(of.machine(v.target)) for p in (of.old, of.new))
    pairs = zip(_rules(old, of, v), _rules(new, of, v), strict=True)
    return all(policy.same_width(a, b) for a, b in pairs)


def _gap_again(new: Policy, v: Verdict) -> Verdict:
    """A verdict that stands: whether a known gap covers it is asked anew."""
    outcome = v.covered or v.outcome
    if outcome not in ("fail", "missing", "error"):
        return v
    ratio = float("inf") if v.ratio is None and v.error is not None else v.ratio
    c = Comparison(outcome, v.message, ratio=ratio, flipped=v.message.startswith("label flipped"))  # type: ignore[arg-type]
    keys = ("system", "backend", "runtime", "precision", "path", "tap", "clip")
    gap = new.gap(**{k: getattr(v, k) for k in keys})
    if gap is not None and covers(gap, c, v.tap):
        new.met(gap)
        return msgspec.structs.replace(v, outcome="gap", gap=gap.reason, covered=outcome)
    return msgspec.structs.replace(v, outcome=outcome, gap="", covered="")


def _gaps(again: Mapping[str, _Again], unjudged: set[str]) -> dict[str, list[str]]:
    """Gaps that were met, and those of the goldens judged by that matched nothing: as in a run."""
    met: list[str] = []
    unmet: list[str] = []
    for name, of in again.items():
        root = of.about.get("golden")
        beside = [] if root is None else [Path(root), Path(root).parent]
        owed = of.new.gaps_from is not None and of.new.gaps_from.resolve() in beside and name not in unjudged
        columns = [
            dict(zip(("backend", "runtime", "precision", "path", "machine"), c, strict=True)) for c in of.columns
        ]
        for i, g in enumerate(of.new.gaps):
            text = f"{pipeline.subject(g)}: {g.reason}"
            if i in of.new.used_gaps:
                met.append(text)
            elif owed and any(pipeline.covers(g, name, c) for c in columns):
                unmet.append(text)
    return {"met": met, "unmet": unmet}
