"""How far a correct float32 implementation may be from the oracle, element by element, derived from the arithmetic.

Running error analysis over the stages of a recipe, starting from the oracle's float64 arrays. `U` is float32's unit
roundoff, 2^-24. At each tap the result is a pair of arrays around the oracle's value, `lo <= value <= hi`; they are
asymmetric where the stage is (logarithms near their floor, magnitudes near zero, rounding edges).

Where a stage sums many independent rounding errors, the bound takes the root of the sum of their squares times a
constant, not the sum itself: the sum would be twice to twenty times as wide and see that much less. The constants are
measured on real and designed clips (CONTRIBUTING.md, "Bounds", says how); everything else follows from IEEE 754.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parity import frontend as fe
from parity.backends import reference
from parity.protocols import Array, Tap

U = 2.0**-24

FFT = 3.0
"""|dX_k| over U·sqrt(n_fft)·‖windowed frame‖₂. Largest measured: 1.96 (Higham 2002, 24.1, has the form)."""
WINDOW = 8.0
"""Absolute error of a window computed in float32, in U: cos of a rounded argument. Largest seen: 5.1 (tf.signal)."""
WINDOW_SUM = 3.0
"""Spread of the window's errors summed over a frame, in root sums of squares. Largest measured on Hann and Hamming of
64 to 2,205 samples: 2.21 (torch.hann_window(800)); at 4,096, where float32 phases err together: 4.26 (torch, symmetric
Hamming)."""
BANK = 1.0
"""Error of a band over the root sum of squares of its bins' weighted bounds. Largest measured: 0.51."""
CEPSTRUM = 2.0
"""The same for a coefficient and its bands: the bands of a pure tone err together. Largest measured: 1.58."""
SUM = 2.0
"""Accumulated rounding of a positive sum of n terms over U·sqrt(n)·sum."""
LOG = 6.0
"""Error of a float32 logarithm, as ln(x)/ln(10) in three roundings, in U times its value."""
DCT = 8.0
"""Error of a float32 DCT over U·sqrt(bands)·‖row ∘ input‖₂."""


@dataclass(frozen=True)
class Interval:
    """`lo <= value <= hi`, three float64 arrays of one shape."""

    value: Array
    lo: Array
    hi: Array


def _around(value: Array, error: Array) -> Interval:
    return Interval(value, value - error, value + error)


def bounds(frontend: fe.Frontend, oracle: dict[Tap, Array], start: Tap | None = None) -> dict[Tap, Interval]:
    """Tap -> interval, given the oracle's arrays of a clip (see `reference.oracle`), as far as these go.

    With `start` the array at that tap is a candidate's own and the later ones are the oracle's stages applied to it:
    how far the stages after it may be by themselves. It is known as well as a tap is: rounded to float32.
    """
    out: dict[Tap, Interval] = {}
    error = drawn = np.zeros(0)  # of the samples, framed, windowed; and of the window: absolute, per sample
    last = Interval(error, error, error)
    stages = frontend.stages()
    if start is not None:
        value = np.asarray(oracle[start], np.float64)
        rounded = U * np.abs(value) if frontend.dtype(start).startswith("float") else np.zeros(value.shape)
        error, drawn, last = rounded, np.zeros(value.shape), _around(value, rounded)
        stages = dict(list(stages.items())[frontend.taps.index(start) + 1 :])
    for tap, stage in stages.items():
        if tap not in oracle:
            break
        value = np.asarray(oracle[tap], np.float64)
        match stage:
            case fe.Input():
                error = _input_error(value, stage)
                out[tap] = _around(value, error)
            case fe.Frame():
                error = reference.frames(error, stage) if error.any() else np.zeros(value.shape)
                out[tap] = _around(value, error)
            case fe.Window():
                w = reference.window(stage, value.shape[-1])
                cosine = WINDOW * (w != 0) if stage.name != "rectangular" else 0.0 * w
                drawn = U * np.abs(oracle["features/frames"]) * (cosine + 2.0 * w)
                error = w * error
                out[tap] = _around(value, drawn + error)
            case fe.Spectrum():
                out[tap] = _spectrum(value, stage, oracle["features/windowed"], drawn, error)
            case fe.Micro():
                out[tap] = _around(value, np.zeros(value.shape))  # integers: equal, or not this front end
            case fe.Mel() | fe.Pool():
                out[tap] = _bank(value, reference.bank(frontend), last)
            case fe.Log():
                out[tap] = _log(value, stage, last)
            case fe.Decibel():
                out[tap] = _decibel(value, stage, last)
            case fe.Cepstrum():
                out[tap] = _cepstrum(value, stage, frontend, last)
            case fe.Normalize():
                out[tap] = _normalize(value, stage, last)
            case fe.Quantize():
                out[tap] = quantized(value, stage, last)
        last = out[tap]
    return out


def _input_error(x: Array, s: fe.Input) -> Array:
    """Copying and powers of two are exact; a division and a difference are not."""
    relative = 2.0 * U if s.peak_normalize else 0.0
    if not s.pre_emphasis:
        return relative * np.abs(x)
    before = np.abs(s.pre_emphasis * np.concatenate([np.zeros(1), _without_emphasis(x, s.pre_emphasis)[:-1]]))
    # y = x - a·x': a, the product and the difference round; |x| <= |y| + |a·x'|.
    error = 2.0 * U * (np.abs(x) + before) + relative * (np.abs(x) + 2.0 * before)
    error[np.flatnonzero(x)[-1] + 1 if x.any() else 0 :] = 0.0  # zeros put on the right are exact
    return error


