"""Settings of fixed normalization, of quantization, and of the front end in integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity import frontend as fe
from parity.explain.catalogue.changes import Change, hooked, other, shown
from parity.explain.definition import Definition, Hook
from parity.explain.settings import PLAUSIBLE, RARE, USUAL, Knob, Setting
from parity.protocols import Array

_NORMALIZED, _QUANTIZED, _MICRO = "features/normalized", "features/quantized", "features/micro"


def entries(frontend: fe.Frontend) -> list[Setting | Knob]:
    """What there is to change from the normalization on, and in `micro`."""
    found: list[Setting | Knob] = []
    if frontend.micro is not None:
        found += _micro(frontend.micro)
    if frontend.normalize is not None:
        found += _normalize(frontend.normalize)
    found += _own_statistics(frontend)
    if frontend.quantize is not None:
        found += _quantize(frontend.quantize)
    return found


def _normalize(s: fe.Normalize) -> list[Setting | Knob]:
    mean, spread = np.asarray(s.mean), np.asarray(s.spread)
    one = len(s.mean) == 1
    found: list[Setting | Knob] = [
        Setting("normalize.missing", "no normalization", _NORMALIZED, hooked(Hook(_NORMALIZED, instead=lambda x: x))),
        Setting("normalize.mean", "mean not taken off", _NORMALIZED, other("normalize", mean=(0.0,) * len(s.mean))),
        Setting("normalize.mean", "mean added, not taken off", _NORMALIZED,
                other("normalize", mean=tuple(-m for m in s.mean)), PLAUSIBLE),
        Setting("normalize.spread", "not divided by the spread", _NORMALIZED,
                other("normalize", spread=(1.0,) * len(s.spread))),
        Setting("normalize.spread", "divided by the variance (the spread squared)", _NORMALIZED,
                other("normalize", spread=tuple(v * v for v in s.spread)), PLAUSIBLE),
        Setting("normalize.spread", "divided by the root of the spread", _NORMALIZED,
                other("normalize", spread=tuple(abs(v) ** 0.5 for v in s.spread)), PLAUSIBLE),
        Setting("normalize.spread", "multiplied by the spread, not divided", _NORMALIZED,
                other("normalize", spread=tuple(1.0 / v if v else 1.0 for v in s.spread)), PLAUSIBLE),
        Setting("normalize.order", "divided by the spread before the mean is taken off", _NORMALIZED,
                other("normalize", mean=tuple((mean * spread).tolist())), PLAUSIBLE),
    ]  # fmt: skip
    if one:
        found.append(Knob("normalize.mean", lambda x: f"mean {shown(x)}, not {shown(s.mean[0])}", _NORMALIZED,
                          lambda d, x: other("normalize", mean=(x,))(d), (s.mean[0] + 0.1,)))  # fmt: skip
    if len(s.spread) == 1:
        found.append(Knob("normalize.spread", lambda x: f"spread {shown(x)}, not {shown(s.spread[0])}", _NORMALIZED,
                          lambda d, x: other("normalize", spread=(x,))(d), (2.0 * s.spread[0], 0.5 * s.spread[0]),
                          low=1e-9, high=1e9, positive=True))  # fmt: skip
    return found


def _own_statistics(frontend: fe.Frontend) -> list[Setting | Knob]:
    """The clip's own mean and spread, where none or fixed ones are due."""
    stages = [t for t in frontend.taps if t not in (_QUANTIZED, _NORMALIZED)]
    tap = _NORMALIZED if frontend.normalize is not None else stages[-1]
    if tap in ("features/audio", "features/frames", _MICRO):
        return []
    found: list[Setting | Knob] = []
    for words, axis, divide in (("mean of the clip taken off", None, False), ("mean of each band taken off", 0, False),
                                ("normalized by mean and spread of the clip", None, True),
                                ("normalized by mean and spread of each band", 0, True)):  # fmt: skip
        f = _centered(axis, divide)
        more: dict[str, Any] = {"instead": f} if tap == _NORMALIZED else {"after": f}
        found.append(Setting("normalize.clip", words, tap, hooked(Hook(tap, roundings=16.0, spread=16.0, **more)),
                             PLAUSIBLE))  # fmt: skip
    return found


