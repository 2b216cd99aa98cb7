"""run(): the whole flow in one place, from a selection to a run folder."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from parity import dumped, errors, measured, plan, policy, provenance, sources, system
from parity import frontend as fe
from parity.dumped import DumpTarget
from parity.errors import NothingCompared
from parity.expected import Expected
from parity.judge import Judge
from parity.kept import Keep, Keeping
from parity.labels import LabelTally
from parity.measured import Times
from parity.plan import Plan, Selection
from parity.protocols import Artifact, Failure, Job, JobResult, Tap, Target
from parity.records import LOCAL, Recorder, Run, Skipped, Verdict, new_name
from parity.report import html, junit
from parity.sources import Progress, Source
from parity.streaming import AUDIO, Detection, Stream
from parity.taps import DECISION_TAPS, MODEL_INPUT


def _jobs(p: Plan, chunks: Iterable[list[Expected]], pending: list[list[Expected]]) -> Iterator[Job]:
    for part in chunks:
        pending.append(part)
        yield sources.job_of(p, part)


def _silent(_system: str, _done: int, _total: int) -> None:
    pass


def _as_it_is(verdict: Verdict) -> Verdict:
    return verdict


def _unheard(_detection: Detection) -> None:
    pass


def run(
    selection: Selection, on: Target | Sequence[Target], reports: Path, command: str = "", progress: Progress = _silent,
    heard: Callable[[Detection], None] = _unheard, dump: DumpTarget | None = None,
    hold: Callable[[Path, Run], None] | None = None,
) -> tuple[Run, Path]:  # fmt: skip
    """Compare everything selected on one target or on several; returns the run and its folder under `reports`.

    `heard` is told what a stream detects, as it is detected. A `dump` stands in the place of the plugins selected.
    `hold` is given the unfinished folder and the run before it is written, and may change its verdict.

    Raises a ParityError for what must be mended first; nothing is written then.
    """
    begun, started = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%S%z")
    targets = list(on) if isinstance(on, Sequence) else [on]
    here = targets[0].trusted
    planned = plan.everywhere(selection, targets) if dump is None else dump.planned()
    plans, skipped = planned.plans, planned.skipped
    runnable = [p for p in plans if p.pairs or dump is not None]
    if not runnable:
        raise _nothing(selection, plans, skipped)
    runnable = sources.recorded(selection, runnable, skipped)
    systems = {p.system.name: [q for q in runnable if q.system.name == p.system.name] for p in runnable}
    rules = {name: sources.rules_for(selection, of[0].system) for name, of in systems.items()}
    found = {name: sources.source(of, selection, here) if dump is None
             else dump.source(of[0], selection, skipped) for name, of in systems.items()}  # fmt: skip
    summary = Run(
        name="", started=started, command=command, skipped=skipped,
        source="oracle" if selection.audio is not None else "golden",
        commit=provenance.commit(system.root()),
        changed=[f"{name}: {words}" for name, of in systems.items() for words in of[0].system.changed],
        keep=selection.keep,
        asked={k: list(getattr(selection, k)) for k in ("systems", "backends", "runtimes", "precisions")}
        | {"targets": [t.name for t in targets]},
    )  # fmt: skip
    for name, source in found.items():
        skipped += [Skipped(system=name, reason=reason) for reason in source.unheld]
    times, tally = Times(), LabelTally()
    record = Recorder(reports, new_name(reports))
    try:
        summary.name = record.final.name
        for name, of in systems.items():
            source = found[name]
            summary.systems[name] = _about(of, source)
            if selection.streaming:
                _stream_system(of[0], source, rules[name], record, times, progress, summary, heard,
                               bool(selection.systems), selection.keep)  # fmt: skip
            else:
                seen = _run_system(of, source, dump, rules[name], record, times, progress,
                                   tally if selection.labels_from_folders else None, selection.keep,
                                   amended=_as_it_is if dump is None else dump.amended)  # fmt: skip
                skipped += dumped.left_over(of[0], seen) if dump is None else []
                for p in of:
                    skipped += _unfit(p, record, selection)
            if selection.examples:
                from parity import examples  # Hypothesis is an extra

                for p in of:
                    own = rules[name].on(plan.machine_of(p.target))
                    summary.examples += examples.search_plan(p, p.target, own, selection, progress)
                    skipped += examples.left_out(p, selection)
            for target in {id(t): t for t in (*targets, here)}.values():
                target.release()
        if selection.examples and all(e["outcome"] == "unsupported" for e in summary.examples):
            skipped.append(Skipped(system="*", reason="no network was compared on a generated example", asked=True))
        summary.labels = tally.summary() if selection.labels_from_folders else {}
        summary.gaps = _gaps(rules, runnable, found)
        if dump is not None:
            summary.gaps["unmet"] = []  # of plugins, not of what a device computed
        summary.timings = list(times.rows()) + measured.of_plugins(targets)
        summary.environment = measured.environments(targets, planned.versions)
        summary.seconds = round(time.monotonic() - begun, 3)
        summary.summaries = record.summaries
        summary.exit_code = exit_code(summary)
        applied = policy.writer(rules)
        return summary, record.finish(summary, (applied, junit.write, html.write), hold)
    except BaseException:
        record.abandon()
        raise


def _nothing(selection: Selection, plans: Sequence[Plan], skipped: Sequence[Skipped]) -> NothingCompared:
    """Why a run compares nothing, and what to do about it."""
    known = {a.precision for p in plans for a in (*p.system.files, *p.system.unbuilt)}
    if known and selection.precisions and known.isdisjoint(selection.precisions):
        asked = ", ".join(selection.precisions)
        of = " in " + ", ".join(p.system.name for p in plans) if selection.systems else ""
        return NothingCompared(f"nothing to compare: no precision {asked}{of}", f"there are {', '.join(sorted(known))}")
    reasons = "; ".join(dict.fromkeys(s.reason for s in skipped)) or "no pair was selected"
    hint = "see `parity list` for what is there"
    if selection.streaming and not plans:
        hint = "README, 'Streams', says what [streaming] needs; without it: parity run without --streaming"
    for p in plans:
        if not p.system.artifacts:
            command = system.how_to_build(p.system.folder)
            hint = f"build it: {command}" if command else "put its files there, or mend `file` in its system.toml"
    return NothingCompared(f"nothing to compare: {reasons}", hint)


def _about(of: Sequence[Plan], source: Source) -> dict[str, Any]:
    s = of[0].system
    models = list(dict.fromkeys((spec, a.key) for p in of for spec, a in p.models))
    kernels = list(dict.fromkeys((spec, a.key) for p in of for spec, a in p.kernels))
    files = {a.key: a for p in of for _, a in (*p.models, *p.kernels)}
    return {
        "labels": list(s.labels),
        "frontend": fe.to_plain(s.frontend),
        "frontend_digest": s.frontend.digest,
        "taps": [*s.frontend.taps, MODEL_INPUT, *s.taps, *DECISION_TAPS],
        "clips": source.total,
        "pairs": [list(pair) for pair in dict.fromkeys(pair for p in of for pair in p.pairs)],
        "artifacts": [
            {
                "format": a.format,
                "precision": a.precision,
                "file": Path(a.path).name,
                "sha256": a.sha256,
                "bytes": Path(a.path).stat().st_size,
            }
            for a in s.artifacts
        ],
        "decision": {"rule": s.decision.rule, "source": s.decision.source},
        "anchor": source.anchor,
        "arithmetic": dict(sorted(item for p in reversed(of) for item in p.arithmetic.items())),
        "folder": str(s.folder.resolve()),
        "golden": None if source.root is None else str(source.root.resolve()),
        "golden_labels": list(s.labels if source.labels is None else source.labels),
        "models": [_runs(spec, files[key]) | {"tensors": _tensors(files[key])} for spec, key in models],
        "kernels": [_runs(spec, files[key]) for spec, key in kernels],
        "judge": None if source.own_judge is None else _runs(*source.own_judge),
    }


def _runs(runtime: str, artifact: Artifact) -> dict[str, str]:
    what = {"format": artifact.format, "precision": artifact.precision, "file": Path(artifact.path).name}
    return {"runtime": runtime} | what


def _tensors(artifact: Artifact) -> dict[str, str]:
    """The file's own names of what its taps are read from."""
    return {MODEL_INPUT: artifact.input.name} | {tap: tensor.name for tap, tensor in artifact.taps.items()}


