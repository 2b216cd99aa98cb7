"""What the catalogue is made of: settings that are one of a few, and knobs that are a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from parity.explain.definition import Definition
from parity.protocols import Tap

USUAL, PLAUSIBLE, RARE, GENERIC = range(4)
"""How soon a setting is named among those that explain as much: one that people really mix up, one of theirs, ..."""


@dataclass(frozen=True, eq=False)
class Setting:
    """One setting another way."""

    key: str
    """Stable: `window.periodic`."""
    words: str
    """`window symmetric, not periodic`."""
    tap: Tap
    """The first tap that it can change."""
    change: Callable[[Definition], Definition | None]
    """None where a definition has nothing to change."""
    rank: int = USUAL
    others: tuple[Setting, ...] = ()
    """Other ways to do the same: tried where this one comes near."""


@dataclass(frozen=True, eq=False)
class Knob:
    """A number to be found: estimated from the evidence."""

    key: str
    words: Callable[[float], str]
    tap: Tap
    change: Callable[[Definition, float], Definition | None]
    starts: tuple[float, ...]
    """Usual values; the estimate sets out from the best of them."""
    neutral: float | None = None
    """Where it changes nothing."""
    low: float = -float("inf")
    high: float = float("inf")
    positive: bool = False
    """Fitted on its logarithm."""
    whole: bool = False
    estimate: bool = True
    """False: only the usual values are tried."""
    rank: int = USUAL

    def at(self, x: float) -> Setting:
        """The setting that a value of it is."""
        return Setting(self.key, self.words(x), self.tap, lambda d: self.change(d, x), self.rank)
