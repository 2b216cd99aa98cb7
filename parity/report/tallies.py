"""What `verdicts.jsonl` says beyond the summaries: how error over bound is spread over clips, and which labels flip.

Read once a page, line by line. Bins are half decades of error over bound, each with its upper end in it, so that the
bound itself ends a bin.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from parity.localize import FAILED
from parity.records import Verdict, array_path, key_of, own_severity, read_verdicts, severity
from parity.taps import LABEL

Key = tuple[str, ...]
"""A tap of a pair: system, backend, runtime, precision, target, path, tap."""

EDGES = tuple(10.0 ** (k / 2) for k in range(-8, 7))
"""Upper ends of all bins but the last, 1e-4 to 1e3; what is larger, or has no number, is in the last."""
BOUND = EDGES.index(1.0)
"""The last bin within the bound."""
FLIPS = 40
"""Flipped labels that are remembered, beside the first of each pair."""


def key(v: Verdict) -> Key:
    """Which tap of which pair a verdict is of."""
    return key_of(v)[:-1]


@dataclass
class Spread:
    """Clips by error over bound."""

    bins: list[int] = field(default_factory=lambda: [0] * (len(EDGES) + 1))
    ratios: list[float] = field(default_factory=list)
    unmeasured: int = 0
    """Failing clips without a number: another shape or dtype, a bound of zero, nothing that arrived."""

    def add(self, v: Verdict) -> None:
        """Count a verdict that was compared."""
        if v.ratio is None:
            self.unmeasured += v.outcome in FAILED
            self.bins[-1] += v.outcome in FAILED
            return
        self.bins[bisect_left(EDGES, v.ratio)] += 1
        self.ratios.append(v.ratio)

    @property
    def count(self) -> int:
        """Clips in all."""
        return sum(self.bins)

    @property
    def beyond(self) -> int:
        """Clips beyond the bound."""
        return sum(self.bins[BOUND + 1 :])

    @property
    def median(self) -> float | None:
        """The middle one of those that have a number, the lower of two."""
        found = sorted(self.ratios)
        return found[(len(found) - 1) // 2] if found else None


@dataclass
class Tallies:
    """What was read."""

    all: dict[str, Spread]
    """By outcome (pass, gap, fail), every comparison that has a number."""
    taps: dict[Key, Spread]
    """Of the taps that were asked for."""
    failing: dict[Key, list[Verdict]]
    """Failing clips of these: those whose arrays were kept, the worst first."""
    flips: list[Verdict]
    """Labels that flipped and count as failures, in the run's order: the first of many, and the first of each pair."""
    flipped: int = 0
    """How many there are."""


def read(folder: Path, wanted: Collection[Key]) -> Tallies:
    """Read a run folder's verdicts; `wanted` are the taps whose clips are told one by one.

    ConfigError for verdicts that can't be read.
    """
    overall: dict[str, Spread] = defaultdict(Spread)
    taps: dict[Key, Spread] = {k: Spread() for k in wanted}
    failing: dict[Key, list[Verdict]] = {k: [] for k in wanted}
    found = Tallies(overall, taps, failing, [])
    flipping: set[Key] = set()
    for v in read_verdicts(folder):
        if v.tap == LABEL:
            if v.outcome == "fail" and v.message.startswith("label flipped"):
                found.flipped += 1
                if len(found.flips) < FLIPS or key(v) not in flipping:
                    found.flips.append(v)
                flipping.add(key(v))
            continue
        if v.ratio is not None or v.outcome in FAILED:
            overall["fail" if v.outcome in FAILED else v.outcome].add(v)
        of = key(v)
        if of in taps:
            taps[of].add(v)
            if v.outcome == "fail":
                failing[of].append(v)
    for of, verdicts in failing.items():
        kept = [v for v in verdicts if array_path(folder, "|".join(key_of(v))).is_file()]
        failing[of] = sorted(kept, key=lambda v: (severity(v), own_severity(v), v.clip), reverse=True)
    return found
