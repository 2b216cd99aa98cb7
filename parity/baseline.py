"""Accepted baselines: what a run measured when somebody looked at it and said why it is right.

`<golden>/baselines/<system>/<fingerprint>.json`, one file an environment: how near to its bound each tap came on that
machine with those versions, on which clips, how large the files were and how long a frame took. Small, sorted, a row a
line, so that a diff can be read. Only `parity accept` writes them.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from parity import provenance, records, registry
from parity.errors import ConfigError, GoldenError
from parity.golden import write_atomic
from parity.provenance import Identity
from parity.records import Run, TapSummary
from parity.taps import LABEL

FORMAT = 1
FOLDER = "baselines"
NEITHER = frozenset({"unavailable", "unsupported"})
"""Outcomes of what wasn't compared."""

Key = tuple[str, str, str, str, str, str]
"""backend, runtime, precision, target, path, tap."""


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One tap of one pair, over its clips."""

    backend: str
    runtime: str
    precision: str
    target: str
    path: str
    tap: str
    ratio: float | None
    """The largest error over bound, to four digits; null where no number was compared, or the bound is zero."""
    others: int
    """Clips with another label than the golden's (near ties, and what a known gap covers)."""
    clips: str
    """Which of the baseline's sets of clips it was compared on."""

    @property
    def key(self) -> Key:
        """What it is of."""
        return self.backend, self.runtime, self.precision, self.target, self.path, self.tap


class Model(msgspec.Struct, frozen=True, array_like=True):
    """A model file."""

    format: str
    precision: str
    file: str
    bytes: int


class Time(msgspec.Struct, frozen=True, array_like=True):
    """What a frame takes, at the fastest clip: in a backend, or in a runtime with a file."""

    stage: str
    plugin: str
    precision: str
    milliseconds: float


class Accepted(msgspec.Struct, frozen=True, array_like=True):
    """Somebody's word for it."""

    when: str
    run: str
    reason: str


class Baseline(msgspec.Struct, kw_only=True):
    """A system in an environment, as it was accepted; of a run, as it would be."""

    format: int = FORMAT
    system: str
    accepted: list[Accepted] = []
    """The newest last."""
    environment: Identity
    clips: dict[str, list[str]] = {}
    models: list[Model] = []
    times: list[Time] = []
    rows: list[Row] = []

    @property
    def fingerprint(self) -> str:
        """What its file is called."""
        return provenance.fingerprint(self.environment)

    def clips_of(self, row: Row) -> frozenset[str]:
        """The clips that a row was compared on."""
        return frozenset(self.clips[row.clips])

    def by_key(self) -> dict[Key, Row]:
        """Its rows by what they are of."""
        return {r.key: r for r in self.rows}


def folder_of(golden: Path, system: str) -> Path:
    """Where the baselines of a system are."""
    return golden / FOLDER / system


def read_all(golden: Path, system: str) -> list[Baseline]:
    """The accepted baselines of a system, by fingerprint. GoldenError for a file that isn't one."""
    return [read(path) for path in _inside(folder_of(golden, system)) if path.suffix == ".json"]


def systems(golden: Path) -> list[str]:
    """The systems that have a folder of baselines, sorted."""
    return [path.name for path in _inside(golden / FOLDER) if path.is_dir()]


