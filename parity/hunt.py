"""Drives a pair towards its worst clip: the largest error over bound, a label that flips, or a crash.

Hypothesis draws a clip's parameters (`parity.search`), hears by `target()` how near it came, and shrinks what it finds.
The same task with the same seed finds the same.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
from typing import Any, Final

from parity.adversary import Draws, Found, Result, Task, Tell, golden_of, words_of
from parity.contest import Contest
from parity.counterexamples import Goal
from parity.errors import MissingExtra, ParityError
from parity.seen import FAILED, Refused, Seen, Unheld

try:
    import hypothesis
    from hypothesis.database import ExampleDatabase
except ImportError:
    raise MissingExtra("parity search needs Hypothesis, which is not installed", "pip install 'parity[test]'") from None

NEAREST: Final = 100
"""Of so many examples one has its bounds worked out when all are drawn: those that were nearest by a guess."""
DEATHS, WORKED_OUT = 40, 40
"""While something is shrunk: plugins that are started again, and clips whose bounds are worked out. Both take long."""


@dataclasses.dataclass(frozen=True)
class _Known:
    """What is remembered of every clip."""

    found: Found
    size: float
    exact: bool


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
        self._deaths = self._before_it = 0
        self._draws = Draws(contest.plan, golden_of(task, contest.plan.system))
        self._before = self._draws.before
        self._ties = False
        """Whether a label that flips inside the margin counts, as one beyond it does: where there is none of those."""

    def run(self) -> Result:
        """Search; Ctrl-C ends it with what was found so far. ParityError for what no other clip mends."""
        try:
            self._drive()
            if self._failing is None and self._more_fails():
                self._drive()  # from the same seed, and no clip is judged twice: now that one fails, it is shrunk
        except KeyboardInterrupt:
            self.result.interrupted = True
        except (Refused, Unheld):
            pass  # the last of many, and nothing was judged
        if self._failing is not None:
            self.result.found = self._failing
        self.result.worked_out = self._contest.worked_out
        return self.result

    def _drive(self) -> None:
        task = self._task

        # In this order: a seed takes the database of the settings below it away.
        @hypothesis.settings(
            max_examples=task.examples, deadline=None, database=self._kept, print_blob=False,
            report_multiple_bugs=False, suppress_health_check=list(hypothesis.HealthCheck),
            phases=[p for p in hypothesis.Phase if p is not hypothesis.Phase.explain],
            verbosity=hypothesis.Verbosity.quiet,
        )  # fmt: skip
        @hypothesis.seed(task.seed)
        @hypothesis.given(self._draws.strategy)
        def drive(what: Any) -> None:
            known = self._judged(what)
            hypothesis.target(known.found.score, label=task.goal)
            if task.goal == "error":
                hypothesis.target(known.size, label="size")
            assert not self._fails(known.found)

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
        if self._failing is None:
            self.result.drawn = min(self.result.drawn + 1, self._task.examples)
        if key not in self._known:
            if self._failing is not None and self._enough:
                return _Known(Found(what, "", False, 0.0), 0.0, True)
            self._known[key] = self._see(what)
        known = self._known[key]
        if self._fails(known.found):
            if self._failing is None:
                self._before_it = self._contest.worked_out
            self._failing = known.found
        best = self.result.found
        judged = known.found.verdict is not None  # a clip that was refused is near to nothing
        if judged and (best is None or (known.found.failed, known.found.score) > (best.failed, best.score)):
            self.result.found = known.found
        self._tell(self.result)
        return known

    def _fails(self, found: Found) -> bool:
        return found.failed or (self._ties and found.tie)

    def _more_fails(self) -> bool:
        """Look again at what was nearest when nothing failed; whether something is to be shrunk now."""
        if self._task.goal == "error":
            return self._judge_the_nearest()
        self._ties = self.result.found is not None and self.result.found.tie
        return self._ties

    @property
    def _enough(self) -> bool:
        """Whether what fails is as small as it gets."""
        return self._deaths >= DEATHS or self._contest.worked_out - self._before_it >= WORKED_OUT

    def _see(self, what: Any, exact: bool = False) -> _Known:
        self.result.count += 1
        after = self._before if self._failing is not None else None
        try:
            seen = self._contest.see(self._draws.made(what), after, exact)
        except (Refused, Unheld) as e:
            self.result.refused += isinstance(e, Refused)
            self.result.unheld += isinstance(e, Unheld)
            self.result.refusal = e.message
            self.result.lost = e.message if isinstance(e, Unheld) else self.result.lost
            if self.result.count == self.result.refused + self.result.unheld >= 20:
                raise
            return _Known(Found(what, words_of(what), False, 0.0), 0.0, True)
        self._deaths += self._failing is not None and any(v.outcome == "error" for v in seen.verdicts)
        found = found_of(self._task.goal, what, seen)
        if not seen.exact:
            heapq.heappush(self._nearest, (seen.network_ratio, -self.result.count, what))
            if len(self._nearest) > max(10, self._task.examples // NEAREST):
                heapq.heappop(self._nearest)
        return _Known(found, seen.largest, seen.exact)

    def _judge_the_nearest(self) -> bool:
        """Work out the bounds of the clips that were nearest by a guess; whether one fails."""
        nearest, self._nearest = sorted(self._nearest, reverse=True), []
        for _, _, what in nearest:
            self._known[repr(what)] = self._see(what, exact=True)
        known = [k for k in self._known.values() if k.exact and k.found.verdict is not None]
        self.result.found = max((k.found for k in known), key=lambda f: (f.failed, f.score), default=None)
        return self.result.found is not None and self.result.found.failed


def found_of(goal: Goal, what: Any, seen: Seen) -> Found:
    """What one clip comes to, for what is looked for."""
    failing = seen.failing
    match goal:
        case "error":
            score = min(seen.ratio, 1e6)
        case "crash":
            failing, score = next((v for v in seen.verdicts if v.outcome == "error"), None), seen.largest
        case "flip":
            label = seen.flipped
            failing = label if label is not None and label.outcome in FAILED else None
            lead = 1e9 if seen.lead is None else max(seen.lead, 1e-9)
            score = (20.0 if label is not None else 0.0) - math.log10(lead)
            return Found(what, words_of(what), failing is not None, score, label or seen.nearest)
    return Found(what, words_of(what), failing is not None, score, failing or seen.worst)
