"""Where a system's part of a run stands beside what was accepted: what drifted, flipped, got lost, grew or slowed down.

Two baselines are compared, the accepted one and what the run would be accepted as; nothing here reads or writes a file.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from parity import localize, provenance, registry, settings
from parity.baseline import Baseline, Key, Row
from parity.records import LOCAL, Run

KINDS = ("drift", "flips", "accuracy", "coverage", "size", "latency", "baseline")
"""Kinds of findings, the gravest first."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the gate has to say."""

    kind: str
    system: str
    backend: str = ""
    runtime: str = ""
    precision: str = ""
    target: str = ""
    path: str = ""
    tap: str = ""
    text: str
    was: float | None = None
    now: float | None = None
    fails: bool = True

    @property
    def order(self) -> tuple[Any, ...]:
        """The worst first."""
        growth = (self.now or 0.0) / self.was if self.was else math.inf
        where = (self.system, self.target, self.backend, self.runtime, self.precision, self.path, self.tap, self.text)
        return not self.fails, KINDS.index(self.kind), -growth, where


@dataclass(frozen=True)
class Asked:
    """What a run was asked for: a part that wasn't is no loss."""

    backends: Sequence[str] = ()
    runtimes: Sequence[str] = ()
    precisions: Sequence[str] = ()

    def covers(self, row: Row) -> bool:
        """Whether a row belongs to what was asked for."""
        return (
            (not row.backend or self._wanted("backend", row.backend, self.backends))
            and (not row.runtime or self._wanted("runtime", row.runtime, self.runtimes))
            and (not row.precision or not self.precisions or row.precision in self.precisions)
        )

    def _wanted(self, kind: registry.Kind, spec: str, named: Sequence[str]) -> bool:
        if named:
            return spec in named
        known = self._plugins[kind].get(spec)  # not one with options: those take part only where they are named
        return ":" not in spec and (known is None or not known.by_name)

    @cached_property
    def _plugins(self) -> Mapping[registry.Kind, Mapping[str, registry.Plugin]]:
        return {"backend": registry.plugins("backend"), "runtime": registry.plugins("runtime")}


def asked_of(run: Run) -> Asked:
    """What a run was asked for, from its records."""
    return Asked(*(tuple(run.asked.get(k, ())) for k in ("backends", "runtimes", "precisions")))


@dataclass(frozen=True)
class Standing:
    """Where a system's part of a run stands: the baselines that speak for its environment, or the closest other one."""

    now: Baseline
    target: str
    held: Sequence[Baseline]
    closest: Baseline | None
    """Of the same target: what it compared is to be compared again."""
    beside: Baseline | None
    """The closest of any target, where there is none of this one: it says in what this environment differs."""
    differs: Sequence[str]

    @property
    def state(self) -> str:
        """held, new (baselines of other environments only), or none."""
        return "held" if self.held else "none" if self.closest is None and self.beside is None else "new"

    def plain(self) -> dict[str, Any]:
        """As the records have it."""
        closest = self.closest or self.beside
        last = closest.accepted[-1] if closest is not None and closest.accepted else None
        return {
            "system": self.now.system, "target": self.target, "fingerprint": self.now.fingerprint, "state": self.state,
            "accepted": "" if last is None else last.when, "reason": "" if last is None else last.reason,
            "differs": list(self.differs),
        }  # fmt: skip


def standing(now: Baseline, target: str, accepted: Sequence[Baseline]) -> Standing:
    """The baselines that speak for an environment: same target, machine, Python and NumPy, and no common library
    differs."""

    def apart(b: Baseline) -> tuple[int, int, str]:
        plugins = now.environment["plugins"].keys() ^ b.environment["plugins"].keys()
        return len(provenance.differences(b.environment, now.environment)), len(plugins), b.fingerprint

    ordered = sorted(accepted, key=apart)
    own = [b for b in ordered if target_of(b) == target]
    held = [b for b in own if not provenance.differences(b.environment, now.environment)]
    closest = own[0] if own else None
    beside = ordered[0] if ordered and closest is None else None
    of = closest or beside
    differs = [] if held or of is None else provenance.differences(of.environment, now.environment)
    return Standing(now, target, held, closest, beside, differs)


def target_of(b: Baseline) -> str:
    """The target that a baseline was accepted on."""
    found: str = b.environment.get("target", LOCAL)
    return found


