"""A front end of the tests' own, in float32 or float64, with every setting that people get wrong.

Written from the definitions with SciPy and NumPy, apart from parity's code: `scipy.fft` keeps float32, windows are
`scipy.signal.get_window`, triangles are interpolated one by one, cosines are `scipy.fft.dct`. In float32 it stands for
the front end that somebody moved to a board; in float64 it says what such a front end means, free of rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import scipy.fft
import scipy.signal

from parity import frontend as fe
from parity.protocols import Array, Tap

SECOND_LOG = 27.0 / np.log(6.4)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A recipe, flat; then, with their harmless values, the mistakes that a recipe can't even say."""

    rate: int
    scale: str
    peak: bool
    pre_emphasis: float
    length: int | None
    frame: int
    hop: int
    center: bool
    pad_mode: str
    last: str
    window: str
    periodic: bool
    window_length: int | None
    position: str
    n_fft: int
    exponent: int
    scaling: str
    nyquist: bool
    bands: int = 0
    fmin: float = 0.0
    fmax: float = 0.0
    mel: str = ""
    norm: str = "none"
    triangles: str = "hz"
    pool: int = 0
    compress: Literal["ln", "log10", "db", "none"] = "none"
    offset: float = 0.0
    floor: float = 0.0
    ref: float | str = 1.0
    amin: float = 1e-10
    top_db: float | None = None
    coefficients: int = 0
    dct_norm: str = "ortho"
    lifter: float = 0.0
    step: float = 0.0
    zero_point: int = 0
    rounding: str = "half-even"
    integers: str = ""
    # Mistakes.
    gain: float = 1.0
    dc: float = 0.0
    shift: int = 0
    """Samples that the sound comes late."""
    bits: int = 0
    """The samples went through integers of so many bits."""
    through_rate: int = 0
    """The sound went through another rate, and back."""
    taken_at: int = 0
    """The sound was converted to this rate, and taken as it is."""
    zeros_left: bool = False
    lose_first: bool = False
    lose_last: bool = False
    window_half: bool = False
    """The window is stored in float16."""
    window_twice: bool = False
    window_unit: bool = False
    """The window is divided by its sum."""
    drop_dc: bool = False
    """Bin 0 is zeroed."""
    one_sided: bool = False
    """Bins other than DC and Nyquist are doubled."""
    bank_rate: int = 0
    """The bank is built for another rate."""
    bank_type: str = ""
    """The bank's weights are stored in float16 or bfloat16."""
    bank_power: float = 1.0
    """The bank is applied to this power of the spectrum, and its result raised to the inverse."""
    pool_sum: bool = False
    offset_as_floor: bool = False
    db_factor: float = 10.0
    frame_top: bool = False
    """top_db lies below the maximum of each frame."""
    dct_type: int = 2
    skip_c0: bool = False
    wrap: bool = False
    """Integers wrap around instead of saturating."""
    reversed_bands: bool = False


def settings(frontend: fe.Frontend) -> Settings:
    """The settings of a recipe that starts from a spectrum."""
    assert frontend.stft is not None
    i, (f, w, s) = frontend.input, frontend.stft
    flat: dict[str, Any] = {
        "rate": i.rate, "scale": i.scale, "peak": i.peak_normalize, "pre_emphasis": i.pre_emphasis, "length": i.length,
        "frame": f.length, "hop": f.hop, "center": f.center, "pad_mode": f.pad_mode, "last": f.last,
        "window": w.name, "periodic": w.periodic, "window_length": w.length, "position": w.position,
        "n_fft": s.n_fft, "exponent": s.exponent, "scaling": s.scaling, "nyquist": s.nyquist,
    }  # fmt: skip
    if isinstance(b := frontend.filterbank, fe.Mel):
        flat |= {"bands": b.bands, "fmin": b.fmin, "fmax": b.fmax, "mel": b.scale, "norm": b.norm}
        flat |= {"triangles": b.triangles}
    elif b is not None:
        flat |= {"pool": b.size}
    if isinstance(c := frontend.compress, fe.Log):
        flat |= {"compress": "ln" if c.base == "e" else "log10", "offset": c.offset, "floor": c.floor}
    elif c is not None:
        flat |= {"compress": "db", "ref": c.ref, "amin": c.amin, "top_db": c.top_db}
    if (d := frontend.cepstrum) is not None:
        flat |= {"coefficients": d.count, "dct_norm": d.norm, "lifter": d.lifter}
    if (q := frontend.quantize) is not None:
        flat |= {"step": q.scale, "zero_point": q.zero_point, "rounding": q.rounding, "integers": q.dtype}
    return Settings(**flat)


