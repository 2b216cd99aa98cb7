"""Where clips and what is right for them come from: goldens, or the oracle and a reference runtime, here and now."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from parity import audio, counterexamples, golden, patterns, plan, policy, registry, system
from parity.bounds import networks
from parity.errors import ConfigError
from parity.expected import Expected, Given, fed, heard
from parity.golden import GoldenSet
from parity.plan import Plan, Selection
from parity.protocols import Array, Artifact, Clip, Failure, Job, JobResult, Tap, Target, Unsupported
from parity.records import Skipped
from parity.taps import MODEL_INPUT, REGENERATED_TAPS

CHUNK = 16
"""Clips in a job: enough to batch, few enough to keep memory flat."""

Progress = Callable[[str, int, int], None]
"""Called with the system, clips done and clips in all."""


def silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody asked for."""


@dataclass
class Source:
    """Where a system's clips and expectations come from."""

    total: int
    chunks: Iterator[list[Expected]]
    anchor: dict[str, Any]
    labels: Sequence[str] | None = None
    own_judge: tuple[str, Artifact] | None = None
    """Where there is no golden: the runtime and model that stand in for it."""
    root: Path | None = None
    """Where the goldens are."""
    unheld: Sequence[str] = ()
    """Why taps of the network can't be judged on any clip, one reason each."""


def chunked(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of up to `size` items."""
    it = iter(items)
    while chunk := list(itertools.islice(it, size)):
        yield chunk


def ahead(items: Iterator[Any]) -> Iterator[Any]:
    """The same items, each worked out in a thread while the one before it is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="parity-ahead") as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item


def golden_root(selection: Selection, of: system.System) -> Path:
    """Where a system's goldens are: --golden, `golden/` beside its system.toml, or the project's."""
    if selection.golden is not None:
        return selection.golden
    own, project = of.folder / "golden", system.root() / "golden"
    recorded = [folder for folder in (own, project) if (folder / of.name / golden.MANIFEST).is_file()]
    # Where there is none yet: where it would be recorded.
    return recorded[0] if recorded else project if system.inside(of.folder) else own


def recorded(selection: Selection, plans: Sequence[Plan], skipped: list[Skipped]) -> list[Plan]:
    """The plans to run: of systems that weren't named, those that a named folder of goldens holds, if it holds any."""
    where = selection.golden
    if where is None or selection.audio is not None or selection.systems:
        return list(plans)
    held = [p for p in plans if (where / p.system.name / golden.MANIFEST).is_file()]
    if not held:
        return list(plans)  # reading says what is missing
    names = {p.system.name for p in held}
    skipped += [
        Skipped(system=p.system.name, reason=f"no goldens of it in {where}")
        for p in plans
        if p.system.name not in names
    ]
    return held


def rules_for(selection: Selection, of: system.System, tolerances: Path | None = None) -> policy.Policy:
    """The policy of a system: beside its goldens, beside its system.toml, or the project's; or rules that are named."""
    named = [] if selection.golden is None else [selection.golden]
    return policy.load([*named, of.folder / "golden", of.folder, system.root() / "golden"], tolerances)


def from_goldens(goldens: GoldenSet, regenerate: frozenset[Tap], rounded: bool = False) -> Source:
    """Clips and arrays as recorded; `rounded` with bounds of the arithmetic `float64-rounded` as well."""
    entries = goldens.clips
    chunks = ahead([goldens.read(e, regenerate, rounded) for e in part] for part in chunked(entries, CHUNK))
    held = {tap for e in entries for tap in e["model"]["arrays"]}
    unheld = [f"no golden holds {tap}" for tap in goldens.system.taps if tap not in held]
    anchor, labels = dict(goldens.manifest["anchor"]), goldens.manifest["labels"]
    return Source(len(entries), chunks, anchor, labels, root=goldens.root, unheld=unheld)


