"""How far a correct implementation may be from the oracle, element by element, derived from the arithmetic.

Running error analysis over the stages of a recipe, starting from the oracle's float64 arrays. At each tap the result
is a pair of arrays around the oracle's value, `lo <= value <= hi`; they are asymmetric where the stage is (logarithms
near their floor, rounding edges). This module goes as far as the filter bank, `parity.bounds.levels` from there on.

There are two classes of arithmetic (`protocols.Arithmetic`). In `float32` the window, its product with the samples
and the FFT round as float32 does. In `float64-rounded`, librosa's, they are computed in float64, and the transform is
rounded once to complex64. The samples before and everything behind the transform are float32 in both.

Where a stage sums many independent rounding errors, the bound takes the root of the sum of their squares times a
constant, not the sum itself: the sum would be twice to twenty times as wide and see that much less. The constants are
measured on real and designed clips (CONTRIBUTING.md, "Bounds", says how); everything else follows from IEEE 754.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from parity import frontend as fe
from parity.backends import reference
from parity.bounds import levels
from parity.bounds.interval import DOUBLE, TINY, around
from parity.bounds.interval import Interval as Interval
from parity.bounds.interval import U as U
from parity.protocols import Arithmetic, Array, Tap

FFT = 3.0
"""|dX_k| over U·sqrt(n_fft)·‖windowed frame‖₂. Largest measured: 1.96 (Higham 2002, 24.1, has the form)."""
WINDOW = 8.0
"""Absolute error of a window computed in float32, in U: cos of a rounded argument. Largest seen: 5.1 (tf.signal)."""
WINDOW_SUM = 3.0
"""Spread of the window's errors summed over a frame, in root sums of squares. Largest measured on Hann and Hamming of
64 to 2,205 samples: 2.21 (torch.hann_window(800)); at 4,096, where float32 phases err together: 4.26 (torch, symmetric
Hamming)."""
MODULUS = {"float32": 3.0, "float64-rounded": 5.0}
"""Error of |X| in U times its value, and half of that of |X|²: two squares, their sum, a root that may be squared
again; where the transform is rounded, that of each of its parts. Largest measured of librosa: 3.6."""
BANK = {"mel": 1.0, "pool": 1.25}
"""Error of a band over the root sum of squares of its bins' weighted bounds. Largest measured: 0.51 of a mel bank; of a
pool of 189 bins 1.002, for two low tones in two of its bins, whose errors are alike."""
CORNER = 16.0
"""Error of a corner of the bank, from Hz to mel and back in float64, in its roundoff times the largest and 700 Hz."""
SUM = 2.0
"""Accumulated rounding of a positive sum of n terms over U·sqrt(n)·sum."""


def bounds(
    frontend: fe.Frontend, oracle: Mapping[Tap, Array], arithmetic: Arithmetic = "float32", start: Tap | None = None
) -> dict[Tap, Interval]:
    """Tap -> interval, given the oracle's arrays of a clip (see `reference.oracle`), as far as these go.

    With `start` the array at that tap is a candidate's own and the later ones are the oracle's stages applied to it:
    how far the stages after it may be by themselves. It is known as well as a tap is: rounded to float32.
    """
    out: dict[Tap, Interval] = {}
    # Of the samples, framed, windowed: absolute, per sample; None where all are exact.
    error: Array | None = None
    # Of the window, per frame; of the spectrum, then of the bank, on either side.
    drift = half = value = np.zeros((0, 1))
    last = around(half, None)
    stages = frontend.stages()
    if start is not None:
        value = np.asarray(oracle[start], np.float64)
        exact = not frontend.dtype(start).startswith("float")
        # Samples are copied, as long as nothing is done to them: there is nothing to round.
        source = frontend.input
        exact |= start in ("features/audio", "features/frames") and not (source.peak_normalize or source.pre_emphasis)
        half = np.zeros(value.shape) if exact else U * np.abs(value)
        error, drift, last = (None if exact else half), np.zeros((len(value), 1)), around(value, half)
        stages = dict(list(stages.items())[frontend.taps.index(start) + 1 :])
    for tap, stage in stages.items():
        if tap not in oracle:
            break
        before, value = value, np.asarray(oracle[tap], np.float64)
        match stage:
            case fe.Input():
                error = _input_error(value, stage)
                last = around(value, error)
            case fe.Frame():
                error = None if error is None else reference.frames(error, stage)
                last = around(value, error)
            case fe.Window():
                half, drift = _window(value, stage, before, arithmetic)
                if error is not None:
                    error = reference.window(stage, value.shape[-1]) * error
                    half += error
                last = around(value, half)
            case fe.Spectrum():
                half = _spectrum(value, stage, before, drift, error, arithmetic)
                last = around(value, half)
            case fe.Micro():
                last = around(value, None)  # integers: equal, or not this front end
            case fe.Mel() | fe.Pool():
                half = _bank(value, frontend, half, before)
                last = around(value, half)
            case fe.Log():
                last = levels.log(value, stage, last)
            case fe.Decibel():
                last = levels.decibel(value, stage, last)
            case fe.Cepstrum():
                last = levels.cepstrum(value, stage, frontend, last)
            case fe.Normalize():
                last = levels.normalize(value, stage, last)
            case fe.Quantize():
                last = levels.quantized(value, stage, last)
        out[tap] = last
    return out


def _input_error(x: Array, s: fe.Input) -> Array | None:
    """Copying and powers of two are exact (but denormals may be flushed); a division and a difference are not."""
    relative, magnitude = 2.0 * U if s.peak_normalize else 0.0, np.abs(x)
    if not s.pre_emphasis:
        small = (magnitude < TINY) & (magnitude > 0.0)
        return relative * magnitude + TINY * small if relative or small.any() else None
    before = np.abs(s.pre_emphasis * np.concatenate([np.zeros(1), _without_emphasis(x, s.pre_emphasis)[:-1]]))
    # y = x - a·x': a, the product and the difference round; |x| <= |y| + |a·x'|.
    error = 2.0 * U * (magnitude + before) + relative * (magnitude + 2.0 * before) + TINY
    error[np.flatnonzero(x)[-1] + 1 if x.any() else 0 :] = 0.0  # zeros put on the right are exact
    return error


def _without_emphasis(y: Array, a: float) -> Array:
    """What went into y = x - a·x', float64 `[n]`: slow samples are much larger than y, and round by their own size."""
    kernel = np.abs(a) ** np.arange(len(y))
    kernel = kernel[: np.count_nonzero(kernel > 1e-9)]
    return np.convolve(y, np.copysign(1.0, a) ** np.arange(len(kernel)) * kernel)[: len(y)]


