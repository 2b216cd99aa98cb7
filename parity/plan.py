"""What a run will compare: systems x backends x runtimes x precisions, and what it can't, with the reason."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from parity import registry, system
from parity.errors import ConfigError, MissingExtra
from parity.protocols import Arithmetic, Artifact, Description, Tap, Target, Unsupported
from parity.records import Skipped
from parity.system import System


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What the user asked for; empty means everything committed and installed."""

    systems: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    audio: Path | None = None
    golden: Path | None = None
    labels_from_folders: bool = False
    examples: int = 0
    seed: int = 0
    streaming: bool = False
    """In chunks, with the state carried over: the files that `[streaming]` in system.toml names."""
    layers: int = 3
    """Clips without a golden whose inner layers are compared too; the logits are compared for all."""
    keep: Literal["failing", "all", "none"] = "failing"
    """Whose arrays are kept."""


@dataclass
class Plan:
    """One system's part of a run, on one target."""

    system: System
    backends: dict[str, frozenset[Tap]] = field(default_factory=dict)
    """Backend -> the taps that it can give."""
    models: list[tuple[str, Artifact]] = field(default_factory=list)
    kernels: list[tuple[str, Artifact]] = field(default_factory=list)
    """Runtimes that say what a file of `models` computes, where system.toml names one."""
    arithmetic: dict[str, Arithmetic] = field(default_factory=dict)
    """Backend -> the class of arithmetic whose bounds it is held to; float32 where it isn't said."""
    on: Target | None = None
    """Where it runs; None for a plan that nothing runs of."""

    @property
    def target(self) -> Target:
        """Where it runs."""
        assert self.on is not None
        return self.on

    @property
    def pairs(self) -> list[tuple[str, str, str]]:
        """(backend, runtime, precision) of each pair."""
        return [(b, r, a.precision) for b in self.backends for r, a in self.models]


def _specs(kind: registry.Kind, asked: Sequence[str], target: Target) -> list[str]:
    """The plugins asked for, or all that are installed there, without those that take part only when they are named."""
    lacking = target.plugins(kind)
    if not asked:
        known = registry.plugins(kind)
        return [name for name, lacks in lacking.items() if not lacks and not (name in known and known[name].by_name)]
    here = target is target.trusted
    for spec in asked:
        name = registry.parse(spec)[0]
        if name in lacking and not here:
            if lacks := lacking[name]:
                raise target.needs(kind, name, lacks)
            if name == "recorded":
                raise ConfigError(f"a dump is read here, not on {target.name}", f"take --target {target.name} away")
        elif (registry.find if here else registry.named)(kind, spec).internal:
            raise ConfigError(f"{spec!r} derives bounds and isn't compared", "see `parity list` for what is")
    return list(dict.fromkeys(asked))


def _each_once(systems: Sequence[System]) -> list[System]:
    """ConfigError where two systems have one name: goldens, rules and reports go by it."""
    by_folder = {s.folder.resolve(): s for s in systems}
    by_name: dict[str, System] = {}
    for s in by_folder.values():
        if (other := by_name.setdefault(s.name, s)) is not s:
            raise ConfigError(
                f"two systems are called {s.name!r}: {other.folder} and {s.folder}", "rename one in its system.toml"
            )
    return list(by_name.values())


@dataclass
class Planned:
    """What a run compares, on each of its targets."""

    plans: list[Plan]
    skipped: list[Skipped]
    versions: dict[str, dict[str, Mapping[str, str]]]
    """Target -> plugin -> library -> version, as found there."""


