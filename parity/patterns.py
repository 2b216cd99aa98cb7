"""What goes into a network, as a few named numbers: constants, ramps, noise, one value alone.

Clips reach a network through features, which lie where features lie. A `Pattern` reaches it where they never do: a
softmax of large logits, activations too small to be normal numbers. Like a clip's `Parameters` it is told, written
down and played again as numbers.

    render(Pattern(kind="noise", level=1e-40, seed=3), (1, 98, 40))
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

import numpy as np

from parity import signals
from parity.protocols import Array, Artifact

FRAMES: Final = 32
"""Frames of what a network is fed with that takes any number."""
PatternKind = Literal["constant", "ramp", "alternating", "noise", "normal", "one", "rows"]


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """An input in parameters, of any shape. ValueError when a value is impossible."""

    kind: PatternKind = "constant"
    """`constant`: 1 everywhere; `ramp`: from -1 to 1 over all elements; `alternating`: 1, -1, 1, ...; `noise`: uniform
    in ±1; `normal`: Gaussian of spread 1; `one`: 1 at the element `at`, 0 elsewhere; `rows`: noise that is the same in
    every row (steps in time that are alike)."""
    level: float = 0.0
    """What the kind is multiplied by: 1e-40 isn't a normal float32 any more."""
    offset: float = 0.0
    """Added to every element."""
    at: int = 0
    """Of `one`: the element, counted in C order; beyond the last it begins again."""
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.kind in get_args(PatternKind), f"kind must be one of {get_args(PatternKind)}, not {self.kind!r}")
        for name in ("level", "offset", "at", "seed"):
            value = signals.number(name, getattr(self, name), whole=name in ("at", "seed"))
            object.__setattr__(self, name, value)
        for name in ("at", "seed"):
            value = getattr(self, name)
            _require(0 <= value <= signals.MAX_SEED, f"{name} must be 0 to {signals.MAX_SEED}, not {value}")


def render(p: Pattern, shape: tuple[int, ...], dtype: str = "float32") -> Array:
    """An array of `shape`; integers are rounded and cut to their range, as a quantizer does."""
    size, random = math.prod(shape), np.random.Generator(np.random.PCG64(p.seed))
    x: Array
    match p.kind:
        case "constant":
            x = np.ones(size)
        case "ramp":
            x = np.linspace(-1.0, 1.0, size)
        case "alternating":
            x = 1.0 - 2.0 * (np.arange(size) % 2)
        case "noise":
            x = random.uniform(-1.0, 1.0, size)
        case "normal":
            x = random.standard_normal(size)
        case "one":
            x = np.zeros(size)
            x[p.at % max(1, size) :][:1] = 1.0
        case "rows":
            row = shape[-1] if shape else 1
            x = np.resize(random.uniform(-1.0, 1.0, row), size)
    with np.errstate(over="ignore"):  # what is beyond a number is cut to the largest
        x = (p.level * x + p.offset).reshape(shape)
    if np.issubdtype(np.dtype(dtype), np.integer):
        info = np.iinfo(dtype)
        return np.clip(np.rint(x), info.min, info.max).astype(dtype)
    most = float(np.finfo(dtype).max)
    return np.clip(x, -most, most).astype(dtype)


def shape_of(artifacts: Sequence[Artifact]) -> tuple[int, ...]:
    """Of the features that files of one network take, `[frames, bands]`; `FRAMES` where any number will do.

    As many frames as the first that is tied to a number has; what has a memory takes any number piece by piece.
    """
    frames, bands = artifacts[0].shape
    tied = [a.frames for a in artifacts if a.frames and not (a.state or a.reset or a.context)]
    return (tied[0] if tied else frames or FRAMES, *([bands] if bands else []))


def named(p: Pattern) -> list[str]:
    """What differs from the defaults and matters, one a parameter: `["noise 1e-40", "offset -6"]`."""
    if p.level == 0.0:
        return [f"constant {p.offset:g}"]
    if p.kind == "constant":
        return [f"constant {p.level + p.offset:g}"]
    parts = [f"{p.kind} {p.level:g}", *([f"at {p.at}"] if p.kind == "one" and p.at else [])]
    parts += [f"offset {p.offset:g}"] if p.offset else []
    return parts + ([f"seed {p.seed}"] if p.seed and p.kind in ("noise", "normal", "rows") else [])


def describe(p: Pattern) -> str:
    """One line for people: `noise 1e-40, offset -6, seed 3`. The exact form is `to_plain`."""
    return ", ".join(named(p))


def to_plain(p: Pattern) -> dict[str, Any]:
    """What differs from the defaults: for JSON and TOML."""
    plain = {f.name: getattr(p, f.name) for f in fields(p)}
    return {name: value for name, value in plain.items() if value != getattr(Pattern, name)}


def from_plain(plain: Mapping[str, Any]) -> Pattern:
    """The pattern that `to_plain` wrote down. ValueError for an unknown key or an impossible value."""
    known = [f.name for f in fields(Pattern)]
    if unknown := sorted(set(plain) - set(known)):
        raise ValueError(f"unknown in a pattern: {', '.join(unknown)} (known: {', '.join(known)})")
    return Pattern(**plain)


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise ValueError(text)
