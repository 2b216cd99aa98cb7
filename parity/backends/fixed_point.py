"""The microcontrollers' audio front end in integers, bit for bit: what a recipe's `micro` stage means.

Written from the definition: the algorithm of TensorFlow's microfrontend, which is KISS FFT in Q15, triangles in
1127·ln mel with 12-bit weights, and the noise reduction, PCAN (Wang et al. 2017, "Trainable frontend", with fixed
gains) and logarithm (Pérez et al. 2007, a table of 128 segments) of that library. Settings are worked out in float32
where the definition does so; from the samples on there are integers only, and they wrap where its registers do.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from parity.frontend import Micro
from parity.protocols import Array

_WINDOW_BITS, _BANK_BITS, _NOISE_BITS, _SNR_BITS, _PCAN_BITS = 12, 12, 14, 12, 6
_ONE = 32767
"""1.0 in Q15, as KISS FFT has it."""


def _f32(x: Array | float) -> Array:
    return np.asarray(x, np.float32)


def _top_bit(x: Array) -> Array:
    """Position of the highest bit that is set, counted from 1; 0 for 0."""
    return np.frexp(x.astype(np.float64))[1].astype(np.int64)  # exact below 2^53


def window(length: int) -> Array:
    """A Hann window whose points lie between the samples, in 12 bits, int32 `[length]`."""
    step = np.float64(np.float32(2.0 * np.pi / length))
    w = _f32(0.5 - 0.5 * np.cos(step * (np.arange(length) + 0.5)))
    return np.floor(w.astype(np.float64) * (1 << _WINDOW_BITS) + 0.5).astype(np.int32)


Complex = tuple[Array, Array]
"""Real and imaginary parts in Q15, int64 that holds 16 bits."""


def _wrapped(x: Array) -> Array:
    """A sum as a register of 16 bits keeps it."""
    return x.astype(np.int16).astype(np.int64)


def _rounded(x: Array) -> Array:
    """A Q30 product (or sum of two) as Q15."""
    return _wrapped((x + (1 << 14)) >> 15)


def _product(a: Complex, b: Complex) -> Complex:
    return _rounded(a[0] * b[0] - a[1] * b[1]), _rounded(a[0] * b[1] + a[1] * b[0])


def _sum(a: Complex, b: Complex) -> Complex:
    return _wrapped(a[0] + b[0]), _wrapped(a[1] + b[1])


def _difference(a: Complex, b: Complex) -> Complex:
    return _wrapped(a[0] - b[0]), _wrapped(a[1] - b[1])


def _divided(x: Complex, by: int) -> Complex:
    """Scaled down ahead of a butterfly of `by` points, so that no sum can leave 16 bits."""
    return _rounded(x[0] * (_ONE // by)), _rounded(x[1] * (_ONE // by))


def _root(phase: Array) -> Complex:
    """cos and sin."""
    return np.floor(0.5 + _ONE * np.cos(phase)).astype(np.int64), np.floor(0.5 + _ONE * np.sin(phase)).astype(np.int64)


def _complex_fft(x: Complex, total: int) -> Complex:
    """Decimation in time by four, and by two where four doesn't divide, `[frames, n]`; `total` is the whole size."""
    n = x[0].shape[-1]
    if n == 1:
        return x
    radix = 4 if n % 4 == 0 else 2
    m, stride = n // radix, total // n
    parts = []
    for q in range(radix):
        part = _divided(_complex_fft((x[0][:, q::radix], x[1][:, q::radix]), total), radix)
        angle = -2.0 * np.pi * (np.arange(m) * q * stride) / total
        parts.append(_product(part, _root(angle)) if q else part)
    if radix == 2:
        outs = [_sum(*parts), _difference(*parts)]
    else:
        a, b, c, d = parts
        even, odd = (_sum(a, c), _difference(a, c)), (_sum(b, d), _difference(b, d))
        turned = odd[1][1], -odd[1][0]  # times -i
        outs = [_sum(even[0], odd[0]), _sum(even[1], turned)]
        outs += [_difference(even[0], odd[0]), _difference(even[1], turned)]
    return np.concatenate([o[0] for o in outs], axis=-1), np.concatenate([o[1] for o in outs], axis=-1)


