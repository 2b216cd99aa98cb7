"""Bounds from the logarithm on: ln, log10 and dB, the DCT, a fixed normalization, quantization.

Each function takes the oracle's value after its stage and the interval before it. They are the same in both classes of
arithmetic (see `parity.bounds.features`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from parity import frontend as fe
from parity.backends import reference
from parity.bounds.interval import DOUBLE, Interval, U, around
from parity.protocols import Array

LOG = 6.0
"""Error of a float32 logarithm, as ln(x)/ln(10) in three roundings, in U times its value."""
CEPSTRUM = 2.0
"""Error of a coefficient over the root sum of squares of its bands' weighted bounds: the bands of a pure tone err
together. Largest measured: 1.58."""
ONE_SIDED = 4.0
"""How many times as far up as down a level may be off where it is nothing but rounding: elsewhere less than once."""
LIFTER = 3.0
"""Roundings of a lifter's argument in float32: pi, its product, its quotient; the sine and its product add two."""
DCT = 8.0
"""Error of a float32 DCT over U·sqrt(bands)·‖row ∘ input‖₂."""


def _log_of(x: Array, base: float) -> Array:
    with np.errstate(divide="ignore"):
        return np.log(x) / np.log(base)


def log(value: Array, s: fe.Log, x: Interval) -> Interval:
    """ln or log10 of max(x, floor) + offset. The lower end is -inf where zero is within the bound."""
    base = _base(s)
    lo = _log_of((np.maximum(x.lo, max(s.floor, 0.0)) + s.offset) * (1.0 - 2.0 * U), base)
    hi = _log_of((np.maximum(x.hi, s.floor) + s.offset) * (1.0 + 2.0 * U), base)
    own = LOG * U * np.where(np.isfinite(value), np.abs(value), 0.0)
    return Interval(value, lo - own, hi + own)


def decibel(value: Array, s: fe.Decibel, x: Interval) -> Interval:
    """dB against a reference that errs as well; each end has its own maximum, which `top_db` counts from."""
    ends = []
    for end, ref_end, sign in ((x.lo, x.hi, -1.0), (x.hi, x.lo, 1.0)):
        ref = ref_end.max(initial=0.0) if s.ref == "max" else abs(float(s.ref))
        level, ref_level = 10.0 * np.log10(np.maximum(end, s.amin)), 10.0 * np.log10(max(ref, s.amin))
        # Each of the two logarithms rounds by itself, before they are subtracted.
        db = level - ref_level + sign * LOG * U * (np.abs(level) + abs(ref_level) + 10.0)
        ends.append(db if s.top_db is None else np.maximum(db, db.max(initial=-np.inf) - s.top_db))
    return Interval(value, ends[0], ends[1])