def _centered(axis: int | None, divide: bool) -> Callable[[Array], Array]:
    def f(x: Array) -> Array:
        x = x - x.mean(axis=axis, keepdims=True)
        if not divide:
            return x
        spread = x.std(axis=axis, keepdims=True)
        return x / np.where(spread > 0, spread, 1.0)

    return f


def _quantize(s: fe.Quantize) -> list[Setting | Knob]:
    info = np.iinfo(s.dtype)
    found: list[Setting | Knob] = []
    words = {"half-even": "to the nearest, halves to even", "half-away": "to the nearest, halves away from zero",
             "floor": "down"}  # fmt: skip
    found += [Setting("quantize.rounding", f"rounded {w}, not {words[s.rounding]}", _QUANTIZED,
                      other("quantize", rounding=r), USUAL if "floor" in (r, s.rounding) else PLAUSIBLE)
              for r, w in words.items() if r != s.rounding]  # fmt: skip
    for name, f in (("toward zero", np.trunc), ("up", np.ceil), ("to the nearest, halves up", _up)):
        found.append(Setting("quantize.rounding", f"rounded {name}, not {words[s.rounding]}", _QUANTIZED,
                             _rounding(f), PLAUSIBLE))  # fmt: skip
    found.append(Setting("quantize.rounding", "rounded toward zero after the zero point is added", _QUANTIZED,
                         _rounding(np.trunc, late=True), PLAUSIBLE))  # fmt: skip
    found.append(Setting("quantize.rounding", "rounded down after a half is added", _QUANTIZED,
                         _rounding(lambda x: np.floor(x + 0.5)), RARE))  # fmt: skip
    to = "int8" if s.dtype == "uint8" else "uint8"
    by = -128 if s.dtype == "uint8" else 128
    found.append(Setting("quantize.dtype", f"{to}, not {s.dtype}, 128 apart", _QUANTIZED,
                         other("quantize", dtype=to, zero_point=s.zero_point + by)))  # fmt: skip
    found.append(Setting("quantize.dtype", f"{to} with the zero point of {s.dtype}", _QUANTIZED,
                         other("quantize", dtype=to), PLAUSIBLE))  # fmt: skip
    found.append(Setting("quantize.wrap", "wraps around where it should saturate", _QUANTIZED, _wrapped))
    if s.dtype == "int8":
        found.append(Setting("quantize.range", "saturates at -127, not -128", _QUANTIZED,
                             hooked(Hook(_QUANTIZED, after=lambda x: np.maximum(x, -127))), PLAUSIBLE))  # fmt: skip
    found.append(Knob("quantize.zero_point", lambda x: f"zero point {int(x)}, not {s.zero_point}", _QUANTIZED,
                      lambda d, x: other("quantize", zero_point=round(x))(d),
                      tuple(float(p) for p in range(info.min, info.max + 1) if p != s.zero_point),
                      whole=True))  # fmt: skip
    found.append(Knob("quantize.scale", lambda x: f"quantization scale {shown(x)}, not {shown(s.scale)}", _QUANTIZED,
                      lambda d, x: other("quantize", scale=x)(d),
                      (1.0, 2.0 * s.scale, 0.5 * s.scale, 1.0 / s.scale, 1 / 256, 1 / 255, 1 / 128, 1 / 127),
                      low=1e-9, high=1e9, positive=True))  # fmt: skip
    return found


def _up(x: Array) -> Array:
    return np.floor(x + 0.5)


