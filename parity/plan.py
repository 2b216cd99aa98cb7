"""What a run will compare: systems x backends x runtimes x precisions, and what it can't, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from parity import registry, system
from parity.errors import ConfigError
from parity.protocols import Artifact, Tap, Target, Unsupported
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
    layers: int = 3
    """Clips without a golden whose inner layers are compared too; the logits are compared for all."""


@dataclass
class Plan:
    """One system's part of a run."""

    system: System
    backends: dict[str, frozenset[Tap]] = field(default_factory=dict)
    """Backend -> the taps that it can give."""
    models: list[tuple[str, Artifact]] = field(default_factory=list)

    @property
    def pairs(self) -> list[tuple[str, str, str]]:
        """(backend, runtime, precision) of each pair."""
        return [(b, r, a.precision) for b in self.backends for r, a in self.models]


def _specs(kind: registry.Kind, asked: Sequence[str]) -> list[str]:
    """The plugins asked for, or all that are installed; the oracle takes part only when it is named."""
    if asked:
        for spec in asked:
            registry.find(kind, spec)
        return list(dict.fromkeys(asked))
    return [name for name, p in registry.plugins(kind).items() if not p.missing and name != "reference"]


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


def make(selection: Selection, target: Target) -> tuple[list[Plan], list[Skipped], dict[str, Mapping[str, str]]]:
    """Plans, what is skipped, and the versions of every plugin, as its target tells."""
    systems = _each_once(system.find(selection.systems))
    backends, runtimes = _specs("backend", selection.backends), _specs("runtime", selection.runtimes)
    for kind, specs in (("backend", backends), ("runtime", runtimes)):
        if not specs:
            raise ConfigError(f"no {kind} is installed", "see `parity list` for what to install")
    target.load([("backend", s) for s in backends] + [("runtime", s) for s in runtimes])
    plans = [Plan(s) for s in systems]
    skipped: list[Skipped] = []
    versions: dict[str, Mapping[str, str]] = {}
    by_name = bool(selection.systems)
    for spec in backends:
        told = target.describe("backend", spec, [p.system.frontend for p in plans])
        versions[spec] = told.versions
        for plan, answer in zip(plans, told.answers, strict=True):
            if isinstance(answer, Unsupported):
                asked = by_name and bool(selection.backends)
                skipped.append(Skipped(system=plan.system.name, backend=spec, reason=answer.reason, asked=asked))
            else:
                plan.backends[spec] = answer
    artifacts = [(p, a) for p in plans for a in p.system.artifacts if _wanted(a, selection.precisions)]
    for spec in runtimes:
        told = target.describe("runtime", spec, [a for _, a in artifacts])
        versions[spec] = told.versions
        found: set[str] = set()
        for (plan, artifact), answer in zip(artifacts, told.answers, strict=True):
            if not isinstance(answer, Unsupported):
                plan.models.append((spec, artifact))
                found.add(plan.system.name)
        for plan in plans:
            if plan.system.name not in found:
                of = f" in {', '.join(selection.precisions)}" if selection.precisions else ""
                asked = by_name and bool(selection.runtimes)
                reason = f"{plan.system.name} has no model{of} that {spec} can run"
                skipped.append(Skipped(system=plan.system.name, runtime=spec, reason=reason, asked=asked))
    for plan in plans:
        skipped += [Skipped(system=plan.system.name, reason=reason) for reason in plan.system.not_built]
    return plans, skipped, versions


def _wanted(artifact: Artifact, precisions: Sequence[str]) -> bool:
    return not precisions or artifact.precision in precisions


def reference(plan: Plan) -> tuple[str, Artifact]:
    """Runtime and model that activations are judged against where there is no golden.

    The one that system.toml names, if it is installed; else the first of the run's own.
    """
    wanted = plan.system.reference
    if wanted is not None:
        name, _ = registry.parse(wanted)
        known = registry.plugins("runtime").get(name)
        if known is None or not known.missing:
            for artifact in plan.system.artifacts:
                if artifact.format == name or (known is None and artifact.precision == "float32"):
                    return wanted, artifact
    if not plan.models:
        raise ConfigError(f"{plan.system.name} has no model to judge by", "install a runtime: see `parity list`")
    return next((m for m in plan.models if m[1].precision == "float32"), plan.models[0])