def _run_system(
    of: Sequence[Plan], source: Source, dump: DumpTarget | None, rules: policy.Policy, record: Recorder, times: Times,
    progress: Progress, tally: LabelTally | None, keep: Keep = "failing", left_out: frozenset[Tap] = frozenset(),
    amended: Callable[[Verdict], Verdict] = _as_it_is, stream: Stream | None = None,
) -> list[tuple[str, str]]:  # fmt: skip
    """Judge a system's clips as their results come, of each target in turn; returns their names and sha256."""
    s = of[0].system
    keeping = Keeping(record, keep, s.decision.source)
    clips: list[tuple[str, str]] = []
    progress(s.name, 0, source.total)
    judges, coming, pending = [], [], []
    for p, chunks in zip(of, itertools.tee(source.chunks, len(of)), strict=True):
        target = stream or p.target
        # On another machine the judge's own runtime is one like any other.
        own = source.own_judge if dump is not None or p.target is p.target.trusted else None
        # What a device of somebody's computed, nobody knows the machine of.
        here = rules.on(plan.machine_of(p.target) if dump is None or target.name == LOCAL else "")
        judges.append(Judge(s, here, target.name, source.labels, source.root, own, p.arithmetic))
        pending.append(list[list[Expected]]())
        coming.append(target.run(_jobs(p, chunks, pending[-1])))
    for results in zip(*coming, strict=True):
        for p, judge, waiting, result in zip(of, judges, pending, results, strict=True):
            part = waiting.pop(0)
            start = time.perf_counter()
            found = (
                replace(judged, verdict=amended(judged.verdict))
                for judged in judge.judge(result, part, p.backends)
                if judged.verdict.tap not in left_out
            )
            for verdict in keeping.job(found, result):
                record.add(verdict)
            times.judged(s.name, len(part), time.perf_counter() - start)
            times.add(p, result, part, stream is None)
            if tally is not None:
                _tally(tally, p, result)
        clips += [(e.clip.name, e.clip.sha256) for e in part]
        progress(s.name, len(clips), source.total)
    return clips


