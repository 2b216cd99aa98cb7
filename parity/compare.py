"""Two arrays and a bound -> what they say of each other. Pure NumPy; inputs are never changed.

The order of checks is a contract: present, dtype, shape, not empty, the same non-finite elements, then the numbers,
in float64: `lo <= candidate <= hi` for each element. No summary (cosine, mean, RMSE) can make a tap pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from parity.protocols import Array

Outcome = Literal["pass", "fail", "missing", "unavailable", "unsupported", "error", "gap"]


@dataclass(frozen=True)
class Comparison:
    """What became of one tap of one clip. Numbers are those of the worst element; None where none was compared."""

    outcome: Outcome
    message: str = ""
    ratio: float | None = None
    """Error over bound of the worst element: above 1 is a failure, infinite where the bound is zero."""
    error: float | None = None
    bound: float | None = None
    index: tuple[int, ...] | None = None
    candidate: float | None = None
    golden: float | None = None
    outside: float = 0.0
    """Share of the elements that are out of bounds."""
    flipped: bool = False
    """Failed for saying another label, with labels in order and logits that are finite."""


def _at(index: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, index)) + "]"


def compare(candidate: Array | None, value: Array, lo: Array, hi: Array, dtype: str) -> Comparison:
    """Judge `candidate` against `lo <= value <= hi`, three float64 arrays of the golden's shape.

    `dtype` is what the system declares for the tap.
    """
    if candidate is None:
        return Comparison("missing", "declared, but the plugin didn't return it")
    if candidate.dtype.name != dtype:
        return Comparison("fail", f"dtype is {candidate.dtype.name}, declared is {dtype}")
    if candidate.shape != value.shape:
        return Comparison("fail", _shapes(candidate.shape, value.shape))
    if candidate.size == 0:
        return Comparison("fail", "empty: nothing was compared")
    with np.errstate(invalid="ignore"):  # a signalling NaN, as bytes in the wrong order have it: judged below
        c = candidate.astype(np.float64)
    if (inside := _clearly_inside(c, value, lo, hi)) is not None:
        return inside
    finite = np.isfinite(c)
    if not finite.all() or not np.isfinite(value).all():
        # An element may be infinite where the bound says so (the logarithm of something that may be zero).
        with np.errstate(invalid="ignore"):
            wrong = ~(((lo <= c) & (c <= hi)) | (np.isnan(c) & np.isnan(value))) & ~(finite & np.isfinite(value))
        if wrong.any():
            index = tuple(int(i) for i in np.argwhere(wrong)[0])
            return Comparison(
                "fail", f"{c[index]:g} at {_at(index)} where the golden is {value[index]:.6g}",
                index=index, outside=float(wrong.mean()),
            )  # fmt: skip
    return _numbers(c, value, lo, hi)


def _clearly_inside(c: Array, value: Array, lo: Array, hi: Array) -> Comparison | None:
    """The pass of arrays that are well within their bounds, in a third of the time; None where a closer look is due.

    A NaN, an infinity, an empty bound or an error near its bound makes the largest ratio something else than a number
    below 0.999, or the smallest negative.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        difference = c - value
        if not difference.any():  # copies: audio, frames, what a network was fed with
            ratio, room, index = difference, value - lo, (0,) * c.ndim
        else:
            room = np.where(difference > 0, hi, lo)
            room -= value
            ratio = difference / room
            index = tuple(int(i) for i in np.unravel_index(ratio.argmax(), ratio.shape))
        # The last two: an element equal to its golden has ratio 0 even where the bound leaves the golden out.
        if not (ratio[index] < 0.999 and ratio.min() >= 0.0 and (lo <= value).all() and (value <= hi).all()):
            return None
    return Comparison(
        "pass", ratio=float(ratio[index]), error=float(abs(difference[index])), bound=float(abs(room[index])),
        index=index, candidate=float(c[index]), golden=float(value[index]),
    )  # fmt: skip


def _numbers(c: Array, value: Array, lo: Array, hi: Array) -> Comparison:
    with np.errstate(invalid="ignore"):
        difference = c - value
        room = np.where(difference > 0, hi - value, value - lo)
        error = np.abs(difference)
    same = (c == value) | np.isnan(difference)  # NaN: equal infinities, or NaN in both; judged above
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(same | np.isinf(room), 0.0, error / room)
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    worst = int(ratio.argmax())
    index = tuple(int(i) for i in np.unravel_index(worst, ratio.shape))
    out = ~((lo <= c) & (c <= hi)) & ~(np.isnan(c) & np.isnan(value))  # a bound that is NaN admits nothing
    outside = int(np.count_nonzero(out))
    numbers = Comparison(
        "fail" if outside else "pass", ratio=float(ratio[index]), error=0.0 if same[index] else float(error[index]),
        bound=float(room[index]), index=index, candidate=float(c[index]), golden=float(value[index]),
        outside=outside / c.size,
    )  # fmt: skip
    if not outside:
        return numbers
    message = f"{outside} of {c.size} elements out of bounds; at {_at(index)} {c[index]:.6g}, golden {value[index]:.6g}"
    return Comparison(**{**vars(numbers), "message": message})


def _shapes(candidate: tuple[int, ...], golden: tuple[int, ...]) -> str:
    text = f"shape is {list(candidate)}, the golden's is {list(golden)}"
    if len(candidate) == len(golden) and candidate != golden and sorted(candidate) == sorted(golden):
        return text + ": transposed?"
    if len(candidate) == len(golden) and candidate[1:] == golden[1:]:
        return text + f": {abs(candidate[0] - golden[0])} frames {'more' if candidate[0] > golden[0] else 'fewer'}"
    return text


@dataclass(frozen=True)
class Choice:
    """What the logits of a clip decide."""

    label: str
    index: int
    margin: float
    """Lead of the largest logit over the second; infinite where there is one only."""


def decide(logits: Array, labels: tuple[str, ...]) -> Choice | None:
    """The label of the largest logit, the first among equals; None where the logits don't fit the labels."""
    flat = np.asarray(logits, np.float64).reshape(-1)
    if flat.size != len(labels) or not np.isfinite(flat).all():
        return None
    index = int(flat.argmax())
    rest = np.delete(flat, index)
    return Choice(labels[index], index, float(flat[index] - rest.max()) if rest.size else float("inf"))


def compare_label(
    candidate: Choice | None, golden: Choice, logits: Array, half: Array, margin: float | None = None
) -> tuple[Comparison, bool]:
    """Judge a decision; the flag says a near tie.

    `logits` float64 `[labels]` are the golden's, `half` says how far each may move. Another label fails where the
    golden's lead over that label exceeds the sum of the two logits' bounds; otherwise nobody can say which is right.
    `margin`, where somebody declared one for a quantized model, stands in the place of that sum.
    """
    if candidate is None:
        return Comparison("fail", "the logits don't fit the labels, or aren't finite"), False
    if candidate.label == golden.label:
        return Comparison("pass", golden.label), False
    room = float(half[golden.index] + half[candidate.index]) if margin is None else margin
    lead = float(logits[golden.index] - logits[candidate.index])
    text = f"{candidate.label!r} where the golden says {golden.label!r} by {lead:.3g}"
    if lead <= room and candidate.index != golden.index:
        return Comparison(
            "pass", f"near tie: {text}, less than the {'bound' if margin is None else 'declared margin'} {room:.3g}"
        ), True
    return Comparison("fail", f"label flipped: {text}", flipped=True), False
