"""What plugins are tried on besides drawn recipes and clips: recipes of real systems, and a few sounds."""

from __future__ import annotations

import dataclasses
from typing import Any

from parity import frontend as fe
from parity.protocols import Clip
from parity.search import clip_of
from parity.signals import Signal

_HTK = fe.Mel(bands=40, fmax=8000.0, scale="htk", norm="none")
_SLANEY = fe.Mel(bands=40, fmax=8000.0, scale="slaney", norm="slaney")
_OWN = fe.Mel(bands=40, fmin=20.0, fmax=4000.0, scale="htk", norm="none", triangles="mel")
_ELL = fe.Mel(bands=40, fmax=8000.0, scale="1127ln", norm="none", triangles="bins")
_MICRO = fe.Micro(length=480, hop=320, bands=40)
_LN = fe.Log(base="e", offset=1e-6)


def _recipe(length: int | None = None, **stages: Any) -> fe.Frontend:
    usual: dict[str, Any] = {
        "input": fe.Input(rate=16000, length=length), "frame": fe.Frame(length=512, hop=160),
        "window": fe.Window(name="hann"), "spectrum": fe.Spectrum(n_fft=512),
    }  # fmt: skip
    return fe.Frontend(**usual | stages)


_MS30 = fe.Frame(length=480, hop=320)
_CENTERED = fe.Frame(length=2048, hop=512, center=True)
_SYMMETRIC = fe.Window(name="hamming", periodic=False)
_LONG = fe.Spectrum(n_fft=2048)

RECIPES: dict[str, fe.Frontend] = {
    "commands-cnn": _recipe(
        16032, filterbank=dataclasses.replace(_HTK, bands=50, norm="slaney"), compress=fe.Log(base="10", offset=1e-6)
    ),
    "mel40": _recipe(
        16000, frame=dataclasses.replace(_CENTERED, pad_mode="reflect"), spectrum=_LONG, filterbank=_SLANEY,
        compress=fe.Decibel(ref="max"),
    ),
    "mfcc": _recipe(
        frame=_CENTERED, spectrum=_LONG, filterbank=dataclasses.replace(_SLANEY, bands=128), compress=fe.Decibel(),
        cepstrum=fe.Cepstrum(count=12),
    ),
    "logmel": _recipe(
        window=_SYMMETRIC, spectrum=fe.Spectrum(n_fft=512, exponent=1), filterbank=_ELL,
        compress=fe.Log(base="e", offset=1.0),
    ),
    "logmel, emphasized cepstrum": _recipe(
        input=fe.Input(rate=16000, pre_emphasis=0.97), window=_SYMMETRIC,
        spectrum=fe.Spectrum(n_fft=512, scaling="1/n_fft"), filterbank=_ELL, compress=fe.Log(base="e", offset=1.0),
        cepstrum=fe.Cepstrum(count=13, norm="none", lifter=22.0),
    ),
    "tiny-conv": _recipe(
        16000, frame=_MS30, filterbank=fe.Pool(size=6),
        quantize=fe.Quantize(dtype="uint8", scale=0.5, rounding="half-away"),
    ),
    "MLPerf Tiny": _recipe(
        input=fe.Input(rate=16000, length=16000, peak_normalize=True), frame=_MS30,
        spectrum=fe.Spectrum(n_fft=512, exponent=1), filterbank=_OWN, compress=_LN,
        cepstrum=fe.Cepstrum(count=10, norm="ortho-c0-sqrt2"),
    ),
    "tf.signal": _recipe(
        frame=fe.Frame(length=480, hop=320, last="pad"), spectrum=fe.Spectrum(n_fft=512, exponent=1), filterbank=_OWN,
        compress=_LN, cepstrum=fe.Cepstrum(count=10, norm="ortho-c0-sqrt2"),
    ),
    "short window": _recipe(window=fe.Window(name="hamming", length=400), filterbank=_HTK, compress=fe.Log(base="e")),
    "normalized int8": _recipe(
        filterbank=_SLANEY, compress=_LN, normalize=fe.Normalize(mean=(-6.0,), spread=(4.0,)),
        quantize=fe.Quantize(dtype="int8", scale=0.05, zero_point=-3, rounding="half-away"),
    ),
    "micro-speech": fe.Frontend(
        input=fe.Input(rate=16000, length=16000, scale="int16"), micro=_MICRO,
        quantize=fe.Quantize(dtype="int8", scale=666 / 256, zero_point=-128, rounding="half-away"),
    ),
    "micro, every 10 ms": fe.Frontend(
        input=fe.Input(rate=16000, scale="int16"), micro=dataclasses.replace(_MICRO, hop=160)
    ),
    "raw audio": fe.Frontend(input=fe.Input(rate=16000)),
    "raw audio in chunks": fe.Frontend(input=fe.Input(rate=16000), frame=fe.Frame(length=512, hop=512, last="pad")),
}  # fmt: skip
"""Recipes of real systems, and a few that put stages together in other ways."""


SOUNDS: tuple[Clip, ...] = tuple(
    clip_of(signal)
    for signal in (
        Signal(kind="pink", level_dbfs=-12.0, seed=1),
        Signal(kind="tone", frequency=440.0, level_dbfs=-6.0, noise_dbfs=-60.0),
        Signal(kind="chirp", frequency=100.0, end_frequency=7000.0, level_dbfs=-3.0, length=12345),
        Signal(kind="white", level_dbfs=-40.0, dc=0.1, length=16161),
        Signal(),
    )
)
"""Clips of mixed length and level, silence last."""
