"""Settings of the logarithm and of what follows it: base, offset, floor, reference, DCT, lifter."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from parity import frontend as fe
from parity.explain.catalogue.changes import Change, choices, factor, half, hooked, knob, other, shown
from parity.explain.definition import Definition, Hook
from parity.explain.settings import PLAUSIBLE, RARE, Knob, Setting
from parity.protocols import Array

_TAP, _DCT = "features/compressed", "features/cepstrum"
_REFS: tuple[float | Literal["max"], ...] = (1.0, "max")
_SMALL = (1e-6, 1e-5, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-4, 1e-3, 1e-2, 1.0, 1.1920929e-07, 2.220446e-16, 1e-20)


def entries(frontend: fe.Frontend) -> list[Setting | Knob]:
    """What there is to change in the logarithm and the cepstrum."""
    found: list[Setting | Knob] = []
    if (s := frontend.compress) is not None:
        found += _log(s) if isinstance(s, fe.Log) else _decibel(s)
        missing = Hook(_TAP, instead=lambda x: x)
        found.append(Setting("compress.missing", "no logarithm", _TAP, hooked(missing)))
    if frontend.cepstrum is not None:
        found += _cepstrum(frontend, frontend.cepstrum)
    return found


def _log(s: fe.Log) -> list[Setting | Knob]:
    now = "ln" if s.base == "e" else "log10"
    to, words = ("10", "log10") if s.base == "e" else ("e", "ln")
    found: list[Setting | Knob] = [
        Setting("log.base", f"{words}, not {now}", _TAP, other("compress", base=to)),
        Setting("log.base", f"log2, not {now}", _TAP, hooked(_of_base(2.0, s)), PLAUSIBLE),
        knob("log.offset", "compress", "offset", s.offset, _SMALL, "log offset {}", low=1e-30, high=1e9,
             positive=True),
        knob("log.floor", "compress", "floor", s.floor, _SMALL, "log floor {}", low=1e-30, high=1e9, positive=True),
    ]  # fmt: skip
    if s.offset:
        found.append(
            Setting("log.offset", f"no log offset, not {shown(s.offset)}", _TAP, other("compress", offset=0.0))
        )
    if s.offset and not s.floor:
        found.append(Setting("log.offset-as-floor", f"{shown(s.offset)} as a floor, not added", _TAP,
                             other("compress", offset=0.0, floor=s.offset)))  # fmt: skip
        found.append(Knob("log.offset-as-floor", lambda x: f"floor {shown(x)}, not {shown(s.offset)} added", _TAP,
                          lambda d, x: other("compress", offset=0.0, floor=x)(d),
                          tuple(v for v in _SMALL if v != s.offset), low=1e-30, high=1e9, positive=True,
                          neutral=s.offset, rank=PLAUSIBLE))  # fmt: skip
    if s.floor and not s.offset:
        found.append(Setting("log.offset-as-floor", f"{shown(s.floor)} added, not as a floor", _TAP,
                             other("compress", offset=s.floor, floor=0.0)))  # fmt: skip
    if s.floor:
        found.append(Setting("log.floor", f"no log floor, not {shown(s.floor)}", _TAP, other("compress", floor=0.0)))
    for top_db in (80.0, None):
        for amin in (1e-10, s.offset or s.floor or 1e-10):
            for ref in _REFS:
                db = fe.Decibel(ref=ref, amin=amin, top_db=top_db)
                kind = f"dB (ref {shown(ref)}, amin {shown(amin)}, top_db {shown(top_db)}), not {now}"
                found.append(Setting("compress.kind", kind, _TAP, _kind(db), PLAUSIBLE))
    by = 10.0 if s.base == "10" else 10.0 / np.log(10.0)
    for times, name in ((by, "10·log10"), (2 * by, "20·log10")):
        found.append(Setting("compress.kind", f"{name} of the same, not {now}", _TAP, hooked(factor(_TAP, times))))
    found.append(Setting("log.base", "log of twice the size: of the square", _TAP, hooked(factor(_TAP, 2.0)), RARE))
    found.append(Setting("log.base", "half the logarithm: of the root", _TAP, hooked(factor(_TAP, 0.5)), RARE))
    return found


def _of_base(base: float, s: fe.Log) -> Hook:
    return factor(_TAP, (1.0 if s.base == "e" else np.log(10.0)) / np.log(base))


def _kind(s: fe.Log | fe.Decibel) -> Change:
    return lambda d: None if d.frontend.compress is None else d.with_stages(compress=s)


def _decibel(s: fe.Decibel) -> list[Setting | Knob]:
    found: list[Setting | Knob] = []
    words = "maximum of the clip" if s.ref == "max" else shown(s.ref)
    if s.ref != "max":
        found.append(Setting("db.ref", f"ref the maximum of the clip, not {words}", _TAP, other("compress", ref="max")))
    if s.ref != 1.0:
        found.append(Setting("db.ref", f"ref 1, not the {words}", _TAP, other("compress", ref=1.0)))
    found.append(Knob("db.ref", lambda x: f"ref {shown(x)}, not {words}", _TAP,
                      lambda d, x: other("compress", ref=x)(d), (2.0, 0.5, 1e-3, 1e3, 32768.0**2, 1e-5), low=1e-12,
                      high=1e12, positive=True, neutral=1.0 if s.ref == "max" else s.ref, rank=PLAUSIBLE))  # fmt: skip
    found.append(Setting("db.ref", f"ref the maximum of each frame, not the {words}", _TAP, _frame_ref, PLAUSIBLE))
    found.append(knob("db.amin", "compress", "amin", s.amin, (1e-10, 1e-5, 1e-6, 1e-8, 1e-12, 1e-9, 1e-3, 1e-16, 1e-20),
                      "amin {}", low=1e-30, high=1e6, positive=True))  # fmt: skip
    if s.top_db is not None:
        found.append(Setting("db.top_db", f"no top_db, not {shown(s.top_db)}", _TAP, other("compress", top_db=None)))
        found.append(Setting("db.top_db-frame", "top_db below the maximum of each frame, not of the clip", _TAP,
                             _frame_top(s.top_db)))  # fmt: skip
    found.append(knob("db.top_db", "compress", "top_db", s.top_db, (80.0, 60.0, 100.0, 120.0, 40.0, 50.0, 90.0, 70.0),
                      "top_db {}", low=1.0, high=400.0))  # fmt: skip
    found += [
        Setting("db.factor", "20·log10, not 10·log10 (as of magnitude)", _TAP, _twenty),
        Setting("db.factor", "5·log10, not 10·log10", _TAP, _scaled(0.5), RARE),
        Setting("compress.kind", "log10, not dB", _TAP, _kind(fe.Log(base="10", floor=s.amin))),
        Setting("compress.kind", "ln, not dB", _TAP, _kind(fe.Log(base="e", floor=s.amin))),
        Setting("compress.kind", "log10 of the same, with top_db, not 10·log10", _TAP, hooked(factor(_TAP, 0.1)),
                PLAUSIBLE),
        Setting("compress.kind", "ln of the same, with top_db, not 10·log10", _TAP,
                hooked(factor(_TAP, 0.1 * np.log(10.0))), PLAUSIBLE),
    ]  # fmt: skip
    found.append(_added("e", "ln"))
    found.append(_added("10", "log10"))
    return found


def _added(base: Literal["e", "10"], name: str) -> Knob:
    return Knob("compress.kind", lambda x: f"{name} with {shown(x)} added, not dB", _TAP,
                lambda d, x: _kind(fe.Log(base=base, offset=x))(d), _SMALL, low=1e-30, high=1e6, positive=True,
                rank=PLAUSIBLE)  # fmt: skip


def _twenty(d: Definition) -> Definition | None:
    """20·log10 of what is here: twice the level, but for top_db, which stays."""
    return _scaled(2.0)(d)


def _scaled(by: float) -> Change:
    def change(d: Definition) -> Definition | None:
        s = d.frontend.compress
        if not isinstance(s, fe.Decibel):
            return None
        if s.top_db is None:
            return d.with_hook(factor(_TAP, by))
        inner = dataclasses.replace(s, top_db=s.top_db / by)
        return d.with_stages(compress=inner).with_hook(factor(_TAP, by))

    return change


def _frame_top(top_db: float) -> Change:
    def after(x: Array) -> Array:
        return np.maximum(x, x.max(axis=-1, keepdims=True, initial=-np.inf) - top_db)

    hook = Hook(_TAP, after=after)

    def change(d: Definition) -> Definition | None:
        bare = other("compress", top_db=None)(d)
        return None if bare is None else bare.with_hook(hook)

    return change


def _frame_ref(d: Definition) -> Definition | None:
    s = d.frontend.compress
    if not isinstance(s, fe.Decibel):
        return None

    def after(x: Array) -> Array:
        x = x - x.max(axis=-1, keepdims=True, initial=-np.inf)
        return x if s.top_db is None else np.maximum(x, -s.top_db)

    bare = other("compress", ref=1.0, top_db=None)(d) or d
    # Frames' maxima err as their elements do.
    return bare.with_hook(Hook(_TAP, after=after, roundings=16.0, spread=16.0))


def _cepstrum(frontend: fe.Frontend, s: fe.Cepstrum) -> list[Setting | Knob]:
    bands = frontend.filterbank.bands if isinstance(frontend.filterbank, fe.Mel) else frontend.bins
    found: list[Setting | Knob] = []
    found += choices("dct.norm", "cepstrum", "norm", s.norm, ("ortho", "none", "ortho-c0-sqrt2"), "DCT norm {}")
    if s.norm == "none":
        found.append(Setting("dct.norm", "DCT without its factor of 2", _DCT, hooked(factor(_DCT, 0.5)), PLAUSIBLE))
        found.append(Setting("dct.norm", "DCT times sqrt(2 / bands) alone", _DCT,
                             hooked(factor(_DCT, float(np.sqrt(0.5 / bands)))), PLAUSIBLE))  # fmt: skip
    found += [
        Setting("dct.c0", "coefficient 0 left out, so that the others move down", _DCT, _without_c0),
        Setting("dct.c0", "coefficient 0 zeroed", _DCT, hooked(Hook(_DCT, after=_zeroed, index=True)), PLAUSIBLE),
        Setting("dct.type", "DCT-III, not DCT-II", _DCT, hooked(Hook(_DCT, constant=_third)), PLAUSIBLE),
        Setting("dct.float16", "DCT in float16", _DCT, hooked(Hook(_DCT, constant=lambda _, m: half(m))), PLAUSIBLE),
        Setting("cepstrum.missing", "no DCT", _DCT, hooked(Hook(_DCT, instead=lambda x: x)), PLAUSIBLE),
        Setting("cepstrum.missing", f"no DCT: the first {s.count} bands", _DCT,
                hooked(Hook(_DCT, instead=lambda x: x[:, : s.count])), RARE),
    ]  # fmt: skip
    if s.lifter:
        found.append(Setting("dct.lifter", f"no lifter, not {shown(s.lifter)}", _DCT, other("cepstrum", lifter=0.0)))
        found.append(Setting("dct.lifter", "lifter with the sine of n, not of n + 1", _DCT, _from_zero(s.lifter),
                             PLAUSIBLE))  # fmt: skip
    else:
        found += [Setting("dct.lifter", f"lifter {shown(v)} with the sine of n", _DCT, _from_zero(v), PLAUSIBLE)
                  for v in (22.0, 26.0)]  # fmt: skip
    found.append(knob("dct.lifter", "cepstrum", "lifter", s.lifter, (22.0, 26.0, 20.0, 23.0, 24.0, 12.0), "lifter {}",
                      low=1.0, high=1000.0))  # fmt: skip
    counts = (10, 12, 13, 20, 24, 26, 40, s.count - 1, s.count + 1)
    found += choices("dct.count", "cepstrum", "count", s.count, [n for n in counts if 0 < n <= bands],
                     "{} coefficients")  # fmt: skip
    found.append(Knob("dct.gain", lambda x: f"coefficients times {shown(x)}", _DCT,
                      lambda d, x: d.with_hook(factor(_DCT, x)), (0.5, 2.0, 0.1, 10.0), low=1e-9, high=1e9,
                      positive=True, neutral=1.0, rank=RARE))  # fmt: skip
    return found


def _without_c0(d: Definition) -> Definition | None:
    s = d.frontend.cepstrum
    if s is None:
        return None
    more = dataclasses.replace(s, count=s.count + 1)
    return d.with_stages(cepstrum=more).with_hook(Hook(_DCT, after=lambda x: x[:, 1:], index=True))


def _zeroed(x: Array) -> Array:
    x = x.copy()
    x[:, 0] = 0.0
    return x


def _third(frontend: fe.Frontend, m: Array) -> Array:
    """DCT-III of the same size: the transpose of an orthonormal DCT-II over all bands."""
    count, bands = m.shape
    k, n = np.arange(count)[:, None], np.arange(bands)[None, :]
    full = 2.0 * np.cos(np.pi * n * (2 * k + 1) / (2 * bands))
    full[:, 0] /= 2.0
    s = frontend.cepstrum
    if s is not None and s.norm != "none":
        full *= np.sqrt(1.0 / (2.0 * bands))
        full[:, 0] *= np.sqrt(2.0)
    return full


def _from_zero(lifter: float) -> Change:
    def change(d: Definition) -> Definition | None:
        bare = d if d.frontend.cepstrum is not None and d.frontend.cepstrum.lifter == 0 else other(
            "cepstrum", lifter=0.0)(d)  # fmt: skip
        if bare is None or bare.frontend.cepstrum is None:
            return None
        n = np.arange(bare.frontend.cepstrum.count)
        rows = 1.0 + lifter / 2.0 * np.sin(np.pi * n / lifter)
        return bare.with_hook(Hook(_DCT, constant=lambda _, m: m * rows[:, None]))

    return change
