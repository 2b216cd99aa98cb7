"""Clips rendered from parameters: tones, chirps, noise, impulses, offsets.

A `Signal` is a handful of readable numbers; `render` turns it into samples. Goldens use it for designed
clips, and the search for worst cases draws its fields: samples drawn one by one never sound like a recording.

    render(Signal(kind="tone", frequency=440.0, level_dbfs=-80.0, dc=0.3))
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Kind = Literal["silence", "tone", "chirp", "impulse", "impulses", "white", "pink", "dc", "clicks", "step"]

# Beyond these a level is a slip of the pen: float32 holds nothing below, and all is at full scale above.
MIN_DBFS: Final = -400.0
MAX_DBFS: Final = 120.0
MAX_SAMPLES: Final = 2**24
"""Of a clip, and of a second of one: 17 minutes at 16 kHz. Rendering takes a few arrays of them, of 128 MiB each."""
MAX_SEED: Final = 2**63 - 1
"""TOML's largest whole number."""

_WHOLE: Final = ("length", "rate", "at", "fade", "seed")
_REAL: Final = ("level_dbfs", "frequency", "end_frequency", "dc", "noise_dbfs", "clip_at")
_WITHOUT_LEVEL: Final = ("silence", "dc")


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One clip in parameters. A field that its kind doesn't use is kept and ignored.

    The parts are put together in this order: component of `kind`, its fade, noise, offset, clipping.
    Raises ValueError when a value is impossible, so that a `Signal` that exists can be rendered.
    """

    kind: Kind = "silence"
    """The component. `white` is uniform noise, `pink` falls 3 dB an octave, `clicks` are single samples of
    random place and sign, `impulses` evenly spaced ones, `step` is 0 before `at` and its level from there,
    `dc` is nothing but the offset `dc`."""
    length: int = 16_000
    """Samples, 1 to `MAX_SAMPLES`."""
    rate: int = 16_000
    """Samples a second (Hz), 1 to `MAX_SAMPLES`."""
    level_dbfs: float = 0.0
    """Peak of the component, dBFS (0 = full scale; above it is overdriven). `silence` and `dc` ignore it."""
    frequency: float = 1_000.0
    """Hz: of a tone, of a chirp's start, of `impulses`; for `clicks` their mean number a second."""
    end_frequency: float = 8_000.0
    """Hz: where a chirp would be at the sample after its last."""
    at: int = 0
    """Sample position of an impulse, of the first of `impulses`, of a step."""
    dc: float = 0.0
    """Offset added at the end, full scale 1.0. It isn't faded."""
    noise_dbfs: float | None = None
    """Peak of uniform white noise added to the component, dBFS. It isn't faded."""
    clip_at: float | None = None
    """Values are clipped to plus and minus this, full scale 1.0. Full scale itself always is a limit."""
    fade: int = 0
    """Samples of raised-cosine fade of the component at either end; at most half the length."""
    seed: int = 0
    """Of everything random, 0 to `MAX_SEED`."""

    def __post_init__(self) -> None:
        _require(self.kind in get_args(Kind), f"kind must be one of {get_args(Kind)}, not {self.kind!r}")
        # NumPy's numbers become Python's, so that `to_plain` can go straight into JSON or TOML.
        for name in (*_WHOLE, *_REAL):
            value = getattr(self, name)
            if value is not None or name not in ("noise_dbfs", "clip_at"):
                object.__setattr__(self, name, number(name, value, whole=name in _WHOLE))
        _require(1 <= self.rate <= MAX_SAMPLES, f"rate must be 1 to {MAX_SAMPLES} Hz, not {self.rate}")
        _require(1 <= self.length <= MAX_SAMPLES, f"length must be 1 to {MAX_SAMPLES} samples, not {self.length}")
        _require(0 <= self.seed <= MAX_SEED, f"seed must be 0 to {MAX_SEED}, not {self.seed}")
        for name in ("level_dbfs", "noise_dbfs"):
            level = getattr(self, name)
            in_range = level is None or MIN_DBFS <= level <= MAX_DBFS
            _require(in_range, f"{name} must be {MIN_DBFS:g} to {MAX_DBFS:g} dBFS, not {level}")
        _require(-1 <= self.dc <= 1, f"dc must be -1 to 1 (full scale), not {self.dc:g}")
        limit = 1.0 if self.clip_at is None else self.clip_at
        _require(0 < limit <= 1, f"clip_at must be above 0 and at most 1 (full scale), not {limit:g}")
        longest = self.length // 2
        _require(0 <= self.fade <= longest, f"fade must be 0 to {longest} (half the length), not {self.fade}")
        if self.kind in ("impulse", "impulses", "step"):
            _require(0 <= self.at < self.length, f"at must be 0 to {self.length - 1}, not {self.at}")
        start, end, nyquist = self.frequency, self.end_frequency, self.rate / 2
        limits = f"0 to {nyquist:g} Hz (half the rate)"
        match self.kind:
            case "tone":  # at its ends a sampled sine is zero everywhere: a tone that nobody asked for
                _require(0 < start < nyquist, f"frequency must lie inside {limits}, not {start:g}")
            case "chirp":
                _require(0 <= start <= nyquist, f"frequency must be {limits}, not {start:g}")
                _require(0 <= end <= nyquist, f"end_frequency must be {limits}, not {end:g}")
            case "impulses" | "clicks":
                _require(0 < start <= self.rate, f"frequency must be in (0, {self.rate}] Hz, not {start:g}")


