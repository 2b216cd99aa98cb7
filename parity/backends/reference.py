"""The oracle: every stage in float64, written from its definition and independent of any audio library.

`stage` applies one stage; `oracle` runs the whole recipe. As a plugin (`reference`) it rounds what it computed to the
dtype that the recipe declares, once, at the tap.

Sources of the definitions: windows, Harris 1978; mel scales, O'Shaughnessy 1987 (HTK) and Slaney's Auditory
Toolbox 1998; triangles between whole bins and 1127·ln, Microsoft ELL; DCT-II, Ahmed 1974; lifter, HTK Book 5.6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from parity import frontend as fe
from parity.backends import fixed_point
from parity.protocols import Arithmetic, Array, Clip, Tap, Taps, Unsupported

_PAD = {"zero": "constant", "reflect": "reflect", "edge": "edge"}


def samples(x: Array, s: fe.Input) -> Array:
    """`[n]` samples at full scale ±1.0 -> `[n or s.length]` as the recipe wants them."""
    if s.scale == "int16":
        x = x * 32768.0
    if s.peak_normalize:
        peak = x.max(initial=0.0)
        x = x / peak if peak > 0 else x
    if s.pre_emphasis:
        x = x - s.pre_emphasis * np.concatenate([np.zeros(1, x.dtype), x[:-1]])
    if s.length is not None:
        x = np.pad(x[: s.length], (0, max(0, s.length - len(x))))
    return x


def frames(x: Array, s: fe.Frame) -> Array:
    """`[n]` -> `[frames, s.length]`, a view where it can be."""
    if s.center:
        x = np.pad(x, s.length // 2, mode=_PAD[s.pad_mode])  # type: ignore[call-overload]
    if s.last == "pad":
        count = -(-len(x) // s.hop)
        x = np.pad(x, (0, max(0, (count - 1) * s.hop + s.length - len(x))))
    elif len(x) < s.length:
        return np.zeros((0, s.length), x.dtype)
    return np.lib.stride_tricks.sliding_window_view(x, s.length)[:: s.hop]


@lru_cache(maxsize=64)
def window(s: fe.Window, frame: int) -> Array:
    """The window where it sits in a frame of `frame` samples, float64 `[frame]`."""
    n = frame if s.length is None else s.length
    phase = 2.0 * np.pi * np.arange(n) / max(1, n if s.periodic else n - 1)
    if s.name == "rectangular" or n == 1:
        w = np.ones(n)
    elif s.name == "hann":
        w = 0.5 - 0.5 * np.cos(phase)
    else:
        w = 0.54 - 0.46 * np.cos(phase)
    left = (frame - n) // 2 if s.position == "center" else 0
    placed = np.pad(w, (left, frame - n - left))
    placed.setflags(write=False)
    return placed


def spectrum(x: Array, s: fe.Spectrum) -> Array:
    """Windowed frames `[frames, length]` -> `[frames, bins]`."""
    transform = np.fft.rfft(x, n=s.n_fft, axis=-1)
    if not s.nyquist:
        transform = transform[:, : s.n_fft // 2]
    power = transform.real**2 + transform.imag**2
    value = power if s.exponent == 2 else np.sqrt(power)
    return value / s.n_fft if s.scaling == "1/n_fft" else value


def hz_to_mel(f: Array, scale: str) -> Array:
    """Hz -> mel."""
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + f / 700.0)
    if scale == "1127ln":
        return 1127.0 * np.log1p(f / 700.0)
    return np.where(f < 1000.0, f * 3.0 / 200.0, 15.0 + 27.0 * np.log(np.maximum(f, 1.0) / 1000.0) / np.log(6.4))


def mel_to_hz(m: Array, scale: str) -> Array:
    """Mel -> Hz."""
    if scale == "htk":
        return 700.0 * (10.0 ** (m / 2595.0) - 1.0)
    if scale == "1127ln":
        return 700.0 * np.expm1(m / 1127.0)
    return np.where(m < 15.0, m * 200.0 / 3.0, 1000.0 * np.exp((m - 15.0) * np.log(6.4) / 27.0))


def mel_edges(s: fe.Mel) -> Array:
    """The corners of the triangles in Hz, float64 `[bands + 2]`; band b is centered on `[b + 1]`."""
    low, high = hz_to_mel(np.array([s.fmin, s.fmax]), s.scale)
    return mel_to_hz(np.linspace(low, high, s.bands + 2), s.scale)


@lru_cache(maxsize=64)
def mel_bank(s: fe.Mel, rate: int, n_fft: int, bins: int) -> Array:
    """The bank of triangles, float64 `[bands, bins]`."""
    hz = mel_edges(s)
    if s.triangles == "bins":
        edges, at = np.floor(hz * (n_fft + 1) / rate), np.arange(bins, dtype=np.float64)
    elif s.triangles == "mel":
        edges, at = hz_to_mel(hz, s.scale), hz_to_mel(np.arange(bins) * rate / n_fft, s.scale)
    else:
        edges, at = hz, np.arange(bins) * rate / n_fft
    left, center, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    with np.errstate(divide="ignore", invalid="ignore"):  # two corners on one bin: the other slope decides
        rise, fall = (at - left) / (center - left), (right - at) / (right - center)
    rise, fall = np.where(center > left, rise, np.inf), np.where(right > center, fall, np.inf)
    bank = np.maximum(0.0, np.minimum(rise, fall))
    bank = np.where((at >= left) & (at < right) if s.triangles == "bins" else np.isfinite(bank), bank, 0.0)
    bank = np.where(np.isfinite(bank), bank, 0.0)
    if s.triangles == "mel":
        bank[:, 0] = 0.0
    if s.norm == "slaney":
        bank = bank * (2.0 / (hz[2:] - hz[:-2]))[:, None]
    bank.setflags(write=False)
    return bank


@lru_cache(maxsize=64)
def pool_bank(s: fe.Pool, bins: int) -> Array:
    """Averaging as a bank, float64 `[ceil(bins / size), bins]`; the last group is the mean of what is left."""
    group = np.arange(bins) // s.size
    bank = (group == np.arange(group[-1] + 1)[:, None]).astype(np.float64)
    bank /= bank.sum(axis=1, keepdims=True)
    bank.setflags(write=False)
    return bank


def bank(frontend: fe.Frontend) -> Array:
    """The filter bank of a recipe that has one, float64 `[bands, bins]`."""
    s = frontend.filterbank
    if isinstance(s, fe.Mel) and frontend.spectrum is not None:
        return mel_bank(s, frontend.input.rate, frontend.spectrum.n_fft, frontend.bins)
    if isinstance(s, fe.Pool):
        return pool_bank(s, frontend.bins)
    raise ValueError("the recipe has no filter bank")


def compress(x: Array, s: fe.Log | fe.Decibel) -> Array:
    """`[frames, bands]` of a clip -> its logarithm; log of 0 is -inf, as IEEE 754 has it."""
    with np.errstate(divide="ignore"):
        if isinstance(s, fe.Log):
            x = np.maximum(x, s.floor) + s.offset
            return np.log(x) if s.base == "e" else np.log10(x)
        # In the precision of x: NumPy 2 makes float64 of a float32 array less a float64 scalar.
        ref = np.asarray(x.max(initial=0.0) if s.ref == "max" else abs(s.ref), x.dtype)
        db = 10.0 * np.log10(np.maximum(x, s.amin)) - 10.0 * np.log10(np.maximum(ref, s.amin, dtype=x.dtype))
    return db if s.top_db is None else np.maximum(db, db.max(initial=-np.inf) - s.top_db)


@lru_cache(maxsize=64)
def dct_matrix(s: fe.Cepstrum, bands: int) -> Array:
    """DCT-II with its norm and lifter, float64 `[count, bands]`."""
    k, n = np.arange(s.count)[:, None], np.arange(bands)[None, :]
    matrix = 2.0 * np.cos(np.pi * k * (2 * n + 1) / (2 * bands))
    if s.norm != "none":
        matrix *= np.sqrt(1.0 / (2.0 * bands))
        if s.norm == "ortho":
            matrix[0] *= np.sqrt(0.5)
    if s.lifter > 0:
        matrix *= 1.0 + (s.lifter / 2.0) * np.sin(np.pi * (k + 1) / s.lifter)
    matrix.setflags(write=False)
    return matrix


_ROUND: Mapping[str, Callable[[Array], Array]] = {
    "half-even": np.rint,
    "half-away": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
    "floor": np.floor,
}


def quantize(x: Array, s: fe.Quantize) -> Array:
    """`[frames, bands]` -> integers."""
    info = np.iinfo(s.dtype)
    with np.errstate(invalid="ignore"):  # NaN becomes any integer
        return np.clip(_ROUND[s.rounding](x / s.scale) + s.zero_point, info.min, info.max).astype(s.dtype)


def stage(frontend: fe.Frontend, tap: Tap, x: Array) -> Array:
    """The array at `tap`, given the array at the tap before it (samples at ±1.0 for `features/audio`)."""
    s = frontend.stages()[tap]
    match s:
        case fe.Input():
            return samples(x, s)
        case fe.Frame():
            return frames(x, s)
        case fe.Window():
            return x * window(s, x.shape[-1]).astype(x.dtype, copy=False)
        case fe.Spectrum():
            return spectrum(x, s)
        case fe.Micro():
            return fixed_point.features(x, s, frontend.input.rate)
        case fe.Mel() | fe.Pool():
            return x @ bank(frontend).astype(x.dtype, copy=False).T
        case fe.Log() | fe.Decibel():
            return compress(x, s)
        case fe.Cepstrum():
            # NumPy adds pairwise. BLAS adds one by one, and in float32 equal bands (silence) then round alike: up to
            # five times the bound of a DCT were measured.
            with np.errstate(invalid="ignore"):  # the logarithm of zero times a zero, or against another
                return (x[:, None, :] * dct_matrix(s, x.shape[-1]).astype(x.dtype, copy=False)).sum(axis=-1)
        case fe.Normalize():
            return (x - np.asarray(s.mean, x.dtype)) / np.asarray(s.spread, x.dtype)
        case fe.Quantize():
            return quantize(x, s)


def run(frontend: fe.Frontend, x: Array) -> dict[Tap, Array]:
    """Every tap of the recipe in the precision of `x`, which is `[n]` samples at ±1.0."""
    out: dict[Tap, Array] = {}
    for tap in frontend.taps:
        x = out[tap] = stage(frontend, tap, x)
    return out


def oracle(frontend: fe.Frontend, clip: Clip) -> dict[Tap, Array]:
    """Every tap of the recipe for a clip, in float64."""
    return run(frontend, clip.samples.astype(np.float64))


class ReferenceBackend:
    """The oracle as a backend: float64 inside, rounded once at each tap."""

    def versions(self) -> Mapping[str, str]:
        return {"numpy": np.__version__}

    def supports(self, frontend: fe.Frontend) -> Unsupported | None:
        return None

    def taps(self, frontend: fe.Frontend) -> frozenset[Tap]:
        return frozenset(frontend.taps)

    def arithmetic(self, frontend: fe.Frontend) -> Arithmetic:
        return "float64-rounded"

    def features(self, clips: Sequence[Clip], frontend: fe.Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        return [
            {
                t: np.ascontiguousarray(a, dtype=frontend.dtype(t))
                for t, a in oracle(frontend, clip).items()
                if t in taps
            }
            for clip in clips
        ]
