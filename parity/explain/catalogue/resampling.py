"""Settings of the samples' rate: another one, or by way of another one, and by which filter that was done."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import gcd

import numpy as np

from parity.explain.catalogue.changes import Change, hooked
from parity.explain.definition import Hook
from parity.explain.settings import PLAUSIBLE, RARE, Setting
from parity.protocols import Array

_TAP = "features/audio"
RATES = (8000, 11025, 22050, 24000, 32000, 44100, 48000)
Resample = Callable[[Array, int, int], Array]
"""`[n]` samples, their rate, another -> as many as there are at that, float64."""


def _soxr(x: Array, rate: int, to: int, quality: str = "HQ") -> Array:
    import soxr

    return np.asarray(soxr.resample(x, rate, to, quality=quality))


def _lines(x: Array, rate: int, to: int) -> Array:
    n = int(np.ceil(len(x) * to / rate))
    return np.interp(np.arange(n) * rate / to, np.arange(len(x)), x)


def polyphase(x: Array, rate: int, to: int) -> Array:
    """As `scipy.signal.resample_poly`: a sinc of 10 zero crossings on either side under Kaiser's window, beta 5."""
    up, down = to // gcd(rate, to), rate // gcd(rate, to)
    widest = max(up, down)
    reach = 10 * widest
    at = np.arange(-reach, reach + 1)
    h = np.sinc(at / widest) * np.kaiser(len(at), 5.0)
    h *= up / h.sum()
    m = np.arange(-(-len(x) * up // down)) * down
    first = -((reach - m) // up)
    k = first[:, None] + np.arange(2 * reach // up + 1)
    j = m[:, None] - k * up + reach
    there = (j >= 0) & (j <= 2 * reach) & (k >= 0) & (k < len(x))
    return np.asarray((np.where(there, h[np.clip(j, 0, 2 * reach)], 0.0) * x[np.clip(k, 0, len(x) - 1)]).sum(axis=1))


def fourier(x: Array, rate: int, to: int) -> Array:
    """As `scipy.signal.resample`: a spectrum cut off, or filled up with zeros."""
    n, m = len(x), len(x) * to // rate
    least = min(n, m)
    z = np.zeros(m // 2 + 1, complex)
    z[: least // 2 + 1] = np.fft.rfft(x)[: least // 2 + 1]
    if least % 2 == 0 and n != m:
        z[least // 2] *= 2.0 if m < n else 0.5
    return np.asarray(np.fft.irfft(z, m) * (m / n))


_OTHERS: dict[str, Resample] = {
    "by scipy.signal.resample_poly": polyphase,
    "by scipy.signal.resample": fourier,
    **{f"by soxr's {q}": partial(_soxr, quality=q) for q in ("VHQ", "MQ", "LQ", "QQ")},
}


def rates(rate: int) -> list[Setting]:
    """The clip at another rate than `rate`, taken for it; or brought back. Other filters where soxr's HQ comes near."""
    found: list[Setting] = []
    for to in RATES:
        if to == rate:
            continue
        ways: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [
            ("audio.rate", f"samples at {to} Hz{{}}, not {rate} Hz", ((rate, to),))
        ]
        ways.append(("audio.band", f"samples by way of {to} Hz{{}}", ((rate, to), (to, rate))))
        for key, words, steps in ways:
            rank = PLAUSIBLE if key == "audio.rate" else RARE
            others = tuple(Setting(key, words.format(f" {by}"), _TAP, _through(steps, f), RARE)
                           for by, f in _OTHERS.items())  # fmt: skip
            if key == "audio.rate" or to < rate:
                found.append(Setting(key, words.format(""), _TAP, _through(steps, _soxr), rank, others))
            found.append(Setting(key, words.format(", by straight lines"), _TAP, _through(steps, _lines), RARE))
    return found


def _through(steps: tuple[tuple[int, int], ...], resample: Resample) -> Change:
    """The clip at another rate before the recipe sees it: before it is padded, cut or emphasized."""

    def before(x: Array) -> Array:
        n = len(x)
        for a, b in steps:
            x = resample(x, a, b)
        return x if len(steps) == 1 else np.pad(x[:n], (0, max(0, n - len(x))))

    return hooked(Hook(_TAP, before=before, roundings=2.0, spread=8.0))