def _stream_system(
    p: Plan, source: Source, rules: policy.Policy, record: Recorder, times: Times,
    progress: Progress, summary: Run, heard: Callable[[Detection], None], asked: bool, keep: Keep,
) -> None:  # fmt: skip
    """The same in chunks: every clip once a size, judged by the whole clip's goldens."""
    detections = summary.streaming.setdefault("detections", [])

    def hear(d: Detection) -> None:
        detections.append({"system": p.system.name, **dataclasses.asdict(d), "pair": " ".join(d.pair)})
        heard(d)

    stream = Stream(p.target, p, hear)
    assert p.system.streaming is not None
    source.chunks = stream.each_size(source.chunks)
    source.total *= len(p.system.streaming.chunks)
    p.backends = {backend: taps - {AUDIO} for backend, taps in p.backends.items()}
    # Chunks share samples, so that theirs don't make the clip's: it is their frames that are compared.
    _run_system([p], source, None, rules, record, times, progress, None, keep, frozenset({AUDIO}), stream.amended,
                stream)  # fmt: skip
    summary.streaming.setdefault("times", []).extend(stream.rows())
    summary.skipped += stream.unproved(asked)


def _unfit(p: Plan, record: Recorder, selection: Selection) -> Iterator[Skipped]:
    """Clips that a file tied to so many frames can't take: told once a file, not clip by clip."""
    for spec, artifact in p.models:
        counts: dict[str, int] = {}
        for s in record.summaries:
            what = (s.system, s.target, s.runtime, s.precision, s.path)
            if what == (p.system.name, p.target.name, spec, artifact.precision, "isolated"):
                counts = s.counts if s.tap == MODEL_INPUT else counts
        if unfit := counts.get("unsupported", 0):
            every = sum(counts.values())
            file = Path(artifact.path).name
            yield Skipped(
                system=p.system.name, runtime=spec, precision=artifact.precision,
                reason=f"{unfit} of {every} clips don't have the {artifact.frames} frames that {file} takes",
                asked=unfit == every and spec in selection.runtimes,
            )  # fmt: skip


