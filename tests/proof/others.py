"""What else people compare arrays with, called as they call it, and a flat tolerance at its best."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from polygraphy.comparator import SimpleCompareFunc
from polygraphy.comparator.struct import IterationResult
from polygraphy.logger import G_LOGGER

from parity.protocols import Array, Tap

G_LOGGER.module_severity = G_LOGGER.CRITICAL
_SIMPLE = SimpleCompareFunc()


def allclose(candidate: Array, golden: Array) -> bool:
    """`np.allclose` at its defaults; it would broadcast, or raise, so another shape counts as seen."""
    return candidate.shape == golden.shape and bool(np.allclose(candidate, golden))


def assert_close(candidate: Array, golden: Array) -> bool:
    """`torch.testing.assert_close` at its defaults."""
    try:
        torch.testing.assert_close(torch.from_numpy(candidate), torch.from_numpy(golden))
    except AssertionError:
        return False
    return True


def polygraphy(candidate: Array, golden: Array) -> bool:
    """Polygraphy's default comparison of one output."""
    a, b = (IterationResult({"x": x}, runtime=0.0, runner_name=name) for name, x in (("a", candidate), ("b", golden)))
    with np.errstate(all="ignore"):
        return all(bool(match) for match in _SIMPLE(a, b).values())


OTHERS: Mapping[str, Callable[[Array, Array], bool]] = {
    "np.allclose": allclose,
    "assert_close": assert_close,
    "Polygraphy": polygraphy,
}
"""Name -> whether it lets an array pass for the float32 golden."""
SLOW = ("Polygraphy",)


def passes(name: str, pairs: Iterable[tuple[Array, Array]]) -> bool:
    """Whether all (candidate, golden) pass; the smallest arrays are asked first, for one that doesn't ends it."""
    return all(OTHERS[name](*pair) for pair in sorted(pairs, key=lambda pair: pair[1].size))


def distances(candidate: Mapping[Tap, Array], oracle: Mapping[Tap, Array]) -> dict[Tap, float]:
    """By tap the flat absolute tolerance that would just let it pass; infinite for another shape or a NaN."""
    found = {}
    for tap, array in candidate.items():
        if array.shape != oracle[tap].shape:
            found[tap] = float("inf")
            continue
        with np.errstate(invalid="ignore"):
            difference = np.abs(array.astype(np.float64) - oracle[tap])
        found[tap] = float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))
    return found
