"""Drives a pair towards its worst clip: the largest error over bound, a label that flips, or a crash.

Hypothesis draws a clip's parameters (`parity.search`), hears by `target()` how near it came, and shrinks what it finds.
The same task with the same seed finds the same.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np

from parity import parameters, patterns, plan, search, system
from parity.contest import Contest, Drawn, Seen
from parity.errors import MissingExtra, NothingCompared, ParityError
from parity.parameters import Parameters, Sound
from parity.patterns import Pattern
from parity.plan import Plan, Selection
from parity.protocols import Clip, Unsupported
from parity.targets.local import LocalTarget

try:
    import hypothesis
    from hypothesis.database import ExampleDatabase
except ImportError:
    raise MissingExtra("parity search needs Hypothesis, which is not installed", "pip install 'parity[test]'") from None

Aim = Literal["error", "flip", "crash"]
FRAMES: Final = 32
"""Frames of what a network is fed with that takes any number."""
WORST: Final = 100
"""Clips whose bounds are worked out when all are drawn: the worst by a guess."""
DEATHS: Final = 40
"""Plugins that are started again while a crash is shrunk."""
PROBE = Parameters(sounds=(Sound(kind="tone", level_dbfs=-20.0),))
"""What a plugin is given before a clip, to see whether it remembers."""


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
    aim: Aim = "error"
    examples: int = 1000
    seed: int = 0


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
    tap: str
    message: str = ""
    flipped: bool = False
    """Another label, by less than what arithmetic allows."""


@dataclasses.dataclass
class Result:
    """A search that is over, or was interrupted."""

    task: Task
    found: Found | None = None
    count: int = 0
    """Clips judged, those of shrinking too."""
    drawn: int = 0
    """Clips judged until one failed."""
    worked_out: int = 0
    """Clips whose bounds were worked out."""
    refused: int = 0
    """Clips that a plugin refused, and said why."""
    refusal: str = ""
    before: int = 0
    """Clips that other searches found, tried again first."""
    interrupted: bool = False


Tell = Callable[[Result], None]
"""Told now and then how far a search is, and of every better clip."""


def planned(task: Task, target: LocalTarget) -> tuple[Plan, Plan | None]:
    """What a task compares, and what it is held to where that is another pair.

    NothingCompared where a plugin doesn't support the system's recipe or files; ConfigError for what isn't there.
    """
    p = _pair(task.system, task.backend, task.runtime, task.precision, target)
    if not task.against:
        return p, None
    backend, _, runtime = task.against.partition("/")
    other = _pair(task.system, backend or task.backend, runtime or task.runtime, task.precision, target)
    if not task.runtime:
        other = dataclasses.replace(other, models=[])
    if not task.backend:
        other = dataclasses.replace(other, backends={})
    return p, other


def _pair(of: str, backend: str, runtime: str, precision: str, target: LocalTarget) -> Plan:
    (found,) = system.find([of])
    if not runtime:
        told = target.describe("backend", backend, [found.frontend])
        if isinstance(told.answers[0], Unsupported):
            raise NothingCompared(f"{backend} can't compute the features of {found.name}: {told.answers[0].reason}")
        return Plan(found, {backend: told.answers[0]}, arithmetic={backend: (told.arithmetic or ["float32"])[0]})
    wanted = Selection(
        systems=(of,), backends=(backend or "reference",), runtimes=(runtime,), precisions=(precision,)
    )
    (p,), skipped, _ = plan.make(wanted, target)
    if not p.pairs:
        raise NothingCompared("; ".join(dict.fromkeys(s.reason for s in skipped)) or "there is no such pair",
                              f"parity list systems {found.name}")  # fmt: skip
    # Whose kernels say what it computes is another question.
    return dataclasses.replace(p, kernels=[], backends=p.backends if backend else {})


@dataclasses.dataclass(frozen=True)
class _Known:
    """What is remembered of every clip."""

    found: Found
    size: float
    exact: bool


class Draws:
    """What is drawn for a plan: clips in parameters, or what its network is fed with."""

    def __init__(self, p: Plan) -> None:
        self._frontend, self._features = p.system.frontend, not p.backends
        folder = system.root() / "golden" / "clips"
        self._recordings = folder if folder.is_dir() else None
        if self._features:
            frames, bands = p.models[0][1].shape
            self._shape = (p.models[0][1].frames or frames or FRAMES, bands)

    @property
    def strategy(self) -> Any:
        """Of Hypothesis."""
        return search.patterns() if self._features else search.parameters(self._frontend, self._recordings)

    def made(self, what: Parameters | Pattern) -> Drawn:
        """What the plugins are given."""
        if isinstance(what, Parameters):
            return Drawn(parameters.clip_of(what, self._recordings))
        features = patterns.render(what, self._shape, self._frontend.dtype(self._frontend.output))
        return Drawn(Clip(patterns.describe(what), np.zeros(0, np.float32), self._frontend.input.rate, ""), features)


def words_of(what: Parameters | Pattern) -> str:
    """One line for people."""
    return parameters.describe(what) if isinstance(what, Parameters) else patterns.describe(what)


class Hunt:
    """One search of a task, as it goes."""

    def __init__(
        self, task: Task, contest: Contest, tell: Tell = lambda _: None, kept: ExampleDatabase | None = None
    ) -> None:
        """`kept` is where clips that failed are remembered; they are tried first."""
        self.result = Result(task)
        self._task, self._contest, self._tell, self._kept = task, contest, tell, kept
        self._known: dict[Any, _Known] = {}
        self._nearest: list[tuple[float, int, Any]] = []
        self._failing: Found | None = None
        self._deaths = 0
        self._draws = Draws(contest.plan)
        self._probe = self._draws.made(PROBE) if contest.plan.backends else None

    def run(self) -> Result:
        """Search; Ctrl-C ends it with what was found so far."""
        try:
            self._drive()
            if self._failing is None and self._task.aim == "error" and self._judge_the_nearest():
                self._drive()  # the same clips again, all of them known: now that one fails, it is shrunk
        except KeyboardInterrupt:
            self.result.interrupted = True
        if self._failing is not None:
            self.result.found = self._failing
        if not self.result.interrupted and self.result.refused == self.result.count:
            raise NothingCompared(f"every clip was refused: {self.result.refusal}")
        self.result.worked_out = self._contest.worked_out
        return self.result

    def _drive(self) -> None:
        task = self._task

        @hypothesis.seed(task.seed)
        @hypothesis.settings(
            max_examples=task.examples, deadline=None, database=self._kept, print_blob=False,
            report_multiple_bugs=False, suppress_health_check=list(hypothesis.HealthCheck),
            verbosity=hypothesis.Verbosity.quiet,
        )  # fmt: skip
        @hypothesis.given(self._draws.strategy)
        def drive(what: Any) -> None:
            known = self._judged(what)
            hypothesis.target(known.found.score, label=task.aim)
            if task.aim == "error":
                hypothesis.target(known.size, label="size")
            assert not known.found.failed

        try:
            drive()
        except (ParityError, KeyboardInterrupt):
            raise
        except (AssertionError, hypothesis.errors.HypothesisException):
            # Hypothesis runs the smallest failing example last: what failed then is the counter-example.
            if self._failing is None:
                raise

    def _judged(self, what: Any) -> _Known:
        """What becomes of a clip; each is judged once."""
        key = repr(what)
        if key not in self._known:
            if self._deaths >= DEATHS:  # enough shrinking: a plugin takes long to start again
                return _Known(Found(what, "", False, 0.0, ""), 0.0, True)
            self._known[key] = self._see(what)
        known = self._known[key]
        if known.found.failed:
            self._failing = known.found
        best = self.result.found
        if best is None or (known.found.failed, known.found.score) > (best.failed, best.score):
            self.result.found = known.found
        self._tell(self.result)
        return known

    def _see(self, what: Any, exact: bool = False) -> _Known:
        self.result.count += 1
        if self._failing is None:
            self.result.drawn += 1
        after = self._probe if self._failing is not None else None
        try:
            seen = self._contest.see(self._draws.made(what), after, exact)
        except ParityError as e:
            self.result.refused += 1
            self.result.refusal = e.message
            if self.result.count == self.result.refused >= 20:
                raise
            return _Known(Found(what, words_of(what), False, 0.0, ""), 0.0, True)
        self._deaths += self._failing is not None and any(v.outcome == "error" for v in seen.verdicts)
        found = found_of(self._task.aim, what, seen)
        if not seen.exact:
            heapq.heappush(self._nearest, (seen.network_ratio, -self.result.count, what))
            if len(self._nearest) > WORST:
                heapq.heappop(self._nearest)
        return _Known(found, seen.largest, seen.exact)

    def _judge_the_nearest(self) -> bool:
        """Work out the bounds of the clips that were nearest by a guess; whether one fails."""
        nearest, self._nearest = sorted(self._nearest, reverse=True), []
        for _, _, what in nearest:
            self._known[repr(what)] = self._see(what, exact=True)
        known = [k for k in self._known.values() if k.exact]
        self.result.found = max((k.found for k in known), key=lambda f: (f.failed, f.score), default=None)
        return self.result.found is not None and self.result.found.failed


def found_of(aim: Aim, what: Any, seen: Seen) -> Found:
    """What one clip comes to, for what is looked for."""
    words, flipped, failing = words_of(what), False, seen.failing
    match aim:
        case "error":
            failed, score = failing is not None, min(seen.ratio, 1e6)
        case "crash":
            failing = next((v for v in seen.verdicts if v.outcome == "error"), None)
            failed, score = failing is not None, seen.largest
        case "flip":
            label = seen.flipped
            failed, flipped = label is not None and label.outcome == "fail", label is not None
            failing = label if failed else None
            lead = 1e9 if seen.lead is None else max(seen.lead, 1e-9)
            score = (20.0 if flipped else 0.0) - math.log10(lead)
    shown = failing or seen.worst
    return Found(what, words, failed, score, shown.tap, shown.message, flipped)