def _rounding(f: Callable[[Array], Array], late: bool = False) -> Change:
    def change(d: Definition) -> Definition | None:
        s = d.frontend.quantize
        if s is None:
            return None
        info = np.iinfo(s.dtype)

        def instead(x: Array) -> Array:
            y = f(x / s.scale + s.zero_point) if late else f(x / s.scale) + s.zero_point
            return np.clip(y, info.min, info.max)

        return d.with_hook(Hook(_QUANTIZED, instead=instead))

    return change


def _wrapped(d: Definition) -> Definition | None:
    s = d.frontend.quantize
    if s is None:
        return None
    info = np.iinfo(s.dtype)
    ways: dict[str, Callable[[Array], Array]] = {
        "half-even": np.rint, "half-away": lambda x: np.sign(x) * _up(np.abs(x)), "floor": np.floor,
    }  # fmt: skip
    rounded = ways[s.rounding]

    def instead(x: Array) -> Array:
        y = rounded(x / s.scale) + s.zero_point
        return (y - info.min) % 256 + info.min

    return d.with_hook(Hook(_QUANTIZED, instead=instead))


_NEAR: dict[str, tuple[Any, ...]] = {
    "bands": (32, 40, 64, 20), "fmin": (0.0, 20.0, 60.0, 80.0, 100.0, 125.0, 150.0),
    "fmax": (7500.0, 7600.0, 7000.0, 8000.0, 3800.0, 4000.0), "smoothing_bits": (10, 8, 9, 11, 12, 14),
    "even_smoothing": (0.025, 0.06, 0.05, 0.04, 0.02), "odd_smoothing": (0.06, 0.025, 0.05, 0.04, 0.02),
    "min_signal_remaining": (0.05, 0.0, 0.1, 0.025, 0.02, 0.5), "pcan": (True, False),
    "pcan_strength": (0.95, 0.9, 0.5, 0.8, 1.0, 0.98), "pcan_offset": (80.0, 0.0, 40.0, 50.0, 100.0, 160.0),
    "gain_bits": (21, 20, 22, 16), "log": (True, False), "log_shift": (6, 5, 7, 8, 4),
}  # fmt: skip


def _micro(s: fe.Micro) -> list[Setting | Knob]:
    found: list[Setting | Knob] = []
    near = dict(_NEAR) | {
        "length": (480, 400, 512, 320, s.length - 1, s.length + 1),
        "hop": (160, 320, 480, s.hop - 1, s.hop + 1, s.hop // 2, 2 * s.hop),
    }
    for name, values in near.items():
        now = getattr(s, name)
        for v in dict.fromkeys(values):
            if v == now or (name == "hop" and v > s.length):
                continue
            switched = f"{'no ' if now else ''}{name}"
            words = switched if isinstance(now, bool) else f"{name} {shown(v)}, not {shown(now)}"
            found.append(Setting(f"micro.{name}", words, _MICRO, other("micro", **{name: v})))
    if s.even_smoothing != s.odd_smoothing:
        swapped = other("micro", even_smoothing=s.odd_smoothing, odd_smoothing=s.even_smoothing)
        found.append(Setting("micro.smoothing-swapped", "smoothing of even and odd bands swapped", _MICRO, swapped))
    for words, f in (("no noise reduction: the estimate never moves", {"even_smoothing": 0.0, "odd_smoothing": 0.0}),
                     ("all of the signal left by the noise reduction", {"min_signal_remaining": 1.0})):  # fmt: skip
        found.append(Setting("micro.noise-reduction", words, _MICRO, other("micro", **f), PLAUSIBLE))
    found.append(Setting("frame.lost-first", "first frame lost", _MICRO,
                         hooked(Hook(_MICRO, after=lambda x: x[1:], index=True)), PLAUSIBLE))  # fmt: skip
    found.append(Setting("frame.lost-last", "last frame lost", _MICRO,
                         hooked(Hook(_MICRO, after=lambda x: x[:-1], index=True)), PLAUSIBLE))  # fmt: skip
    return found