def findings_of(
    s: Standing, asked: Asked, limits: settings.Gate, grain: Mapping[Key, float], why: Callable[[Row], str]
) -> Iterator[Finding]:
    """What a system's part of a run is to be told.

    `grain` is by how much, in bounds, a row that holds integers moves at least; `why` says why a row isn't there.
    """
    if s.state != "held":
        yield _unknown(s, limits.require_baseline)
    if s.closest is None:
        return
    yield from _drift(s, limits, grain)
    yield from _flips(s, limits)
    yield from _lost(s, asked, why)
    yield from _larger(s, limits)
    yield from _slower(s, limits)


def _unknown(s: Standing, required: bool) -> Finding:
    differs = f" ({', '.join(s.differs)})" if s.differs else ""
    what = f"no baseline of this environment{differs}" if s.state == "new" else "no baseline yet"
    text = f"{what}: " + ("one is required" if required else "judged by its bounds alone")
    return Finding(kind="baseline", system=s.now.system, target=s.target, fails=required, text=text)


def _worst(held: Iterable[Baseline]) -> dict[Key, tuple[float, int]]:
    """The largest error over bound, and the most other labels, that were accepted for each row."""
    found: dict[Key, tuple[float, int]] = {}
    for b in held:
        for key, row in b.by_key().items():
            ratio, others = found.get(key, (0.0, 0))
            found[key] = max(ratio, row.ratio or 0.0), max(others, row.others)
    return found


def drifted(was: float, now: float, limits: settings.Gate, grain: float = 0.0) -> bool:
    """Whether an error over bound grew by more than the factor, and by more than the floor.

    Integers move by whole steps: of a row that holds them one step, its `grain`, is no drift.
    """
    return now > limits.drift_factor * was and now - was > max(limits.drift_floor, grain * (1 + 1e-6))


def _drift(s: Standing, limits: settings.Gate, grain: Mapping[Key, float]) -> Iterator[Finding]:
    accepted = _worst(s.held)
    for row in s.now.rows:
        if row.key not in accepted or row.ratio is None or row.ratio > 1.0:  # out of bounds is told already
            continue
        was = accepted[row.key][0]
        if drifted(was, row.ratio, limits, grain.get(row.key, 0.0)):
            times = f" {row.ratio / was:.3g} times" if was else ""
            text = f"error over bound grew{times}, {localize.number(was)} -> {localize.number(row.ratio)}"
            yield _at(s, "drift", row, text, was, row.ratio)


def _flips(s: Standing, limits: settings.Gate) -> Iterator[Finding]:
    accepted = _worst(s.held)
    for row in s.now.rows:
        was = accepted.get(row.key, (0.0, row.others))[1]
        if row.others > was + limits.flips_margin:
            yield _at(s, "flips", row, f"another label than the golden's on {_clips(row.others)}, {was} when accepted",
                      float(was), float(row.others))  # fmt: skip


_FIELDS = ("backend", "runtime", "precision", "target", "path", "tap")


def _at(s: Standing, kind: str, row: Row, text: str, was: float, now: float) -> Finding:
    return _of(s, kind, text, was, now, zip(_FIELDS, row.key, strict=True))


def _of(
    s: Standing, kind: str, text: str, was: float, now: float, where: Iterable[tuple[str, str]]
) -> Finding:  # fmt: skip
    at: dict[str, Any] = dict(where)
    return Finding(kind=kind, system=s.now.system, text=text, was=was, now=now, **at)


def _clips(n: int) -> str:
    return f"{n} clip{'s' if n != 1 else ''}"


_LEVELS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("backend", ("target", "backend")),
    ("runtime", ("target", "runtime", "precision")),
    ("target", ("target", "backend", "runtime", "precision")),
    ("target", ("target", "backend", "runtime", "precision", "path")),
    ("target", ("target", "backend", "runtime", "precision", "path", "tap")),
)
"""What can get lost as a whole: a backend with all that it feeds, a runtime, a pair, a path of it, a tap. The first is
what a row must have to be part of such a whole."""


