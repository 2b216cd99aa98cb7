"""From TOML to the frozen stages of a recipe, with the place of whatever is wrong.

Nothing unknown is overlooked: a key that doesn't belong is refused with its place in the file.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from parity import frontend as fe
from parity.errors import ConfigError

MOST = 2**31
"""No recipe takes so many samples, bins or bands: a larger number is a slip."""


def where(path: Path, place: str) -> str:
    """A file, and a place in it: `system.toml: frontend.frame.hop`."""
    return f"{path}: {place}" if place else str(path)


def refuse_unknown(path: Path, place: str, data: Any, kind: Any) -> None:
    """msgspec overlooks keys that a dataclass doesn't have; a typo must not."""
    if not (dataclasses.is_dataclass(kind) and isinstance(data, dict)):
        return
    known = [f.name for f in dataclasses.fields(kind)]
    for key in data:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            raise ConfigError(
                f"{where(path, place)}: unknown key {key!r}",
                f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}",
            )


def convert(path: Path, place: str, data: Any, kind: Any) -> Any:
    """A TOML value as the type `kind`. ConfigError with its place."""
    refuse_unknown(path, place, data, kind)
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as e:
        text, _, at = str(e).partition(" - at `$")
        inner = at.rstrip("`").lstrip(".")
        full = ".".join(filter(None, (place, inner)))
        raise ConfigError(
            f"{where(path, full)}: {text[0].lower()}{text[1:]}",
            "README: 'The recipe' for [frontend.*], 'All keys of [[artifacts]]' for files",
        ) from None


