"""The order of layers in a file against that of training.

A layer that ran before another can't take what that one gives. So where two constants of one role and shape stand for
two layers, and the earlier one's operator comes after the later one's along the file's own edges, they are exchanged.
Of layers side by side the edges say nothing; nor does a file whose operators aren't known.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from parity.weights.pieces import Constant, Piece


@dataclass(frozen=True, eq=False)
class Placed:
    """A piece with the constant that was found for it, and the place of its layer in the flow."""

    layer: int
    piece: Piece
    constant: Constant


def _after(starts: Iterable[int], flow: Mapping[int, Sequence[int]]) -> set[int]:
    """Every operator that takes, directly or not, what one of `starts` gives."""
    found: set[int] = set()
    left = list(starts)
    while left:
        for taker in flow.get(left.pop(), ()):
            if taker not in found:
                found.add(taker)
                left.append(taker)
    return found


def exchanged(
    placed: Sequence[Placed], flow: Mapping[int, Sequence[int]], fits: Callable[[Constant, Piece], bool]
) -> list[tuple[Placed, Placed]]:
    """Pairs (earlier, later in training) that stand the other way round in the file. `placed` is in flow order."""
    groups: dict[tuple[str, tuple[int, ...]], list[Placed]] = {}
    for p in placed:
        if p.constant.uses:
            groups.setdefault((p.piece.role, p.piece.value.shape), []).append(p)
    found = []
    for group in groups.values():
        after = {id(p): _after(p.constant.uses, flow) for p in group} if len(group) > 1 else {}
        for a, b in itertools.combinations(group, 2):
            # The weights of a recurrent layer's input never take its state; of its biases each may be added first.
            comparable = a.layer != b.layer or a.piece.role == "matrix"
            if not comparable or after[id(b)].isdisjoint(a.constant.uses):
                continue
            if not (fits(b.constant, a.piece) and fits(a.constant, b.piece)):
                found.append((a, b))
    return found
