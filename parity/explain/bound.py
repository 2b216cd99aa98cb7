"""How far a float32 implementation of a changed recipe may be from it: `parity.bounds.features`, with hooks.

The stages' own bounds are those of the oracle; a hook maps both ends of the interval, or puts its own window, bank or
DCT in the place of the recipe's.
"""

from __future__ import annotations

import numpy as np

from parity import frontend as fe
from parity.backends import reference
from parity.bounds import features as own
from parity.bounds.features import Interval, U
from parity.explain.definition import Arrays, Definition, Hook
from parity.protocols import Array, Tap


def intervals(d: Definition, arrays: Arrays) -> dict[Tap, Interval]:
    """Tap -> interval for what `definition.run` computed, as far as it goes; views applied."""
    out: dict[Tap, Interval] = {}
    error = drawn = np.zeros(0)
    last = Interval(error, error, error)
    stages = d.frontend.stages()
    for tap, value in arrays.items():
        s, hooks = stages[tap], d.at(tap)
        match s:
            case fe.Input():
                error = own._input_error(value, s)
                error = error + _spent(hooks, value)
                last = own._around(value, error)
            case fe.Frame():
                error = reference.frames(error, s) if error.any() else np.zeros(value.shape)
                error = _indexed(hooks, error) if error.shape != value.shape or error.any() else error
                error = error + _spent(hooks, value)
                last = own._around(value, error)
            case fe.Window():
                frames = arrays["features/frames"]
                w = d.constant(tap, frames.shape[-1])
                cosine = own.WINDOW * (w != 0) if s.name != "rectangular" or hooks else 0.0 * w
                drawn = _indexed(hooks, U * np.abs(frames) * (cosine + 2.0 * np.abs(w)))
                error = _indexed(hooks, np.abs(w) * error) + _spent(hooks, value)
                last = own._around(value, drawn + error)
            case fe.Spectrum():
                last = _after(hooks, own._spectrum(_before(d, tap, arrays), s, arrays["features/windowed"],
                                                   drawn, error))  # fmt: skip
            case fe.Micro():
                last = own._around(value, np.zeros(value.shape))
            case _:
                last = _pointwise(d, tap, s, last, arrays)
        out[tap] = _after(d.views(tap), last)
    return out


def _before(d: Definition, tap: Tap, arrays: Arrays) -> Array:
    """What the stage gave before its `after` hooks."""
    if all(h.after is None for h in d.at(tap)):
        return arrays[tap]
    from parity.explain import definition

    bare = Definition(d.frontend, tuple(h for h in d.at(tap) if h.after is None))
    names = list(arrays)
    return definition._stage(bare, tap, arrays[names[names.index(tap) - 1]])


def _pointwise(d: Definition, tap: Tap, s: fe.Stage, last: Interval, arrays: Arrays) -> Interval:
    hooks = d.at(tap)
    instead = next((h for h in hooks if h.instead is not None), None)
    if instead is not None and instead.instead is not None:
        f = instead.instead
        found = _grown(Interval(f(last.value), *_ends(f(last.lo), f(last.hi))), [instead])
        return _after(hooks, found)
    value = _before(d, tap, arrays)
    changed = any(h.constant is not None for h in hooks)
    match s:
        case fe.Mel() | fe.Pool():
            found = own._bank(value, d.constant(tap, last.value.shape[-1]), last)
        case fe.Log():
            found = own._log(value, s, last)
        case fe.Decibel():
            found = own._decibel(value, s, last)
        case fe.Cepstrum():
            found = own._cepstrum(value, s, d.frontend, last)
            if changed:
                width = last.value.shape[-1]
                rows = np.linalg.norm(d.constant(tap, width), axis=1)
                grown = np.maximum(1.0, rows / np.linalg.norm(reference.dct_matrix(s, width), axis=1))
                found = own._around(value, np.maximum(found.hi - value, value - found.lo) * grown)
        case fe.Normalize():
            found = own._normalize(value, s, last)
        case fe.Quantize():
            found = own.quantized(value, s, last)
        case _:
            raise AssertionError(s)
    return _after(hooks, found)


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
