"""What nobody thought of: strategies for Hypothesis that draw clips, inputs of networks, and recipes.

    from hypothesis import given
    from parity.search import clips

    @given(clips(frontend))
    def test_mine(clip): ...

A clip is never drawn sample by sample; its parameters are (see `parity.parameters`), so that what is found and shrunk
is a handful of readable numbers: five at most, and in each what is simplest comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from parity import audio
from parity.errors import ConfigError, MissingExtra, NothingCompared
from parity.frontend import Frontend
from parity.parameters import Parameters, Sound, clip_of, named
from parity.patterns import Pattern
from parity.patterns import render as array_of
from parity.protocols import Clip

try:
    from hypothesis import strategies as st

    from parity.drawn_recipes import frontends
except ImportError:
    raise MissingExtra(
        "drawing examples needs Hypothesis, which is not installed", "pip install 'parity[test]'"
    ) from None

MOST_NAMED: Final = 5
"""Named parameters of a drawn clip, at most: more of them nobody reads."""


@lru_cache(maxsize=64)  # what is built once is also checked once: a strategy of its own for every clip costs a third
def lengths(frontend: Frontend) -> st.SearchStrategy[int]:
    """Clip lengths in samples: a second, around the edges of framing, around the model's own, and any."""
    framing, rate = frontend.framing, frontend.input.rate
    frame, hop = (1, 1) if framing is None else (framing.length, framing.hop)
    fft = frame if frontend.spectrum is None else frontend.spectrum.n_fft
    whole = frontend.input.length or rate
    if frontend.input.fit == "refuse":
        return st.just(whole)
    least = 1 if frontend.input.length is not None else frame
    near = sorted({n + d for n in (hop, frame, fft, frame + hop, whole) for d in (-1, 0, 1)} | {whole // 2})
    near += sorted({n + d for n in (2 * whole, 2**15, 2**16) for d in (0, 1)})  # where counters of 16 bits end
    hops = st.builds(lambda k, d: frame + k * hop + d, st.integers(0, max(1, (whole - frame) // hop)), _edge)
    usual = st.just(rate if rate >= least else whole)
    return st.one_of(
        usual, st.sampled_from([n for n in near if n >= least]), hops.filter(lambda n: n >= least),
        st.integers(least, whole + 2 * frame),
    )  # fmt: skip


_edge = st.sampled_from((0, -1, 1))
_often = st.booleans()
_seldom = st.sampled_from((False, False, False, True))
_level = st.one_of(st.integers(-140, 12).map(float), st.floats(-140.0, 12.0).map(lambda x: round(x, 1)))
_how_many = st.sampled_from((1, 1, 1, 1, 0, 2, 2, 3))
_clipping = st.sampled_from((0.5, 0.1, 0.01, 1e-3))
_seed = st.integers(0, 999)
_offset = st.one_of(st.sampled_from((1.0, -1.0, 0.5, -0.5)), st.floats(-1.0, 1.0).map(lambda x: round(x, 3)))


@lru_cache(maxsize=64)
def _frequency(most: float) -> st.SearchStrategy[float]:
    usual = [f for f in (1000.0, 100.0, 10.0, most / 2, most) if 1.0 <= f <= most]
    return st.one_of(st.sampled_from(usual), st.integers(1, max(1, int(most))).map(float))


@lru_cache(maxsize=64)
def _one_of(values: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.sampled_from(values)


_KINDS: Final = ("tone", "white", "impulse", "step", "clicks", "chirp", "impulses", "pink")


class _Room:
    """How many more parameters may be named."""

    def __init__(self, left: int) -> None:
        self.left = left

    def may(self, draw: st.DrawFn, chance: st.SearchStrategy[bool], cost: int = 1) -> bool:
        """Whether one more is drawn, and then has its place."""
        if self.left < cost or not draw(chance):
            return False
        self.left -= cost
        return True


@st.composite
def parameters(draw: st.DrawFn, frontend: Frontend, recordings: Path | None = None) -> Parameters:
    """Clips that fit a recipe, in at most five named parameters; recordings of a clip folder among them.

    From full scale down to -140 dBFS and overdriven, up to three sounds at once, of odd lengths, and as a reference
    system augments them: shifted, padded, played at another speed, before noise.
    """
    length, rate = draw(lengths(frontend)), frontend.input.rate
    room = _Room(MOST_NAMED - (length != rate) - (rate != Parameters.rate))
    files = _files(recordings) if recordings is not None else ()
    kinds = _one_of((*_KINDS, *("recording",) * (4 if files else 0)))
    values: dict[str, Any] = {"rate": rate, "length": None if length == rate else length}
    sounds: list[Sound] = []
    for _ in range(draw(_how_many)):
        if room.left > 0:
            room.left -= 1
            sounds.append(_sound(draw, draw(kinds), length, rate, files, room))
    values["sounds"] = tuple(sounds)
    if room.may(draw, _seldom if sounds else _often):
        values["dc"] = draw(_offset)
    if room.may(draw, _seldom):
        values["noise_dbfs"] = draw(_level)
    if sounds and room.may(draw, _seldom):
        values["clip_at"] = draw(_clipping)
    if sounds and room.may(draw, _seldom):
        values["after"] = draw(st.integers(0, length))
    if sounds and length > 1 and room.may(draw, _seldom):
        values["fade"] = draw(st.integers(0, length // 2))
    if any(s.kind == "recording" and s.at < length // 4 for s in sounds) and room.may(draw, _seldom):
        values["speed"] = draw(st.sampled_from(_speeds(sounds, length)))
    random = "noise_dbfs" in values or any(s.kind in ("white", "pink", "clicks") for s in sounds)
    if random and room.may(draw, _often):
        values["seed"] = draw(_seed)
    return Parameters(**values)


def _sound(draw: st.DrawFn, kind: Any, length: int, rate: int, files: tuple[str, ...], room: _Room) -> Sound:
    values: dict[str, Any] = {"kind": kind}
    if kind == "recording":
        values["file"] = draw(_one_of(files))
    elif kind in ("tone", "chirp", "impulses", "clicks"):
        values["frequency"] = draw(_frequency(rate / 2 - 1))
    if kind == "chirp":
        values["end_frequency"] = draw(_frequency(rate / 2 - 1))
    if room.may(draw, _often):
        values["level_dbfs"] = draw(_level)
    if kind in ("impulse", "step"):
        values["at"] = draw(st.integers(0, length - 1))  # named with the kind
    elif room.may(draw, _seldom):
        values["at"] = draw(st.integers(-length // 2 if kind == "recording" else 0, (length - 1) // 2))
    return Sound(**values)


def _speeds(sounds: Sequence[Sound], length: int) -> list[float]:
    """At which every sound is heard: played slower, a clip holds less of them, and what begins later is none of it."""
    return [v for v in (0.9, 1.1, 0.8, 1.25, 0.5, 2.0) if all(s.at < length * v for s in sounds)]


@lru_cache(maxsize=16)
def _files(recordings: Path) -> tuple[str, ...]:
    return tuple(audio.name_of(path, recordings) for path in audio.find(recordings))


def folder(recordings: str | Path | None) -> Path | None:
    """A folder of recordings, looked at before anything is drawn: Hypothesis tells later errors with every argument."""
    if recordings is None:
        return None
    path = Path(recordings)
    if not path.is_dir():
        what = "is a file" if path.exists() else "isn't there"
        raise ConfigError(f"recordings: {path} {what}: name a folder that holds .wav or .flac files")
    try:
        audio.find(path)
    except NothingCompared:
        raise ConfigError(f"recordings: {path} holds no .wav or .flac file: put some there") from None
    return path


def clips(frontend: Frontend, recordings: str | Path | None = None) -> st.SearchStrategy[Clip]:
    """Clips that fit a recipe, rendered from `parameters`, named by them. ConfigError where no recording is there."""
    if not isinstance(frontend, Frontend):
        raise ConfigError(
            f"clips() takes a Frontend, not a {type(frontend).__name__}: parity.testing.clips takes paths too"
        )
    found = folder(recordings)
    return parameters(frontend, found).map(lambda p: clip_of(p, found))


_SIZES: Final = (1.0, 10.0, 100.0, 1e3, 1e4, 0.1, 1e-3, 1e-6, 1e-20, 1e-38, 1e-40, 1e-45)
_size = st.one_of(st.sampled_from(_SIZES), st.floats(-100.0, 100.0).map(lambda x: round(x, 2)))


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    """Inputs of networks, of any shape: large, small, too small to be normal numbers, flat, alone."""
    kind = draw(st.sampled_from(("constant", "noise", "one", "ramp", "alternating", "normal", "rows")))
    values: dict[str, Any] = {"kind": kind, "level": draw(_size)}
    if kind == "one":
        values["at"] = draw(st.integers(0, 9999))
    if kind in ("noise", "normal", "rows"):
        values["seed"] = draw(_seed)
    if draw(_seldom):
        values["offset"] = draw(_size)
    return Pattern(**values)


def inputs(shape: tuple[int, ...], dtype: str = "float32") -> st.SearchStrategy[Any]:
    """Arrays of a network's input, rendered from `patterns`. ConfigError for a shape or dtype that there isn't."""
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ConfigError(f"inputs() takes a shape as a tuple of whole numbers above 0, not {shape!r}")
    try:
        known = np.dtype(dtype).kind in "fiu"
    except TypeError:
        known = False
    if not known:
        raise ConfigError(
            f"inputs() makes floats and integers, not {dtype!r}: name float32, int8 or another of NumPy's"
        )
    return patterns().map(lambda p: array_of(p, shape, dtype))


__all__: Sequence[str] = [
    "MOST_NAMED",
    "clip_of",
    "clips",
    "folder",
    "frontends",
    "inputs",
    "lengths",
    "named",
    "parameters",
    "patterns",
]