def _inside(folder: Path) -> list[Path]:
    """GoldenError where a folder can't be looked into: what can't be read isn't nothing."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as e:
        raise GoldenError(
            f"the baselines in {folder} can't be read: {e.strerror}", "make the folder readable"
        ) from None


def read(path: Path) -> Baseline:
    """A baseline. GoldenError where the file isn't one, or isn't the one that its name says."""
    again = "restore it (git checkout), or take it away and accept a run: parity accept --reason TEXT"
    try:
        data = path.read_bytes()
        if (of := msgspec.json.decode(data, type=_Format).format) != FORMAT:
            raise GoldenError(f"{path} has format {of}, this parity reads {FORMAT}", again)
        found = msgspec.json.decode(data, type=Baseline)
        name = found.fingerprint
        provenance.differences(found.environment, found.environment)  # all that is relied on is there
        sound = all(r.clips in found.clips for r in found.rows)
    except OSError as e:
        raise GoldenError(f"the baseline {path} can't be read: {e.strerror}", again) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise GoldenError(f"{path} is not a baseline: {e}", again) from None
    if not sound or (name, found.system) != (path.stem, path.parent.name):
        raise GoldenError(f"{path} is not the baseline that its name says", again)
    return found


class _Format(msgspec.Struct):
    """What any baseline has, of whichever parity."""

    format: int


def write(golden: Path, baseline: Baseline) -> Path:
    """Put a baseline in place, in one step. ConfigError where its folder can't be written."""
    path = folder_of(golden, baseline.system) / f"{baseline.fingerprint}.json"
    try:
        write_atomic(path, text(baseline).encode())
    except OSError as e:
        raise ConfigError(
            f"the baseline {path} can't be written: {e.strerror}",
            "make its folder writable, or name another: --golden DIR",
        ) from None
    return path


def text(baseline: Baseline) -> str:
    """A baseline as it is written: sorted, a row a line, the same text for the same content."""
    plain = msgspec.to_builtins(baseline)
    for name in ("models", "times", "rows"):
        plain[name] = sorted(plain[name], key=lambda row: [(x is None, x) for x in row])
    lines = [f' "{name}": {_block(value)}' for name, value in plain.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _block(value: Any) -> str:
    """Lists with a line an entry, tables with a line a key; what is inside stays on its line."""

    def line(x: Any) -> str:
        return json.dumps(x, ensure_ascii=False, sort_keys=True)

    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"  {line(x)}" for x in value) + "\n ]"
    if isinstance(value, dict) and value:
        inside = [f"  {line(k)}: " + (_clips(v) if isinstance(v, list) else line(v)) for k, v in sorted(value.items())]
        return "{\n" + ",\n".join(inside) + "\n }"
    return line(value)


def _clips(names: Sequence[str]) -> str:
    return "[\n" + ",\n".join(f"   {json.dumps(n, ensure_ascii=False)}" for n in names) + "\n  ]"


class _Seen(msgspec.Struct):
    """What of a verdict says which clips were compared."""

    system: str
    backend: str
    runtime: str
    precision: str
    target: str
    path: str
    tap: str
    clip: str
    outcome: str


def seen(folder: Path) -> dict[tuple[str, Key], list[str]]:
    """(system, key) -> the clips that a run compared, sorted."""
    found: dict[tuple[str, Key], list[str]] = defaultdict(list)
    for v in records.read_as(_Seen, folder):
        if v.outcome not in NEITHER:
            found[v.system, (v.backend, v.runtime, v.precision, v.target, v.path, v.tap)].append(v.clip)
    return {what: sorted(clips) for what, clips in found.items()}


def whole(run: Run, folder: Path) -> None:
    """ConfigError where a folder hasn't the verdicts that its run counted: a baseline of what is left would be less."""
    counted = {(s.system, key_of(s)): sum(n for o, n in s.counts.items() if o not in NEITHER) for s in run.summaries}
    if {what: n for what, n in counted.items() if n} != {what: len(clips) for what, clips in seen(folder).items()}:
        raise ConfigError(f"the verdicts in {folder} aren't those that its run.json counts", "make the run again")


def taken(run: Run, folder: Path) -> Iterator[tuple[str, Baseline]]:
    """What each system of a run would be accepted as, with the target that it ran on; `folder` has its verdicts."""
    compared = seen(folder)
    by_target: dict[tuple[str, str], list[TapSummary]] = defaultdict(list)
    for s in run.summaries:
        by_target[s.system, s.target].append(s)
    for (system, target), summaries in sorted(by_target.items()):
        sets = _named_sets(compared[system, key_of(s)] for s in summaries if (system, key_of(s)) in compared)
        rows = [
            Row(*key_of(s), ratio=_four(s.worst.ratio), others=_others(s), clips=sets[tuple(clips)])
            for s in summaries if (clips := compared.get((system, key_of(s))))
        ]  # fmt: skip
        about = run.systems.get(system, {})
        used = {registry.parse(spec)[0] for r in rows for spec in (r.backend, r.runtime) if spec}
        yield target, Baseline(
            system=system, environment=provenance.identity(records.environment_of(run, target), used, target),
            clips={name: list(clips) for clips, name in sorted(sets.items(), key=lambda item: item[1])},
            models=[Model(a["format"], a["precision"], a["file"], a["bytes"]) for a in about.get("artifacts", [])],
            times=list(_times(run, system, target)), rows=sorted(rows, key=lambda r: r.key),
        )  # fmt: skip


