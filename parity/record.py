"""Recording goldens: the oracle's features, a runtime's activations, and the anchor that proves the recipe.

The anchor is an independent implementation (librosa for most systems), given the same recipe; or the training code
itself, which proves that the recipe is the one that was trained with; or published vectors (`parity.vectors`). Where
one of them disagrees with the oracle, nothing is recorded.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from parity import audio, compare, golden, packed, plan, provenance, registry, vectors
from parity import frontend as fe
from parity.bounds import networks
from parity.errors import AnchorError, ConfigError, ModelError
from parity.expected import bounds_of
from parity.plan import Plan
from parity.protocols import Arithmetic, Array, Artifact, Clip, Failure, Job, JobResult, Taps, Target, Unsupported
from parity.sources import CHUNK, Progress, bounded_by, chunked, halves_of
from parity.system import System, how_to_build
from parity.taps import MODEL_INPUT, REGENERATED_TAPS


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What is recorded: `layers` clips with inner activations, spread evenly over all; `anchor` None for none.

    Published vectors that the system names are held to the oracle in any case.
    """

    system: System
    folder: Path
    root: Path
    anchor: str | None = "librosa"
    runtime: str | None = None
    layers: int = 3
    command: str = ""


@dataclass
class _Set:
    """What has been worked out so far."""

    files: dict[str, bytes] = field(default_factory=dict)
    clips: list[dict[str, Any]] = field(default_factory=list)
    worst: dict[str, float] = field(default_factory=dict)
    distance: dict[str, float] = field(default_factory=dict)
    met: list[vectors.Reproduced] = field(default_factory=list)


def usual_anchor(system: System) -> str | None:
    """The backend that is the anchor where none is asked for: system.toml's; librosa, or none beside vectors."""
    return system.anchor.backend or (None if system.anchor.vector else "librosa")


def _ask(target: Target, spec: str, frontend: fe.Frontend) -> tuple[Any, Arithmetic, Mapping[str, str]]:
    registry.find("backend", spec)
    told = target.describe("backend", spec, [frontend])
    return told.answers[0], told.arithmetic[0] if told.arithmetic else "float32", told.versions


def _recorder(what: Recording, target: Target) -> tuple[str, Artifact, Mapping[str, str]]:
    """The runtime that activations are recorded from: as asked for, or the system's reference."""
    if what.runtime is None:
        try:
            spec, artifact = plan.reference(Plan(what.system), plan.asking(target))
        except ConfigError:  # the one that system.toml names isn't there: any other that is installed
            spec, artifact = plan.reference(
                Plan(what.system, models=_installed(what.system, target)), plan.asking(target)
            )
    else:
        spec = what.runtime
        registry.find("runtime", spec)
        told = target.describe("runtime", spec, what.system.artifacts)
        fits = [a for a, t in zip(what.system.artifacts, told.answers, strict=True) if not isinstance(t, Unsupported)]
        if not fits:
            raise ConfigError(f"{what.system.name} has no model that {spec} can run", "see `parity list systems`")
        artifact = fits[0]
    return spec, artifact, target.describe("runtime", spec, []).versions


def _installed(system: System, target: Target) -> list[tuple[str, Artifact]]:
    found = []
    for name, plugin in registry.plugins("runtime").items():
        if plugin.missing:
            continue
        try:
            answers = target.describe("runtime", name, system.artifacts).answers
        except ConfigError:  # installed but broken: nobody asked for it
            continue
        found += [(name, a) for a, t in zip(system.artifacts, answers, strict=True) if not isinstance(t, Unsupported)]
    return found


def _spread(total: int, count: int) -> set[int]:
    """`count` positions spread evenly over `total`."""
    return {int(i) for i in np.linspace(0, max(0, total - 1), min(count, total)).round()}


def _first_nan(taps: Taps) -> str | None:
    """The first tap that holds a NaN. Infinities may be right: the logarithm of zero is one."""
    return next((t for t, a in taps.items() if np.isnan(a).any()), None)


