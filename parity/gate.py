"""The gate: a run, held to what was accepted before.

A run passes or fails by its bounds. The gate asks more of it: that nothing moved away from the accepted baseline of the
same environment although it is still within its bound (*drift*, labels, time), and that what was compared then is
compared now (*coverage*), with files that haven't grown. What it finds goes into the run's records, `Run.gate`:

    verdict     pass, fail, or new: within bounds, in an environment that has no baseline yet
    findings    kind, system, backend, runtime, precision, target, path, tap, text, was, now, fails; worst first
    baselines   system, target, fingerprint, state (held, new, none), accepted, reason, differs
    history     system, backend, runtime, precision, target, and points: when, run, fingerprint, ratio, outcome
    limits      the settings that were used
"""

from __future__ import annotations

import datetime
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from parity import baseline, errors, history, localize, pipeline, provenance, records, registry, settings
from parity import system as systems
from parity.baseline import Key, Row
from parity.plan import Selection
from parity.protocols import Target
from parity.records import Run, TapSummary
from parity.sources import Progress, golden_root
from parity.standing import Finding, Standing, asked_of, findings_of, less_accurate, standing, target_of


def grains(run: Run) -> dict[tuple[str, Key], float]:
    """(system, key) -> one quantization step in bounds, of the rows whose worst element is an integer's."""
    return {
        (s.system, baseline.key_of(s)): s.worst.step / s.worst.bound
        for s in run.summaries
        if s.worst.step and s.worst.bound
    }


def _reasons(run: Run, system: str) -> Callable[[Row], str]:
    """Why a row that was compared isn't any more, as far as the run or what is installed tells."""

    def why(row: Row) -> str:
        for s in run.skipped:
            if s.target not in ("", row.target):
                continue
            who = s.backend == row.backend if s.backend else s.runtime == row.runtime
            if s.system in (system, "*") and (s.backend or s.runtime) and who and s.precision in ("", row.precision):
                return s.reason
        for kind, spec in (("backend", row.backend), ("runtime", row.runtime)) if row.target == records.LOCAL else ():
            known = registry.plugins(kind).get(registry.parse(spec)[0])  # type: ignore[arg-type]
            if spec and known is not None and known.missing:
                return f"{spec} isn't installed ({known.install})"
        return ""

    return why


def standings(run: Run, folder: Path, goldens: Mapping[str, Path]) -> list[Standing]:
    """Each system and target of a run beside the baselines in the folder of its goldens."""
    return [
        standing(now, target, baseline.read_all(goldens[now.system], now.system))
        for target, now in baseline.taken(run, folder)
    ]


def goldens_of(run: Run) -> dict[str, Path]:
    """The folder of each system's goldens, as the run has it."""
    return {name: Path(about["golden"]) for name, about in run.systems.items() if about.get("golden")}


def hold(run: Run, folder: Path, limits: settings.Gate, reports: Path, everything: Path | None) -> None:
    """Write into a run what the gate says of it: `run.gate`, and the exit code.

    `everything`: the folder of goldens whose every baseline is to be met, where no system was named.
    """
    found: list[Finding] = list(less_accurate(run, limits))
    stands: list[Standing] = []
    if run.source == "golden":
        stands = standings(run, folder, goldens_of(run))
        grain, asked = grains(run), asked_of(run)
        for s in stands:
            own = {key: step for (system, key), step in grain.items() if system == s.now.system}
            found += findings_of(s, asked, limits, own, _reasons(run, s.now.system))
        found += _lost_targets(run, goldens_of(run))
        found += _lost_systems(run, everything)
    found.sort(key=lambda f: f.order)
    codes = [run.exit_code]
    codes += [errors.NOTHING if f.kind == "baseline" else errors.MISMATCH for f in found if f.fails]
    run.exit_code = errors.worst(codes)
    pending = [s for s in stands if s.state != "held"]
    run.gate = {
        "verdict": "fail" if run.exit_code else "new" if pending else "pass",
        "findings": [msgspec.to_builtins(f) for f in found],
        "baselines": [s.plain() for s in stands],
        "history": _history(run, reports),
        "limits": msgspec.to_builtins(limits),
    }