def _samples(x: Array, s: Settings) -> Array:
    if s.through_rate:
        there, back = Fraction(s.through_rate, s.rate), Fraction(s.rate, s.through_rate)
        low = scipy.signal.resample_poly(x, there.numerator, there.denominator)
        x = scipy.signal.resample_poly(low, back.numerator, back.denominator)[: len(x)].astype(x.dtype)
    if s.taken_at:
        ratio = Fraction(s.taken_at, s.rate)
        x = scipy.signal.resample_poly(x, ratio.numerator, ratio.denominator).astype(x.dtype)
    if s.shift:
        x = np.roll(np.concatenate([x, np.zeros(abs(s.shift), x.dtype)]), s.shift)[: len(x)]
    if s.bits:
        step = x.dtype.type(2.0 ** (s.bits - 1))
        x = np.round(x * step) / step
    x = x * x.dtype.type(s.gain) + x.dtype.type(s.dc) if (s.gain, s.dc) != (1.0, 0.0) else x
    if s.scale == "int16":
        x = x * x.dtype.type(32768)
    if s.peak and x.max() > 0:
        x = x / x.max()
    if s.pre_emphasis:
        y = x.copy()
        y[1:] -= x.dtype.type(s.pre_emphasis) * x[:-1]
        x = y
    if s.length is not None:
        short = max(0, s.length - len(x))
        x = np.concatenate([np.zeros(short, x.dtype), x] if s.zeros_left else [x, np.zeros(short, x.dtype)])[: s.length]
    return x


