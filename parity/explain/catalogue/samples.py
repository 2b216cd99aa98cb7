"""Settings of the samples: scale, gain, offset, polarity, emphasis, rate, length, shifts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from parity import frontend as fe
from parity.explain.catalogue import resampling
from parity.explain.catalogue.changes import Change, choices, hooked, knob, offset, other, shown
from parity.explain.definition import Definition, Hook
from parity.explain.settings import PLAUSIBLE, RARE, Knob, Setting
from parity.protocols import Array

_TAP = "features/audio"


def entries(frontend: fe.Frontend) -> list[Setting | Knob]:
    """What there is to change in the samples."""
    s = frontend.input
    found: list[Setting | Knob] = []
    to, scale = ("int16", "±32768") if s.scale == "unit" else ("unit", "±1.0")
    found.append(Setting("input.scale", f"full scale {scale}, not {'±1.0' if s.scale == 'unit' else '±32768'}",
                         _TAP, other("input", scale=to)))  # fmt: skip
    by = 32767.0 if s.scale == "unit" else 1.0 / 32767.0
    found.append(Setting("input.scale", f"full scale ±{'32767' if s.scale == 'unit' else '1.0 (by 32767)'}", _TAP,
                         lambda d: _gained(d, by), PLAUSIBLE))  # fmt: skip
    near = 32768.0 / 32767.0
    found.append(Setting("input.scale", "16-bit samples divided by 32767, not 32768", _TAP,
                         lambda d: _gained(d, near), PLAUSIBLE))  # fmt: skip
    found.append(Knob("audio.gain", lambda x: f"gain {shown(x)} on the samples", _TAP, _gained,
                      (0.5, 2.0, 0.1, 10.0, 1.001, 0.999, 0.25, 4.0, 1 / 256, 256.0, 1 / 32768, 32768.0, 1e-3, 1e3),
                      low=1e-9, high=1e9, positive=True, neutral=1.0))  # fmt: skip
    found.append(Knob("audio.dc", lambda x: f"{shown(x)} added to the samples (DC)", _TAP,
                      lambda d, x: d.with_hook(Hook(_TAP, before=lambda a: a + x, roundings=2.0, spread=1.0)),
                      _OFFSETS, low=-2.0, high=2.0, neutral=0.0))  # fmt: skip
    if s.length is not None:
        found.append(Knob("audio.dc", lambda x: f"{shown(x)} added to the samples and to the zeros after them (DC)",
                          _TAP, lambda d, x: d.with_hook(offset(_TAP, x * _full(d))), _OFFSETS, low=-2.0, high=2.0,
                          neutral=0.0, rank=PLAUSIBLE))  # fmt: skip
    found.append(Setting("audio.dc", "the clip's mean taken off the samples (DC removed)", _TAP,
                         hooked(Hook(_TAP, before=lambda x: x - x.mean(), roundings=2.0, spread=2.0)),
                         PLAUSIBLE))  # fmt: skip
    found.append(Setting("audio.polarity", "polarity turned: samples negated", _TAP,
                         hooked(Hook(_TAP, after=np.negative)), PLAUSIBLE))  # fmt: skip
    found.append(knob("audio.pre-emphasis", "input", "pre_emphasis", s.pre_emphasis, (0.97, 0.95, 0.9375, 0.9, 0.98),
                      "pre-emphasis {}", low=-1.5, high=1.5))  # fmt: skip
    if s.pre_emphasis:
        found.append(Setting("audio.pre-emphasis", f"no pre-emphasis, not {shown(s.pre_emphasis)}", _TAP,
                             other("input", pre_emphasis=0.0)))  # fmt: skip
        found += [Setting("audio.pre-emphasis-start", words, _TAP, _started(how), PLAUSIBLE)
                  for how, words in _STARTS.items()]  # fmt: skip
    peak = "no peak normalization" if s.peak_normalize else "samples divided by their largest (peak normalization)"
    found.append(Setting("audio.peak", peak, _TAP, other("input", peak_normalize=not s.peak_normalize), PLAUSIBLE))
    found.append(Setting("audio.peak", "samples divided by the largest magnitude", _TAP, _by_magnitude, PLAUSIBLE))
    found += [Setting("audio.bits", f"samples {how} to {bits} bits", _TAP, _bits(bits, f), RARE)
              for bits in (16, 8) for how, f in (("rounded", np.rint), ("cut", np.floor))]  # fmt: skip
    found += resampling.rates(s.rate)
    found += _lengths(frontend)
    found += _shifts(frontend)
    return found


_OFFSETS = (0.01, -0.01, 0.001, -0.001, 0.1, -0.1, 0.5, -0.5)
_STARTS = {
    "first": "the first sample kept as it is by the pre-emphasis, as x[-1] = x[0] - ...",
    "edge": "pre-emphasis from x[-1] = x[0], not 0",
    "librosa": "pre-emphasis from x[-1] = 2·x[0] - x[1], as librosa starts it",
}


def _full(d: Definition) -> float:
    return 32768.0 if d.frontend.input.scale == "int16" else 1.0


def _gained(d: Definition, x: float) -> Definition:
    return d.with_hook(Hook(_TAP, after=lambda a: a * x, roundings=1.5))


def _started(how: str) -> Change:
    def change(d: Definition) -> Definition | None:
        a = d.frontend.input.pre_emphasis
        if not a or d.frontend.input.peak_normalize:
            return None

        def after(y: Array) -> Array:
            y = y.copy()
            if how == "edge":
                y[:1] *= 1.0 - a
            elif how == "librosa" and len(y) > 1:
                second = y[1] + a * y[0]
                y[:1] -= a * (2.0 * y[0] - second)
            return y

        return d.with_hook(Hook(_TAP, after=after, roundings=1.0)) if how != "first" else None

    return change


def _by_magnitude(d: Definition) -> Definition | None:
    found = other("input", peak_normalize=False)(d) or d

    def after(x: Array) -> Array:
        peak = np.abs(x).max(initial=0.0)
        return x / peak if peak > 0 else x

    return found.with_hook(Hook(_TAP, after=after, roundings=2.0))


def _bits(bits: int, f: Callable[[Array], Array]) -> Change:
    def change(d: Definition) -> Definition:
        steps = 2.0 ** (bits - 1) / _full(d)
        return d.with_hook(Hook(_TAP, after=lambda x: f(x * steps) / steps, roundings=1.0))

    return change


def _lengths(frontend: fe.Frontend) -> list[Setting]:
    s = frontend.input
    framing = frontend.framing
    lengths = [s.rate, None, s.rate // 2, 2 * s.rate]
    if s.length is not None and framing is not None:
        lengths += [s.length - framing.hop, s.length + framing.hop, s.length - framing.length,
                    s.length + framing.length]  # fmt: skip
    found = choices("input.length", "input", "length", s.length, lengths, "length {}", PLAUSIBLE)
    if s.length is not None:
        found += [Setting("audio.padding", words, _TAP, _padding(how), PLAUSIBLE) for how, words in (
            ("left", "a short clip padded on the left, not on the right"),
            ("end", "a short clip padded, and a long one cut, on the left"),
            ("both", "a short clip padded (a long one cut) on both sides, not on the right"),
            ("edge", "a short clip padded with its last sample, not with zeros"),
            ("wrap", "a short clip repeated, not padded with zeros"),
        )]  # fmt: skip
    return found


def _padding(how: str) -> Change:
    def change(d: Definition) -> Definition | None:
        length = d.frontend.input.length
        if length is None:
            return None

        def after(x: Array) -> Array:
            short = length - len(x)
            if short < 0:
                start = {"end": -short, "both": -short // 2}.get(how, 0)
                return x[start : start + length]
            left = {"left": short, "end": short, "both": short // 2}.get(how, 0)
            mode = how if how in ("edge", "wrap") else "constant"
            return np.pad(x, (left, short - left), mode=mode)  # type: ignore[call-overload]

        bare = other("input", length=None)(d)
        return None if bare is None else bare.with_hook(Hook(_TAP, after=after, index=True))

    return change


def _shifts(frontend: fe.Frontend) -> list[Setting]:
    framing = frontend.framing
    by = [1, -1] if framing is None else [1, -1, framing.hop // 2, -(framing.hop // 2), framing.hop, -framing.hop]
    found = []
    for n in by:
        words = f"samples {abs(n)} {'late' if n > 0 else 'early'}"
        if framing is not None and abs(n) == framing.hop // 2:
            words += " (half a hop)"
        if framing is not None and abs(n) == framing.hop:
            words += " (a hop)"
        found.append(Setting("audio.shift", words, _TAP, hooked(Hook(_TAP, after=_moved(n), index=True)), PLAUSIBLE))
        # As it was recorded: what leaves at one end isn't in the padding, and what a cut leaves out moves in.
        found.append(Setting("audio.shift", f"{words}, before the clip is padded or cut", _TAP,
                             hooked(Hook(_TAP, before=_moved(n), index=True)), PLAUSIBLE))  # fmt: skip
    return found


def _moved(n: int) -> Callable[[Array], Array]:
    def after(x: Array) -> Array:
        return np.pad(x, (n, 0))[: len(x)] if n > 0 else np.pad(x[-n:], (0, min(-n, len(x))))

    return after
