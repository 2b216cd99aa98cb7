"""A clip as a few named numbers: mixtures of sounds, recordings, and what may be done to either.

Where `parity.signals` renders one sound, `Parameters` put up to a few together with real recordings, and with what
happens to a clip on its way: padding, another speed, noise, an offset, a converter that clips. The search for worst
clips draws them, and what it finds is told, written down and played again as these numbers, never as samples.

    render(Parameters(sounds=(Sound(kind="tone", frequency=440.0, level_dbfs=-80.0),), dc=0.3, length=511))
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np

from parity import audio, signals
from parity.errors import AudioError
from parity.frontend import Frontend, Input
from parity.protocols import Array, Clip
from parity.signals import Signal

SoundKind = Literal["tone", "chirp", "impulse", "impulses", "white", "pink", "clicks", "step", "recording"]

MOST_SOUNDS: Final = 4
MAX_SPEED: Final = 4.0


@dataclass(frozen=True, kw_only=True)
class Sound:
    """One sound of a clip. A field that its kind doesn't use is ignored. ValueError where one is impossible."""

    kind: SoundKind = "tone"
    """A kind of `signals.Signal`, or a recording of the clip folder."""
    file: str = ""
    """Of a recording: its path below the clip folder."""
    frequency: float = 1_000.0
    end_frequency: float = 8_000.0
    level_dbfs: float = 0.0
    """Peak, dBFS; of a recording the gain in dB (0: as it was recorded)."""
    at: int = 0
    """Sample at which it begins; a recording's may be below 0: its beginning is cut off."""

    def __post_init__(self) -> None:
        _require(self.kind in get_args(SoundKind), f"kind must be one of {get_args(SoundKind)}, not {self.kind!r}")
        if self.kind == "recording":
            _require(bool(self.file), "a recording needs a file")
            parts = Path(self.file).parts
            _require(not Path(self.file).is_absolute() and ".." not in parts, f"{self.file!r} is not below the clips")
            _require("\0" not in self.file, f"{self.file!r} can't be the name of a file")
        else:
            _require(self.at >= 0, f"at must be 0 or more, not {self.at}")
        Signal(level_dbfs=self.level_dbfs)  # its limits are a signal's


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """A clip in parameters. ValueError when a value is impossible, so that what exists can be rendered.

    Put together in this order: the sounds, each from its `at`, faded, played at `speed`, zeros `after` them, noise,
    offset, clipping.
    """

    sounds: tuple[Sound, ...] = ()
    """None is silence."""
    rate: int = 16_000
    """Hz."""
    length: int | None = None
    """Samples of the finished clip; None: one second."""
    fade: int = 0
    """Samples of raised-cosine fade of the sounds at either end of the clip; at most half the length."""
    speed: float = 1.0
    """How many times as fast the sounds are played, pitch and all."""
    after: int = 0
    """Samples at the end that are zero but for noise and offset: padding."""
    noise_dbfs: float | None = None
    """Peak of uniform white noise behind it all, dBFS."""
    dc: float = 0.0
    """Offset, full scale 1.0."""
    clip_at: float | None = None
    """Values are clipped to plus and minus this, full scale 1.0. Full scale itself always is a limit."""
    seed: int = 0
    """Of everything random."""

    def __post_init__(self) -> None:
        Signal(length=self.samples, rate=self.rate, fade=self.fade, dc=self.dc, noise_dbfs=self.noise_dbfs,
               clip_at=self.clip_at, seed=self.seed)  # its limits are theirs  # fmt: skip
        _require(len(self.sounds) <= MOST_SOUNDS, f"at most {MOST_SOUNDS} sounds, not {len(self.sounds)}")
        _require(1.0 / MAX_SPEED <= self.speed <= MAX_SPEED, f"speed must be 1/4 to 4, not {self.speed:g}")
        made, most = self._sounding, signals.MAX_SAMPLES
        _require(made <= most, f"length times speed must be at most {most} samples, not {made}")
        _require(0 <= self.after <= self.samples, f"after must be 0 to {self.samples}, not {self.after}")
        for sound in self.sounds:
            limit = self._sounding
            _require(sound.at < limit, f"at must be below {limit} (what is left to sound), not {sound.at}")
            if sound.kind != "recording":
                _signal(self, sound)

    @property
    def samples(self) -> int:
        """Samples of the finished clip."""
        return self.rate if self.length is None else self.length

    @property
    def _sounding(self) -> int:
        """Samples over which sounds are rendered, before they are played at their speed."""
        return max(1, math.ceil(self.samples * self.speed))


