"""Numbers estimated from the evidence: the value of a knob, or of two together, that comes nearest to the candidate.

Gauss-Newton on the whole oracle, each element weighed by its own bound, large residuals less (Huber): what the knob
doesn't explain shouldn't pull it. The derivative is a difference of two runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from parity import frontend as fe
from parity.explain.cases import Case
from parity.explain.definition import Definition, seen
from parity.explain.settings import Knob
from parity.protocols import Array, Tap

Build = Callable[[Sequence[float]], Definition | None]
"""Values of the knobs -> what is computed with them."""


class Model:
    """What a definition with knobs gives at one tap of one clip, against the candidate."""

    def __init__(self, case: Case, tap: Tap, build: Build, weights: Array) -> None:
        self._case, self._tap, self._build, self._weights = case, tap, build, weights

    def residual(self, values: Sequence[float]) -> Array | None:
        """(candidate - computed) over the bound, flat; None where it can't be computed or has another shape.

        Quantized features are held to what they were rounded from, where they aren't saturated.
        """
        d = self._build(values)
        arrays = None if d is None else self._case.arrays(d, self._tap)
        if d is None or arrays is None:
            return None
        c, value = self._case.given[self._tap], arrays[self._tap]
        s = d.frontend.stages()[self._tap]
        if isinstance(s, fe.Quantize) and not d.at(self._tap) and len(arrays) > 1:
            before = arrays[list(arrays)[-2]]
            info = np.iinfo(s.dtype)
            soft = np.clip(before / s.scale + s.zero_point, info.min, info.max)
            inner = (c > c.min(initial=np.inf)) & (c < c.max(initial=-np.inf))
            value = np.where(inner, soft, c) if soft.shape == c.shape else soft
        value = seen(d, self._tap, value, rounded=False)
        if value.shape != c.shape or self._weights.shape != c.shape:
            return None
        with np.errstate(invalid="ignore", over="ignore"):
            r = ((c - value) / self._weights).ravel()
        return np.where(np.isfinite(r), r, 0.0)


_FAR = 100.0
"""A loss that no float32 noise makes: most elements are many bounds away."""


def cost(r: Array | None) -> float:
    """A robust size of residuals: the mean of their logarithms' growth; infinite for None."""
    return float("inf") if r is None else float(np.log1p(np.abs(r)).mean())


def best_starts(knob: Knob, model: Model, fixed: Sequence[float] = ()) -> list[float]:
    """The usual values, the nearest first; the knob comes after those that are `fixed`."""
    return sorted(knob.starts, key=lambda x: cost(model.residual([*fixed, x]))) or [knob.neutral or 1.0]


def refine(knobs: Sequence[Knob], model: Model, start: Sequence[float], rounds: int = 12) -> list[float]:
    """The values where the cost is least, from `start` on."""
    u = np.array([_in(k, x) for k, x in zip(knobs, start, strict=True)])
    r = model.residual(_out(knobs, u))
    if r is None:
        return list(start)
    now = _loss(r)
    for _ in range(rounds):
        columns = []
        for i, k in enumerate(knobs):
            h = 1e-6 if k.positive else max(1e-7, 1e-5 * abs(u[i]))
            moved = u.copy()
            moved[i] += h
            there = model.residual(_out(knobs, moved))
            columns.append(np.zeros_like(r) if there is None else (r - there) / h)
        jacobian = np.stack(columns, axis=1)
        weight = _weight(r)
        normal = jacobian.T @ (weight[:, None] * jacobian)
        if not np.isfinite(normal).all() or not np.diag(normal).all():
            break
        step = np.linalg.lstsq(normal, jacobian.T @ (weight * r), rcond=1e-12)[0]
        limits = np.array([1.5 if k.positive else 0.5 * max(abs(x), 1.0) * 10 for k, x in zip(knobs, u, strict=True)])
        step *= min(1.0, float((limits / np.maximum(np.abs(step), 1e-300)).min()))
        for _ in range(6):
            moved = _clipped(knobs, u + step)
            there = model.residual(_out(knobs, moved))
            if there is not None and _loss(there) < now:
                break
            step = step / 4.0
        else:
            break
        gain = now - _loss(there)
        # Far from any fit small steps lead nowhere.
        done = gain < (1e-9 if now < _FAR else 0.03) * now
        u, r, now = moved, there, _loss(there)
        if done or not np.abs(step).max() > 1e-13:
            break
    return _out(knobs, u)


def _loss(r: Array) -> float:
    """Huber's, at a scale that stays the same, so that steps can be compared."""
    a = np.abs(r)
    return float(np.where(a < 3.0, 0.5 * a * a, 3.0 * a - 4.5).mean()) if a.size else 0.0


def _weight(r: Array) -> Array:
    return 1.0 / np.maximum(1.0, np.abs(r) / 3.0)


def _in(k: Knob, x: float) -> float:
    return float(np.log(x)) if k.positive else x


def _out(knobs: Sequence[Knob], u: Array) -> list[float]:
    return [float(np.exp(x)) if k.positive else float(x) for k, x in zip(knobs, u, strict=True)]


def _clipped(knobs: Sequence[Knob], u: Array) -> Array:
    low = [_in(k, k.low) if not k.positive or k.low > 0 else -np.inf for k in knobs]
    high = [_in(k, k.high) for k in knobs]
    return np.clip(u, low, high)


def simpler(x: float) -> list[float]:
    """Rounder numbers near `x`, roundest first, `x` itself last."""
    found = [float(f"{x:.{digits}g}") for digits in range(1, 8)]
    if x and abs(x) < 1:
        inverse = 1.0 / x
        found += (
            [1.0 / round(inverse)] if abs(inverse - round(inverse)) < 1e-3 * abs(inverse) and round(inverse) else []
        )
    return list(dict.fromkeys([*found, x]))
