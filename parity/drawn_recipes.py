"""Strategies for recipes: any valid combination of stages, the usual ones first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, TypeVar

from hypothesis import assume
from hypothesis import strategies as st

from parity import frontend as fe
from parity import recipe

T = TypeVar("T")

_RATES: Final = (16000, 8000, 48000, 44100, 22050, 11025)
_FEW: Final = 3
"""How often the usual choice is drawn over each of the others."""


def _one(draw: st.DrawFn, usual: T, *others: T | st.SearchStrategy[T]) -> T:
    """The usual value mostly, else one of the others or one drawn from them."""
    index = draw(st.integers(0, len(others) * (1 + _FEW) - 1)) - len(others) * _FEW
    chosen = usual if index < 0 else others[index]
    return draw(chosen) if isinstance(chosen, st.SearchStrategy) else chosen


def _tenths(least: float, most: float) -> st.SearchStrategy[float]:
    return st.integers(round(10 * least), round(10 * most)).map(lambda n: n / 10)


@st.composite
def frontends(draw: st.DrawFn) -> fe.Frontend:
    """Recipes: any valid combination of stages. The simplest is a usual log-mel; a plugin refuses what it can't do.

    Sizes are such that a second of sound takes milliseconds: frames of up to 2,048 samples, 96 bands.
    """
    rate, form = _one(draw, *_RATES), _one(draw, "spectrum", "micro", "raw")
    given = fe.Input(
        rate=rate,
        scale=_one(draw, "unit", "int16"),
        peak_normalize=_one(draw, False, True),
        pre_emphasis=_one(draw, 0.0, 0.97, st.integers(-100, 100).map(lambda n: n / 100)),
    )
    if form == "micro":
        return draw(_micro(rate))
    if form == "raw" and draw(st.booleans()):
        return fe.Frontend(input=draw(_fitted(given, 1)))
    frame = draw(_frame())
    given = draw(_fitted(given, max(1, frame.length - (2 * (frame.length // 2) if frame.center else 0))))
    if form == "raw":
        return fe.Frontend(input=given, frame=frame)
    n = frame.length
    fft = _one(draw, max(512, 1 << (n - 1).bit_length()), n, n + 1, st.integers(n, 2 * n + 64))
    spectrum = fe.Spectrum(
        n_fft=max(2, fft),
        exponent=_one(draw, 2, 1),
        scaling=_one(draw, "none", "1/n_fft"),
        nyquist=_one(draw, True, False),
    )
    window = fe.Window(
        name=_one(draw, "hann", "hamming", "rectangular"),
        periodic=_one(draw, True, False),
        length=_one(draw, None, n, st.integers(1, n)),
        position=_one(draw, "center", "left"),
    )
    made = fe.Frontend(input=given, frame=frame, window=window, spectrum=spectrum)
    made = replace(made, filterbank=_bank(draw, rate, made.bins))
    made = replace(made, compress=_compression(draw))
    if made.compress is not None and _one(draw, False, True):
        made = replace(
            made,
            cepstrum=fe.Cepstrum(
                count=draw(st.integers(1, min(made.bands, 40))),
                norm=_one(draw, "ortho", "none", "ortho-c0-sqrt2"),
                lifter=_one(draw, 0.0, 22.0, _tenths(0.1, 40.0)),
            ),
        )
    if _one(draw, False, True):
        made = replace(made, normalize=_normalization(draw, made.bands))
    return replace(made, quantize=_quantization(draw)) if _one(draw, False, True) else made


@st.composite
def _fitted(draw: st.DrawFn, given: fe.Input, least: int) -> fe.Input:
    length = _one(draw, None, max(least, given.rate), st.integers(least, 2 * given.rate))
    return given if length is None else replace(given, length=length, fit=_one(draw, "pad-or-cut", "refuse"))


@st.composite
def _frame(draw: st.DrawFn) -> fe.Frame:
    length = _one(draw, 512, 400, 480, 401, 2048, st.integers(16, 2048))
    least = max(1, length // 8)
    return fe.Frame(
        length=length,
        hop=_one(draw, max(least, 160), length, st.integers(least, 2 * length)),
        center=_one(draw, False, True),
        pad_mode=_one(draw, "zero", "reflect", "edge"),
        last=_one(draw, "drop", "pad"),
    )


def _bank(draw: st.DrawFn, rate: int, bins: int) -> fe.Mel | fe.Pool | None:
    kind = _one(draw, "mel", "none", "pool")
    if kind != "mel":
        return None if kind == "none" else fe.Pool(size=_one(draw, 6, st.integers(1, bins)))
    half = rate // 2
    fmin = _one(draw, 0, 125, st.integers(0, half - 1))
    return fe.Mel(
        bands=_one(draw, 40, st.integers(1, 96)),
        fmin=float(fmin),
        fmax=_one(draw, rate / 2, st.integers(fmin + 1, half).map(float)),
        scale=_one(draw, "htk", "slaney", "1127ln"),
        norm=_one(draw, "none", "slaney"),
        triangles=_one(draw, "hz", "mel", "bins"),
    )


def _compression(draw: st.DrawFn) -> fe.Log | fe.Decibel | None:
    kind = _one(draw, "log", "db", "none")
    small = st.sampled_from((1.0, 1e-3, 1e-6, 1e-10, 1e-12))
    if kind == "log":
        return fe.Log(base=_one(draw, "e", "10"), offset=_one(draw, 1e-6, 0.0, small), floor=_one(draw, 0.0, small))
    if kind == "none":
        return None
    return fe.Decibel(
        ref=_one(draw, 1.0, "max", _tenths(0.1, 100.0)),
        amin=_one(draw, 1e-10, small),
        top_db=_one(draw, 80.0, None, _tenths(0.0, 120.0)),
    )


def _normalization(draw: st.DrawFn, bands: int) -> fe.Normalize:
    count = _one(draw, 1, bands)
    mean = draw(st.lists(_tenths(-20.0, 20.0), min_size=count, max_size=count))
    spread = draw(st.lists(_tenths(0.1, 20.0), min_size=count, max_size=count))
    return fe.Normalize(mean=tuple(mean), spread=tuple(spread))


def _quantization(draw: st.DrawFn) -> fe.Quantize:
    kind: Any = _one(draw, "int8", "uint8")
    return fe.Quantize(
        dtype=kind,
        scale=_one(
            draw, 0.5, 0.1, st.integers(1, 999).map(lambda n: n / 256), st.integers(1, 999).map(lambda n: n / 7)
        ),
        zero_point=_one(draw, 0, st.integers(0, 255) if kind == "uint8" else st.integers(-128, 127)),
        rounding=_one(draw, "half-even", "half-away", "floor"),
    )


@st.composite
def _micro(draw: st.DrawFn, rate: int) -> fe.Frontend:
    length = _one(draw, 30 * rate // 1000, st.integers(16, 2048))
    made = fe.Micro(
        length=length,
        hop=_one(draw, max(1, rate // 50), max(1, rate // 100), st.integers(max(1, length // 8), 2 * length)),
        bands=_one(draw, 40, st.integers(1, 64)),
        fmin=float(_one(draw, 125, st.integers(0, 1000))),
        fmax=float(_one(draw, min(7500, rate // 2 - 1), st.integers(1500, rate // 2 - 1))),
        smoothing_bits=_one(draw, 10, st.integers(8, 16)),
        even_smoothing=_one(draw, 0.025, _tenths(0.0, 1.0)),
        odd_smoothing=_one(draw, 0.06, _tenths(0.0, 1.0)),
        min_signal_remaining=_one(draw, 0.05, _tenths(0.0, 1.0)),
        pcan=_one(draw, True, False),
        pcan_strength=_one(draw, 0.95, _tenths(0.0, 2.0)),
        pcan_offset=_one(draw, 80.0, st.integers(1, 2**15).map(float)),
        gain_bits=_one(draw, 21, st.integers(20, 31)),
        log=_one(draw, True, False),
        log_shift=_one(draw, 6, st.integers(0, 12)),
    )
    given = draw(_fitted(fe.Input(rate=rate, scale="int16"), length))
    frontend = fe.Frontend(input=given, micro=made, quantize=_quantization(draw) if _one(draw, False, True) else None)
    assume(recipe.inconsistent(frontend) is None)  # PCAN's gain has 16 bits
    return frontend
