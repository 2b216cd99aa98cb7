"""Numbers that are found step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from parity.protocols import Array

ROUNDS = 12


def descend(
    error: Callable[[Array], Array | None], start: Sequence[float], scale: Sequence[float]
) -> tuple[Array, float]:
    """Levenberg-Marquardt (Marquardt 1963) with differences for derivatives: the numbers, and the RMS that is left."""
    x, unit = np.asarray(start, float), np.asarray(scale, float)
    r = error(x)
    if r is None or not np.isfinite(r).all():
        return x, float("inf")
    damping = 1e-6
    for _ in range(ROUNDS):
        columns = []
        for k in range(len(x)):
            step = np.zeros_like(x)
            step[k] = 1e-5 * unit[k]
            moved = error(x + step)
            if moved is None:
                return x, _rms(r)
            columns.append((moved - r) / step[k])
        j = np.stack(columns, axis=1)
        before = _rms(r)
        for _ in range(4):
            normal = j.T @ j
            normal[np.diag_indices_from(normal)] *= 1.0 + damping
            delta = np.linalg.lstsq(normal, -j.T @ r, rcond=None)[0]
            new = error(x + delta)
            if new is not None and np.isfinite(new).all() and _rms(new) < before:
                x, r, damping = x + delta, new, damping / 10.0
                break
            damping = max(damping, 1e-6) * 30.0
        if before - _rms(r) <= 1e-9 * before:
            break
    return x, _rms(r)


def _rms(x: Array) -> float:
    return float(np.sqrt(np.square(x).mean()))
