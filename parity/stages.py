"""The isolated error of each stage of a recipe: what it did with the input that it had, not with the right one.

The oracle's stage is applied, in float64, to the candidate's own output of the stage before, and what comes out is
compared with the candidate's output, within the bound that this stage's arithmetic alone allows. A fault shows where it
was made and nowhere else, while cumulative errors are handed on. It needs the candidate's arrays only, so that it works
for any backend and for dumps. Where taps between are missing, the stages in between are applied together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from parity import compare
from parity import frontend as fe
from parity.backends import reference
from parity.bounds import features as bounds
from parity.bounds.features import Interval
from parity.compare import Comparison
from parity.protocols import Arithmetic, Array, Clip, Tap
from parity.records import Verdict

SAMPLES = ""
"""Stands for the clip's samples, where no tap before was given."""


@dataclass(frozen=True, eq=False)
class Own:
    """A stage, or the stages since the tap before, judged by themselves."""

    since: Tap
    """The candidate's tap that the oracle's stages were applied to; '' for the clip's samples."""
    right: Interval
    """What these stages make of it, and how far float32 may be from that."""
    comparison: Comparison

    def error(self, candidate: Array) -> Array | None:
        """Candidate minus oracle, element by element, float64; None where the shapes differ."""
        if candidate.shape != self.right.value.shape:
            return None
        with np.errstate(invalid="ignore"):
            return candidate.astype(np.float64) - self.right.value


def isolated(
    frontend: fe.Frontend, clip: Clip, taps: Mapping[Tap, Array], arithmetic: Arithmetic = "float32"
) -> dict[Tap, Own]:
    """Tap -> its isolated error, for each tap of the recipe that the candidate gave.

    A tap is left out where the oracle's stages can't be applied to what came before it (an array of another number of
    axes, or of bands): nothing can be said of it alone.
    """
    flow = frontend.taps
    out: dict[Tap, Own] = {}
    since, start = SAMPLES, clip.samples.astype(np.float64)
    for i, tap in enumerate(flow):
        if tap not in taps:
            continue
        between = flow[flow.index(since) + 1 if since else 0 : i + 1]
        right = _applied(frontend, since, start, between, arithmetic)
        if right is not None:
            judged = compare.compare(taps[tap], right.value, right.lo, right.hi, frontend.dtype(tap))
            out[tap] = Own(since, right, judged)
        if taps[tap].dtype.kind in "biuf":  # of what isn't a number nothing follows
            with np.errstate(invalid="ignore"):  # a signalling NaN, as bytes in the wrong order have it
                since, start = tap, taps[tap].astype(np.float64)
    return out


def _applied(
    frontend: fe.Frontend, since: Tap, start: Array, between: tuple[Tap, ...], arithmetic: Arithmetic
) -> Interval | None:
    """The oracle's stages on an array at the tap `since`, and their bound; None where they don't take it."""
    x, arrays = start, {since: start} if since else {}
    if start.ndim != (1 if since in (SAMPLES, "features/audio") else 2):
        return None
    try:
        with np.errstate(all="ignore"):  # what it holds is the candidate's: negative powers, NaN
            for tap in between:
                x = arrays[tap] = reference.stage(frontend, tap, x)
            return bounds.bounds(frontend, arrays, arithmetic, since or None)[between[-1]]
    except (ValueError, IndexError, TypeError, ArithmeticError):
        return None


def told(verdict: Verdict, own: Own | None) -> Verdict:
    """A verdict with its stage's isolated error, where there is something to be said of it."""
    if own is None:
        return verdict
    c = own.comparison
    finite = {name: x if x is not None and np.isfinite(x) else None for name, x in
              (("own_error", c.error), ("own_bound", c.bound), ("own_ratio", c.ratio))}  # fmt: skip
    return msgspec.structs.replace(verdict, own_outcome=c.outcome, own_from=own.since, **finite)