def cepstrum(value: Array, s: fe.Cepstrum, frontend: fe.Frontend, x: Interval) -> Interval:
    """A sum of bands that err each for itself, but for those that are equal by the recipe and err together."""
    ends = (x.value, x.lo, x.hi)
    endless = ~np.logical_and.reduce([np.isfinite(end) for end in ends]).all(axis=-1, keepdims=True)
    if endless.any():
        # The logarithm of zero is in the sum, or may be: no number is right, and NaN isn't wrong.
        found = cepstrum(
            np.where(endless, 0.0, value), s, frontend, Interval(*(np.where(endless, 0.0, end) for end in ends))
        )
        filled = ((np.nan, value), (-np.inf, found.lo), (np.inf, found.hi))
        return Interval(*(np.where(endless, end, known) for end, known in filled))
    matrix = reference.dct_matrix(s, x.value.shape[-1])
    half = np.maximum(x.hi - x.value, x.value - x.lo)
    shared, threshold = np.zeros(half.shape, bool), 0.0
    if isinstance(c := frontend.compress, fe.Decibel) and c.top_db is not None and x.value.size:
        # Clamped elements are all at one threshold and share its error: that part goes through the sum linearly.
        # Those that rounding may lift above it err each for itself as well.
        top = x.value.max()
        shared, threshold = x.value <= top - c.top_db, max(x.hi.max() - top, top - x.lo.max())
    own_half = np.where(shared, np.maximum(half - threshold, 0.0), half)
    free = CEPSTRUM * np.sqrt(np.square(own_half) @ np.square(matrix).T)
    together = np.abs(np.where(shared, half, 0.0) @ matrix.T)
    # The same holds for the rounding of elements that are equal anyhow, at a logarithm's floor or in a flat spectrum.
    least = x.value.min(axis=-1, keepdims=True)
    equal = ~shared & (x.value <= least + 4.0 * U * (1.0 + np.abs(least)))
    equal &= np.count_nonzero(equal, axis=-1, keepdims=True) > 2
    rounding = np.where(equal, half, np.inf).min(axis=-1, keepdims=True)
    together += np.abs(equal @ matrix.T) * np.where(np.isfinite(rounding), rounding, 0.0)
    # And for what errs to one side only: where a level is nothing but rounding it is above its floor in every band.
    up, down = x.hi - x.value, x.value - x.lo
    raised = np.where(~shared & (up > ONE_SIDED * down), up - down, 0.0)
    # Noise that is larger than what it is added to raises it, though the bound reaches down to the floor as well.
    raised = np.where(~shared & (up > _doubled(frontend.compress)) & (down >= up), up, raised)
    together += np.abs(raised @ matrix.T)
    own = DCT * U * np.sqrt(x.value.shape[-1]) * np.sqrt(np.square(x.value) @ np.square(matrix).T)
    # A cosine that is zero comes out as 6e-17 here and as another such number there.
    own = own + 4.0 * DOUBLE * np.abs(matrix).max() * np.abs(x.value).sum(axis=-1, keepdims=True)
    if s.lifter > 0.0:
        # librosa takes its sine in float32, of an argument that has been rounded.
        plain = np.abs(x.value @ reference.dct_matrix(replace(s, lifter=0.0), x.value.shape[-1]).T)
        own = own + U * (s.lifter / 2.0) * (LIFTER * np.pi / s.lifter * np.arange(1, s.count + 1) + 2.0) * plain
    return around(value, free + together + own)


def _doubled(s: fe.Log | fe.Decibel | None) -> float:
    """What a level rises by when its energy doubles; without a logarithm no rise says that it's noise."""
    if s is None:
        return np.inf
    return 10.0 * np.log10(2.0) if isinstance(s, fe.Decibel) else float(_log_of(np.array(2.0), _base(s)))


def _base(s: fe.Log) -> float:
    return np.e if s.base == "e" else 10.0


def normalize(value: Array, s: fe.Normalize, x: Interval) -> Interval:
    """A difference and a quotient of numbers that are rounded to float32 themselves."""
    mean, spread = np.asarray(s.mean), np.asarray(s.spread)

    def own(at: Array, before: Array) -> Array:
        return 2.0 * U * (np.abs(at) + (np.abs(before) + np.abs(mean)) / np.abs(spread))

    with np.errstate(invalid="ignore"):
        half = np.maximum(x.hi - x.value, x.value - x.lo) / np.abs(spread) + own(value, x.value)
        lo, hi = value - half, value + half
        if not (finite := np.isfinite(half)).all():
            # The logarithm of zero: each end by itself, or the one without end would open the other.
            low, high = (np.where(spread > 0.0, a, b) for a, b in ((x.lo, x.hi), (x.hi, x.lo)))
            down, up = (low - mean) / spread, (high - mean) / spread
            lo = np.where(finite, lo, np.where(np.isfinite(down), down - own(down, low), down))
            hi = np.where(finite, hi, np.where(np.isfinite(up), up + own(up, high), up))
    # Where no coefficient was right or wrong none is here.
    return Interval(np.where(np.isnan(x.value), np.nan, value), lo, hi)


def quantized(value: Array, s: fe.Quantize, x: Interval) -> Interval:
    """An element may move by a step only where what it is rounded from may lie on the other side of an edge."""
    # The end of the logarithm of zero doesn't round.
    most = np.maximum(*(np.where(np.isfinite(end), np.abs(end), 0.0) for end in (x.lo, x.hi)))
    # The scale is rounded and the quotient is; those by a power of two aren't. `half-away` adds a half, which rounds.
    own = 0.0 * most if np.frexp(s.scale)[0] == 0.5 else 2.0 * U * most
    if s.rounding == "half-away":
        own = own + U * (most + 0.5 * s.scale)
    return Interval(value, *(reference.quantize(end, s).astype(np.float64) for end in (x.lo - own, x.hi + own)))