def _lost(s: Standing, asked: Asked, why: Callable[[Row], str]) -> Iterator[Finding]:
    """What the closest baseline had and this run hasn't, each said once: a backend, not each of its taps.

    What is compared doesn't hang on the machine, so that this holds in a new environment too.
    """
    assert s.closest is not None
    had = [r for r in s.closest.rows if asked.covers(r)]
    here = s.now.by_key()
    gone = {r.key for r in had if r.key not in here}
    for has, fields in _LEVELS:
        groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
        for r in had:
            if getattr(r, has):
                groups[tuple(getattr(r, f) for f in fields)].append(r)
        for values, rows in sorted(groups.items()):
            if all(r.key not in here for r in rows) and any(r.key in gone for r in rows):
                gone -= {r.key for r in rows}
                reason = why(rows[0])
                text = f"was compared when accepted ({_many(rows)}), isn't now" + (f": {reason}" if reason else "")
                yield _of(s, "coverage", text, float(len(rows)), 0.0, zip(fields, values, strict=True))
    yield from _lost_clips(s, [r for r in had if r.key in here])


def _many(rows: Sequence[Row]) -> str:
    taps = len({(r.backend, r.runtime, r.precision, r.path, r.tap) for r in rows})
    return f"{taps} tap{'s' if taps != 1 else ''}"


def _lost_clips(s: Standing, had: Sequence[Row]) -> Iterator[Finding]:
    assert s.closest is not None
    here = s.now.by_key()
    lost: dict[frozenset[str], list[Row]] = defaultdict(list)
    for r in had:
        if clips := s.closest.clips_of(r) - s.now.clips_of(here[r.key]):
            lost[clips].append(r)
    for clips, rows in sorted(lost.items(), key=lambda item: sorted(item[0])):
        names = sorted(clips)
        some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        one = {f: getattr(rows[0], f) for f in _FIELDS}
        same = {f: v for f, v in one.items() if all(getattr(r, f) == v for r in rows)}
        text = f"{_clips(len(clips))} fewer than accepted at {_many(rows)}: {some}"
        yield _of(s, "coverage", text, float(len(clips)), 0.0, same.items())


def _larger(s: Standing, limits: settings.Gate) -> Iterator[Finding]:
    assert s.closest is not None
    if limits.size_factor is None:
        return
    accepted = {(m.format, m.precision, m.file): m.bytes for m in s.closest.models}
    for m in s.now.models:
        was = accepted.get((m.format, m.precision, m.file))
        if was and m.bytes > limits.size_factor * was:
            text = f"{m.file} has {m.bytes:,} bytes, {was:,} when accepted: {m.bytes / was:.3g} times"
            where = (("precision", m.precision), ("target", s.target))
            yield _of(s, "size", text, float(was), float(m.bytes), where)


def _slower(s: Standing, limits: settings.Gate) -> Iterator[Finding]:
    limit = limits.latency.get(s.target, limits.latency_factor)
    if limit is None or not s.held or s.now.environment["machine"].get("emulated"):
        return
    accepted: dict[tuple[str, str, str], float] = {}
    for b in s.held:
        for t in b.times:
            key = (t.stage, t.plugin, t.precision)
            accepted[key] = max(t.milliseconds, accepted.get(key, 0.0))
    for t in s.now.times:
        was = accepted.get((t.stage, t.plugin, t.precision))
        if was and t.milliseconds > limit * was:
            plugin = "backend" if t.stage == "features" else "runtime"
            who = (("target", s.target), (plugin, t.plugin), ("precision", t.precision))
            shown = f"{localize.number(t.milliseconds)} ms, {localize.number(was)} ms when accepted"
            text = f"a frame takes {shown}: {t.milliseconds / was:.3g} times"
            yield _of(s, "latency", text, was, t.milliseconds, who)


def less_accurate(run: Run, limits: settings.Gate) -> Iterator[Finding]:
    """Pairs that are right on fewer clips than the best float32 pair of their system, by more than the margin."""
    best: dict[str, float] = {}
    found = []
    for p in run.labels.get("pairs", ()):
        head, runtime, precision = p["pair"].rsplit(" ", 2)
        system, _, backend = head.partition(" ")  # a command may have spaces in it
        found.append((system, backend, runtime, precision, p.get("target", ""), p["accuracy"]))
        if precision == "float32":
            best[system] = max(p["accuracy"], best.get(system, 0.0))
    for system, backend, runtime, precision, target, accuracy in found:
        was = best.get(system)
        if was is not None and was - accuracy > limits.accuracy_margin + 1e-9:
            yield Finding(
                kind="accuracy", system=system, backend=backend, runtime=runtime, precision=precision, target=target,
                text=f"{100 * accuracy:.4g} % of the labels are right, {100 * was:.4g} % with the best float32 pair",
                was=was, now=accuracy,
            )  # fmt: skip