def everywhere(selection: Selection, targets: Sequence[Target]) -> Planned:
    """The plans of every target, made side by side; those of a system are one after another, in the targets' order."""
    pool = ThreadPoolExecutor(len(targets), thread_name_prefix="parity-plan")
    try:
        # Read once, and here: msgspec must not learn a type in two threads at a time.
        systems = _each_once(system.find(selection.systems))
        made = list(pool.map(lambda target: make(selection, target, systems), targets))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # who waits for a plugin is freed by the end of its target
    planned = Planned([], [], {})
    for target, (plans, skipped, versions) in zip(targets, made, strict=True):
        planned.plans += plans
        planned.versions[target.name] = versions
        if not any(p.pairs for p in plans) and len(targets) > 1:
            skipped.append(Skipped(system="*", reason=f"nothing is compared on {target.name}", asked=True))
        # One that nothing but the target sets apart would be listed once for each.
        same = target is target.trusted and len(targets) == 1
        planned.skipped += [s if same else msgspec.structs.replace(s, target=target.name) for s in skipped]
    order = {name: i for i, name in enumerate(dict.fromkeys(p.system.name for p in planned.plans))}
    planned.plans.sort(key=lambda p: order[p.system.name])
    return planned


def make(
    selection: Selection, target: Target, systems: Sequence[System] | None = None
) -> tuple[list[Plan], list[Skipped], dict[str, Mapping[str, str]]]:
    """Plans, what is skipped, and the versions of every plugin, as its target tells; `systems` as they were read."""
    systems = _each_once(system.find(selection.systems)) if systems is None else systems
    backends = _specs("backend", selection.backends, target)
    runtimes = _specs("runtime", selection.runtimes, target)
    for kind, specs in (("backend", backends), ("runtime", runtimes)):
        if not specs:
            there = "" if target is target.trusted else f" on {target.name}"
            hint = f"see `parity target check {target.name}`" if there else "see `parity list` for what to install"
            raise ConfigError(f"no {kind} is installed{there}", hint)
    target.load([("backend", s) for s in backends] + [("runtime", s) for s in runtimes])
    skipped: list[Skipped] = []
    if selection.streaming:
        none = [s for s in systems if s.streaming is None]
        reason, asked = "no [streaming] in its system.toml", bool(selection.systems)
        skipped += [Skipped(system=s.name, reason=reason, asked=asked) for s in none]
        systems = [s for s in systems if s.streaming is not None]
    plans = [Plan(s, on=target) for s in systems]
    versions: dict[str, Mapping[str, str]] = {}
    by_name = bool(selection.systems)
    for spec in backends:
        told = _describe(target, "backend", spec, [p.system.frontend for p in plans], selection.backends, skipped)
        if told is None:
            continue
        versions[spec] = told.versions
        classes = told.arithmetic or ["float32"] * len(plans)
        for plan, answer, arithmetic in zip(plans, told.answers, classes, strict=True):
            if isinstance(answer, Unsupported):
                asked = by_name and bool(selection.backends)
                skipped.append(Skipped(system=plan.system.name, backend=spec, reason=answer.reason, asked=asked))
            else:
                plan.backends[spec] = _complete(spec, plan, answer)
                plan.arithmetic[spec] = arithmetic
    files = {p.system.name: _files(p.system, selection.streaming) for p in plans}
    artifacts = [(p, a) for p in plans for a in files[p.system.name][0] if _wanted(a, selection.precisions)]
    for spec in runtimes:
        told = _describe(target, "runtime", spec, [a for _, a in artifacts], selection.runtimes, skipped)
        if told is None:
            continue
        versions[spec] = {**versions.get(spec, {}), **told.versions}  # a backend may have the same name
        found: dict[tuple[str, str], Artifact] = {}
        every_part = by_name and bool(selection.runtimes and selection.precisions)
        reads = {a.format for (_, a), t in zip(artifacts, told.answers, strict=True) if not isinstance(t, Unsupported)}
        for (plan, artifact), answer in zip(artifacts, told.answers, strict=True):
            if isinstance(answer, Unsupported):
                if artifact.format in reads:  # a file of a kind that it does run; others go without saying
                    skipped.append(Skipped(system=plan.system.name, runtime=spec, precision=artifact.precision,
                                           reason=answer.reason, asked=every_part))  # fmt: skip
                continue
            key = (plan.system.name, artifact.precision)
            if (first := found.setdefault(key, artifact)) is artifact:
                plan.models.append((spec, artifact))
                continue
            # A pair is (backend, runtime, precision): a second file would stand in the first one's place.
            reason = f"{spec} already runs the {first.format} file in {first.precision}, so not {artifact.format}"
            skipped.append(Skipped(system=key[0], runtime=spec, precision=key[1], reason=reason, asked=True))
        for plan in plans:
            if plan.system.name not in {name for name, _ in found}:
                of = f" in {', '.join(selection.precisions)}" if selection.precisions else ""
                asked = by_name and bool(selection.runtimes)
                reason = f"{plan.system.name} has no model{of} that {spec} can run"
                skipped.append(Skipped(system=plan.system.name, runtime=spec, reason=reason, asked=asked))
    for plan in plans:
        _refuse_unread(plan.system, runtimes)
        add_kernels(plan, target.trusted, skipped)
    # Of a system that was named every file is asked for, unless runtimes were named: then theirs are.
    every = by_name and not selection.runtimes
    for plan in plans:
        skipped += [
            Skipped(system=plan.system.name, reason=reason, asked=every) for reason in files[plan.system.name][1]
        ]
    return plans, _asked(selection, plans, skipped), versions