def key_of(s: TapSummary) -> Key:
    """A summary's key."""
    return s.backend, s.runtime, s.precision, s.target, s.path, s.tap


def _four(ratio: float | None) -> float | None:
    return None if ratio is None else float(f"{ratio:.4g}")


def _others(s: TapSummary) -> int:
    return s.near_ties + s.counts.get("gap", 0) if s.tap == LABEL else 0


def _named_sets(sets: Iterable[Sequence[str]]) -> dict[tuple[str, ...], str]:
    """Each set of clips once, called by its size: `19 clips`; where two are as large, `3 clips (2)`."""
    names: dict[tuple[str, ...], str] = {}
    sizes: dict[int, int] = defaultdict(int)
    for clips in sorted({tuple(s) for s in sets}, key=lambda s: (-len(s), s)):
        sizes[len(clips)] += 1
        again = f" ({sizes[len(clips)]})" if sizes[len(clips)] > 1 else ""
        names[clips] = f"{len(clips)} clip{'s' if len(clips) != 1 else ''}{again}"
    return names


def _times(run: Run, system: str, target: str) -> Iterator[Time]:
    """None of an emulated CPU: they are no device's."""
    for t in () if records.environment_of(run, target).get("emulated") else run.timings:
        if (t.get("system"), t.get("target") or records.LOCAL) == (system, target) and t.get("frame_ms"):
            yield Time(t["stage"], t["plugin"], t.get("precision", ""), float(f"{t['frame_ms']:.2g}"))


def joined(old: Sequence[Baseline], new: Baseline, outside: Iterable[tuple[Baseline, Row]], afresh: bool) -> Baseline:
    """What is accepted: the rows of `new`, each with the worst that was accepted for it, and those `outside` the run.

    `old` are the baselines that speak for the same environment. `afresh` forgets how bad a row had been before.
    """
    worst: dict[Key, Row] = {}
    for b in () if afresh else old:
        for key, row in b.by_key().items():
            worst[key] = _worse(row, worst[key]) if key in worst else row
    rows = {r.key: (_worse(r, worst.get(r.key, r)), new.clips_of(r)) for r in new.rows}
    plugins = dict(new.environment["plugins"])
    times = {(t.stage, t.plugin, t.precision): t for b in old for t in b.times}
    for b, r in outside:
        rows.setdefault(r.key, (r, b.clips_of(r)))
        plugins |= {k: v for k, v in b.environment["plugins"].items() if k not in plugins}
    sets = _named_sets(sorted(clips) for _, clips in rows.values())
    return Baseline(
        system=new.system, environment=new.environment | {"plugins": dict(sorted(plugins.items()))},
        accepted=sorted({a for b in old for a in b.accepted}, key=lambda a: (a.when, a.run)),
        clips={name: list(clips) for clips, name in sorted(sets.items(), key=lambda item: item[1])},
        models=new.models,
        times=list((times | {(t.stage, t.plugin, t.precision): t for t in new.times}).values()),
        rows=[
            msgspec.structs.replace(r, clips=sets[tuple(sorted(clips))]) for _, (r, clips) in sorted(rows.items())
        ],
    )  # fmt: skip


def _worse(now: Row, was: Row) -> Row:
    ratios = [x for x in (now.ratio, was.ratio) if x is not None]
    return msgspec.structs.replace(now, ratio=max(ratios, default=None), others=max(now.others, was.others))


def today() -> str:
    """The date of an acceptance."""
    return time.strftime("%Y-%m-%d")