def _names(what: Recording, paths: Sequence[Path]) -> dict[Path, str]:
    """The name of each clip: a file of the set that is recorded over keeps the name it was recorded under."""
    try:
        entries = json.loads((what.root / what.system.name / golden.MANIFEST).read_bytes())["clips"]
        old = {(what.root / e["clip"]["file"]).resolve(): str(e["name"]) for e in reversed(entries)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        old = {}  # no set there, or one that can't be read: it is replaced
    named = {p: old.get(p.resolve()) or audio.name_of(p, what.folder) for p in paths}
    seen: dict[str, Path] = {}
    for path, name in named.items():
        if (first := seen.setdefault(name, path)) != path:
            raise ConfigError(f"{first} and {path} would both be recorded as {name!r}", "rename or remove one of them")
    return named


def record(what: Recording, target: Target, progress: Progress) -> tuple[Path, dict[str, Any]]:
    """Record a set; returns its manifest's path and the manifest. AnchorError where the anchor disagrees."""
    system = what.system
    if not system.artifacts:
        why = next(iter(system.not_built), "no artifacts")
        hint = how_to_build(system.folder) or "put its files there, or mend `file` in system.toml"
        raise ConfigError(f"{system.name} has nothing to record from: {why}", hint)
    paths = audio.find(what.folder)
    made = _Set(met=list(vectors.reproduce(system)))
    bounder = bounded_by(system, ["float32", *networks.precisions(system.artifacts)], target)
    spec, artifact, versions = _recorder(what, target)
    anchor_taps: frozenset[str] = frozenset()
    anchor_versions: Mapping[str, str] = {}
    arithmetic: Arithmetic = "float32"
    if what.anchor is not None:
        if registry.parse(what.anchor)[0] == "reference":
            raise ConfigError("'reference' is the oracle itself: it can prove nothing", "name another, or --unanchored")
        answer, arithmetic, anchor_versions = _ask(target, what.anchor, system.frontend)
        if isinstance(answer, Unsupported):
            raise ConfigError(f"{what.anchor} can't be the anchor: {answer.reason}", "name another, or --unanchored")
        anchor_taps = answer
    named = _names(what, paths)
    inner = _spread(len(paths), what.layers)
    done = 0
    for part in chunked(enumerate(paths), CHUNK):
        clips = [audio.read(p, named[p], system.frontend) for _, p in part]
        numbers = [i for i, _ in part]
        oracle = [bounds_of(c, system.frontend, get_args(Arithmetic)) for c in clips]
        for clip, (intervals, _) in zip(clips, oracle, strict=True):
            if (tap := _first_nan({t: intervals["float32"][t].value for t in system.frontend.taps})) is not None:
                raise ConfigError(
                    f"the oracle gives NaN at {tap} for {clip.name}",
                    "nothing was recorded; has the recipe a logarithm of zero, or a clip without sound?",
                )
        taps = [frozenset(artifact.taps) if i in inner else system.answers & set(artifact.taps) for i in numbers]
        job = Job(
            system=system.name, frontend=system.frontend, clips=clips,
            backends=[what.anchor] if what.anchor is not None else [],
            models=[(spec, artifact), *([(networks.RUNTIME, bounder)] if bounder is not None else [])],
            references=[reference for _, reference in oracle],
            taps=[wanted | (networks.wanted(wanted, bounder) if bounder is not None else set()) for wanted in taps],
            moved=[networks.moved(system.frontend, x["float32"][system.frontend.output]) for x, _ in oracle],
        )  # fmt: skip
        (result,) = target.run([job])
        if what.anchor is not None:
            _agree(what.anchor, anchor_taps, arithmetic, system, clips, oracle, result.features[what.anchor], made)
        outputs = result.activations["", spec, artifact.precision]
        if isinstance(outputs, Failure):
            raise ModelError(f"{spec} failed while recording: {outputs.reason}", "record from another: --runtime")
        for clip, output in zip(clips, outputs, strict=True):
            if output.unsupported:
                raise ModelError(
                    f"{spec} can't record {clip.name}: the {artifact.format} file {output.unsupported}",
                    "record from another: --runtime",
                )
        halves = halves_of(result, bounder)
        if bounder is not None:
            _same_network(bounder, result, spec, artifact)
        for (_, path), clip, (intervals, _), output, half in zip(part, clips, oracle, outputs, halves, strict=True):
            inner_taps = {t: output.taps[t] for t in system.taps if t in output.taps and t != system.decision.source}
            if (tap := _first_nan(inner_taps)) is not None:
                raise ModelError(
                    f"{spec} gives NaN at {tap} for {clip.name}", "nothing was recorded; look at the model's weights"
                )
            _add(made, what, path, clip, intervals, output.taps, half)
        done += len(part)
        progress(system.name, done, len(paths))
    manifest = _manifest(what, spec, artifact, versions, anchor_versions, made)
    try:
        return golden.commit(what.root, system.name, manifest, made.files), manifest
    except OSError as e:
        raise ConfigError(f"goldens can't be written to {what.root}: {e.strerror}", "name another: --out DIR") from None


def _agree(
    anchor: str,
    taps: frozenset[str],
    arithmetic: Arithmetic,
    system: System,
    clips: Sequence[Clip],
    oracle: Sequence[Any],
    outputs: Any,
    made: _Set,
) -> None:
    """Hold the anchor to the oracle's bounds of its class of arithmetic, at every tap that it gives."""
    if isinstance(outputs, Failure):
        raise AnchorError(f"the anchor {anchor} failed: {outputs.reason}", "nothing was recorded")
    for clip, (intervals, _), output in zip(clips, oracle, outputs, strict=True):
        for tap in system.frontend.taps:
            if tap not in taps:
                continue
            x = intervals[arithmetic][tap]
            judged = compare.compare(output.taps.get(tap), x.value, x.lo, x.hi, system.frontend.dtype(tap))
            if judged.outcome != "pass":
                raise AnchorError(
                    f"{anchor} disagrees with the oracle at {tap} of {clip.name}: {judged.message}",
                    "nothing was recorded; does the recipe say what really runs?",
                )
            made.worst[tap] = max(made.worst.get(tap, 0.0), judged.ratio or 0.0)


def _same_network(bounder: Artifact, result: JobResult, spec: str, artifact: Artifact) -> None:
    """Bounds hold for what they were derived from: the graph must give, in float64, what was recorded."""
    name = Path(bounder.path).name
    recorded, graph = (
        result.activations["", s, a.precision] for s, a in ((spec, artifact), (networks.RUNTIME, bounder))
    )
    assert not isinstance(recorded, Failure)
    assert not isinstance(graph, Failure)
    for clip, right, output in zip(result.job.clips, recorded, graph, strict=True):
        for tap, value in right.taps.items():
            half = output.taps.get(networks.name(tap, "float32", "isolated"))
            if half is None or not np.isfinite(value).all():
                continue  # nothing is recorded, or it is an infinity that the network means
            x = networks.interval(value, networks.stored(value, half))
            judged = compare.compare(output.taps.get(tap), x.value, x.lo, x.hi, "float64")
            if judged.outcome != "pass":
                raise AnchorError(
                    f"{name} isn't the network that {spec} computes: {tap} of {clip.name}: {judged.message}",
                    "nothing was recorded; export both from the same weights",
                )


def _add(
    made: _Set, what: Recording, path: Path, clip: Clip, intervals: Any, taps: Taps, halves: Mapping[str, Array]
) -> None:
    """One clip's files and its entry in the manifest."""
    system, root = what.system, what.root
    units = golden.units(system.frontend)
    features = packed.pack_features(intervals["float32"], intervals["float64-rounded"])
    model = {t: _kept(a) for t, a in sorted(taps.items()) if t != MODEL_INPUT}
    model |= {
        n: packed.rounded_up(networks.stored(model[n.partition(":")[0]], half))
        for n, half in sorted(halves.items()) if n.partition(":")[0] in model
    }  # fmt: skip
    entry: dict[str, Any] = {
        "name": clip.name,
        "samples_sha256": clip.sha256,
        "samples": len(clip.samples),
        "rate": clip.rate,
    }
    sound = path.read_bytes()
    inside = path.resolve().is_relative_to((root / "clips").resolve())
    where = (
        path.resolve().relative_to(root.resolve()).as_posix()
        if inside
        else "clips/" + golden.slug(clip.name, sound, path.suffix.lower())
    )
    if not inside:
        made.files[where] = sound
    entry["clip"] = {"file": where, "sha256": golden.sha256(sound)}
    for part, arrays, folder in (
        ("features", features, f"features/{system.frontend.digest[:16]}"), ("model", model, system.name),
    ):  # fmt: skip
        data = packed.pack(arrays)
        file = f"{folder}/{golden.slug(clip.name, data, '.npz')}"
        made.files[file] = data
        entry[part] = {"file": file, "sha256": golden.sha256(data), "arrays": golden.describe_arrays(arrays, units)}
    entry["regenerated"] = {
        t: golden.regenerated_digest(x.value) for t, x in intervals["float32"].items() if t in REGENERATED_TAPS
    }
    source = system.decision.source
    if source not in model:
        raise ModelError(f"the runtime gave no {source} for {clip.name}", "it must return every tap that is mapped")
    logits = system.decision.logits(model[source])
    if logits.size != len(system.labels):
        raise ModelError(
            f"{system.name} has {len(system.labels)} labels but {logits.size} logits at {source}",
            "mend `labels` in system.toml: one for each output, in order",
        )
    choice = compare.decide(logits, system.labels)
    if choice is None:
        raise ModelError(
            f"{source} has logits that aren't finite (NaN or infinite) for {clip.name}",
            "nothing was recorded; look at the model's weights",
        )
    entry["decision"] = {"label": choice.label, "margin": choice.margin}
    made.clips.append(entry)


def _kept(a: Array) -> Array:
    """Activations as stored: float64 ones keep float32's precision of what float32 runtimes are judged by."""
    return a.astype(np.float32) if a.dtype == np.float64 else a


def _manifest(
    what: Recording,
    spec: str,
    artifact: Artifact,
    versions: Mapping[str, str],
    anchor_versions: Mapping[str, str],
    made: _Set,
) -> dict[str, Any]:
    system = what.system
    frontend = system.frontend
    return {
        "format": golden.FORMAT,
        "system": system.name,
        "frontend": fe.to_plain(frontend),
        "frontend_digest": frontend.digest,
        "labels": list(system.labels),
        "decision": {"rule": system.decision.rule, "source": system.decision.source},
        "anchor": {
            "backend": what.anchor or ("published vectors" if made.met else "none"),
            "versions": dict(anchor_versions),
            "worst_error_over_bound": {t: round(r, 4) for t, r in sorted(made.worst.items())},
            **({"vectors": vectors.about(system, made.met)} if made.met else {}),
        },
        "recorder": {
            "runtime": spec,
            "format": artifact.format,
            "precision": artifact.precision,
            "model_sha256": artifact.sha256,
            "versions": dict(versions),
        },
        "environment": provenance.environment({spec: versions}),
        "commit": provenance.commit(system.folder),
        "command": what.command,
        "seed": 0,
        "recorded": time.strftime("%Y-%m-%d"),
        "clips": sorted(made.clips, key=lambda e: str(e["name"])),
    }