def _tally(tally: LabelTally, p: Plan, result: JobResult) -> None:
    for (backend, runtime, precision), outputs in result.activations.items():
        if not backend or isinstance(outputs, Failure):
            continue
        for clip, output in zip(result.job.clips, outputs, strict=True):
            if output.unsupported:
                continue  # it gave no answer, right or wrong
            values = output.taps.get(p.system.decision.source)
            logits = None if values is None else p.system.decision.logits(values)
            pair = f"{backend} {runtime} {precision}"
            tally.add(p.system.name, pair, clip.name, logits, p.system.labels, p.target.name)


def _compared(p: Plan) -> Iterator[dict[str, str]]:
    """What a plan compares: backend, runtime, precision, path and machine of each column of the report."""
    machine = plan.machine_of(p.target)
    yield from (column | {"machine": machine} for column in _columns(p))


def _columns(p: Plan) -> Iterator[dict[str, str]]:
    for backend in p.backends:
        yield {"backend": backend, "runtime": "", "precision": "", "path": "features"}
    held = {(artifact.key, spec) for spec, artifact in p.kernels}
    for runtime, artifact in p.models:
        what = {"runtime": runtime, "precision": artifact.precision}
        yield from (what | {"backend": b, "path": "cumulative"} for b in p.backends)
        yield what | {"backend": "", "path": "isolated"}
        if (artifact.key, artifact.kernels) in held and artifact.kernels != runtime:
            yield what | {"backend": "", "path": "deployment"}


def covers(gap: policy.Gap, system: str, column: dict[str, str]) -> bool:
    """Whether a gap may cover something of a column of the report."""
    return all(fnmatchcase(v, getattr(gap, k)) for k, v in (column | {"system": system}).items())


def subject(gap: policy.Gap) -> str:
    """What a gap is of: `mel40-mobilenetv2 · tflite int8 · model/logits`; patterns that match anything are left out."""
    pair = " → ".join(filter(None, (gap.backend.strip("*"), gap.runtime.strip("*"))))
    on = "" if gap.machine == "*" else f"on {gap.machine}"
    who = " ".join(filter(None, (pair, gap.precision.strip("*"), gap.path.strip("*"), on)))
    return " · ".join(filter(None, (gap.system, who, gap.tap)))


def _gaps(rules: dict[str, policy.Policy], plans: Sequence[Plan], found: dict[str, Source]) -> dict[str, list[str]]:
    """Declared gaps that were met, and those among what was selected that matched nothing.

    The latter only on the goldens that they lie beside: on other clips a gap needn't show.
    """
    met: list[str] = []
    unmet: list[str] = []
    for name in dict.fromkeys(p.system.name for p in plans):
        known, root = rules[name], found[name].root
        beside = [] if root is None else [root.resolve(), root.resolve().parent]
        owed = known.gaps_from is not None and known.gaps_from.resolve() in beside
        columns = [column for p in plans if p.system.name == name for column in _compared(p)]
        for i, g in enumerate(known.gaps):
            text = f"{subject(g)}: {g.reason}"
            if i in known.used_gaps:
                met.append(text)
            elif owed and any(covers(g, name, column) for column in columns):
                unmet.append(text)
    return {"met": met, "unmet": unmet}


def exit_code(run: Run) -> int:
    """The code that the whole run ends in."""
    outcomes = {o for s in run.summaries for o, n in s.counts.items() if n}
    codes = []
    if outcomes & {"fail", "missing", "error"} or run.gaps.get("unmet") or any(e["failed"] for e in run.examples):
        codes.append(errors.MISMATCH)
    if not outcomes & {"pass", "fail", "gap"} or any(s.asked for s in run.skipped):
        codes.append(errors.NOTHING)
    return errors.worst(codes)
