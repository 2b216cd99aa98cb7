"""Mutants of recipes: front ends that are wrong in one setting, or in two, each declared with what must come of it.

A mutant says which setting is wrong (`keys`: the names of the settings that can't be told apart at the taps it gives;
naming any of them is right), and the first tap in flow order that must be out of bounds. Its float32 candidate and the
float64 version of the same mistake are computed by `featurizer`, not by parity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from parity import system
from parity.frontend import Frontend
from parity.protocols import Array, Tap
from parity.taps import FEATURE_TAPS
from tests.mutants import featurizer
from tests.plugins_for_tests import rig

AUDIO, FRAMES, WINDOWED, SPECTRUM, BANK, LOG, CEPSTRUM, QUANTIZED = (
    f"features/{name}"
    for name in ("audio", "frames", "windowed", "spectrum", "filterbank", "compressed", "cepstrum", "quantized")
)
COMMANDS, MFCC, MEL40, LOGMEL, TINY = "commands-cnn", "mfcc-lstm", "mel40-mobilenetv2", "logmel-gru", "tiny-conv"


@cache
def frontend(name: str) -> Frontend:
    """The recipe of a system."""
    return system.load(rig.MODELS / name).frontend


@dataclass(frozen=True)
class Mutant:
    """A recipe with settings changed."""

    name: str
    of: str
    """The system whose recipe it is."""
    change: Mapping[str, Any] = field(hash=False)
    """Fields of `featurizer.Settings`."""
    causes: tuple[frozenset[str], ...]
    """Of each changed setting its name, and those of settings that can't be told from it."""
    taps: tuple[Tap, ...]
    """Of each changed setting where it must show first; on clips that don't show one of two, the other counts."""
    given: frozenset[Tap] = field(default=frozenset(FEATURE_TAPS), hash=False)
    """What the candidate gives away: a dump may hold the last stage only."""

    @property
    def tap(self) -> Tap:
        """Where it must show first."""
        return min(self.taps, key=FEATURE_TAPS.index)

    @property
    def settings(self) -> featurizer.Settings:
        """The wrong recipe, flat."""
        return replace(featurizer.settings(frontend(self.of)), **self.change)

    def _given(self, samples: Array, dtype: Any) -> dict[Tap, Array]:
        with np.errstate(divide="ignore", over="ignore"):
            arrays = featurizer.compute(self.settings, samples, dtype)
        return {tap: a for tap, a in arrays.items() if tap in self.given}

    def candidate(self, samples: Array) -> dict[Tap, Array]:
        """What the wrong front end gives for float32 samples at ±1.0, in float32."""
        return self._given(samples, np.float32)

    def exact(self, samples: Array) -> dict[Tap, Array]:
        """The same mistake in float64."""
        return self._given(samples, np.float64)


def _single(name: str, of: str, keys: str, tap: Tap, **change: Any) -> Mutant:
    return Mutant(name, of, change, (frozenset(keys.split()),), (tap,))


LOUDER = "audio.gain input.scale audio.peak spectrum.gain spectrum.scaling window.scale output.scale"

