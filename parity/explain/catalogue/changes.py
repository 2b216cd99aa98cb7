"""Ways to write a change down: another field of a stage, or a hook on one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from parity import frontend as fe
from parity.explain.definition import Definition, Hook
from parity.explain.settings import USUAL, Knob, Setting
from parity.localize import number
from parity.protocols import Array, Tap

TAP: Mapping[str, Tap] = {
    "input": "features/audio", "frame": "features/frames", "window": "features/windowed",
    "spectrum": "features/spectrum", "micro": "features/micro", "filterbank": "features/filterbank",
    "compress": "features/compressed", "cepstrum": "features/cepstrum", "normalize": "features/normalized",
    "quantize": "features/quantized",
}  # fmt: skip
"""Name of a stage in the recipe -> its tap."""


Change = Callable[[Definition], Definition | None]
"""None where there is nothing to change."""


def other(name: str, /, **fields: Any) -> Change:
    """The stage `name` with other values of its fields; None where it has them already."""

    def change(d: Definition) -> Definition | None:
        stage = getattr(d.frontend, name)
        if stage is None or not all(hasattr(stage, f) for f in fields):
            return None
        changed = dataclasses.replace(stage, **fields)
        return None if changed == stage else d.with_stages(**{name: changed})

    return change


def hooked(hook: Hook) -> Change:
    """A hook, where the recipe has its stage."""
    return lambda d: d.with_hook(hook) if hook.tap in d.frontend.stages() else None


def both(*changes: Change) -> Change:
    """One change after the other; None where one has nothing to change."""

    def change(d: Definition) -> Definition | None:
        found: Definition | None = d
        for c in changes:
            found = None if found is None else c(found)
        return found

    return change


def choices(
    key: str, name: str, attribute: str, now: Any, values: Iterable[Any], words: str, rank: int = USUAL
) -> list[Setting]:
    """A setting a value but `now`: `words` has {} for the value, and what it should be is added."""
    return [
        Setting(key, f"{words.format(shown(v))}, not {shown(now)}", TAP[name], other(name, **{attribute: v}), rank)
        for v in dict.fromkeys(values)
        if v != now
    ]


def knob(key: str, name: str, attribute: str, now: Any, values: Iterable[float], words: str, **more: Any) -> Knob:
    """A field of the recipe that is a number."""
    starts = tuple(v for v in dict.fromkeys(values) if v != now)
    return Knob(key, lambda x: f"{words.format(shown(x))}, not {shown(now)}", TAP[name],
                lambda d, x: other(name, **{attribute: x})(d), starts, neutral=now, **more)  # fmt: skip


def factor(tap: Tap, by: float, index: bool = False) -> Hook:
    """What the stage gives times a number."""
    return Hook(tap, after=lambda x: x * by, roundings=1.5, index=index)


def offset(tap: Tap, by: float) -> Hook:
    """What the stage gives plus a number, which rounds at the larger of the two."""
    return Hook(tap, after=lambda x: x + by, roundings=2.0, spread=1.0)


def shown(x: Any) -> str:
    """A value in words."""
    if x is None:
        return "none"
    if isinstance(x, float):
        if x == int(x) and abs(x) < 1e7:
            return f"{int(x)}"
        exact = f"{x:.6g}"
        return number(x) if float(number(x)) == x else exact
    return str(x)


def half(x: Array) -> Array:
    """Values rounded to float16."""
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float64)


def single(x: Array) -> Array:
    """Values rounded to float32."""
    return x.astype(np.float32).astype(np.float64)


def brain(x: Array) -> Array:
    """Values rounded to bfloat16, to the nearest even."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) & np.uint64(0xFFFF0000)
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def has(frontend: fe.Frontend, tap: Tap) -> bool:
    """Whether the recipe has that stage."""
    return tap in frontend.stages()
