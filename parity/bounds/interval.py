"""What a bound is: two arrays around the oracle's value; and the numbers of float32."""

from __future__ import annotations

from dataclasses import dataclass

from parity.protocols import Array

U = 2.0**-24
"""Unit roundoff of float32."""
DOUBLE = 2.0**-53
"""Unit roundoff of float64."""
TINY = 2.0**-126
"""Smallest normal float32: what is smaller may be flushed to zero."""


@dataclass(frozen=True)
class Interval:
    """`lo <= value <= hi`, three float64 arrays of one shape."""

    value: Array
    lo: Array
    hi: Array


def around(value: Array, half: Array | None) -> Interval:
    """As far on either side; None where the value must be met exactly."""
    return Interval(value, value, value) if half is None else Interval(value, value - half, value + half)