SINGLE: tuple[Mutant, ...] = (
    # The sound.
    _single("gain 1.001", COMMANDS, LOUDER, AUDIO, gain=1.001),
    _single("int16 for unit scale", COMMANDS, LOUDER, AUDIO, scale="int16"),
    _single("offset of 0.001", LOGMEL, "audio.dc", AUDIO, dc=1e-3),
    _single("polarity", MFCC, "audio.polarity audio.gain", AUDIO, gain=-1.0),
    _single("pre-emphasis 0.97", COMMANDS, "audio.pre-emphasis", AUDIO, pre_emphasis=0.97),
    _single("peak normalization", MEL40, "audio.peak audio.gain", AUDIO, peak=True),
    _single("a sample late", COMMANDS, "audio.shift frame.shift", AUDIO, shift=1),
    _single("half a hop late", MFCC, "audio.shift frame.shift", AUDIO, shift=256),
    _single("8 bits", LOGMEL, "audio.bits", AUDIO, bits=8),
    _single("through 8 kHz", COMMANDS, "audio.band", AUDIO, through_rate=8000),
    _single("22.05 kHz taken for 16", TINY, "audio.rate", AUDIO, taken_at=22050),
    _single("zeros on the left", COMMANDS, "audio.padding audio.shift", AUDIO, zeros_left=True),
    # Frames.
    _single("not centered", MFCC, "frame.center", FRAMES, center=False),
    _single("centered", COMMANDS, "frame.center", FRAMES, center=True),
    _single("zeros for reflection", MEL40, "frame.pad_mode", FRAMES, pad_mode="zero"),
    _single("reflection for zeros", MFCC, "frame.pad_mode", FRAMES, pad_mode="reflect"),
    _single("last frame padded", LOGMEL, "frame.last", FRAMES, last="pad"),
    _single("first frame lost", LOGMEL, "frame.lost-first", FRAMES, lose_first=True),
    _single("last frame lost", MFCC, "frame.lost-last", FRAMES, lose_last=True),
    _single("hop 161", COMMANDS, "frame.hop", FRAMES, hop=161),
    # The window.
    _single("symmetric Hann", COMMANDS, "window.periodic", WINDOWED, periodic=False),
    _single("periodic Hamming", LOGMEL, "window.periodic", WINDOWED, periodic=True),
    _single("Hamming for Hann", MFCC, "window.name", WINDOWED, window="hamming"),
    _single("Hann for Hamming", LOGMEL, "window.name", WINDOWED, window="hann"),
    _single("no window", TINY, "window.name", WINDOWED, window="rectangular"),
    _single("window of 400", COMMANDS, "window.length", WINDOWED, window_length=400),
    _single("float16 window", COMMANDS, "window.float16", WINDOWED, window_half=True),
    _single("float16 window, long frames", MFCC, "window.float16", WINDOWED, window_half=True),
    _single("window applied twice", LOGMEL, "window.twice", WINDOWED, window_twice=True),
    _single("window divided by its sum", MEL40, "window.scale spectrum.scaling", WINDOWED, window_unit=True),
    # The spectrum.
    _single("magnitude for power", COMMANDS, "spectrum.exponent", SPECTRUM, exponent=1),
    _single("power for magnitude", LOGMEL, "spectrum.exponent", SPECTRUM, exponent=2),
    _single("divided by n_fft", TINY, "spectrum.scaling spectrum.gain", SPECTRUM, scaling="1/n_fft"),
    _single("no DC bin", LOGMEL, "spectrum.dc-bin", SPECTRUM, drop_dc=True),
    _single("no Nyquist bin", TINY, "spectrum.nyquist", SPECTRUM, nyquist=False),
    _single("one-sided", MFCC, "spectrum.one-sided", SPECTRUM, one_sided=True),
    _single("FFT of 1024", COMMANDS, "spectrum.n_fft", SPECTRUM, n_fft=1024),
    # The filter bank.
    _single("Slaney mel for HTK", COMMANDS, "mel.scale", BANK, mel="slaney"),
    _single("HTK mel for Slaney", MFCC, "mel.scale", BANK, mel="htk"),
    _single("no area norm", COMMANDS, "mel.norm", BANK, norm="none"),
    _single("area norm", LOGMEL, "mel.norm", BANK, norm="slaney"),
    _single("fmin 20 Hz", COMMANDS, "mel.fmin", BANK, fmin=20.0),
    _single("fmax 7600 Hz", MEL40, "mel.fmax", BANK, fmax=7600.0),
    _single("fmax 7999 Hz", COMMANDS, "mel.fmax", BANK, fmax=7999.0),
    _single("40 bands of 50", COMMANDS, "mel.bands", BANK, bands=40),
    _single("triangles straight in Hz", LOGMEL, "mel.triangles", BANK, triangles="hz"),
    _single("triangles straight in mel", COMMANDS, "mel.triangles", BANK, triangles="mel"),
    _single("bank of 22.05 kHz", MEL40, "mel.rate", BANK, bank_rate=22050),
    _single("float16 mel weights", COMMANDS, "mel.float16", BANK, bank_type="float16"),
    _single("float16 mel weights, 128 bands", MFCC, "mel.float16", BANK, bank_type="float16"),
    _single("bfloat16 mel weights", LOGMEL, "mel.bfloat16 mel.float16", BANK, bank_type="bfloat16"),
    _single("bank on magnitudes", MEL40, "mel.power", BANK, bank_power=0.5),
    _single("sum of bins", TINY, "pool.kind", BANK, pool_sum=True),
    _single("groups of 5", TINY, "pool.size", BANK, pool=5),
    _single("bands upside down", COMMANDS, "layout.reversed", BANK, reversed_bands=True),
    # The logarithm.
    _single("ln for log10", COMMANDS, "log.base", LOG, compress="ln"),
    _single("log10 for ln", LOGMEL, "log.base", LOG, compress="log10"),
    _single("offset 1e-7", COMMANDS, "log.offset", LOG, offset=1e-7),
    _single("offset as floor", COMMANDS, "log.offset-as-floor log.floor log.offset", LOG, offset_as_floor=True),
    _single("offset 0.999", LOGMEL, "log.offset", LOG, offset=0.999),
    _single("decibels of magnitude", MEL40, "db.factor", LOG, db_factor=20.0),
    _single("ref max for 1", MFCC, "db.ref output.offset", LOG, ref="max"),
    _single("ref 1 for max", MEL40, "db.ref output.offset", LOG, ref=1.0),
    _single("amin 1e-5", MFCC, "db.amin", LOG, amin=1e-5),
    _single("no top_db", MEL40, "db.top_db", LOG, top_db=None),
    _single("top_db of each frame", MFCC, "db.top_db-frame db.top_db", LOG, frame_top=True),
    # The cepstrum and the integers.
    _single("raw DCT", MFCC, "dct.norm", CEPSTRUM, dct_norm="none"),
    _single("C0 times sqrt 2", MFCC, "dct.norm", CEPSTRUM, dct_norm="ortho-c0-sqrt2"),
    _single("13 coefficients", MFCC, "dct.count", CEPSTRUM, coefficients=13),
    _single("no C0", MFCC, "dct.c0", CEPSTRUM, skip_c0=True),
    _single("lifter 22", MFCC, "dct.lifter", CEPSTRUM, lifter=22.0),
    _single("DCT-III", MFCC, "dct.type", CEPSTRUM, dct_type=3),
    _single("rounded down", TINY, "quantize.rounding", QUANTIZED, rounding="floor"),
    _single("step 1 for 0.5", TINY, "quantize.scale", QUANTIZED, step=1.0),
    _single("zero point 1", TINY, "quantize.zero_point", QUANTIZED, zero_point=1),
    _single("wraps around", TINY, "quantize.wrap", QUANTIZED, wrap=True),
)
"""One setting wrong, all stages given."""

