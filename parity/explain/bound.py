"""How far a float32 implementation of a changed recipe may be from it: `parity.bounds.features`, with hooks.

The stages' own bounds are those of the oracle; a hook maps both ends of the interval, or puts its own window, bank or
DCT in the place of the recipe's.
"""

from __future__ import annotations

import numpy as np

from parity import frontend as fe
from parity.backends import reference
from parity.bounds import features as own
from parity.bounds import levels
from parity.bounds.interval import DOUBLE, TINY, Interval, U, around
from parity.explain import definition
from parity.explain.definition import Arrays, Definition, Hook
from parity.protocols import Arithmetic, Array, Tap


def intervals(d: Definition, arrays: Arrays, arithmetic: Arithmetic = "float32") -> dict[Tap, Interval]:
    """Tap -> interval for what `definition.run` computed, as far as it goes; views applied."""
    if not d.hooks:
        return own.bounds(d.frontend, arrays, arithmetic)
    out: dict[Tap, Interval] = {}
    error: Array | None = None
    drift = np.zeros((0, 1))
    last = around(drift, None)
    for tap, s in d.frontend.stages().items():
        if tap not in arrays:
            break
        value, hooks = arrays[tap], d.at(tap)
        match s:
            case fe.Input():
                error = _plus(own._input_error(value, s), _spent(hooks, value))
                last = around(value, error)
            case fe.Frame():
                error = None if error is None else _indexed(hooks, reference.frames(error, s))
                error = _plus(error, _spent(hooks, value))
                last = around(value, error)
            case fe.Window():
                half, drift, error = _window(d, tap, s, arrays, error, arithmetic)
                last = around(value, half)
            case fe.Spectrum():
                bare = _before(d, tap, arrays)
                half = own._spectrum(bare, s, arrays["features/windowed"], drift, error, arithmetic)
                last = _after(hooks, around(bare, half))
            case fe.Micro():
                last = around(value, None)
            case _:
                last = _later(d, tap, s, last, arrays)
        out[tap] = _after(d.views(tap), last)
    return out


def _plus(error: Array | None, more: Array) -> Array | None:
    """Samples that are exact so far stay so where nothing is spent on them."""
    if not more.any():
        return error
    return more if error is None else error + more


def _window(
    d: Definition, tap: Tap, s: fe.Window, arrays: Arrays, error: Array | None, arithmetic: Arithmetic
) -> tuple[Array, Array, Array | None]:
    """Bound of the windowed frames, how far the window moves a transform, and the error of the samples in them."""
    value, frames, hooks = arrays[tap], arrays["features/frames"], d.at(tap)
    half, drift = own._window(_before(d, tap, arrays), s, frames, arithmetic)
    # A window of another shape or size errs by its own size.
    w, usual = np.abs(d.constant(tap, frames.shape[-1])), reference.window(s, frames.shape[-1])
    size = float(np.linalg.norm(w) / np.linalg.norm(usual))
    half, drift = half * max(1.0, size), drift * size
    error = None if error is None else _indexed(hooks, w * error)
    error = _plus(error, _spent(hooks, value))
    if any(h.index for h in hooks):
        # What is in a row of a transform is what counts: elements that were put elsewhere take their errors with them.
        weights = own._weights_error(s, frames.shape[-1]) * np.abs(frames)
        drift = own._norm(_indexed(hooks, weights)) * ((U if arithmetic == "float32" else DOUBLE) * size)
    half = _indexed(hooks, half)
    return (half if error is None else half + error), drift, error


def _before(d: Definition, tap: Tap, arrays: Arrays) -> Array:
    """What the stage gave before its `after` hooks."""
    if all(h.after is None for h in d.at(tap)):
        return arrays[tap]
    bare = Definition(d.frontend, tuple(h for h in d.at(tap) if h.after is None))
    names = list(arrays)
    return definition._stage(bare, tap, arrays[names[names.index(tap) - 1]])


def _later(d: Definition, tap: Tap, s: fe.Stage, last: Interval, arrays: Arrays) -> Interval:
    """The stages from the bank on."""
    hooks = d.at(tap)
    instead = next((h for h in hooks if h.instead is not None), None)
    if instead is not None and instead.instead is not None:
        f = instead.instead
        found = _grown(Interval(f(last.value), *_ends(f(last.lo), f(last.hi))), [instead])
        return _after(hooks, found)
    value = _before(d, tap, arrays)
    match s:
        case fe.Mel() | fe.Pool():
            found = _bank(value, d.constant(tap, last.value.shape[-1]), last, own.BANK[s.kind])
        case fe.Log():
            found = levels.log(value, s, last)
        case fe.Decibel():
            found = levels.decibel(value, s, last)
        case fe.Cepstrum():
            found = levels.cepstrum(value, s, d.frontend, last)
            if any(h.constant is not None for h in hooks):
                width = last.value.shape[-1]
                rows = np.linalg.norm(d.constant(tap, width), axis=1)
                grown = np.maximum(1.0, rows / np.linalg.norm(reference.dct_matrix(s, width), axis=1))
                found = around(value, np.maximum(found.hi - value, value - found.lo) * grown)
        case fe.Normalize():
            found = levels.normalize(value, s, last)
        case fe.Quantize():
            found = levels.quantized(value, s, last)
        case _:
            raise AssertionError(s)
    return _after(hooks, found)


def _bank(value: Array, bank: Array, x: Interval, alike: float) -> Interval:
    """As `features._bank`, of any bank; `alike` is its kind's `features.BANK`."""
    half = alike * np.sqrt(np.square(x.hi - x.value) @ np.square(bank).T)
    rounding = U * (2.0 + own.SUM * np.sqrt(np.count_nonzero(bank, axis=1)))
    return around(value, half + rounding * np.abs(value) + TINY * bank.shape[1])


def _after(hooks: tuple[Hook, ...], x: Interval) -> Interval:
    for h in hooks:
        if h.after is not None:
            x = _grown(Interval(h.after(x.value), *_ends(h.after(x.lo), h.after(x.hi))), [h])
    return x


def _ends(a: Array, b: Array) -> tuple[Array, Array]:
    return np.minimum(a, b), np.maximum(a, b)


def _spent(hooks: tuple[Hook, ...] | list[Hook], value: Array) -> Array:
    size = np.abs(value)
    return sum((h.roundings * U * size + h.spread * U * size.max(initial=0.0) for h in hooks), np.zeros(value.shape))


def _grown(x: Interval, hooks: list[Hook]) -> Interval:
    with np.errstate(invalid="ignore"):
        spent = np.nan_to_num(_spent(hooks, x.value))
    return Interval(x.value, x.lo - spent, x.hi + spent)


def _indexed(hooks: tuple[Hook, ...], error: Array) -> Array:
    """An error per sample where index hooks put it."""
    for h in hooks:
        error = h.after(error) if h.index and h.after is not None else error
    return error
