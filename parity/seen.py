"""What became of one drawn clip: its verdicts, and what a search asks of them."""

from __future__ import annotations

import dataclasses

from parity.errors import NothingCompared
from parity.evidence import Evidence
from parity.records import Verdict, severity
from parity.taps import LABEL, MARGIN, MODEL_INPUT, is_feature

FAILED = frozenset({"fail", "missing", "error"})


class Refused(NothingCompared):
    """A plugin refused the clip, and said why."""


class Unheld(NothingCompared):
    """What the pair is held to failed at the clip, so that it was held to nothing there."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """What became of one clip."""

    verdicts: tuple[Verdict, ...]
    exact: bool
    """By bounds worked out for this clip, where a network was compared."""
    largest: float
    """The largest finite number that the pair gave, as its power of two; 0 where it gave none."""
    evidence: tuple[Evidence, ...] = ()

    @property
    def failing(self) -> Verdict | None:
        """The first tap that fails, in flow order."""
        return next((v for v in self.verdicts if v.outcome in FAILED), None)

    @property
    def worst(self) -> Verdict:
        """The worst of all."""
        return max(self.verdicts, key=severity)

    @property
    def ratio(self) -> float:
        """The largest error over bound."""
        return max((v.ratio for v in self.verdicts if v.ratio is not None), default=0.0)

    @property
    def network_ratio(self) -> float:
        """The largest of those that rest on the bounds of activations."""
        return max((v.ratio for v in self.verdicts if v.ratio is not None and guessed(v)), default=0.0)

    @property
    def lead(self) -> float | None:
        """The right label's lead over the next, in what the two may move together; None where no label was decided."""
        found = [v for v in self.verdicts if v.tap == MARGIN and v.golden is not None and v.bound]
        return min((v.golden / v.bound for v in found if v.golden is not None and v.bound), default=None)

    @property
    def nearest(self) -> Verdict:
        """Where the lead is smallest; the worst of all where no label was decided."""
        found = [v for v in self.verdicts if v.tap == MARGIN and v.golden is not None and v.bound]
        return min(found, key=lambda v: (v.golden or 0.0) / (v.bound or 1.0), default=self.worst)

    @property
    def flipped(self) -> Verdict | None:
        """A label that differs, or doesn't come, by more than a near tie first."""
        found = [v for v in self.verdicts if v.tap == LABEL and (v.near_tie or v.outcome in FAILED)]
        return max(found, key=severity, default=None)


def guessed(v: Verdict) -> bool:
    """Whether a verdict rests on the bounds of activations."""
    return not is_feature(v.tap) and v.tap != MODEL_INPUT and v.outcome in ("pass", "fail", "gap")