def _without_emphasis(y: Array, a: float) -> Array:
    """What went into y = x - a·x', float64 `[n]`: slow samples are much larger than y, and round by their own size."""
    kernel = np.abs(a) ** np.arange(len(y))
    kernel = kernel[: np.count_nonzero(kernel > 1e-9)]
    return np.convolve(y, np.copysign(1.0, a) ** np.arange(len(kernel)) * kernel)[: len(y)]


def _spectrum(value: Array, s: fe.Spectrum, windowed: Array, drawn: Array, error: Array) -> Interval:
    norm = np.sqrt(np.square(windowed).sum(axis=-1, keepdims=True))
    drift = np.sqrt(np.square(drawn).sum(axis=-1, keepdims=True))
    # Slow samples round alike in a pre-emphasis: up to 2.8 root sums were measured with an offset, so they add up.
    shared = error.sum(axis=-1, keepdims=True)
    bin_error = FFT * U * np.sqrt(s.n_fft) * norm + WINDOW_SUM * drift + shared
    unit = 1.0 / s.n_fft if s.scaling == "1/n_fft" else 1.0
    if s.exponent == 1:
        return _around(value, bin_error * unit + 3.0 * U * value)
    # |X ± e|² = |X|² ± 2e|X| + e². Not clamped at zero below: nothing is there to be told apart from zero, and a
    # clamped end would turn every harmless zero into an error of exactly one bound.
    return _around(value, (2.0 * np.sqrt(value / unit) + bin_error) * bin_error * unit + 6.0 * U * value)


def _bank(value: Array, bank: Array, x: Interval) -> Interval:
    squares = np.square(bank)
    half = BANK * np.sqrt(np.square(x.hi - x.value) @ squares.T)
    # Weights are rounded once (U each), and a positive sum of n products rounds with about sqrt(n).
    own = U * (2.0 + SUM * np.sqrt(np.count_nonzero(bank, axis=1))) * value
    return _around(value, half + own)


def _log_of(x: Array, base: float) -> Array:
    with np.errstate(divide="ignore"):
        return np.log(x) / np.log(base)


def _log(value: Array, s: fe.Log, x: Interval) -> Interval:
    base = np.e if s.base == "e" else 10.0
    lo = _log_of((np.maximum(x.lo, max(s.floor, 0.0)) + s.offset) * (1.0 - 2.0 * U), base)
    hi = _log_of((np.maximum(x.hi, s.floor) + s.offset) * (1.0 + 2.0 * U), base)
    with np.errstate(invalid="ignore"):
        own = LOG * U * np.where(np.isfinite(value), np.abs(value), 0.0)
    return Interval(value, lo - own, hi + own)


def _decibel(value: Array, s: fe.Decibel, x: Interval) -> Interval:
    ends = []
    for end, ref_end, sign in ((x.lo, x.hi, -1.0), (x.hi, x.lo, 1.0)):
        ref = ref_end.max(initial=0.0) if s.ref == "max" else abs(float(s.ref))
        level, ref_level = 10.0 * np.log10(np.maximum(end, s.amin)), 10.0 * np.log10(max(ref, s.amin))
        # Each of the two logarithms rounds by itself, before they are subtracted.
        db = level - ref_level + sign * LOG * U * (np.abs(level) + abs(ref_level) + 10.0)
        ends.append(db if s.top_db is None else np.maximum(db, db.max(initial=-np.inf) - s.top_db))
    return Interval(value, ends[0], ends[1])


def _cepstrum(value: Array, s: fe.Cepstrum, frontend: fe.Frontend, x: Interval) -> Interval:
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
    least = x.value.min(axis=-1, keepdims=True, initial=np.inf)
    with np.errstate(invalid="ignore"):
        equal = ~shared & (x.value <= least + 4.0 * U * (1.0 + np.abs(least)))
    equal &= np.count_nonzero(equal, axis=-1, keepdims=True) > 2
    rounding = np.where(equal, half, np.inf).min(axis=-1, keepdims=True, initial=np.inf)
    together += np.abs(equal @ matrix.T) * np.where(np.isfinite(rounding), rounding, 0.0)
    own = DCT * U * np.sqrt(x.value.shape[-1]) * np.sqrt(np.square(x.value) @ np.square(matrix).T)
    return _around(value, free + together + own)


def _normalize(value: Array, s: fe.Normalize, x: Interval) -> Interval:
    mean, spread = np.asarray(s.mean), np.abs(np.asarray(s.spread))
    half = np.maximum(x.hi - x.value, x.value - x.lo)
    return _around(value, half / spread + 2.0 * U * (np.abs(value) + (np.abs(x.value) + np.abs(mean)) / spread))


def quantized(value: Array, s: fe.Quantize, x: Interval) -> Interval:
    """An element may move by a step only where what it is rounded from may lie on the other side of an edge."""
    most = np.maximum(np.abs(x.lo), np.abs(x.hi))
    # The scale is rounded and the quotient is; those by a power of two aren't. `half-away` adds a half, which rounds.
    own = 0.0 * most if np.frexp(s.scale)[0] == 0.5 else 2.0 * U * most
    if s.rounding == "half-away":
        own = own + U * (most + 0.5 * s.scale)
    return Interval(value, *(reference.quantize(end, s).astype(np.float64) for end in (x.lo - own, x.hi + own)))