def _describe(
    target: Target, kind: str, spec: str, questions: Sequence[Any], named: Sequence[str], skipped: list[Skipped]
) -> Description | None:
    """What a plugin says of itself. One that is installed but broken is skipped, unless it was named."""
    try:
        return target.describe(kind, spec, questions)
    except ConfigError as e:
        if named:
            raise
        skipped.append(Skipped(system="*", reason=e.message, **{kind: spec}))  # type: ignore[arg-type]
        return None


def _refuse_unread(of: System, runtimes: Sequence[str]) -> None:
    """ConfigError for a file of a format that nothing reads: a typo, unless a plugin from elsewhere may read it."""
    plugins = registry.plugins("runtime")
    own = all(plugins[name].reads for spec in runtimes if (name := registry.parse(spec)[0]) in plugins)
    if not own or not {registry.parse(spec)[0] for spec in runtimes} <= plugins.keys():
        return
    known = registry.FORMATS
    for a in [*of.artifacts, *of.unbuilt]:
        if a.format not in known:
            close = difflib.get_close_matches(a.format, known, n=1)
            raise ConfigError(
                f"{of.name}: nothing reads the format {a.format!r} of {Path(a.path).name}",
                f"did you mean {close[0]!r}?" if close else f"formats: {', '.join(known)}",
            )


def add_kernels(plan: Plan, target: Target, skipped: list[Skipped]) -> None:
    """The runtimes that say what a plan's files compute; what can't be held to them is told.

    ConfigError where system.toml names one that can't run the file.
    """
    held = {(a.kernels, a.key): a for spec, a in plan.models if a.kernels is not None and a.kernels != spec}
    stands = {(spec, a.precision): a.key for spec, a in plan.models}
    for (spec, _), artifact in held.items():
        assert spec is not None
        what = f"{artifact.format} {artifact.precision}"
        if stands.setdefault((spec, artifact.precision), artifact.key) != artifact.key:
            # A pair is (backend, runtime, precision): it would be held to the other file's answers.
            reason = f"{what} can't be held to {spec}, which another file in {artifact.precision} is held to"
            skipped.append(Skipped(system=plan.system.name, precision=artifact.precision, reason=reason, asked=True))
            continue
        try:
            registry.find("runtime", spec)
        except MissingExtra as e:
            reason = f"{what} can't be held to the kernels of {spec}: {e.message}"
            skipped.append(Skipped(system=plan.system.name, precision=artifact.precision, reason=reason))
            continue
        told = _describe(target, "runtime", spec, [artifact], (), skipped)
        if told is None:
            continue
        if isinstance(told.answers[0], Unsupported):
            raise ConfigError(
                f"{plan.system.name}: the kernels of {spec!r} can't say what its {what} file computes: "
                f"{told.answers[0].reason}",
                "name another runtime as `kernels` in system.toml, or take it out",
            )
        plan.kernels.append((spec, artifact))