def real_fft(x: Array) -> Complex:
    """Real and imaginary part in Q15, scaled by 1/n, int64 `[frames, n // 2 + 1]` for int16 `[frames, n]`."""
    half = x.shape[-1] // 2
    # Even samples as real part, odd ones as imaginary: one transform of half the size, taken apart afterwards.
    zr, zi = _complex_fft((x[:, 0::2].astype(np.int64), x[:, 1::2].astype(np.int64)), half)
    re, im = np.zeros((len(x), half + 1), np.int64), np.zeros((len(x), half + 1), np.int64)
    first, second = _divided((zr[:, 0], zi[:, 0]), 2)
    re[:, 0], re[:, half] = _wrapped(first + second), _wrapped(first - second)
    k = np.arange(1, half // 2 + 1)
    here = _divided((zr[:, k], zi[:, k]), 2)
    mirror = _divided((zr[:, half - k], _wrapped(-zi[:, half - k])), 2)
    sr, si = _sum(here, mirror)
    tr, ti = _product(_difference(here, mirror), _root(-np.pi * (k / half + 0.5)))
    re[:, k], im[:, k] = _wrapped((sr + tr) >> 1), _wrapped((si + ti) >> 1)
    re[:, half - k], im[:, half - k] = _wrapped((sr - tr) >> 1), _wrapped((ti - si) >> 1)
    return re, im


def _mel(hz: Array | float) -> Array:
    return _f32(1127.0 * np.log1p(_f32(hz).astype(np.float64) / 700.0))


def _corners(s: Micro) -> Array:
    """Mel of the bands' centers and of the upper limit, float32 `[bands + 1]`."""
    low, high = _mel(s.fmin), _mel(s.fmax)
    return low + (high - low) / np.float32(s.bands + 1) * np.arange(1, s.bands + 2, dtype=np.float32)


def centers(s: Micro) -> Array:
    """Where each band is centered, in Hz, float64 `[bands]`."""
    return 700.0 * np.expm1(_corners(s)[:-1].astype(np.float64) / 1127.0)


@lru_cache(maxsize=16)
def bank(s: Micro, rate: int) -> Array:
    """Weights in 12 bits, int64 `[bands, bins]`; bin 0 is never among them."""
    n_fft = fft_size(s)
    width, corners = np.float32(0.5 * rate / np.float32(n_fft // 2)), _corners(s)
    found = np.zeros((s.bands + 1, n_fft // 2 + 1), np.int64)
    bin_, below = int(1.5 + np.float64(_f32(s.fmin) / width)), _mel(s.fmin)
    for band, corner in enumerate(corners):
        while bin_ <= n_fft // 2 and (mel := _mel(float(np.float32(bin_) * width))) <= corner:
            falling = np.float64((corner - mel) / (corner - below))
            # A bin between two centers belongs to both: as much as is not the lower one's is the upper one's.
            if band:
                found[band - 1, bin_] = np.floor(falling * (1 << _BANK_BITS) + 0.5)
            found[band, bin_] = np.floor((1.0 - falling) * (1 << _BANK_BITS) + 0.5)
            bin_ += 1
        below = corner
    found = found[:-1]
    found.setflags(write=False)
    return found


def fft_size(s: Micro) -> int:
    """The power of two that a frame fits in."""
    return 1 << (s.length - 1).bit_length()


def rounded_root(x: Array) -> Array:
    """The square root of uint64, rounded to the nearest; below 2^32 it stays within 16 bits."""
    r = np.sqrt(x.astype(np.float64)).astype(np.uint64)
    r = np.where(r * r > x, r - np.uint64(1), r)  # float64 has 53 bits only
    r = np.where(x - r * r > np.uint64(2) * r, r + np.uint64(1), r)
    up = (x - r * r > r) & ((x >> np.uint64(32) != 0) | (r != 0xFFFF)) & (r != 0xFFFFFFFF)
    return (r + up).astype(np.int64)


@lru_cache(maxsize=16)
def _gains(s: Micro, correction: int) -> Array:
    """PCAN's gain as a table: a row an octave of the estimate, with the three coefficients of a parabola."""
    bits = s.smoothing_bits - correction

    def gain(x: int) -> int:
        estimate = np.float32(np.float32(x) / np.float32(2.0**bits)) + np.float32(s.pcan_offset)
        power = _f32(np.float64(estimate) ** -np.float64(np.float32(s.pcan_strength)))
        value = np.float32(2**s.gain_bits) * power
        return 0x7FFF if value > 0x7FFF else int(value + np.float32(0.5))

    table = np.zeros((33, 3), np.int64)
    table[0, 0], table[1, 0] = gain(0), gain(1)
    for octave in range(2, 33):
        x0 = 1 << (octave - 1)
        y0, y1, y2 = gain(x0), gain(x0 + (x0 >> 1)), gain(2 * x0 if octave < 32 else 2 * x0 - 1)
        first = 4 * (y1 - y0) - (y2 - y0)
        table[octave] = y0, first, (y2 - y0) - first
    table = table.astype(np.int16).astype(np.int64)
    table.setflags(write=False)
    return table


def _gain(estimate: Array, table: Array) -> Array:
    octave = _top_bit(estimate)
    y0, first, second = table[octave].T
    part = np.where(octave < 11, estimate << np.maximum(11 - octave, 0), estimate >> np.maximum(octave - 11, 0)) & 0x3FF
    curve = ((((second * part) >> 5) + (first << 5)) * part + (1 << 14)) >> 15
    return np.where(estimate < 2, y0, (curve + y0).astype(np.int16))


def _pcan(signal: Array, estimate: Array, s: Micro, correction: int) -> Array:
    shift = s.gain_bits - correction - _SNR_BITS
    snr = ((signal * _gain(estimate, _gains(s, correction))) >> shift) & 0xFFFFFFFF
    soft = ((snr * snr) & 0xFFFFFFFF) >> (2 + 2 * _SNR_BITS - _PCAN_BITS)
    return np.where(snr < 2 << _SNR_BITS, soft, (snr >> (_SNR_BITS - _PCAN_BITS)) - (1 << _PCAN_BITS))


_SEGMENTS = np.rint((np.log2(1 + np.arange(129) / 128) - np.arange(129) / 128) * 65536).astype(np.int64)
"""What log2(1 + x) has more than x, in Q16, at the corners of 128 segments."""


def _log(x: Array, shift: int) -> Array:
    """ln(x) with `shift` fraction bits."""
    whole = np.maximum(_top_bit(x) - 1, 0)
    part = x - (1 << whole)
    part = np.where(whole < 16, part << np.maximum(16 - whole, 0), part >> np.maximum(whole - 16, 0))
    segment = np.clip(part >> 9, 0, 127)
    c0, c1 = _SEGMENTS[segment], _SEGMENTS[segment + 1]
    log2 = (whole << 16) + part + c0 + (((c1 - c0) * (part - (segment << 9))) >> 16)
    ln = (45426 * log2 + (1 << 15)) >> 16
    return np.where(x > 1, (((ln << shift) + (1 << 15)) & 0xFFFFFFFF) >> 16, 0)  # 32 bits: it wraps around


def features(x: Array, s: Micro, rate: int) -> Array:
    """`[n]` samples at int16's scale (rounded and clipped to it) -> uint16 `[frames, bands]`; a clip starts afresh."""
    samples = np.clip(np.rint(x), -32768, 32767).astype(np.int64)
    if len(samples) < s.length:
        return np.zeros((0, s.bands), np.uint16)
    frames = np.lib.stride_tricks.sliding_window_view(samples, s.length)[:: s.hop]
    windowed = (frames * window(s.length)) >> _WINDOW_BITS
    # Each frame is shifted up to use all of 15 bits; -32768 has no magnitude in 16 bits and isn't looked at.
    shift = 15 - _top_bit(_wrapped(np.abs(windowed)).max(axis=1, initial=0))
    n_fft = fft_size(s)
    padded = np.pad(windowed << shift[:, None], ((0, 0), (0, n_fft - s.length))).astype(np.int16)
    re, im = real_fft(padded)
    energy = (re * re + im * im) @ bank(s, rate).T
    signal = rounded_root(energy.astype(np.uint64)) >> shift[:, None]
    correction = n_fft.bit_length() - 1 - _WINDOW_BITS // 2
    even, odd, least = (
        int(np.float32(v) * np.float32(1 << _NOISE_BITS))
        for v in (s.even_smoothing, s.odd_smoothing, s.min_signal_remaining)
    )
    smoothing = np.where(np.arange(s.bands) % 2 == 0, even, odd)
    estimate = np.zeros(s.bands, np.int64)
    out = np.zeros(signal.shape, np.uint16)
    for i, heard in enumerate(signal):
        scaled = (heard << s.smoothing_bits) & 0xFFFFFFFF
        estimate = (scaled * smoothing + estimate * ((1 << _NOISE_BITS) - smoothing)) >> _NOISE_BITS
        noiseless = (scaled - np.minimum(estimate, scaled)) >> s.smoothing_bits
        value = np.maximum(noiseless, (heard * least) >> _NOISE_BITS)
        if s.pcan:
            value = _pcan(value, estimate, s, correction)
        if s.log:
            value = (value << correction) & 0xFFFFFFFF if correction >= 0 else value >> -correction
            value = _log(value, s.log_shift)
        out[i] = np.minimum(value, 0xFFFF)
    return out