def _lost_targets(run: Run, goldens: Mapping[str, Path]) -> Iterator[Finding]:
    """A system that was compared on a target when accepted, and now is on others only."""
    asked, there = asked_of(run), {(s.system, s.target) for s in run.summaries}
    for name, root in goldens.items():
        accepted = baseline.read_all(root, name)
        for target in records.targets(run):
            rows = [r for b in accepted if target_of(b) == target for r in b.rows if asked.covers(r)]
            if rows and (name, target) not in there:
                taps = len({r.key for r in rows})
                reason = next(filter(None, map(_reasons(run, name), rows)), "")
                text = f"was compared when accepted ({taps} tap{'s' if taps != 1 else ''}), isn't now"
                text += f": {reason}" if reason else ""
                yield Finding(kind="coverage", system=name, target=target, text=text, was=float(taps), now=0.0)


def _lost_systems(run: Run, everything: Path | None) -> Iterator[Finding]:
    if everything is None:
        return
    asked = asked_of(run)
    for name in baseline.systems(everything):
        if name in run.systems:
            continue
        there = records.targets(run)
        rows = (r for b in baseline.read_all(everything, name) if target_of(b) in there for r in b.rows)
        # A system takes part with a pair: one of those that were accepted must have been asked for.
        if any(r.backend and r.runtime and asked.covers(r) for r in rows):
            reason = next((s.reason for s in run.skipped if s.system == name), "")
            why = reason or f"if it is meant to be gone, take {baseline.folder_of(everything, name)} away"
            yield Finding(kind="coverage", system=name, text=f"was compared when accepted, isn't now: {why}", now=0.0)


def points(run: Run) -> dict[history.Pair, history.Point]:
    """What a run adds to the history: how near each pair came to its bounds."""
    found: dict[history.Pair, list[TapSummary]] = defaultdict(list)
    for s in run.summaries:
        if any(n for o, n in s.counts.items() if o not in baseline.NEITHER):
            found[s.system, s.backend, s.runtime, s.precision, s.target].append(s)
    when = datetime.datetime.fromisoformat(run.started).astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    out = {}
    for pair, summaries in sorted(found.items()):
        ratios = [s.worst.ratio for s in summaries if s.worst.ratio is not None and math.isfinite(s.worst.ratio)]
        worst = max((s.worst for s in summaries), key=localize.badness)
        own = {registry.parse(spec)[0] for spec in pair[1:3] if spec}
        environment = provenance.identity(records.environment_of(run, pair[-1]), own, pair[-1])
        out[pair] = history.Point(
            when=when, run=run.name, fingerprint=provenance.fingerprint(environment),
            ratio=max(ratios, default=None), outcome=worst.outcome,
        )  # fmt: skip
    return out


def _history(run: Run, reports: Path) -> list[dict[str, Any]]:
    now = points(run)
    then = history.before(reports, list(now))
    names = ("system", "backend", "runtime", "precision", "target")
    return [
        dict(zip(names, pair, strict=True)) | {"points": [msgspec.to_builtins(p) for p in (*then[pair], now[pair])]}
        for pair in now
    ]


def gate(
    selection: Selection, on: Target | Sequence[Target], reports: Path, limits: settings.Gate, command: str,
    progress: Progress,
) -> tuple[Run, Path]:  # fmt: skip
    """Run what is selected, hold it to the accepted baselines, and add it to the history; the run and its folder."""
    history.check(reports)
    for of in () if selection.audio is not None else systems.find(selection.systems):
        baseline.read_all(golden_root(selection, of), of.name)  # a damaged one is told before any work
    everything = None
    if not selection.systems and selection.audio is None:
        everything = selection.golden or systems.root() / "golden"
        for name in baseline.systems(everything):
            baseline.read_all(everything, name)

    def held(folder: Path, run: Run) -> None:
        hold(run, folder, limits, reports, everything)

    done, folder = pipeline.run(selection, on, reports, command, progress, hold=held)
    history.append(reports, points(done))
    return done, folder
