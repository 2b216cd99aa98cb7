"""What a search found, once more: in fresh workers, at every tap, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from parity import registry
from parity.adversary import Draws, Found, Task, golden_of
from parity.contest import Contest
from parity.errors import ParityError
from parity.explain import explain
from parity.explain.explanation import Explanation
from parity.hunt import found_of
from parity.records import Verdict
from parity.seen import FAILED, Seen
from parity.taps import is_feature


@dataclasses.dataclass(frozen=True)
class Confirmed:
    """What became of a clip in workers that had seen nothing before."""

    found: Found
    verdicts: Sequence[Verdict]
    remembers: bool
    """It fails only after another clip: something isn't reset."""
    explanation: Explanation | None

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the search for what explains it."""
        return self.explanation is not None and self.explanation.interrupted

    @property
    def failing(self) -> list[Verdict]:
        """The taps that fail, in flow order."""
        return [v for v in self.verdicts if v.outcome in FAILED]


def confirm(task: Task, found: Found, contest: Contest, why: bool = True) -> Confirmed:
    """Judge what was found at every tap, alone and after another clip; `why`: and look for what explains it.

    The workers of `contest` must be new. Raises what `Contest.see` does.
    """
    draws = Draws(contest.plan, golden_of(task, contest.plan.system))
    drawn = draws.made(found.what)
    seen, remembers = contest.see(drawn, whole=True), False
    later = contest.see(drawn, draws.before, whole=True)
    if _remembers(seen, later):
        seen, remembers = later, True
    again = found_of(task.goal, found.what, seen)
    explanation = _why(contest, seen) if why and again.failed and not remembers else None
    return Confirmed(again, seen.verdicts, remembers, explanation)


def _remembers(alone: Seen, later: Seen) -> bool:
    """Whether a tap fails after another clip that passes without one. Cumulative runs come after isolated ones."""
    passed = {(v.path, v.tap) for v in alone.verdicts if v.outcome == "pass"}
    return any((v.path, v.tap) in passed for v in later.verdicts if v.outcome in FAILED and v.path != "cumulative")


def _why(contest: Contest, seen: Seen) -> Explanation | None:
    """What explains the first tap that fails, where something can."""
    first = seen.failing
    if first is None or first.outcome == "error":
        return None
    of = next((e for e in seen.evidence if (e.path, e.backend) == (first.path, first.backend)), None)
    if of is None:
        return None
    p = contest.plan
    if is_feature(first.tap):
        return explain(p.system.frontend, [of], p.arithmetic.get(of.backend, "float32"))
    if not registry.installed("monte-carlo"):
        return None
    from parity.explain import networks

    try:
        return networks.explain(p.system, [of])
    except ParityError:
        return None  # a network that no graph is known of