def read_frontend(path: Path, data: Mapping[str, Any], place: str = "frontend") -> fe.Frontend:
    """The recipe in a TOML table. ConfigError names the place of what is wrong."""
    stages: dict[str, Any] = {}
    for name in data:
        if name not in fe.STAGES:
            close = difflib.get_close_matches(name, fe.STAGES, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"stages: {', '.join(fe.STAGES)}"
            raise ConfigError(f"{where(path, place)}: unknown stage {name!r}", hint)
    for name in fe.REQUIRED:
        if name not in data:
            raise ConfigError(f"{where(path, place)}: no [{place}.{name}]", f"a recipe needs {', '.join(fe.REQUIRED)}")
    for name, kinds in fe.STAGES.items():
        if name not in data:
            continue
        here, values = f"{place}.{name}", data[name]
        if not isinstance(values, dict):
            raise ConfigError(f"{where(path, here)}: expected a table", f"write [{here}] and its keys below")
        kind = values.get("kind", kinds[0].kind if len(kinds) == 1 else None)
        cls = next((k for k in kinds if k.kind == kind), None)
        if cls is None:
            names = ", ".join(repr(k.kind) for k in kinds)
            raise ConfigError(f"{where(path, here)}: kind is {kind!r}", f"kind is one of {names}")
        stages[name] = convert(path, here, {k: v for k, v in values.items() if k != "kind"}, cls)
    frontend = fe.Frontend(**stages)
    for name, stage in stages.items():
        _refuse_absurd(path, f"{place}.{name}", stage)
    problem = inconsistent(frontend)
    if problem is not None:
        raise ConfigError(f"{where(path, place)}.{problem}", "the stages of a recipe must fit together")
    return frontend


def _refuse_absurd(path: Path, place: str, stage: fe.Stage) -> None:
    """NaN and infinities slip through every comparison below; huge sizes would only fail far from here."""
    for f in dataclasses.fields(stage):
        value = getattr(stage, f.name)
        for i, x in enumerate(value if isinstance(value, tuple) else (value,)):
            here = where(path, f"{place}.{f.name}[{i}]" if isinstance(value, tuple) else f"{place}.{f.name}")
            if isinstance(x, float) and not math.isfinite(x):
                raise ConfigError(f"{here}: {x} is not a number to compute with", "write a finite number")
            if isinstance(x, int) and abs(x) > MOST:
                raise ConfigError(f"{here}: {x} is more than {MOST}", "sizes are in samples, bins or bands")


def inconsistent(f: fe.Frontend) -> str | None:
    """What doesn't fit together in a recipe, beginning with its place."""
    if (problem := _misplaced(f)) is not None:
        return problem
    mel, half, framing = f.filterbank, f.input.rate / 2, f.framing
    framed = "micro" if f.micro is not None else "frame"
    if f.input.rate <= 0:
        return f"input.rate: {f.input.rate} Hz is not a sampling rate"
    for place, value in (
        ("input.length", f.input.length),
        (f"{framed}.length", framing.length if framing is not None else None),
        (f"{framed}.hop", framing.hop if framing is not None else None),
    ):
        if value is not None and value < 1:
            return f"{place}: {value} is not a number of samples"
    if f.stft is not None:
        frame, window, spectrum = f.stft
        if frame.length > spectrum.n_fft:
            return f"spectrum.n_fft: an FFT of {spectrum.n_fft} is shorter than the frame of {frame.length}"
        if window.length is not None and not 1 <= window.length <= frame.length:
            return f"window.length: {window.length} doesn't fit the frame of {frame.length}"
    if f.micro is not None and (problem := _unfit(f.micro, f.input)) is not None:
        return problem
    if f.input.fit == "refuse" and f.input.length is None:
        return "input.fit: 'refuse' needs a length"
    if isinstance(mel, fe.Mel):
        if not 0 <= mel.fmin < mel.fmax <= half:
            return f"filterbank: {mel.fmin:g} to {mel.fmax:g} Hz is not within 0 to {half:g} Hz"
        if mel.bands < 1:
            return f"filterbank.bands: {mel.bands} is not a number of bands"
    if isinstance(mel, fe.Pool) and mel.size < 1:
        return f"filterbank.size: {mel.size} is not a number of bins"
    if isinstance(f.compress, fe.Log) and min(f.compress.offset, f.compress.floor) < 0:
        return "compress: offset and floor are 0 or more"
    if isinstance(f.compress, fe.Decibel) and (f.compress.amin <= 0 or (f.compress.top_db or 0.0) < 0):
        return "compress: amin is above 0, top_db 0 or more"
    if f.cepstrum is not None and f.compress is None:
        return "cepstrum: needs [compress] before it"
    bands = dataclasses.replace(f, cepstrum=None).bands
    if f.cepstrum is not None and not 1 <= f.cepstrum.count <= bands:
        return f"cepstrum.count: {f.cepstrum.count} coefficients of {bands} bands"
    if f.normalize is not None and (problem := _uneven(f.normalize, f.bands)) is not None:
        return problem
    if f.quantize is not None and f.quantize.scale <= 0:
        return f"quantize.scale: {f.quantize.scale:g} is not above 0"
    if f.input.length is not None and framing is not None and f.frames(0) == 0:
        return f"input.length: {f.input.length} samples give no frame of {framing.length}"
    return None


def _misplaced(f: fe.Frontend) -> str | None:
    """A stage that lacks what it works on, or stands beside one that does its work."""
    has = {name for name in fe.STAGES if getattr(f, name) is not None}
    if f.micro is not None and (beside := has & {"frame", "window", "spectrum", "filterbank", "compress", "cepstrum"}):
        first = next(name for name in fe.STAGES if name in beside)
        return f"{first}: [micro] is a whole front end: it frames, windows, transforms and compresses by itself"
    for name, before in (("window", "frame"), ("spectrum", "frame"), ("spectrum", "window"), ("window", "spectrum"),
                         ("filterbank", "spectrum"), ("compress", "spectrum")):  # fmt: skip
        if name in has and before not in has:
            order = "after" if before == "spectrum" and name == "window" else "before"
            return f"{name}: needs [{before}] {order} it"
    return None


def _unfit(s: fe.Micro, given: fe.Input) -> str | None:
    """What the fixed-point front end can't be: it has so many bits."""
    if given.scale != "int16" or given.peak_normalize or given.pre_emphasis:
        return 'micro: takes 16-bit samples as they are: input.scale = "int16", and nothing done to them'
    for name, least, most in (
        ("length", 16, 2**14), ("bands", 1, 2**10), ("smoothing_bits", 8, 16), ("gain_bits", 20, 31),
        ("even_smoothing", 0.0, 1.0), ("odd_smoothing", 0.0, 1.0), ("min_signal_remaining", 0.0, 1.0),
        ("pcan_offset", 1.0, 2.0**15), ("pcan_strength", 0.0, 2.0), ("log_shift", 0, 12),
    ):  # fmt: skip
        if not least <= getattr(s, name) <= most:
            return f"micro.{name}: {getattr(s, name):g} is not within {least:g} to {most:g}"
    if not 0 <= s.fmin < s.fmax < given.rate / 2:
        return f"micro: {s.fmin:g} to {s.fmax:g} Hz is not within 0 to less than {given.rate / 2:g} Hz"
    if s.pcan and 2**s.gain_bits * s.pcan_offset**-s.pcan_strength > 32767:
        return (
            "micro.gain_bits: PCAN's largest gain, 2^gain_bits · pcan_offset^-pcan_strength, is more than 16 bits hold"
        )
    return None


def _uneven(s: fe.Normalize, bands: int) -> str | None:
    for name, values in (("mean", s.mean), ("spread", s.spread)):
        if len(values) not in (1, bands):
            return f"normalize.{name}: {len(values)} values for {bands} bands (one for each, or one for all)"
    return "normalize.spread: a spread of 0" if 0.0 in s.spread else None
