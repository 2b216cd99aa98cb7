"""run(): the whole flow in one place, from a selection to a run folder."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from parity import dumped, errors, plan, policy, provenance, sources, system
from parity import frontend as fe
from parity.dumped import DumpTarget
from parity.errors import NothingCompared
from parity.expected import Expected
from parity.judge import Judge
from parity.kept import Keep, Keeping
from parity.labels import LabelTally
from parity.plan import Plan, Selection
from parity.protocols import Artifact, Failure, Job, JobResult, Outputs, Tap, Target
from parity.records import Recorder, Run, Skipped, Verdict, new_name
from parity.report import html, junit
from parity.sources import Progress, Source
from parity.streaming import AUDIO, Detection, Stream
from parity.taps import DECISION_TAPS, MODEL_INPUT


def _jobs(p: Plan, chunks: Iterable[list[Expected]], pending: list[list[Expected]]) -> Iterator[Job]:
    for part in chunks:
        pending.append(part)
        yield sources.job_of(p, part)


class _Times:
    """Seconds by stage and plugin, added up; and the least that a frame took."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, str, str], list[float]] = defaultdict(lambda: [0, 0.0])
        self._frame: dict[tuple[str, str, str, str], float] = {}

    def add(self, stage: str, plugin: str, of: str, clips: int, seconds: float, precision: str = "") -> None:
        entry = self._sums[stage, plugin, of, precision]
        entry[0] += clips
        entry[1] += seconds

    def outputs(
        self, stage: str, plugin: str, of: str, outputs: Outputs, part: Sequence[Expected], precision: str = ""
    ) -> None:
        if isinstance(outputs, Failure):
            return
        self.add(stage, plugin, of, len(outputs), sum(o.seconds for o in outputs), precision)
        # Raw audio has no frames: a clip of it counts as one. The least is what a busy machine disturbs least.
        frames = [len(e.reference) if e.reference.ndim > 1 else 1 for e in part]
        took = [1e3 * o.seconds / n for o, n in zip(outputs, frames, strict=False) if not o.unsupported]
        key = (stage, plugin, of, precision)
        self._frame[key] = min([*took, self._frame.get(key, math.inf)])

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"stage": s, "plugin": p, "system": of, "clips": int(n), "seconds": round(t, 6)}
            | ({"precision": precision} if precision else {})
            | ({"frame_ms": least} if math.isfinite(least := self._frame.get((s, p, of, precision), math.inf)) else {})
            for (s, p, of, precision), (n, t) in sorted(self._sums.items())
        ]


def _silent(_system: str, _done: int, _total: int) -> None:
    pass


def _as_it_is(verdict: Verdict) -> Verdict:
    return verdict


def _unheard(_detection: Detection) -> None:
    pass