def render(signal: Signal) -> NDArray[np.float32]:
    """Samples of a signal: float32 `[length]`, full scale ±1.0 and never outside.

    Computed in float64 and rounded once. Random numbers are the same everywhere; sines and pink noise may
    differ by one rounding between machines, because NumPy's `sin` and FFT may.
    """
    random = np.random.Generator(np.random.PCG64(signal.seed))
    samples = component(signal, random)
    fade(samples, signal.fade)
    if signal.noise_dbfs is not None:
        samples += amplitude(signal.noise_dbfs) * random.uniform(-1.0, 1.0, signal.length)
    limit = 1.0 if signal.clip_at is None else signal.clip_at
    return np.clip(samples + signal.dc, -limit, limit).astype(np.float32)


def describe(signal: Signal) -> str:
    """One line for people: what differs from the defaults and matters for the kind.

    For instance `tone 1000 Hz, -80 dBFS, DC 0.3, length 511`. Numbers are cut to six digits: the exact form
    is `to_plain`.
    """
    start = f"{signal.frequency:g}"
    parts = [
        {
            "tone": f"tone {start} Hz",
            "chirp": f"chirp {start} to {signal.end_frequency:g} Hz",
            "impulse": f"impulse at {signal.at}",
            "impulses": f"impulses {start} Hz" + (f" from {signal.at}" if signal.at else ""),
            "step": f"step at {signal.at}",
            "white": "white noise",
            "pink": "pink noise",
            "clicks": f"clicks {start} a second",
            "dc": f"DC {signal.dc:g}",
        }.get(signal.kind, signal.kind)
    ]
    if signal.kind not in _WITHOUT_LEVEL:
        parts += [f"{signal.level_dbfs:g} dBFS"] if signal.level_dbfs else []
        parts += [f"fade {signal.fade}"] if signal.fade else []
    parts += [] if signal.noise_dbfs is None else [f"noise {signal.noise_dbfs:g} dBFS"]
    parts += [f"DC {signal.dc:g}"] if signal.dc and signal.kind != "dc" else []
    parts += [] if signal.clip_at is None else [f"clipped at {signal.clip_at:g}"]
    random = signal.kind in ("white", "pink", "clicks") or signal.noise_dbfs is not None
    parts += [f"seed {signal.seed}"] if signal.seed and random else []
    parts += [f"length {signal.length}"] if signal.length != Signal.length else []
    parts += [f"rate {signal.rate} Hz"] if signal.rate != Signal.rate else []
    return ", ".join(parts)