def _frames(x: Array, s: Settings) -> Array:
    if s.center:
        mode: Any = {"zero": "constant", "reflect": "reflect", "edge": "edge"}[s.pad_mode]
        x = np.pad(x, s.frame // 2, mode=mode)
    starts = range(0, len(x) if s.last == "pad" else len(x) - s.frame + 1, s.hop)
    x = np.concatenate([x, np.zeros(s.frame, x.dtype)])
    out = np.stack([x[a : a + s.frame] for a in starts])
    return out[1 if s.lose_first else 0 : -1 if s.lose_last else None]


@lru_cache(maxsize=256)
def _window(s: Settings, dtype: Any) -> Array:
    n = s.window_length or s.frame
    name = {"rectangular": "boxcar"}.get(s.window, s.window)
    w = scipy.signal.get_window(name, n, fftbins=s.periodic)
    left = (s.frame - n) // 2 if s.position == "center" else 0
    w = np.concatenate([np.zeros(left), w, np.zeros(s.frame - n - left)])
    w = w / w.sum() if s.window_unit else w
    w = w * w if s.window_twice else w
    return (w.astype(np.float16) if s.window_half else w).astype(dtype)


def _spectrum(x: Array, s: Settings) -> Array:
    z = scipy.fft.rfft(x, n=s.n_fft, axis=1)
    power = z.real * z.real + z.imag * z.imag
    if s.one_sided:
        power[:, 1 : (s.n_fft + 1) // 2] *= 2
    if s.drop_dc:
        power[:, 0] = 0
    value = power if s.exponent == 2 else np.sqrt(power)
    value = value if s.nyquist else value[:, : s.n_fft // 2]
    return value / x.dtype.type(s.n_fft) if s.scaling == "1/n_fft" else value


def _mel_of(f: Any, scale: str) -> Any:
    if scale == "slaney":
        f = np.asarray(f, np.float64)
        return np.where(f < 1000.0, f / (200.0 / 3.0), 15.0 + SECOND_LOG * np.log(np.maximum(f, 1.0) / 1000.0))
    return (2595.0 / np.log(10.0) if scale == "htk" else 1127.0) * np.log1p(np.asarray(f, np.float64) / 700.0)


def _hz_of(m: Any, scale: str) -> Any:
    if scale == "slaney":
        return np.where(m < 15.0, m * (200.0 / 3.0), 1000.0 * np.exp((m - 15.0) / SECOND_LOG))
    return 700.0 * np.expm1(m / (2595.0 / np.log(10.0) if scale == "htk" else 1127.0))


@lru_cache(maxsize=256)
def bank(s: Settings, bins: int) -> Array:
    """The filter bank, float64 `[bands, bins]`."""
    if s.pool:
        groups = [np.arange(a, min(a + s.pool, bins)) for a in range(0, bins, s.pool)]
        rows = np.zeros((len(groups), bins))
        for row, group in zip(rows, groups, strict=True):
            row[group] = 1.0 if s.pool_sum else 1.0 / len(group)
        return rows
    rate = s.bank_rate or s.rate
    ends = _mel_of([s.fmin, s.fmax], s.mel)
    corners = _hz_of(np.linspace(ends[0], ends[1], s.bands + 2), s.mel)
    rows = np.zeros((s.bands, bins))
    at = np.arange(bins) * (rate / s.n_fft)
    for b in range(s.bands):
        three = corners[b : b + 3]
        if s.triangles == "bins":
            left, middle, right = (int(np.floor(c * (s.n_fft + 1) / rate)) for c in three)
            for k in range(left, min(right, bins)):
                rows[b, k] = (k - left) / (middle - left) if k < middle else (right - k) / (right - middle)
        elif s.triangles == "mel":
            rows[b] = np.interp(_mel_of(at, s.mel), _mel_of(three, s.mel), [0.0, 1.0, 0.0])
            rows[b, 0] = 0.0
        else:
            rows[b] = np.interp(at, three, [0.0, 1.0, 0.0])
        if s.norm == "slaney":
            rows[b] *= 2.0 / (three[2] - three[0])
    if s.bank_type == "float16":
        return rows.astype(np.float16).astype(np.float64)
    if s.bank_type == "bfloat16":
        return _bfloat16(rows.astype(np.float32)).astype(np.float64)
    return rows


def _bfloat16(x: Array) -> Array:
    """Rounded to the nearest bfloat16."""
    bits = x.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def _banded(x: Array, s: Settings) -> Array:
    weights = bank(s, x.shape[1]).astype(x.dtype)
    if s.bank_power != 1.0:
        power = x.dtype.type(s.bank_power)
        return ((x**power) @ weights.T) ** (1 / power)
    out = x @ weights.T
    return out[:, ::-1] if s.reversed_bands else out


def _compressed(x: Array, s: Settings) -> Array:
    if s.compress != "db":
        log = np.log if s.compress == "ln" else np.log10
        if s.offset_as_floor:
            return log(np.maximum(x, x.dtype.type(s.offset)))
        with np.errstate(divide="ignore"):
            return log(np.maximum(x, x.dtype.type(s.floor)) + x.dtype.type(s.offset))
    amin, factor = x.dtype.type(s.amin), x.dtype.type(s.db_factor)
    ref = x.max() if s.ref == "max" else x.dtype.type(s.ref)
    db = factor * np.log10(np.maximum(x, amin)) - factor * np.log10(np.maximum(ref, amin))
    if s.top_db is None:
        return db
    top = db.max(axis=1, keepdims=True) if s.frame_top else db.max()
    return np.maximum(db, top - x.dtype.type(s.top_db))


def _cepstrum(x: Array, s: Settings) -> Array:
    ortho = s.dct_norm != "none"
    c = scipy.fft.dct(x, type=s.dct_type, norm="ortho" if ortho else None, axis=1)
    if s.dct_norm == "ortho-c0-sqrt2":
        c[:, 0] *= x.dtype.type(np.sqrt(2.0))
    first = 1 if s.skip_c0 else 0
    c = c[:, first : first + s.coefficients]
    if s.lifter:
        n = np.arange(1, c.shape[1] + 1)
        c = c * (1.0 + s.lifter / 2.0 * np.sin(np.pi * n / s.lifter)).astype(x.dtype)
    return c


def _quantized(x: Array, s: Settings) -> Array:
    steps = x / x.dtype.type(s.step)
    if s.rounding == "half-away":
        steps = np.trunc(steps + np.copysign(x.dtype.type(0.5), steps))
    else:
        steps = np.rint(steps) if s.rounding == "half-even" else np.floor(steps)
    info = np.iinfo(s.integers)
    whole = steps.astype(np.int64) + s.zero_point
    return whole.astype(s.integers) if s.wrap else np.clip(whole, info.min, info.max).astype(s.integers)


def compute(s: Settings, samples: Array, dtype: Any = np.float32) -> dict[Tap, Array]:
    """Every stage of `s` on float32 samples at ±1.0, in `dtype`, C-contiguous and time-major."""
    out: dict[Tap, Array] = {}
    x = out["features/audio"] = _samples(samples.astype(dtype), s)
    x = out["features/frames"] = _frames(x, s)
    x = out["features/windowed"] = x * _window(s, dtype)
    x = out["features/spectrum"] = _spectrum(x, s)
    if s.bands or s.pool:
        x = out["features/filterbank"] = _banded(x, s)
    if s.compress != "none":
        x = out["features/compressed"] = _compressed(x, s)
    if s.coefficients:
        x = out["features/cepstrum"] = _cepstrum(x, s)
    if s.integers:
        out["features/quantized"] = _quantized(x, s)
    return {tap: np.ascontiguousarray(a) for tap, a in out.items()}