def run(
    selection: Selection, target: Target, reports: Path, command: str = "", progress: Progress = _silent,
    heard: Callable[[Detection], None] = _unheard, dump: DumpTarget | None = None,
    hold: Callable[[Path, Run], None] | None = None,
) -> tuple[Run, Path]:  # fmt: skip
    """Compare everything selected; returns the run and its folder under `reports`.

    `heard` is told what a stream detects, as it is detected. A `dump` stands in the place of the plugins selected.
    `hold` is given the unfinished folder and the run before it is written, and may change its verdict.

    Raises a ParityError for what must be mended first; nothing is written then.
    """
    begun, started = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%S%z")
    plans, skipped, versions = plan.make(selection, target) if dump is None else dump.plan()
    runnable = [p for p in plans if p.pairs or dump is not None]
    if not runnable:
        raise _nothing(selection, plans, skipped)
    runnable = sources.recorded(selection, runnable, skipped)
    rules = {p.system.name: sources.rules_for(selection, p.system) for p in runnable}
    found = {p.system.name: sources.source(p, selection, target) if dump is None
             else dump.source(p, selection, skipped) for p in runnable}  # fmt: skip
    summary = Run(
        name="", started=started, command=command, skipped=skipped,
        source="oracle" if selection.audio is not None else "golden",
        environment=provenance.environment(versions, getattr(target, "threads", 1)),
        commit=provenance.commit(system.root()),
        changed=[f"{p.system.name}: {words}" for p in runnable for words in p.system.changed],
        keep=selection.keep,
        asked={k: list(getattr(selection, k)) for k in ("systems", "backends", "runtimes", "precisions")},
    )  # fmt: skip
    for p in runnable:
        skipped += [Skipped(system=p.system.name, reason=reason) for reason in found[p.system.name].unheld]
    times, tally = _Times(), LabelTally()
    record = Recorder(reports, new_name(reports))
    try:
        summary.name = record.final.name
        for p in runnable:
            source = found[p.system.name]
            summary.systems[p.system.name] = _about(p, source)
            if selection.streaming:
                _stream_system(p, source, target, rules[p.system.name], record, times, progress, summary, heard,
                               bool(selection.systems), selection.keep)  # fmt: skip
            else:
                seen = _run_system(p, source, dump or target, rules[p.system.name], record, times, progress,
                                   tally if selection.labels_from_folders else None, selection.keep,
                                   amended=_as_it_is if dump is None else dump.amended)  # fmt: skip
                skipped += dumped.left_over(p, seen) if dump is None else []
                skipped += _unfit(p, record, selection)
            if selection.examples:
                from parity import examples  # Hypothesis is an extra

                summary.examples += examples.search_plan(p, target, rules[p.system.name], selection, progress)
                skipped += examples.left_out(p, selection)
            target.release()
        if selection.examples and all(e["outcome"] == "unsupported" for e in summary.examples):
            skipped.append(Skipped(system="*", reason="no network was compared on a generated example", asked=True))
        summary.labels = tally.summary() if selection.labels_from_folders else {}
        summary.gaps = _gaps(rules, runnable, found)
        if dump is not None:
            summary.gaps["unmet"] = []  # of plugins, not of what a device computed
        summary.timings = times.rows() + list(getattr(target, "timings", []))
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


def _about(p: Plan, source: Source) -> dict[str, Any]:
    s = p.system
    return {
        "labels": list(s.labels),
        "frontend": fe.to_plain(s.frontend),
        "frontend_digest": s.frontend.digest,
        "taps": [*s.frontend.taps, MODEL_INPUT, *s.taps, *DECISION_TAPS],
        "clips": source.total,
        "pairs": [list(pair) for pair in p.pairs],
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
        "arithmetic": dict(sorted(p.arithmetic.items())),
        "folder": str(s.folder.resolve()),
        "golden": None if source.root is None else str(source.root.resolve()),
        "golden_labels": list(s.labels if source.labels is None else source.labels),
        "models": [_runs(*model) | {"tensors": _tensors(model[1])} for model in p.models],
        "kernels": [_runs(*model) for model in p.kernels],
        "judge": None if source.own_judge is None else _runs(*source.own_judge),
    }


def _runs(runtime: str, artifact: Artifact) -> dict[str, str]:
    what = {"format": artifact.format, "precision": artifact.precision, "file": Path(artifact.path).name}
    return {"runtime": runtime} | what


def _tensors(artifact: Artifact) -> dict[str, str]:
    """The file's own names of what its taps are read from."""
    return {MODEL_INPUT: artifact.input.name} | {tap: tensor.name for tap, tensor in artifact.taps.items()}