def _signal(p: Parameters, sound: Sound) -> Signal:
    """A sound that isn't a recording, from its `at` on."""
    kind: Any = sound.kind
    return Signal(
        kind=kind, length=p._sounding - sound.at, rate=p.rate, level_dbfs=sound.level_dbfs,
        frequency=sound.frequency, end_frequency=sound.end_frequency,
    )  # fmt: skip


def render(p: Parameters, clips: Path | None = None) -> Array:
    """Samples: float32 `[p.samples]`, full scale ±1.0 and never outside. `clips` is the folder of recordings.

    AudioError where a recording isn't there. Computed in float64 and rounded once; sines and pink noise may differ by
    one rounding between machines (see `signals.render`).
    """
    n = p.samples
    mixed = np.zeros(p._sounding)
    for i, sound in enumerate(p.sounds):
        if sound.kind == "recording":
            heard = recording(clips, sound.file, p.rate)[max(0, -sound.at) :]
            start = max(0, sound.at)
            heard = heard[: len(mixed) - start]
            mixed[start : start + len(heard)] += signals.amplitude(sound.level_dbfs) * heard
        else:
            random = np.random.Generator(np.random.PCG64((p.seed, i)))
            mixed[sound.at :] += signals.component(_signal(p, sound), random)
    if p.speed != 1.0:
        mixed = np.interp(np.arange(n) * p.speed, np.arange(len(mixed)), mixed)
    signals.fade(mixed, p.fade)
    if p.after:
        mixed[n - p.after :] = 0.0
    if p.noise_dbfs is not None:
        random = np.random.Generator(np.random.PCG64((p.seed, MOST_SOUNDS)))
        mixed += signals.amplitude(p.noise_dbfs) * random.uniform(-1.0, 1.0, n)
    limit = 1.0 if p.clip_at is None else p.clip_at
    return np.clip(mixed + p.dc, -limit, limit).astype(np.float32)


def recording(clips: Path | None, file: str, rate: int) -> Array:
    """A recording of the clip folder at a rate, float32 `[n]`, read once. AudioError where it can't be."""
    if clips is None:
        raise AudioError(f"no clip folder to read {file} from", "name the folder that holds it")
    return _recording(clips, file, rate)


@lru_cache(maxsize=256)
def _recording(clips: Path, file: str, rate: int) -> Array:
    clip = audio.read(clips / file, file, Frontend(input=Input(rate=rate, resample="soxr-hq")))
    return clip.samples


def clip_of(what: Parameters | Signal, clips: Path | None = None) -> Clip:
    """The clip that parameters render to, named by its description."""
    if isinstance(what, Signal):
        name, samples = signals.describe(what), signals.render(what)
    else:
        name, samples = describe(what), render(what, clips)
    return Clip(name, samples, what.rate, audio.digest(samples, what.rate))