def _complete(spec: str, plan: Plan, taps: frozenset[Tap]) -> frozenset[Tap]:
    """The taps that a backend declares. ConfigError where the features themselves aren't among them."""
    frontend = plan.system.frontend
    if frontend.output not in taps or not taps <= set(frontend.taps):
        raise ConfigError(
            f"backend {spec!r} declares {', '.join(sorted(taps)) or 'no taps'} for {plan.system.name}",
            f"its taps() must be stages of the recipe, and {frontend.output} among them",
        )
    return taps


def _asked(selection: Selection, plans: Sequence[Plan], skipped: list[Skipped]) -> list[Skipped]:
    """What is skipped; what was named and is compared nowhere counts as asked for."""
    pairs = [pair for p in plans for pair in p.pairs]
    # By kind: a backend and a runtime may have one name.
    named = {("backend", b) for b in selection.backends} | {("runtime", r) for r in selection.runtimes}
    unused = named - {key for b, r, _ in pairs for key in (("backend", b), ("runtime", r))}
    out = [
        msgspec.structs.replace(s, asked=s.asked or bool({("backend", s.backend), ("runtime", s.runtime)} & unused))
        for s in skipped
    ]
    found = {precision for _, _, precision in pairs}
    missing = [q for q in selection.precisions if q not in found]
    return out + [Skipped(system="*", precision=q, reason=f"no model in {q} is compared", asked=True) for q in missing]


def _files(of: System, streaming: bool) -> tuple[Sequence[Artifact], Sequence[str]]:
    """The model files of a system that run on whole clips, or on streams; and what is said of those not built."""
    whole = of.streaming if streaming and of.streaming is not None else of
    return whole.artifacts, whole.not_built


def _wanted(artifact: Artifact, precisions: Sequence[str]) -> bool:
    return not precisions or artifact.precision in precisions


Ask = Callable[[str, Sequence[Artifact]], Sequence[object]]
"""Asks a runtime which of some artifacts it supports: an `Unsupported` where not."""


def asking(target: Target) -> Ask:
    """Asks where the runtime would run."""
    return lambda spec, artifacts: target.describe("runtime", spec, artifacts).answers


def machine_of(target: Target) -> str:
    """A target's architecture as programs there have it (32-bit ones on a 64-bit kernel: armv8l), or ''."""
    facts = target.facts()
    machine = str(facts.get("machine") or "")
    return "armv8l" if machine == "aarch64" and facts.get("bits") == 32 else machine


def reference(plan: Plan, ask: Ask) -> tuple[str, Artifact]:
    """Runtime and model that activations are judged against where there is no golden.

    The one that system.toml names, if it is installed and its file is built; else PyTorch, where the trained weights
    are among the files; else the first of the run's own.
    ConfigError where the named one can run none of the system's files.
    """
    wanted, artifacts = plan.system.reference, plan.system.artifacts
    known = None if wanted is None else registry.plugins("runtime").get(registry.parse(wanted)[0])
    if wanted is not None and (known is None or not known.missing):
        registry.find("runtime", wanted)
        fits = [a for a, t in zip(artifacts, ask(wanted, artifacts), strict=True) if not isinstance(t, Unsupported)]
        if fits:
            return wanted, next((a for a in fits if a.precision == "float32"), fits[0])
        if not plan.system.not_built:  # else its file may be among those
            raise ConfigError(
                f"model.reference names {wanted!r}, which can run no file of {plan.system.name}", "name another"
            )
    trained = [a for a in artifacts if a.format == "torch"]
    if wanted is None and trained and not registry.plugins("runtime")["torch"].missing:
        fits = [a for a, t in zip(trained, ask("torch", trained), strict=True) if not isinstance(t, Unsupported)]
        if fits:
            # The trained network is there, in double: no export of it is judged by itself, and neither is it.
            return "torch:dtype=float64", fits[0]
    if not plan.models:
        raise ConfigError(f"{plan.system.name} has no model to judge by", "install a runtime: see `parity list`")
    return next((m for m in plan.models if m[1].precision == "float32"), plan.models[0])
