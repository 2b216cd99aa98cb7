"""Settings of the spectrum: FFT size, power, scaling, the bins at either end."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from parity import frontend as fe
from parity.explain.catalogue.changes import Change, factor, hooked, other, shown
from parity.explain.definition import Definition, Hook
from parity.explain.settings import PLAUSIBLE, RARE, USUAL, Knob, Setting
from parity.protocols import Array

_TAP = "features/spectrum"


def entries(frontend: fe.Frontend) -> list[Setting | Knob]:
    """What there is to change in the spectrum."""
    s, frame = frontend.spectrum, frontend.frame
    if s is None or frame is None:
        return []
    found: list[Setting | Knob] = []
    sizes = {frame.length, 256, 512, 1024, 2048, s.n_fft // 2, 2 * s.n_fft, 1 << (frame.length - 1).bit_length()}
    found += [Setting("spectrum.n_fft", f"n_fft {n}, not {s.n_fft}", _TAP, other("spectrum", n_fft=n))
              for n in sorted(sizes) if n != s.n_fft and n >= frame.length]  # fmt: skip
    to, words = (1, "magnitude, not power") if s.exponent == 2 else (2, "power, not magnitude")
    found.append(Setting("spectrum.exponent", words, _TAP, other("spectrum", exponent=to)))
    found += _scalings(s, frame, frontend.window)
    found.append(Knob("spectrum.gain", lambda x: f"spectrum times {shown(x)}", _TAP,
                      lambda d, x: d.with_hook(factor(_TAP, x)), (0.5, 2.0, 0.1, 10.0, 1e-3, 1e3), low=1e-12,
                      high=1e12, positive=True, neutral=1.0, rank=PLAUSIBLE))  # fmt: skip
    kept = "dropped" if s.nyquist else "kept"
    found.append(Setting("spectrum.nyquist", f"the bin at half the rate {kept}", _TAP,
                         other("spectrum", nyquist=not s.nyquist)))  # fmt: skip
    found += [
        Setting("spectrum.dc-bin", "bin 0 (DC) dropped, so that the others move down", _TAP, _shifted),
        Setting("spectrum.dc-bin", "bin 0 (DC) zeroed", _TAP, _zeroed(0)),
        Setting("spectrum.dc-bin", "bin 0 (DC) dropped and as many bins kept, moved down by one", _TAP,
                hooked(Hook(_TAP, after=lambda x: np.pad(x[:, 1:], ((0, 0), (0, 1))), index=True)), RARE),
        Setting("spectrum.one-sided", "all bins but the first and last doubled (one-sided)", _TAP,
                hooked(Hook(_TAP, after=_doubled)), PLAUSIBLE),
        Setting("spectrum.part", "real part only", _TAP, _part(lambda x: np.abs(x.real)), PLAUSIBLE),
        Setting("spectrum.part", "imaginary part only", _TAP, _part(lambda x: np.abs(x.imag)), RARE),
        Setting("spectrum.part", "|re| + |im| in the place of the magnitude", _TAP,
                _part(lambda x: np.abs(x.real) + np.abs(x.imag)), PLAUSIBLE),
    ]  # fmt: skip
    if s.nyquist:
        found.append(Setting("spectrum.nyquist", "the bin at half the rate zeroed", _TAP, _zeroed(-1), PLAUSIBLE))
    return found


def _scalings(s: fe.Spectrum, frame: fe.Frame, window: fe.Window | None) -> list[Setting]:
    """Usual divisors of an FFT; where they depend on the window they are worked out when they are applied."""
    found = []
    if s.scaling == "1/n_fft":
        found.append(Setting("spectrum.scaling", "no scaling, not 1/n_fft", _TAP, other("spectrum", scaling="none")))
        now, back = "1/n_fft", float(s.n_fft)
    else:
        found.append(Setting("spectrum.scaling", "divided by n_fft", _TAP, other("spectrum", scaling="1/n_fft")))
        now, back = "none", 1.0
    n = float(s.n_fft)
    for words, by in (("1/n_fft²", n**-2), ("1/sqrt(n_fft)", n**-0.5), ("2/n_fft", 2.0 / n), ("4/n_fft²", 4.0 / n**2),
                      ("1/frame length", 1.0 / frame.length), ("2", 2.0), ("1/2", 0.5), ("sqrt(2)", math.sqrt(2.0)),
                      ("1/bins", 1.0 / (s.n_fft // 2 + 1)), ("2/frame length", 2.0 / frame.length)):  # fmt: skip
        if words == "1/frame length" and frame.length == s.n_fft:
            continue
        found.append(Setting("spectrum.scaling", f"scaling {words}, not {now}", _TAP,
                             hooked(factor(_TAP, by * back)), USUAL if "fft" in words else PLAUSIBLE))  # fmt: skip
    if window is not None:
        for words, power in (("1/sum(window)", 1), ("1/sum(window)²", 2), ("1/sum(window²)", -1)):
            found.append(Setting("spectrum.scaling", f"scaling {words}, not {now}", _TAP, _by_window(power, back),
                                 PLAUSIBLE))  # fmt: skip
    return found


def _by_window(power: int, back: float) -> Change:
    def change(d: Definition) -> Definition | None:
        frame = d.frontend.frame
        if frame is None or d.frontend.window is None:
            return None
        w = d.constant("features/windowed", frame.length)
        total = np.square(w).sum() if power < 0 else w.sum() ** power
        return d.with_hook(factor(_TAP, back / float(total)))

    return change


def _shifted(d: Definition) -> Definition | None:
    """Without its bin 0; a bank made for so many bins takes them as if nothing had happened."""
    s = d.frontend.spectrum
    if s is None:
        return None
    if not s.nyquist:
        kept = other("spectrum", nyquist=True)(d)
        return None if kept is None else kept.with_hook(Hook(_TAP, after=lambda x: x[:, 1:], index=True))
    found = d.with_hook(Hook(_TAP, after=lambda x: x[:, 1:], index=True))
    if d.frontend.filterbank is None:
        return found
    return found.with_hook(Hook("features/filterbank", constant=lambda _, b: b[:, : s.n_fft // 2]))


def _zeroed(bin_: int) -> Change:
    def after(x: Array) -> Array:
        x = x.copy()
        x[:, bin_] = 0.0
        return x

    return hooked(Hook(_TAP, after=after, index=True))


def _doubled(x: Array) -> Array:
    x = 2.0 * x
    x[:, [0, -1]] /= 2.0
    return x


def _part(size: Callable[[Array], Array]) -> Change:
    """A real number in the place of the magnitude; squared where the recipe squares."""

    def change(d: Definition) -> Definition | None:
        s = d.frontend.spectrum
        if s is None:
            return None
        return d.with_hook(Hook(_TAP, transform=lambda x: size(x) ** s.exponent))

    return change
