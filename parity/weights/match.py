"""Constants of a file against the pieces that training says it should hold.

Which constant is which piece goes by what it is used for, its shape and its value: of all pairs of one role and shape
the nearest are matched first (root mean square of the difference over that of the piece), each constant and each piece
once. What is left of equal shape is matched too, however far: a changed weight is named, not lost. A file may hold a
constant more than once (unrolled layers): copies are held to the piece that is nearest. Last, what was matched must
stand in the order of training, as far as the file's edges tell it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from parity.protocols import Array
from parity.weights.flow import Placed, exchanged
from parity.weights.pieces import Constant, Layer, Piece, Reading, U

FEWEST_STEPS = 63.0
"""What the largest weight on an 8-bit grid measures at the least, in steps: a step as wide as the range in use asks
for makes it 127; 63 is left by 7 bits (reduce_range), or by a power of two for a step. All bundled files have 127."""
FINEST = 1.2e-7
"""Below it a step is a quantizer's smallest, given to channels that are next to zero."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One tensor, judged. `ok` is True for a weight that is explained to the last bit or step."""

    ok: bool
    trained: str
    """The trained tensor; '' where there is none."""
    constant: str
    """The file's tensor; '' where there is none."""
    how: str
    """How it is explained: as trained, BatchNorm folded in, within half a step; or what is wrong."""
    error: float = 0.0
    bound: float = 0.0


def _distance(a: Array, b: Array) -> float:
    size = float(np.sqrt(np.square(b).mean())) or 1.0
    return float(np.sqrt(np.square(a - b).mean())) / size


def _fits(constant: Constant, value: Array, room: Array | float) -> bool:
    return bool((np.abs(constant.value - value) <= _bound(constant, value, room)).all())


def _bound(constant: Constant, value: Array, room: Array | float) -> Array:
    if constant.stored == "float32":
        return np.broadcast_to(np.asarray(room, np.float64), value.shape)
    # Scale times integer is rounded to float32, and so was the quotient that was rounded to the integer.
    return constant.half_step * (1.0 + 1e-4) + room + 2.0 * U * np.abs(value)


def judge(constant: Constant, piece: Piece) -> Finding:
    """A constant held to a piece of its shape: every element within half a step and the roundings allowed."""
    difference = np.abs(constant.value - piece.value)
    bound = _bound(constant, piece.value, piece.room)
    finite = np.isfinite(constant.value)
    over = np.where(finite, difference - bound, np.inf)
    worst = np.unravel_index(int(over.argmax()), over.shape)
    error, room = float(difference[worst]), float(bound[worst])
    if over[worst] <= 0 and (coarse := _coarse(constant, piece)):
        return Finding(ok=False, trained=piece.name, constant=constant.name, how=coarse, error=error, bound=room)
    if over[worst] <= 0:
        how = piece.how if constant.stored == "float32" else f"{piece.how}, {constant.stored} within half a step"
        return Finding(ok=True, trained=piece.name, constant=constant.name, how=how, error=error, bound=room)
    count = int((over > 0).sum())
    place = f"[{', '.join(map(str, worst))}]"
    how = (
        f"{piece.name}{place} is {constant.value[worst]:.9g}, {piece.how} {piece.value[worst]:.9g}: "
        f"off by {error:.3g}, {room:.3g} allowed; {count} of {over.size} elements{_explained(constant, piece)}"
    )
    return Finding(ok=False, trained=piece.name, constant=constant.name, how=how, error=error, bound=room)


def _coarse(constant: Constant, piece: Piece) -> str:
    """What is wrong with a grid on which half a step allows too much; '' where nothing is.

    Weights that share a step are taken together: a channel, or all. A bias' step is given by what it is added to, so
    that of one in 16 or 32 bits no more is asked than that not all of it vanishes.
    """
    if constant.stored not in ("int8", "uint8", "int16", "int32"):
        return ""
    eight = constant.stored in ("int8", "uint8")
    wanted = FEWEST_STEPS if eight else 0.5
    steps = np.abs(piece.value) / (2.0 * constant.half_step)
    for half in np.unique(constant.half_step) if eight else [0.0]:
        shared = constant.half_step == half if eight else np.ones(steps.shape, bool)
        largest = float(steps[shared].max())
        if 0.0 < largest < wanted and 2.0 * float(constant.half_step[shared].max()) > FINEST:
            place = np.unravel_index(int(np.where(shared, steps, -1.0).argmax()), steps.shape)
            where = f"{piece.name}[{', '.join(map(str, place))}]"
            return (
                f"the grid is too coarse: {where}, the largest on it, is {largest:.3g} steps of "
                f"{2.0 * float(constant.half_step[place]):.3g}, {wanted:g} at the least expected"
            )
    return ""


