"""Numbers that were written down with few digits, as text files hold them: seen from the numbers themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from parity.explain.definition import Definition, Hook
from parity.explain.explanation import Cause
from parity.protocols import Array, Tap

KEY = "dump.digits"
MOST = 7
"""Digits that are fewer than float32 has."""
COARSE = 8.0
"""A digit that says more than chance: so many times float32's own spacing."""
FEWEST = 16
"""Numbers that must be coarse, all of which could be so by chance once in COARSE ** FEWEST."""


@dataclass(frozen=True)
class Digits:
    """How numbers were rounded: to so many decimals, or to so many significant digits."""

    count: int
    kind: Literal["decimals", "significant digits"]

    @property
    def words(self) -> str:
        """For a person."""
        kind = self.kind.removesuffix("s") if self.count == 1 else self.kind
        return f"numbers written with {self.count or 'no'} {kind}"

    def step(self, x: Array) -> Array:
        """The distance between neighbours that could be written, where `x` is."""
        if self.kind == "decimals":
            return np.full(x.shape, 10.0**-self.count)
        with np.errstate(divide="ignore", invalid="ignore"):
            exponent = np.floor(np.log10(np.abs(x)))
        return np.where(np.isfinite(exponent), 10.0 ** (np.nan_to_num(exponent) - self.count + 1), 0.0)

    def rounded(self, x: Array) -> Array:
        """`x` as it would be written, float64."""
        step = self.step(x)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.where((step > 0) & np.isfinite(x), np.round(x / step) * step, x)


def found(arrays: Sequence[Array]) -> Digits | None:
    """How all numbers of some arrays were rounded, the coarsest way that fits; None where float32 says as much.

    Whole numbers that a recipe rounds to are found, too: they change nothing there.
    """
    x = np.concatenate([np.asarray(a, np.float64).ravel() for a in arrays]) if arrays else np.zeros(0)
    x = x[np.isfinite(x) & (x != 0)]
    if not len(x):
        return None
    spacing = np.spacing(np.abs(x).astype(np.float32)).astype(np.float64)
    best: tuple[float, Digits] | None = None
    few = x[:: max(1, len(x) // 64)]
    for kind in ("decimals", "significant digits"):
        for count in range(0 if kind == "decimals" else 1, MOST + 1):
            d = Digits(count, kind)
            if not _holds(d, few) or not _holds(d, x):
                continue
            step = d.step(x)
            if np.count_nonzero(step > COARSE * spacing) < FEWEST:
                break
            size = float(np.log(step / spacing).mean())
            best = (size, d) if best is None or size > best[0] else best
            break
    return None if best is None else best[1]


def _holds(d: Digits, x: Array) -> bool:
    """Whether every number is one that could be written so, and then read as float32."""
    return bool((d.rounded(x).astype(np.float32) == x.astype(np.float32)).all())


def definition(d: Definition, arrays: Mapping[Tap, Sequence[Array]]) -> tuple[Definition, dict[Tap, Cause]]:
    """A definition seen with the digits of what was written at each tap, and what there is to say of those taps."""
    causes: dict[Tap, Cause] = {}
    for tap, given in arrays.items():
        if (digits := found(given)) is not None:
            causes[tap] = Cause(KEY, digits.words, tap)
            d = d.with_hook(Hook(tap, after=digits.rounded, view=True, roundings=1.0, step=digits.step))
    return d, causes