def named(p: Parameters) -> list[str]:
    """What differs from the defaults and matters, one a parameter: `["tone 1000 Hz", "-80 dBFS", "length 511"]`."""
    parts = [part for sound in p.sounds for part in _named(sound)] or ["silence"]
    parts += [f"speed {p.speed:g}"] if p.speed != 1.0 and p.sounds else []
    parts += [f"fade {p.fade}"] if p.fade and p.sounds else []
    parts += [f"{p.after} zeros after"] if p.after and p.sounds else []
    parts += [] if p.noise_dbfs is None else [f"noise {p.noise_dbfs:g} dBFS"]
    parts += [f"DC {p.dc:g}"] if p.dc else []
    parts += [] if p.clip_at is None else [f"clipped at {p.clip_at:g}"]
    random = p.noise_dbfs is not None or any(s.kind in ("white", "pink", "clicks") for s in p.sounds)
    parts += [f"seed {p.seed}"] if p.seed and random else []
    parts += [f"length {p.samples}"] if p.samples != p.rate else []
    parts += [f"rate {p.rate} Hz"] if p.rate != Parameters.rate else []
    return parts[1:] if parts[0] == "silence" and len(p.sounds) == 0 and (p.dc or p.noise_dbfs is not None) else parts


def describe(p: Parameters) -> str:
    """One line for people: `tone 1000 Hz, -80 dBFS, DC 0.3, length 511`. The exact form is `to_plain`."""
    return ", ".join(named(p))


def _named(s: Sound) -> list[str]:
    if s.kind == "recording":
        shift = f"from {s.at}" if s.at > 0 else f"cut by {-s.at}"
        return [s.file, *([f"gain {s.level_dbfs:g} dB"] if s.level_dbfs else []), *([shift] if s.at else [])]
    spot = s.kind in ("impulse", "step")
    kind: Any = s.kind
    signal = Signal(kind=kind, rate=signals.MAX_SAMPLES, length=s.at + 1, at=s.at if spot else 0,
                    frequency=s.frequency, end_frequency=s.end_frequency)  # fmt: skip
    what = signals.describe(signal).split(", ")[0]
    level = [f"{s.level_dbfs:g} dBFS"] if s.level_dbfs else []
    return [what, *level, *([f"from {s.at}"] if s.at and not spot else [])]


def to_plain(p: Parameters) -> dict[str, Any]:
    """What differs from the defaults: for JSON and TOML (there is no None in it)."""
    plain = _changed(p)
    if p.sounds:
        plain["sounds"] = [{"kind": s.kind} | _changed(s) for s in p.sounds]
    return plain


def from_plain(plain: Mapping[str, Any]) -> Parameters:
    """The parameters that `to_plain` wrote down. ValueError for an unknown key or an impossible value."""
    sounds = plain.get("sounds", [])
    _require(isinstance(sounds, list | tuple), "sounds must be a list of tables")
    rest = {k: v for k, v in plain.items() if k != "sounds"}
    made = [_typed(Sound, s, f"sounds[{i}]") for i, s in enumerate(sounds)]
    return _typed(Parameters, rest, "the clip", sounds=tuple(made))


def _changed(x: Parameters | Sound) -> dict[str, Any]:
    plain = {f.name: getattr(x, f.name) for f in fields(x) if f.name != "sounds"}
    return {name: value for name, value in plain.items() if value != getattr(type(x), name)}


def _typed(kind: Any, plain: Any, place: str, **rest: Any) -> Any:
    """A dataclass of plain values: `int` and `float` as declared, nothing unknown, nothing that isn't finite."""
    _require(isinstance(plain, Mapping), f"{place} must be a table")
    types = {f.name: str(f.type) for f in dataclasses.fields(kind) if f.name not in rest}
    if unknown := sorted(set(plain) - set(types)):
        raise ValueError(f"unknown in {place}: {', '.join(unknown)} (known: {', '.join(types)})")
    values = {}
    for name, value in plain.items():
        wanted: Any = int if "int" in types[name] else float if "float" in types[name] else str
        _require(wanted is not str or isinstance(value, str), f"{name} must be a word, not {value!r}")
        values[name] = value if wanted is str else signals.number(name, value, whole=wanted is int)
    return kind(**values, **rest)


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise ValueError(text)
