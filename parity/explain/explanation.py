"""What an explanation says: results only, the same for front ends and for networks."""

from __future__ import annotations

from dataclasses import dataclass, field

from parity.protocols import Tap


@dataclass(frozen=True)
class Cause:
    """One setting that the candidate has another way."""

    key: str
    """Stable: `window.periodic`."""
    words: str
    """`window symmetric, not periodic`."""
    tap: Tap
    """The first tap that it changes."""


INTERRUPTED = "interrupted: what was found so far"
CLOSE = 0.1
"""Share of the error that a change must explain to be named as the closest where nothing explains all of it."""
Causes = tuple[Cause, ...]
"""What explains together: one setting, or a pair."""


@dataclass(frozen=True)
class Finding:
    """A divergence that starts at a tap, and the settings that explain it."""

    tap: Tap
    alternatives: tuple[Causes, ...]
    """The simplest first. More than one explains as much: these can't be told apart at the taps at hand.

    Where `complete` is false: the closest alone, or nothing."""
    complete: bool
    """With this change, and those of the findings before it, every element of this tap is within its bound on every
    clip."""
    share: float | None
    """1 - rms(candidate - changed oracle) / rms(candidate - oracle), over all clips; None where shapes differ."""
    inside_before: float
    """Share of the elements within bound of the oracle as it was before this finding."""
    inside: float
    before: float | None
    """Largest error before; None where shapes differ or elements aren't finite."""
    after: float | None
    unit: str = ""
    shapes: str = ""
    """What there is in the place of a size: `shape [101, 50], not [98, 50]`, or elements that aren't finite."""


@dataclass(frozen=True)
class Explanation:
    """What explains one candidate: findings in flow order."""

    system: str
    backend: str
    clips: tuple[str, ...]
    taps: tuple[Tap, ...]
    """The candidate's, in flow order."""
    findings: tuple[Finding, ...] = field(default=())
    complete: bool = False
    """Every element of every tap on every clip is within bound under all findings together."""
    note: str = ""
    """What can't be searched, or was right from the start."""
    tried: int = 0
    """Recipes that were computed."""
    runtime: str = ""
    precision: str = ""
    target: str = "local"
    path: str = "features"
    interrupted: bool = False
    """The search was ended before its end: the last finding is the closest so far."""
