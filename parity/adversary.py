"""What a search is: a pair, what it is held to, what is drawn for it, and what is found.

`parity.hunt` does the searching, `parity.shards` in several processes; `parity.confirm` looks at what was found again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from parity import counterexamples, parameters, patterns, plan, search, sources, system
from parity.contest import Contest, Drawn
from parity.counterexamples import CounterExample, Goal
from parity.errors import ConfigError, NothingCompared
from parity.parameters import Parameters, Sound
from parity.patterns import Pattern
from parity.plan import Plan, Selection
from parity.protocols import Unsupported
from parity.records import Verdict
from parity.targets.local import LocalTarget

BEFORE: Final = Parameters(sounds=(Sound(kind="tone", level_dbfs=-20.0),))
FED_BEFORE: Final = Pattern(kind="noise", level=1.0)
"""What plugins are given before a clip, or an input, to see whether they remember."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What is searched, and for what: everything as it was typed."""

    system: str
    backend: str = ""
    """'': the network is fed with drawn features."""
    runtime: str = ""
    """'': features only."""
    precision: str = "float32"
    against: str = ""
    """Another pair, `backend/runtime`; '': the oracle, and the system's reference runtime."""
    goal: Goal = "error"
    examples: int = 1000
    seed: int = 0
    golden: str = ""
    """Folder of goldens, whose clips are recordings to draw and whose rules hold; '': the system's own, or the
    project's."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search came to: the clip that fails, or the one that came nearest."""

    what: Any
    """Its parameters (`parity.parameters`), or a network's input (`parity.patterns`)."""
    words: str
    """The same for people."""
    failed: bool
    score: float
    """Error over bound; for a flip how near the label is to another; for a crash the power of two of the largest
    number."""
    verdict: Verdict | None = None
    """The first tap that fails, or the worst."""

    @property
    def tie(self) -> bool:
        """A label that flips inside the margin: another one, where nobody can say which is right."""
        return self.verdict is not None and self.verdict.near_tie


@dataclasses.dataclass
class Result:
    """A search that is over, or was interrupted."""

    task: Task
    found: Found | None = None
    count: int = 0
    """Different clips that were judged, those of shrinking too."""
    drawn: int = 0
    """Examples until one failed."""
    worked_out: int = 0
    """Clips whose bounds were worked out."""
    refused: int = 0
    """Clips that a plugin refused, and said why."""
    refusal: str = ""
    unheld: int = 0
    """Clips at which failed what the pair is held to."""
    lost: str = ""
    """Why not every clip was judged that should have been."""
    interrupted: bool = False
    replayed: bool = False
    """Nothing was drawn: a counter-example was judged again."""


Tell = Callable[[Result], None]
"""Told now and then how far a search is, and of every better clip."""


def planned(task: Task, target: LocalTarget) -> tuple[Plan, Plan | None]:
    """What a task compares, and what it is held to where that is another pair.

    NothingCompared where a plugin doesn't support the system's recipe or files; ConfigError for what isn't there.
    """
    p = _pair(task.system, task.backend, task.runtime, task.precision, target)
    if not task.against:
        return p, None
    backend, _, runtime = task.against.rpartition("/")
    backend, runtime = backend or task.backend, runtime or task.runtime
    if (backend, runtime) == (task.backend, task.runtime):
        raise ConfigError(
            "--against names the pair itself", "name another backend or runtime: --against librosa/tflite"
        )
    other = _pair(task.system, backend, runtime, task.precision, target)
    if not task.runtime:
        other = dataclasses.replace(other, models=[])
    if not task.backend:
        other = dataclasses.replace(other, backends={})
    return p, other


def golden_of(task: Task, of: system.System) -> Path:
    """The folder of goldens of a task."""
    return sources.golden_root(Selection(golden=Path(task.golden) if task.golden else None), of)


def contest(task: Task, target: LocalTarget) -> Contest:
    """What judges a task's clips."""
    p, other = planned(task, target)
    if task.goal == "flip" and not (p.models and p.system.labels):
        raise NothingCompared(f"no label of {p.system.name} is decided here, so none can flip",
                              "parity search --for flip takes a --runtime, and a system with labels")  # fmt: skip
    rules = sources.rules_for(Selection(golden=Path(task.golden) if task.golden else None), p.system)
    return Contest(p, target, rules.on(plan.machine_of(target)), other)


def _pair(of: str, backend: str, runtime: str, precision: str, target: LocalTarget) -> Plan:
    (found,) = system.find([of])
    if not runtime:
        told = target.describe("backend", backend, [found.frontend])
        if isinstance(told.answers[0], Unsupported):
            raise NothingCompared(
                f"{backend} can't compute the features of {found.name}: {told.answers[0].reason}",
                f"parity list systems {found.name} says which backends can",
            )
        return Plan(found, {backend: told.answers[0]}, arithmetic={backend: (told.arithmetic or ["float32"])[0]})
    wanted = Selection(systems=(of,), backends=(backend or "reference",), runtimes=(runtime,), precisions=(precision,))
    (p,), skipped, _ = plan.make(wanted, target)
    if not p.pairs:
        raise NothingCompared("; ".join(dict.fromkeys(s.reason for s in skipped)) or "there is no such pair",
                              f"parity list systems {found.name}")  # fmt: skip
    # Whose kernels say what it computes is another question.
    return dataclasses.replace(p, kernels=[], backends=p.backends if backend else {})


class Draws:
    """What is drawn for a plan: clips in parameters, or what its network is fed with."""

    def __init__(self, p: Plan, golden: Path) -> None:
        """`golden` is the folder of goldens, whose clips are recordings to draw."""
        self._frontend, self._features = p.system.frontend, not p.backends
        self._recordings = counterexamples.recordings(golden)
        if self._features:
            self._shape = patterns.shape_of([p.models[0][1]])

    @property
    def strategy(self) -> Any:
        """Of Hypothesis."""
        return search.patterns() if self._features else search.parameters(self._frontend, self._recordings)

    @property
    def before(self) -> Drawn:
        """What plugins are given before, to see whether they remember."""
        return self.made(FED_BEFORE if self._features else BEFORE)

    def made(self, what: Parameters | Pattern) -> Drawn:
        """What the plugins are given."""
        if isinstance(what, Parameters):
            return Drawn(parameters.clip_of(what, self._recordings))
        dtype = self._frontend.dtype(self._frontend.output)
        return Drawn(*counterexamples.fed(what, self._frontend.input.rate, self._shape, dtype))


def counterexample(task: Task, p: Plan, found: Found) -> CounterExample:
    """What was found, to be written down."""
    v = found.verdict
    return CounterExample(
        system=p.system.name, drawn=found.what, goal=task.goal, backend=task.backend, runtime=task.runtime,
        precision=task.precision if task.runtime else "", against=task.against, seed=task.seed,
        tap="" if v is None else v.tap, found="" if v is None else v.message,
    )  # fmt: skip


def words_of(what: Parameters | Pattern) -> str:
    """One line for people."""
    return parameters.describe(what) if isinstance(what, Parameters) else patterns.describe(what)