def _run_system(
    p: Plan, source: Source, target: Target, rules: policy.Policy, record: Recorder, times: _Times,
    progress: Progress, tally: LabelTally | None, keep: Keep = "failing", left_out: frozenset[Tap] = frozenset(),
    amended: Callable[[Verdict], Verdict] = _as_it_is,
) -> list[tuple[str, str]]:  # fmt: skip
    """Judge a system's clips as their results come; returns their names and sha256."""
    judge = Judge(p.system, rules, target.name, source.labels, source.root, source.own_judge, p.arithmetic)
    keeping = Keeping(record, keep, p.system.decision.source)
    pending: list[list[Expected]] = []
    clips: list[tuple[str, str]] = []
    progress(p.system.name, 0, source.total)
    for result in target.run(_jobs(p, source.chunks, pending)):
        part = pending.pop(0)
        start = time.perf_counter()
        found = (
            replace(judged, verdict=amended(judged.verdict))
            for judged in judge.judge(result, part, p.backends)
            if judged.verdict.tap not in left_out
        )
        for verdict in keeping.job(found, result):
            record.add(verdict)
        times.add("judge", "", p.system.name, len(part), time.perf_counter() - start)
        for spec, outputs in result.features.items():
            times.outputs("features", spec, p.system.name, outputs, part)
        for (_, spec, precision), outputs in result.activations.items():
            times.outputs("model", spec, p.system.name, outputs, part, precision)
        if tally is not None:
            _tally(tally, p, result)
        clips += [(e.clip.name, e.clip.sha256) for e in part]
        progress(p.system.name, len(clips), source.total)
    return clips


def _stream_system(
    p: Plan, source: Source, target: Target, rules: policy.Policy, record: Recorder, times: _Times,
    progress: Progress, summary: Run, heard: Callable[[Detection], None], asked: bool, keep: Keep,
) -> None:  # fmt: skip
    """The same in chunks: every clip once a size, judged by the whole clip's goldens."""
    detections = summary.streaming.setdefault("detections", [])

    def hear(d: Detection) -> None:
        detections.append({"system": p.system.name, **dataclasses.asdict(d), "pair": " ".join(d.pair)})
        heard(d)

    stream = Stream(target, p, hear)
    assert p.system.streaming is not None
    source.chunks = stream.each_size(source.chunks)
    source.total *= len(p.system.streaming.chunks)
    p.backends = {backend: taps - {AUDIO} for backend, taps in p.backends.items()}
    # Chunks share samples, so that theirs don't make the clip's: it is their frames that are compared.
    _run_system(p, source, stream, rules, record, times, progress, None, keep, frozenset({AUDIO}), stream.amended)
    summary.streaming.setdefault("times", []).extend(stream.rows())
    summary.skipped += stream.unproved(asked)


def _unfit(p: Plan, record: Recorder, selection: Selection) -> Iterator[Skipped]:
    """Clips that a file tied to so many frames can't take: told once a file, not clip by clip."""
    for spec, artifact in p.models:
        counts: dict[str, int] = {}
        for s in record.summaries:
            if (s.system, s.runtime, s.precision, s.path) == (p.system.name, spec, artifact.precision, "isolated"):
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
            tally.add(p.system.name, f"{backend} {runtime} {precision}", clip.name, logits, p.system.labels)


def _compared(p: Plan) -> Iterator[dict[str, str]]:
    """What a plan compares: backend, runtime, precision and path of each column of the report."""
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
    who = " ".join(filter(None, (pair, gap.precision.strip("*"), gap.path.strip("*"))))
    return " · ".join(filter(None, (gap.system, who, gap.tap)))


def _gaps(rules: dict[str, policy.Policy], plans: Sequence[Plan], found: dict[str, Source]) -> dict[str, list[str]]:
    """Declared gaps that were met, and those among what was selected that matched nothing.

    The latter only on the goldens that they lie beside: on other clips a gap needn't show.
    """
    met: list[str] = []
    unmet: list[str] = []
    for p in plans:
        known, root = rules[p.system.name], found[p.system.name].root
        beside = [] if root is None else [root.resolve(), root.resolve().parent]
        owed = known.gaps_from is not None and known.gaps_from.resolve() in beside
        for i, g in enumerate(known.gaps):
            text = f"{subject(g)}: {g.reason}"
            if i in known.used_gaps:
                met.append(text)
            elif owed and any(covers(g, p.system.name, column) for column in _compared(p)):
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