def to_plain(signal: Signal) -> dict[str, str | int | float]:
    """The fields that differ from their defaults, as declared: for JSON and TOML (there is no None in it)."""
    plain = {field.name: getattr(signal, field.name) for field in fields(signal)}
    return {name: value for name, value in plain.items() if value != getattr(Signal, name)}


def from_plain(plain: Mapping[str, Any]) -> Signal:
    """The signal that `to_plain` wrote down. Raises ValueError for an unknown key or an impossible value."""
    known = [field.name for field in fields(Signal)]
    unknown = sorted(str(name) for name in plain if name not in known)
    _require(not unknown, f"unknown in a signal: {', '.join(unknown)} (known: {', '.join(known)})")
    return Signal(**plain)


def component(signal: Signal, random: np.random.Generator) -> NDArray[np.float64]:
    """What the kind sounds like at its level, and nothing else of the signal: float64 `[length]`, a new array."""
    level = amplitude(signal.level_dbfs)
    length, rate, frequency = signal.length, signal.rate, signal.frequency
    time = np.arange(length, dtype=np.float64)
    samples = np.zeros(length)
    match signal.kind:
        case "silence" | "dc":
            pass
        case "tone":
            samples = level * _sine(frequency * time / rate)
        case "chirp":
            climb = (signal.end_frequency - frequency) / (2.0 * length)
            samples = level * _sine((frequency + climb * time) * time / rate)
        case "impulse":
            samples[signal.at] = level
        case "impulses":
            # One wherever a new period has begun: a rounded period would drift away from the frequency.
            begins = np.diff(np.floor(frequency * time / rate), prepend=-1.0) > 0.0
            samples[signal.at :][begins[: length - signal.at]] = level
        case "white":
            samples = level * random.uniform(-1.0, 1.0, length)
        case "pink":
            samples = level * _pink(random.uniform(-1.0, 1.0, length))
        case "clicks":
            count = max(1, round(frequency * length / rate))
            places = random.integers(0, length, count)
            samples[places] = level * (2.0 * random.integers(0, 2, count) - 1.0)
        case "step":
            samples[signal.at :] = level
    return samples


def fade(samples: NDArray[np.float64], length: int) -> None:
    """Raise and lower `length` samples at either end of `samples`, in place, along a cosine."""
    if length:
        ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / length)
        samples[:length] *= ramp
        samples[-length:] *= ramp[::-1]


def _sine(cycles: NDArray[np.float64]) -> NDArray[np.float64]:
    # Whole turns come off first, where that is exact: machines differ most in the sine of a large angle.
    return np.sin(2.0 * np.pi * (cycles % 1.0))


def _pink(white: NDArray[np.float64]) -> NDArray[np.float64]:
    """White noise with its power made to fall as 1/frequency, no DC, peak 1.0 (a single sample is 0)."""
    spectrum = np.fft.rfft(white)
    spectrum[0] = 0.0
    spectrum[1:] /= np.sqrt(np.arange(1, spectrum.size))
    pink = np.fft.irfft(spectrum, n=white.size)
    peak = max(float(np.max(np.abs(pink))), float(np.finfo(np.float64).tiny))
    return np.divide(pink, peak, dtype=np.float64)


def amplitude(dbfs: float) -> float:
    """A level in dBFS as a factor of full scale."""
    return float(10.0 ** (dbfs / 20.0))


def number(name: str, value: object, whole: bool) -> int | float:
    """A field's value, NumPy's too, as Python's `int` or `float`. ValueError for another, and where it isn't finite."""
    if type(value) is (int if whole else float) and (whole or math.isfinite(value)):
        return value  # nearly always: a search makes seven signals a clip
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not (whole or _finite(value)):
        raise ValueError(f"{name} must be a {'whole' if whole else 'finite'} number, not {value!r}")
    if not whole:
        return float(value)
    if not isinstance(value, numbers.Integral):
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    return int(value)


def _finite(value: numbers.Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise ValueError(text)