def _explained(constant: Constant, piece: Piece) -> str:
    """The mistake that gives just this, if one of the known ones does."""
    for name, value in piece.others:
        if _fits(constant, value, piece.room):
            return f"; fits {name}"
    for axes in itertools.permutations(range(piece.value.ndim)):
        turned = piece.value.transpose(axes)
        if turned.shape == piece.value.shape and axes != tuple(range(piece.value.ndim)):
            room = piece.room.transpose(axes) if isinstance(piece.room, np.ndarray) else piece.room
            if _fits(constant, turned, room):
                return f"; fits with its axes in the order {', '.join(map(str, axes))}: transposed"
    return ""


def _alike(c: Constant, piece: Piece) -> bool:
    """Whether a constant may be a piece, by name where the file has the trained ones, role and shape."""
    named = c.trained is None or c.trained == piece.name
    placed = not c.slot or not piece.slot or c.slot == piece.slot
    return named and placed and c.role == piece.role and c.value.shape == piece.value.shape


def _pairs(layers: Sequence[Layer], constants: Sequence[Constant]) -> Iterable[tuple[int, int, int, int]]:
    """(layer, way, piece, constant) of equal role and shape, nearest first."""
    found = []
    for i, layer in enumerate(layers):
        for j, way in enumerate(layer.ways):
            for k, piece in enumerate(way):
                for n, c in enumerate(constants):
                    if _alike(c, piece):
                        found.append((_distance(c.value, piece.value), i, j, k, n))
    return [(i, j, k, n) for _, i, j, k, n in sorted(found)]


def _judged(c: Constant, piece: Piece, layers: Sequence[Layer]) -> list[Finding]:
    """A constant held to its piece: where it is wrong, with the piece that it would fit; and its eps."""
    found = judge(c, piece)
    if not found.ok and found.error > found.bound:
        others = (p for layer in layers for way in layer.ways for p in way if p.value.shape == piece.value.shape)
        other = next((p for p in others if p.name != piece.name and _fits(c, p.value, p.room)), None)
        if other is not None:
            found = dataclasses.replace(found, how=f"{found.how}; fits {other.name}")
    if c.eps is None or piece.eps is None or abs(c.eps - piece.eps) <= 2.0 * U * abs(piece.eps):
        return [found]
    norm = piece.name.rpartition(".")[0]
    how = f"eps is {c.eps:g}, trained {piece.eps:g}"
    return [found, Finding(ok=False, trained=f"{norm}.eps", constant=norm, how=how)]


def match(layers: Sequence[Layer], reading: Reading) -> list[Finding]:
    """A finding for each trained tensor, in flow order, then for what the file holds beside them."""
    constants = reading.constants
    way_of: dict[int, int] = {}
    taken: dict[tuple[int, int, int], int] = {}
    used: set[int] = set()
    candidates = list(_pairs(layers, constants))
    for i, j, k, n in candidates:
        # The nearest match of a layer decides the way in which the file holds it.
        if n in used or (i, j, k) in taken or way_of.get(i, j) != j:
            continue
        way_of[i] = j
        taken[i, j, k] = n
        used.add(n)
    findings, placed, several = list[Finding](), list[Placed](), set[int]()
    for i, layer in enumerate(layers):
        j = way_of.get(i, 0)
        for k, piece in enumerate(layer.ways[j]):
            if (i, j, k) in taken:
                c = constants[taken[i, j, k]]
                findings += _judged(c, piece, layers)
                placed.append(Placed(i, piece, c))
            elif (shared := next((c for c in constants if _alike(c, piece) and len(c.uses) > 1 and
                                  _fits(c, piece.value, piece.room)), None)) is not None:  # fmt: skip
                findings.append(judge(shared, piece))
                several.add(id(shared))
            else:
                shape = "x".join(map(str, piece.value.shape))
                how = f"no {piece.role} of shape {shape} is left in the file for it"
                findings.append(Finding(ok=False, trained=piece.name, constant="", how=how))
    for n, c in enumerate(constants):
        if n in used or c.optional or not c.value.any():
            continue  # zeros: a bias that wasn't trained, an initial state
        held = [
            p for i, layer in enumerate(layers) for p in (*layer.ways[way_of.get(i, 0)], *layer.also) if _alike(c, p)
        ]
        if held:
            findings.append(judge(c, min(held, key=lambda p: _distance(c.value, p.value))))
        else:
            shape = "x".join(map(str, c.value.shape))
            how = f"a {c.role} of shape {shape} that no trained tensor explains"
            findings.append(Finding(ok=False, trained="", constant=c.name, how=how))
    in_order = [p for p in placed if layers[p.layer].once and id(p.constant) not in several]
    for a, b in exchanged(in_order, reading.flow, lambda c, p: _fits(c, p.value, p.room)):
        how = f"it comes after {b.piece.name} ({b.constant.name}) in the file, before it in training: exchanged"
        findings.append(Finding(ok=False, trained=a.piece.name, constant=a.constant.name, how=how))
    return findings + [Finding(ok=False, trained="", constant=name, how=what) for name, what in reading.problems]
