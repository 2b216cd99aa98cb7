"""What quantization steps allow: a value rounded to its step, one tensor's scale told by two, features a step away."""

from __future__ import annotations

import numpy as np

from parity.bounds.features import Interval, U
from parity.protocols import Array, Raw


def rounded(x: Interval, raw: Raw) -> Interval:
    """Where x may be once it is rounded to the nearest step and clipped to what the integers hold."""
    held = np.iinfo(raw.integers.dtype)
    low, high = (raw.scale * (float(end) - raw.zero_point) for end in (held.min, held.max))
    # The quotient, and the product that it comes back as, are rounded to float32.
    half = 0.5 * raw.scale + 4 * U * (np.abs(x.value) + abs(raw.scale * raw.zero_point))
    return Interval(x.value, np.minimum(x.value, np.clip(x.lo, low, high) - half),
                    np.maximum(x.value, np.clip(x.hi, low, high) + half))  # fmt: skip


def saturated(value: Array, raw: Raw) -> float:
    """Share of the elements (0 to 1) whose right value is half a step beyond what the tensor's integers can hold."""
    held = np.iinfo(raw.integers.dtype)
    low, high = (raw.scale * (float(end) - raw.zero_point) for end in (held.min, held.max))
    v = np.asarray(value, np.float64)
    return float(((v < low - 0.5 * raw.scale) | (v > high + 0.5 * raw.scale)).mean()) if v.size else 0.0


def unlike(given: Raw | None, kernels: Raw | None) -> str | None:
    """Of one file there is one scale and one zero point: what is wrong where a runtime states others."""
    if given is None or kernels is None:
        return None
    if abs(given.scale - kernels.scale) <= 1e-6 * abs(kernels.scale) and given.zero_point == kernels.zero_point:
        return None
    return (
        f"a scale of {given.scale:.6g} and a zero point of {given.zero_point}, where the kernels have "
        f"{kernels.scale:.6g} and {kernels.zero_point} for the same tensor"
    )


def moved(fed: Array | None, reference: Array) -> float:
    """By how many steps quantized features differ from the golden's, summed: each was within its rounding edge."""
    if fed is None or fed.shape != reference.shape or not np.issubdtype(reference.dtype, np.integer):
        return 0.0
    return float(np.abs(fed.astype(np.float64) - reference).sum())
