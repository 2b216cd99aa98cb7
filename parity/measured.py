"""What a run measures of its targets beside the verdicts: time, memory, the machine. Measurements, never verdicts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity import provenance
from parity.expected import Expected
from parity.plan import Plan
from parity.protocols import Failure, JobResult, Outputs, Target

WARM_UP = 1
"""Clips whose time isn't counted: the first of each plugin and file, which fills caches."""

Key = tuple[str, str, str, str, str]
"""stage, plugin, system, target, precision."""


@dataclass
class _Times:
    """Of a plugin with a system's clips: in all, the least of a frame, and clip by clip."""

    clips: int = 0
    seconds: float = 0.0
    frame_ms: float = math.inf
    warmed: int = 0
    alone: list[tuple[float, int, float]] = field(default_factory=list)
    """Seconds, frames and seconds of sound of each clip that was computed by itself, after warming up."""


class Times:
    """Seconds by stage, plugin, system and target."""

    def __init__(self) -> None:
        self._of: dict[Key, _Times] = defaultdict(_Times)
        self._threads: dict[str, int] = {}

    def judged(self, system: str, clips: int, seconds: float) -> None:
        """What judging took, here."""
        entry = self._of["judge", "", system, "", ""]
        entry.clips += clips
        entry.seconds += seconds

    def add(self, p: Plan, result: JobResult, part: Sequence[Expected], whole: bool) -> None:
        """The times of a job; `whole`: each clip was computed at once, not in chunks."""
        target, system = p.target, p.system
        self._threads[target.name] = target.threads
        for spec, outputs in result.features.items():
            self._outputs(("features", spec, system.name, target.name, ""), outputs, part, whole and target.apart)
        for (_, spec, precision), outputs in result.activations.items():
            # Inner layers are read from a second copy of a network: its time isn't the deployed one's.
            alone = [whole and not set(e.model) - system.answers for e in part]
            self._outputs(("model", spec, system.name, target.name, precision), outputs, part, alone)

    def _outputs(self, key: Key, outputs: Outputs, part: Sequence[Expected], alone: bool | Sequence[bool]) -> None:
        if isinstance(outputs, Failure):
            return
        entry = self._of[key]
        each = [alone] * len(part) if isinstance(alone, bool) else alone
        for e, output, by_itself in zip(part, outputs, each, strict=False):
            entry.clips += 1
            entry.seconds += output.seconds
            if output.unsupported:
                continue
            # Raw audio has no frames: a clip of it counts as one. The least is what a busy machine disturbs least.
            frames = len(e.reference) if e.reference.ndim > 1 else 1
            entry.frame_ms = min(entry.frame_ms, 1e3 * output.seconds / frames)
            if e.of_network:
                continue  # no sound: it is no part of real time
            if by_itself and entry.warmed < WARM_UP:
                entry.warmed += 1
            elif by_itself:
                entry.alone.append((output.seconds, frames, len(e.clip.samples) / e.clip.rate))

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row a key, sorted; milliseconds of a clip and of a frame as median and 95th percentile."""
        for (stage, plugin, system, target, precision), t in sorted(self._of.items()):
            row: dict[str, Any] = {"stage": stage, "plugin": plugin, "system": system}
            row |= {"clips": t.clips, "seconds": round(t.seconds, 6)}
            row |= {"target": target} if target else {}
            row |= {"precision": precision} if precision else {}
            row |= {"frame_ms": t.frame_ms} if math.isfinite(t.frame_ms) else {}
            if t.alone:
                seconds, frames, sound = np.array(t.alone).T
                row |= {
                    "clip_ms": [round(1e3 * q, 6) for q in _middle(seconds)],
                    "frame_median_ms": round(1e3 * _middle(seconds / frames)[0], 6),
                    "frame_p95_ms": round(1e3 * _middle(seconds / frames)[1], 6),
                    "rtf": float(f"{np.median(seconds / sound):.4g}"),
                    "warm_up": t.warmed, "threads": self._threads[target],
                }  # fmt: skip
            yield row


def _middle(values: Any) -> tuple[float, float]:
    """Median and 95th percentile."""
    return float(np.median(values)), float(np.quantile(values, 0.95))


def of_plugins(targets: Sequence[Target]) -> list[dict[str, Any]]:
    """Seconds to load plugins and to open models, and the most memory that each process had."""
    return [row for target in targets for row in (*target.timings, *target.memory())]


def environments(targets: Sequence[Target], versions: Mapping[str, Mapping[str, Mapping[str, str]]]) -> dict[str, Any]:
    """This machine's environment; under `targets` that of each, in their order.

    `versions`: target -> plugin -> library -> version.
    """
    found = {target.name: _of(target, versions.get(target.name, {})) for target in targets}
    own = {spec: v for target in targets if target is target.trusted for spec, v in versions[target.name].items()}
    here = provenance.environment(own, targets[0].trusted.threads)
    return here | {"targets": found}


def _of(target: Target, versions: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    if target is target.trusted:
        return provenance.environment(versions, target.threads)
    facts = target.facts()
    found = provenance.environment(versions, target.threads, facts)
    told = {k: facts[k] for k in ("governor", "memory_bytes", "release") if facts.get(k) is not None}
    temperatures = [f["temperature_c"] for f in (facts, target.facts(now=True)) if f.get("temperature_c") is not None]
    link = target.link()
    found |= told | {"address": link.pop("address"), "emulated": bool(facts["cpu"].get("emulated")), "link": link}
    return found | ({"temperature_c": temperatures} if temperatures else {})