def judged_live(
    p: Plan, clips: Iterable[Clip], target: Target, layers: int, judge: tuple[str, Artifact]
) -> Iterator[list[Expected]]:
    """The oracle, the reference runtime `judge` and its bounds, worked out now, a chunk at a time."""
    given = (heard(clip, p.system.frontend, p.arithmetic.values()) for clip in clips)
    return _judged(p, given, target, layers, judge)


def _judged(
    p: Plan, given: Iterable[Given], target: Target, layers: int, judge: tuple[str, Artifact]
) -> Iterator[list[Expected]]:
    spec, artifact = judge
    bounder, seen = bounded_by(p.system, {a.precision for _, a in p.models}, target), 0
    for part in chunked(given, CHUNK):
        wanted = [_live_taps(p, artifact, seen + i < layers) for i in range(len(part))]
        job = Job(
            system=p.system.name, frontend=p.system.frontend, clips=[g.clip for g in part],
            models=[(spec, artifact), *([(networks.RUNTIME, bounder)] if bounder is not None else [])],
            references=[g.reference for g in part], taps=[_with_halves(taps, bounder) for taps in wanted],
            moved=[g.moved for g in part],
        )  # fmt: skip
        (result,) = target.run([job])
        halves = halves_of(result, bounder)
        outputs = result.activations["", spec, artifact.precision]
        if isinstance(outputs, Failure):
            raise ConfigError(
                f"the reference runtime {spec!r} failed: {outputs.reason}",
                "judge by another: model.reference in system.toml",
            )
        if unfit := next((o.unsupported for o in outputs if o.unsupported), ""):
            raise ConfigError(
                f"the reference runtime {spec!r} can't judge every clip: the {artifact.format} file {unfit}",
                "judge by another: model.reference in system.toml",
            )
        yield [
            g.expected({t: a for t, a in o.taps.items() if t != MODEL_INPUT}, half)
            for g, o, half in zip(part, outputs, halves, strict=True)
        ]
        seen += len(part)


def bounded_by(of: system.System, precisions: Iterable[str], target: Target) -> Artifact | None:
    """The artifact that the bounds of a system's activations are derived from, as it is asked for them; None where
    there is none, it can't be done for it, or what does it isn't installed: then they must be declared.
    """
    artifact = networks.source(of)
    return None if artifact is None or underived(of, target) else networks.bounded(artifact, precisions)


def underived(of: system.System, target: Target) -> str | None:
    """Why the bounds of a system's activations can't be derived; None where they can."""
    artifact = networks.source(of)
    if artifact is None:
        return "it has no float32 ONNX file that takes a whole clip"
    if not registry.installed(networks.RUNTIME):
        return "onnx isn't installed: pip install 'parity[onnx]'"
    answer = target.describe("runtime", networks.RUNTIME, [artifact]).answers[0]
    return answer.reason if isinstance(answer, Unsupported) else None


def _with_halves(taps: frozenset[Tap], bounder: Artifact | None) -> frozenset[Tap]:
    return taps if bounder is None else taps | networks.wanted(taps, bounder)


def halves_of(result: JobResult, bounder: Artifact | None) -> Sequence[dict[str, Array]]:
    """The half-widths of each clip of a job; ConfigError where they couldn't be worked out."""
    if bounder is None:
        return [{} for _ in result.job.clips]
    outputs = result.activations["", networks.RUNTIME, bounder.precision]
    if isinstance(outputs, Failure):
        raise ConfigError(
            f"the bounds of {result.job.system}'s activations can't be derived from {Path(bounder.path).name}: "
            f"{outputs.reason}",
            "does the file run? parity run --runtime onnxrt",
        )
    return [networks.halves(o.taps) for o in outputs]


def _live_taps(p: Plan, artifact: Artifact, inner: bool) -> frozenset[Tap]:
    return frozenset(artifact.taps) if inner else p.system.answers & set(artifact.taps)