def weights_error(s: fe.Window, frame: int) -> Array:
    """How far a window's weights and the products with them may be off, in roundoffs times the sample, `[frame]`."""
    w = reference.window(s, frame)
    return (WINDOW * (w != 0) if s.name != "rectangular" else 0.0) + 2.0 * w


_weights_error = lru_cache(maxsize=64)(weights_error)


def _window(value: Array, s: fe.Window, frames: Array, arithmetic: Arithmetic) -> tuple[Array, Array]:
    """Bound of the windowed frames `[frames, length]`, and how far the window moves a transform `[frames, 1]`."""
    own = _weights_error(s, value.shape[-1])
    if arithmetic == "float32":
        half = np.abs(frames)
        half *= U * own
        drift = _norm(half)
    else:
        # A tap in float32 is rounded once; no more than float64's own error goes on into the transform.
        half = np.abs(value)
        half *= U
        drift = DOUBLE * np.sqrt(np.square(frames) @ np.square(own))[:, None]
    half += TINY
    return half, drift


def _norm(x: Array) -> Array:
    """Root of the sum of squares of each row, `[rows, 1]`."""
    return np.sqrt(np.einsum("ij,ij->i", x, x))[:, None]


def _spectrum(
    value: Array, s: fe.Spectrum, windowed: Array, drift: Array, error: Array | None, arithmetic: Arithmetic
) -> Array:
    """|X ± e|² = |X|² ± 2e|X| + e². Not clamped at zero below: nothing is there to be told apart from zero, and a
    clamped end would turn every harmless zero into an error of exactly one bound."""
    transform = FFT * np.sqrt(s.n_fft) * _norm(windowed)
    if arithmetic == "float32":
        bin_error = U * transform + WINDOW_SUM * drift
    else:
        bin_error = 2.0 * (DOUBLE * transform + WINDOW_SUM * drift)  # the oracle errs by as much
    if error is not None:
        # Slow samples round alike in a pre-emphasis: up to 2.8 root sums were measured with an offset, so they add up.
        bin_error = bin_error + error.sum(axis=-1, keepdims=True)
    own, unit = MODULUS[arithmetic] * U, 1.0 / s.n_fft if s.scaling == "1/n_fft" else 1.0
    if s.exponent == 1:
        half = own * value
        half += bin_error * unit + 2.0 * np.sqrt(TINY)  # the root of squares that may be flushed
        return half
    half = np.sqrt(value)
    half *= 2.0 * bin_error * np.sqrt(unit)
    half += np.square(bin_error) * unit + 2.0 * TINY
    half += (2.0 * own) * value
    return half


def bank_error(frontend: fe.Frontend) -> tuple[Array, Array]:
    """Squares of a bank's weights `[bins, bands]`, and its own rounding in units of each band `[bands]`.

    Weights are rounded once (U each), and a positive sum of n products rounds with about sqrt(n).
    """
    bank = reference.bank(frontend)
    return np.square(bank).T.copy(), U * (2.0 + SUM * np.sqrt(np.count_nonzero(bank, axis=1)))


_bank_error = lru_cache(maxsize=64)(bank_error)


@lru_cache(maxsize=64)
def corner_error(frontend: fe.Frontend) -> Array | None:
    """Weights of a bank that are nothing but rounding: how far each may be off, `[bins, bands]`; None: there are none.

    A band so narrow that its only bin lies on one of its corners weighs it with 0 here, and with 1e-13 there.
    """
    s = frontend.filterbank
    if not isinstance(s, fe.Mel) or s.triangles == "bins" or frontend.spectrum is None:
        return None
    hz = reference.mel_edges(s)
    corners, at = hz, np.arange(frontend.bins) * frontend.input.rate / frontend.spectrum.n_fft
    if s.triangles == "mel":
        corners, at = reference.hz_to_mel(hz, s.scale), reference.hz_to_mel(at, s.scale)
    left, center, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    off = CORNER * DOUBLE * (corners[-1] + 700.0)
    moved = 2.0 * off / np.minimum(center - left, right - center) * ((at >= left - off) & (at <= right + off))
    if s.norm == "slaney":
        moved *= 2.0 / (hz[2:] - hz[:-2])[:, None]
    moved[moved.max(axis=1) <= U * reference.bank(frontend).max(axis=1)] = 0.0
    return moved.T.copy() if moved.any() else None


def _bank(value: Array, frontend: fe.Frontend, half: Array, before: Array) -> Array:
    squares, own = _bank_error(frontend)
    out = np.sqrt(np.square(half) @ squares)
    assert frontend.filterbank is not None
    out *= BANK[frontend.filterbank.kind]
    out += own * value
    out += TINY * len(squares)  # products may be flushed
    if (corners := corner_error(frontend)) is not None:
        out += before @ corners
    return out
