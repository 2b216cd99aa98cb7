"""A run's summaries by what they are of: made once, and asked for each of hundreds of failures."""

from __future__ import annotations

from operator import is_

from parity.records import Run, TapSummary, Verdict

FAILED = frozenset({"fail", "missing", "error"})
Group = tuple[str, ...]
"""What was compared together in one way: system, backend, runtime, precision, target, path."""


class Lookup:
    """What is asked of a run's summaries again and again."""

    def __init__(self, run: Run) -> None:
        self._summaries, self._systems = run.summaries, run.systems
        self._worst = [s.worst for s in run.summaries]
        self.summaries: dict[tuple[str, ...], TapSummary] = {}
        """By group and tap."""
        self.failing: dict[Group, list[Verdict]] = {}
        """The worst verdict of each tap that fails, in the order of the summaries."""
        self.alone: set[tuple[str, str, str, str, str]] = set()
        """System, runtime, precision, target and tap of what passes on the golden's features."""
        self.several = len({s.target for s in run.summaries}) > 1
        """Whether they are of more than one target."""
        seen: dict[str, dict[str, None]] = {}
        for s in run.summaries:
            if s.system not in seen:
                seen[s.system] = dict.fromkeys(run.systems.get(s.system, {}).get("taps", ()))
            seen[s.system][s.tap] = None
            self.summaries.setdefault((*group(s), s.tap), s)
            if s.worst.outcome in FAILED:
                self.failing.setdefault(group(s), []).append(s.worst)
            elif s.path == "isolated" and s.worst.outcome == "pass":
                self.alone.add((s.system, s.runtime, s.precision, s.target, s.tap))
        self.flows = {system: list(taps) for system, taps in seen.items()}
        """Each system's taps in flow order: as its records list them, then any other in the order it was seen in."""
        self.steps = {(system, tap): i for system, taps in self.flows.items() for i, tap in enumerate(taps)}

    def flow(self, system: str) -> list[str]:
        """A system's taps in flow order, of one that compared nothing as well."""
        return list(self.flows.get(system) or self._systems.get(system, {}).get("taps", ()))

    def holds(self, run: Run) -> bool:
        """Whether it still says what the run's records say."""
        found = run.summaries
        return (
            found is self._summaries and run.systems is self._systems and len(found) == len(self._worst)
            and all(map(is_, (s.worst for s in found), self._worst))
        )  # fmt: skip


def group(s: TapSummary | Verdict) -> Group:
    """Which group a summary or a verdict is of."""
    return s.system, s.backend, s.runtime, s.precision, s.target, s.path


_last: Lookup | None = None


def of(run: Run) -> Lookup:
    """The look-up of a run: the last one again, where it still holds."""
    global _last
    if _last is None or not _last.holds(run):
        _last = Lookup(run)
    return _last