_BY_NAME = {m.name: m for m in SINGLE}


def _last_only(name: str, same: str) -> Mutant:
    """The same mistake, of which the last stage alone is seen; `same`: what else can't be told from it there."""
    m = _BY_NAME[name]
    last = frontend(m.of).output
    return replace(
        m, name=f"{name}, last stage only", taps=(last,), given=frozenset({last}),
        causes=tuple(keys | frozenset(same.split()) for keys in m.causes),
    )  # fmt: skip


LAST_ONLY: tuple[Mutant, ...] = (
    _last_only("gain 1.001", LOUDER),
    _last_only("offset of 0.001", ""),
    _last_only("symmetric Hann", ""),
    _last_only("float16 window", ""),
    _last_only("float16 mel weights", ""),
    _last_only("float16 mel weights, 128 bands", ""),
    _last_only("HTK mel for Slaney", ""),
    _last_only("offset 1e-7", ""),
    _last_only("top_db of each frame", ""),
    _last_only("zeros for reflection", ""),
)
"""One setting wrong, seen at the last stage only: a dump from a device."""


def _pair(one: str, other: str) -> Mutant:
    a, b = _BY_NAME[one], _BY_NAME[other]
    assert a.of == b.of
    assert not a.change.keys() & b.change.keys()
    return Mutant(f"{one} + {other}", a.of, {**a.change, **b.change}, a.causes + b.causes, a.taps + b.taps)


PAIRS: tuple[Mutant, ...] = (
    _pair("symmetric Hann", "Slaney mel for HTK"),
    _pair("symmetric Hann", "offset 1e-7"),
    _pair("symmetric Hann", "float16 mel weights"),
    _pair("gain 1.001", "symmetric Hann"),
    _pair("gain 1.001", "no area norm"),
    _pair("pre-emphasis 0.97", "magnitude for power"),
    _pair("centered", "ln for log10"),
    _pair("magnitude for power", "fmin 20 Hz"),
    _pair("no area norm", "ln for log10"),
    _pair("a sample late", "offset 1e-7"),
    _pair("not centered", "HTK mel for Slaney"),
    _pair("reflection for zeros", "raw DCT"),
    _pair("Hamming for Hann", "lifter 22"),
    _pair("one-sided", "no C0"),
    _pair("amin 1e-5", "C0 times sqrt 2"),
    _pair("top_db of each frame", "13 coefficients"),
    _pair("ref max for 1", "reflection for zeros"),
    _pair("zeros for reflection", "fmax 7600 Hz"),
    _pair("decibels of magnitude", "no top_db"),
    _pair("bank of 22.05 kHz", "ref 1 for max"),
    _pair("periodic Hamming", "triangles straight in Hz"),
    _pair("power for magnitude", "log10 for ln"),
    _pair("first frame lost", "area norm"),
    _pair("offset of 0.001", "offset 0.999"),
    _pair("no window", "sum of bins"),
    _pair("no Nyquist bin", "rounded down"),
)
"""Two settings wrong."""


def every() -> Iterator[Mutant]:
    """All of them."""
    yield from (*SINGLE, *LAST_ONLY, *PAIRS)
