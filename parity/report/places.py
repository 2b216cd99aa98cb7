"""A run on several targets side by side: what became of each pair on each, and in what the places differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parity.localize import FAILED, NOT_COMPARED, several, title
from parity.records import Run, environment_of, targets
from parity.report.rows import Row


@dataclass(frozen=True)
class Cell:
    """A pair on a target."""

    outcome: str
    ratio: float | None
    """Its largest error over bound, as its row says it."""
    first: str
    """The first tap that fails, in flow order; '' where none does."""
    id: str
    """The row that it links to."""

    @property
    def compared(self) -> bool:
        """Whether there is anything to be said of it."""
        return self.outcome not in NOT_COMPARED


@dataclass(frozen=True)
class Line:
    """A pair of a system on every target."""

    system: str
    backend: str
    runtime: str
    """'' for features."""
    precision: str
    cells: Mapping[str, Cell]
    """By target; those where it wasn't tried are left out."""

    @property
    def name(self) -> str:
        """The pair in words, without its system and its targets."""
        return title("", self.backend, self.runtime, self.precision)

    @property
    def apart(self) -> bool:
        """Whether it fails on some targets and is within bounds on others."""
        return len({cell.outcome in FAILED for cell in self.cells.values() if cell.compared}) > 1


def lines(found: Sequence[Row]) -> list[Line]:
    """A line a system and pair, in the order of the rows."""
    cells: dict[tuple[str, str, str, str], dict[str, Cell]] = {}
    for r in found:
        p = r.pair
        first = next((row.tap for row in p.rows if row.outcome in FAILED), "")
        key = p.system, p.backend, p.runtime, p.precision
        cells.setdefault(key, {})[p.target] = Cell(p.outcome, r.ratio, first, r.id)
    return [Line(*key, of) for key, of in sorted(cells.items())]


def alone(run: Run, found: Sequence[Line]) -> list[str]:
    """Which targets stand alone with a failure, a sentence each: what is right elsewhere with the same files.

    Of a backend that does the pairs that it feeds are counted only.
    """
    told = []
    for target in targets(run) if several(run) else ():
        of = [line for line in found if line.apart and _failing(line) == [target]]
        backends = {(line.system, line.backend) for line in of if not line.runtime}
        first = [line for line in of if not line.runtime or (line.system, line.backend) not in backends]
        if of:
            some = "; ".join(f"{line.system} · {line.name}" for line in first[:3])
            more = f" and {len(first) - 3} more" if len(first) > 3 else ""
            fed = len(of) - len(first)
            pairs = f", and {fed} pair{'s' if fed != 1 else ''} fed by {'it' if len(first) == 1 else 'them'}"
            told.append(f"Fails only on {target}: {some}{more}{pairs if fed else ''}")
    return told


def _failing(line: Line) -> list[str]:
    return [target for target, cell in line.cells.items() if cell.outcome in FAILED]


def about(run: Run, target: str) -> str:
    """A target in words: `ssh://pi@raspberrypi, Raspberry Pi 4 Model B, aarch64, emulated`."""
    e = environment_of(run, target)
    cpu = _table(e.get("cpu"))
    told = [e.get("address"), cpu.get("board"), cpu.get("model"), cpu.get("architecture")]
    words = list(dict.fromkeys(str(w) for w in told if w and str(w) not in target))
    played = emulated(run, target) and not any("emulated" in w for w in words)
    return ", ".join(words + ["emulated"] * played)


def emulated(run: Run, target: str) -> bool:
    """Whether a target's CPU is a program: its numbers count, its times are nobody's."""
    e = environment_of(run, target)
    return bool(e.get("emulated") or _table(e.get("cpu")).get("emulated"))


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _facts(environment: Mapping[str, Any], system: str) -> Iterator[tuple[str, str]]:
    """What of a place may change a number, or says which place it is; `system` is the key that names its OS."""
    cpu = _table(environment.get("cpu"))
    yield from (("CPU", cpu.get("model", "")), ("architecture", cpu.get("architecture", "")))
    yield from (("CPU features", cpu.get("features_sha256", "")), ("cores", cpu.get("cores", "")))
    yield "emulated", "yes" if environment.get("emulated") or cpu.get("emulated") else "no"
    for word, key in (("OS", system), ("Python", "python"), ("NumPy", "numpy"), ("threads", "threads")):
        yield word, environment.get(key, "")
    for plugin, versions in _table(environment.get("plugins")).items():
        for library, version in _table(versions).items():
            if library not in ("numpy", "python"):
                yield f"{plugin}: {library}", version


def differing(run: Run) -> tuple[list[tuple[str, list[str]]], list[tuple[str, str]]]:
    """(what, its value on each target) where two differ; and (what, value) of what is the same everywhere."""
    environments = [environment_of(run, t) for t in targets(run)]
    system = "release" if all(e.get("release") for e in environments) else "os"
    facts = [{k: str(v) for k, v in _facts(e, system) if v not in ("", None)} for e in environments]
    names = dict.fromkeys(name for of in facts for name in of)
    table = [(name, [of.get(name, "–") for of in facts]) for name in names]
    return (
        [(name, values) for name, values in table if len(set(values)) > 1],
        [(name, values[0]) for name, values in table if len(set(values)) == 1],
    )