def job_of(p: Plan, part: Sequence[Expected]) -> Job:
    """The job that takes a chunk through every plugin of a plan; each file that is held to all of the chunk.

    Where networks alone are given something, no backend takes part.
    """
    models, kernels = (
        [m for m in some if all(e.holds(m[1].precision) for e in part)] for some in (p.models, p.kernels)
    )
    alone = any(e.of_network for e in part)
    return Job(
        system=p.system.name, frontend=p.system.frontend, clips=[e.clip for e in part],
        backends=[] if alone else list(p.backends), models=models, kernels=kernels,
        references=[e.reference for e in part], taps=[frozenset(e.model) | {MODEL_INPUT} for e in part],
    )  # fmt: skip


def source(of: Sequence[Plan], selection: Selection, target: Target) -> Source:
    """Where the clips of a system come from in a run; `of` are its plans, `target` is what says what is right."""
    p = next((q for q in of if q.on is target), of[0])
    if p is not of[0] or len(of) > 1:
        p = dataclasses.replace(p, arithmetic={k: v for q in of for k, v in q.arithmetic.items()})
    if selection.audio is not None:
        paths = audio.find(selection.audio)
        clips = audio.folder_clips(selection.audio, p.system.frontend)
        judge = plan.reference(p, plan.asking(target))
        anchor = {"live": f"features judged by the float64 oracle, activations by {judge[0]}"}
        unheld = [f"{judge[0]}, which judges, maps no {t}" for t in p.system.taps if t not in judge[1].taps]
        live = judged_live(p, clips, target, selection.layers, judge)
        return Source(len(paths), live, anchor, own_judge=judge, unheld=unheld)
    regenerate = REGENERATED_TAPS & frozenset().union(*(taps for q in of for taps in q.backends.values()))
    rounded, root = "float64-rounded" in p.arithmetic.values(), golden_root(selection, p.system)
    found = from_goldens(golden.load(root, p.system), regenerate, rounded)
    return _with_counterexamples(found, p, root, target, selection.streaming)


def _with_counterexamples(found: Source, p: Plan, root: Path, target: Target, chunks: bool) -> Source:
    """The same with the counter-examples that were saved beside the goldens, judged here and now.

    In `chunks` clips only: what a network alone is fed with is no stream.
    """
    count, frontend = len(counterexamples.files(root, p.system.name)), p.system.frontend
    if not count:
        return found
    clips = counterexamples.clips(root, p.system.name, frontend)
    live: list[tuple[Iterator[list[Expected]], frozenset[str], int]] = []
    if (why := underived(p.system, target)) is None:
        judge = plan.reference(p, plan.asking(target))
        if judge in p.models and p.on is target:
            found.unheld = [*found.unheld, f"{judge[0]} judges counter-examples, and is held to none by itself"]
        live += [(judged_live(p, some, target, len(some), judge), of, len(some)) for of, some in clips.items()]
        shape = patterns.shape_of([judge[1], *(artifact for _, artifact in p.models)])
        dtype, rate = frontend.dtype(frontend.output), frontend.input.rate
        inputs = {} if chunks else counterexamples.inputs(root, p.system.name, rate, shape, dtype)
        for of, fed_with in inputs.items():
            given = itertools.starmap(fed, fed_with)
            live.append((_judged(p, given, target, len(fed_with), judge), of, len(fed_with)))
    else:
        found.unheld = [*found.unheld, f"networks aren't held to counter-examples ({count}): {why}"]
        for some in clips.values():
            alone = (heard(clip, frontend, p.arithmetic.values()).expected({}, {}) for clip in some)
            live.append((chunked(alone, CHUNK), frozenset(), len(some)))
    for parts, precisions, n in live:
        found.chunks, found.total = itertools.chain(found.chunks, _held(parts, precisions)), found.total + n
    return found


def _held(chunks: Iterator[list[Expected]], precisions: frozenset[str]) -> Iterator[list[Expected]]:
    for part in chunks:
        yield [replace(e, precisions=precisions) for e in part]
