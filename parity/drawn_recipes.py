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
_USUAL: Final = (3, 12)
"""How often the usual choice is drawn over all others: recipes are odd in many ways, or in one or two."""


class _Choice:
    """Draws the settings of one recipe."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw, self._usual = draw, draw(st.sampled_from(_USUAL))

    def one(self, usual: T, *others: T | st.SearchStrategy[T]) -> T:
        """The usual value mostly, else one of the others or one drawn from them."""
        index = self.draw(st.integers(0, len(others) * (1 + self._usual) - 1)) - len(others) * self._usual
        chosen = usual if index < 0 else others[index]
        return self.draw(chosen) if isinstance(chosen, st.SearchStrategy) else chosen


def _tenths(least: float, most: float) -> st.SearchStrategy[float]:
    return st.integers(round(10 * least), round(10 * most)).map(lambda n: n / 10)


@st.composite
def frontends(draw: st.DrawFn) -> fe.Frontend:
    """Recipes: any valid combination of stages. The simplest is a usual log-mel; a plugin refuses what it can't do.

    Sizes are such that a second of sound takes milliseconds: frames of up to 2,048 samples, 96 bands.
    """
    choose = _Choice(draw)
    rate, form = choose.one(*_RATES), choose.one("spectrum", "micro", "raw")
    given = fe.Input(
        rate=rate,
        scale=choose.one("unit", "int16"),
        peak_normalize=choose.one(False, True),
        pre_emphasis=choose.one(0.0, 0.97, st.integers(-100, 100).map(lambda n: n / 100)),
    )
    if form == "micro":
        return _micro(choose, rate)
    if form == "raw" and draw(st.booleans()):
        return fe.Frontend(input=_fitted(choose, given, 1))
    frame = _frame(choose)
    given = _fitted(choose, given, max(1, frame.length - (2 * (frame.length // 2) if frame.center else 0)))
    if form == "raw":
        return fe.Frontend(input=given, frame=frame)
    n = frame.length
    fft = choose.one(max(512, 1 << (n - 1).bit_length()), n, n + 1, st.integers(n, 2 * n + 64))
    spectrum = fe.Spectrum(
        n_fft=max(2, fft),
        exponent=choose.one(2, 1),
        scaling=choose.one("none", "1/n_fft"),
        nyquist=choose.one(True, False),
    )
    window = fe.Window(
        name=choose.one("hann", "hamming", "rectangular"),
        periodic=choose.one(True, False),
        length=choose.one(None, n, st.integers(1, n)),
        position=choose.one("center", "left"),
    )
    made = fe.Frontend(input=given, frame=frame, window=window, spectrum=spectrum)
    made = replace(made, filterbank=_bank(choose, rate, made.bins))
    made = replace(made, compress=_compression(choose))
    if made.compress is not None and choose.one(False, True):
        made = replace(
            made,
            cepstrum=fe.Cepstrum(
                count=draw(st.integers(1, min(made.bands, 40))),
                norm=choose.one("ortho", "none", "ortho-c0-sqrt2"),
                lifter=choose.one(0.0, 22.0, _tenths(0.1, 40.0)),
            ),
        )
    if choose.one(False, True):
        made = replace(made, normalize=_normalization(choose, made.bands))
    return replace(made, quantize=_quantization(choose)) if choose.one(False, True) else made


def _fitted(choose: _Choice, given: fe.Input, least: int) -> fe.Input:
    length = choose.one(None, max(least, given.rate), st.integers(least, 2 * given.rate))
    return given if length is None else replace(given, length=length, fit=choose.one("pad-or-cut", "refuse"))


def _frame(choose: _Choice) -> fe.Frame:
    length = choose.one(512, 400, 480, 401, 2048, st.integers(16, 2048))
    least = max(1, length // 8)
    return fe.Frame(
        length=length,
        hop=choose.one(max(least, 160), length, st.integers(least, 2 * length)),
        center=choose.one(False, True),
        pad_mode=choose.one("zero", "reflect", "edge"),
        last=choose.one("drop", "pad"),
    )


def _bank(choose: _Choice, rate: int, bins: int) -> fe.Mel | fe.Pool | None:
    kind = choose.one("mel", "none", "pool")
    if kind != "mel":
        return None if kind == "none" else fe.Pool(size=choose.one(6, st.integers(1, bins)))
    half = rate // 2
    fmin = choose.one(0, 125, st.integers(0, half - 1))
    return fe.Mel(
        bands=choose.one(40, st.integers(1, 96)),
        fmin=float(fmin),
        fmax=choose.one(rate / 2, st.integers(fmin + 1, half).map(float)),
        scale=choose.one("htk", "slaney", "1127ln"),
        norm=choose.one("none", "slaney"),
        triangles=choose.one("hz", "mel", "bins"),
    )


def _compression(choose: _Choice) -> fe.Log | fe.Decibel | None:
    kind = choose.one("log", "db", "none")
    small = st.sampled_from((1.0, 1e-3, 1e-6, 1e-10, 1e-12))
    if kind == "log":
        return fe.Log(base=choose.one("e", "10"), offset=choose.one(1e-6, 0.0, small), floor=choose.one(0.0, small))
    if kind == "none":
        return None
    return fe.Decibel(
        ref=choose.one(1.0, "max", _tenths(0.1, 100.0)),
        amin=choose.one(1e-10, small),
        top_db=choose.one(80.0, None, _tenths(0.0, 120.0)),
    )


def _normalization(choose: _Choice, bands: int) -> fe.Normalize:
    count = choose.one(1, bands)
    mean = choose.draw(st.lists(_tenths(-20.0, 20.0), min_size=count, max_size=count))
    spread = choose.draw(st.lists(_tenths(0.1, 20.0), min_size=count, max_size=count))
    return fe.Normalize(mean=tuple(mean), spread=tuple(spread))


def _quantization(choose: _Choice) -> fe.Quantize:
    kind: Any = choose.one("int8", "uint8")
    return fe.Quantize(
        dtype=kind,
        scale=choose.one(0.5, 0.1, *(st.integers(1, 999).map(of.__rtruediv__) for of in (256.0, 7.0))),
        zero_point=choose.one(0, st.integers(0, 255) if kind == "uint8" else st.integers(-128, 127)),
        rounding=choose.one("half-even", "half-away", "floor"),
    )


def _micro(choose: _Choice, rate: int) -> fe.Frontend:
    whole = st.integers(2, 60).map(lambda ms: ms * rate // 1000)  # milliseconds, as the op takes them
    length = choose.one(30 * rate // 1000, whole, st.integers(16, 2048))
    made = fe.Micro(
        length=length,
        hop=choose.one(min(length, 20 * rate // 1000), length, whole, st.integers(max(1, length // 8), 2 * length)),
        bands=choose.one(40, st.integers(1, 64)),
        fmin=float(choose.one(125, st.integers(0, 1000))),
        fmax=float(choose.one(min(7500, rate // 2 - 1), st.integers(1500, rate // 2 - 1))),
        smoothing_bits=choose.one(10, st.integers(8, 16)),
        even_smoothing=choose.one(0.025, _tenths(0.0, 1.0)),
        odd_smoothing=choose.one(0.06, _tenths(0.0, 1.0)),
        min_signal_remaining=choose.one(0.05, _tenths(0.0, 1.0)),
        pcan=choose.one(True, False),
        pcan_strength=choose.one(0.95, _tenths(0.0, 2.0)),
        pcan_offset=choose.one(80.0, st.integers(1, 2**15).map(float)),
        gain_bits=choose.one(21, st.integers(20, 31)),
        log=choose.one(True, False),
        log_shift=choose.one(6, st.integers(0, 12)),
    )
    given = _fitted(choose, fe.Input(rate=rate, scale="int16"), length)
    frontend = fe.Frontend(input=given, micro=made, quantize=_quantization(choose) if choose.one(False, True) else None)
    assume(recipe.inconsistent(frontend) is None)  # PCAN's gain has 16 bits
    return frontend
