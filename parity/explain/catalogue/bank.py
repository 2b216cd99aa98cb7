"""Settings of the filter bank: mel scale, norm, corners, the rate that it was built for; pooling."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from parity import frontend as fe
from parity.backends import reference
from parity.explain.catalogue.changes import Change, brain, choices, factor, half, hooked, knob, other, shown
from parity.explain.definition import Definition, Hook
from parity.explain.settings import PLAUSIBLE, RARE, Knob, Setting
from parity.protocols import Array

_TAP = "features/filterbank"


def entries(frontend: fe.Frontend) -> list[Setting | Knob]:
    """What there is to change in the bank."""
    s = frontend.filterbank
    if s is None or frontend.spectrum is None:
        return []
    found: list[Setting | Knob] = []
    found += _mel(frontend, s) if isinstance(s, fe.Mel) else _pool(s)
    missing = Hook(_TAP, instead=lambda x: x)
    found.append(Setting("filterbank.missing", "no filter bank", _TAP, hooked(missing), PLAUSIBLE))
    found += [
        Setting("mel.float16" if isinstance(s, fe.Mel) else "pool.float16", "weights of the bank in float16", _TAP,
                _weights(lambda _, b: half(b)), PLAUSIBLE),
        Setting("mel.bfloat16" if isinstance(s, fe.Mel) else "pool.bfloat16", "weights of the bank in bfloat16", _TAP,
                _weights(lambda _, b: brain(b)), RARE),
    ]  # fmt: skip
    return found


def _weights(f: Callable[[fe.Frontend, Array], Array]) -> Change:
    return hooked(Hook(_TAP, constant=f))


def _mel(frontend: fe.Frontend, s: fe.Mel) -> list[Setting | Knob]:
    rate, n_fft = frontend.input.rate, frontend.bins
    found: list[Setting | Knob] = []
    found += choices("mel.scale", "filterbank", "scale", s.scale, ("htk", "slaney", "1127ln"), "mel scale {}")
    found.append(Setting("mel.norm", "triangles of height 1, not of area 1 (norm none)" if s.norm == "slaney" else
                         "triangles of area 1, not of height 1 (norm slaney)", _TAP,
                         other("filterbank", norm="none" if s.norm == "slaney" else "slaney")))  # fmt: skip
    for words, f in (("each triangle's weights sum to 1", lambda b: b.sum(axis=1, keepdims=True)),
                     ("each triangle's squares sum to 1", lambda b: np.linalg.norm(b, axis=1, keepdims=True)),
                     ("each triangle's largest weight is 1", lambda b: b.max(axis=1, keepdims=True))):  # fmt: skip
        found.append(Setting("mel.norm", words, _TAP, _weights(_divided(f)), PLAUSIBLE))
    straight = {"hz": "straight in Hz", "mel": "straight in mel", "bins": "between whole bins"}
    found += [Setting("mel.triangles", f"triangles {words}, not {straight[s.triangles]}", _TAP,
                      other("filterbank", triangles=t))
              for t, words in straight.items() if t != s.triangles]  # fmt: skip
    for words, times, f in (("floor(n_fft·f/rate)", 0, np.floor), ("nearest of n_fft·f/rate", 0, np.rint),
                            ("nearest of (n_fft + 1)·f/rate", 1, np.rint)):  # fmt: skip
        found.append(Setting("mel.triangles", f"triangles between whole bins, {words}", _TAP,
                             _weights(_between_bins(times, f)), PLAUSIBLE))  # fmt: skip
    low = (0.0, 20.0, 50.0, 60.0, 64.0, 80.0, 100.0, 125.0, 130.0, 133.3333, 150.0, 200.0, 250.0, 300.0)
    top = rate / 2
    high = (top, 3400.0, 3800.0, 4000.0, 6000.0, 7000.0, 7500.0, 7600.0, 7800.0, top - 100, top - 1, s.fmax - 200)
    smooth = s.triangles != "bins"
    found.append(knob("mel.fmin", "filterbank", "fmin", s.fmin, low, "fmin {} Hz", low=0.0, high=s.fmax - 1,
                      estimate=smooth))  # fmt: skip
    found.append(knob("mel.fmax", "filterbank", "fmax", s.fmax, [f for f in high if f > s.fmin], "fmax {} Hz",
                      low=s.fmin + 1, high=4 * top, estimate=smooth))  # fmt: skip
    bands = (20, 22, 23, 24, 26, 30, 32, 40, 48, 50, 64, 80, 96, 128, s.bands - 1, s.bands + 1)
    found += choices(
        "mel.bands", "filterbank", "bands", s.bands, [b for b in bands if b > 0 and b <= n_fft], "{} bands"
    )
    for r in (8000, 11025, 22050, 24000, 32000, 44100, 48000, 16000):
        if r != rate:
            found.append(Setting("mel.rate", f"bank built for {r} Hz, not {rate} Hz", _TAP, _weights(_built(r, False))))
            if s.fmax == top:
                found.append(Setting("mel.rate", f"bank built for {r} Hz up to {shown(r / 2)} Hz, not for {rate} Hz",
                                     _TAP, _weights(_built(r, True)), PLAUSIBLE))  # fmt: skip
    found += [
        Setting("mel.power", "magnitudes through the bank, then squared", _TAP, _root_before, PLAUSIBLE),
        Setting("mel.power", "root of the bands", _TAP, hooked(Hook(_TAP, after=_root, roundings=1.0)), PLAUSIBLE),
        Setting("mel.power", "bands squared", _TAP, hooked(Hook(_TAP, after=_square, roundings=1.0)), PLAUSIBLE),
        Setting("mel.dc-bin", "no weight on bin 0 (DC)", _TAP, _weights(_without_dc), PLAUSIBLE),
        Setting("mel.rounded", "weights of the bank in 8 bits", _TAP, _weights(_fixed(8)), RARE),
        Setting("mel.rounded", "weights of the bank in 12 bits", _TAP, _weights(_fixed(12)), RARE),
        Setting("mel.rounded", "weights of the bank in 15 bits", _TAP, _weights(_fixed(15)), RARE),
        Knob("mel.gain", lambda x: f"bands times {shown(x)}", _TAP, lambda d, x: d.with_hook(factor(_TAP, x)),
             (0.5, 2.0, 0.1, 10.0), low=1e-12, high=1e12, positive=True, neutral=1.0, rank=RARE),
    ]  # fmt: skip
    return found


def _root(x: Array) -> Array:
    return np.sqrt(np.maximum(x, 0.0))


def _square(x: Array) -> Array:
    return np.sign(x) * x * x


def _root_before(d: Definition) -> Definition | None:
    """Mel of magnitudes, then a power: another order of the two."""
    s = d.frontend.spectrum
    if s is None or s.exponent != 2 or "features/filterbank" not in d.frontend.taps:
        return None
    bank = d.constant(_TAP, d.frontend.bins)
    return d.with_hook(Hook(_TAP, instead=lambda x: _square(_root(x) @ bank.T), roundings=8.0))


def _divided(f: Callable[[Array], Array]) -> Callable[[fe.Frontend, Array], Array]:
    """Rows of unit triangles over one number each."""

    def constant(frontend: fe.Frontend, b: Array) -> Array:
        del frontend
        by = f(b)
        return b / np.where(by > 0, by, 1.0)

    return constant


def _between_bins(plus: int, f: Callable[[Array], Array]) -> Callable[[fe.Frontend, Array], Array]:
    """Triangles between corners rounded in another way; height 1, or area 1 where the recipe says so."""

    def constant(frontend: fe.Frontend, b: Array) -> Array:
        s, spectrum = frontend.filterbank, frontend.spectrum
        assert isinstance(s, fe.Mel)
        assert spectrum is not None
        hz = reference.mel_edges(s)
        corners = f(hz * (spectrum.n_fft + plus) / frontend.input.rate)
        at = np.arange(b.shape[1])
        left, center, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            rise, fall = (at - left) / (center - left), (right - at) / (right - center)
        found = np.where((at >= left) & (at < center), rise, np.where((at >= center) & (at < right), fall, 0.0))
        found = np.where(np.isfinite(found), found, 0.0)
        return found * (2.0 / (hz[2:] - hz[:-2]))[:, None] if s.norm == "slaney" else found

    return constant


def _built(rate: int, whole: bool) -> Callable[[fe.Frontend, Array], Array]:
    """The bank of another rate, up to half of it where `whole`."""

    def constant(frontend: fe.Frontend, b: Array) -> Array:
        s, spectrum = frontend.filterbank, frontend.spectrum
        assert isinstance(s, fe.Mel)
        assert spectrum is not None
        s = dataclasses.replace(s, fmax=rate / 2) if whole else s
        return reference.mel_bank(s, rate, spectrum.n_fft, b.shape[1])

    return constant


def _without_dc(frontend: fe.Frontend, b: Array) -> Array:
    del frontend
    b = b.copy()
    b[:, 0] = 0.0
    return b


def _fixed(bits: int) -> Callable[[fe.Frontend, Array], Array]:
    """Weights in steps of their largest."""

    def constant(frontend: fe.Frontend, b: Array) -> Array:
        del frontend
        step = float(b.max()) / (2**bits - 1) or 1.0
        step = 2.0**-bits if b.max() == 1.0 else step
        return np.rint(b / step) * step

    return constant


def _pool(s: fe.Pool) -> list[Setting | Knob]:
    sizes = (s.size - 1, s.size + 1, 2 * s.size, s.size // 2, 4, 5, 6, 8)
    found: list[Setting | Knob] = []
    found += choices("pool.size", "filterbank", "size", s.size, [n for n in sizes if n > 0], "groups of {} bins")
    size = s.size

    def largest(x: Array) -> Array:
        full = np.pad(x, ((0, 0), (0, -x.shape[1] % size)), constant_values=-np.inf)
        return full.reshape(len(x), -1, size).max(axis=2)

    def summed(_: fe.Frontend, b: Array) -> Array:
        return (b > 0).astype(np.float64)

    found += [
        Setting("pool.kind", "sum, not mean, of each group", _TAP, _weights(summed)),
        Setting("pool.kind", "largest, not mean, of each group", _TAP, hooked(Hook(_TAP, instead=largest))),
        Setting("pool.rest", "the last group's sum divided by the whole size, not by the bins in it", _TAP,
                _weights(lambda f, b: summed(f, b) / size)),
        Setting("pool.rest", "a last group that isn't full left out", _TAP,
                hooked(Hook(_TAP, after=lambda x: x[:, :-1], index=True))),
        Knob("pool.gain", lambda x: f"groups times {shown(x)}", _TAP, lambda d, x: d.with_hook(factor(_TAP, x)),
             (0.5, 2.0, 0.1, 10.0), low=1e-12, high=1e12, positive=True, neutral=1.0, rank=RARE),
    ]  # fmt: skip
    return found
