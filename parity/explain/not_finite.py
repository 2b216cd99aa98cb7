"""NaN and infinities: no edit gives back what is lost in them, but where they start says whose they are."""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from parity.explain.explanation import Cause, Finding
from parity.explain.study import Study
from parity.protocols import Tap

KEY = "network.not-finite"
LOST = "isn't finite, or what it gives overflows"
NAMED = 3
"""Layers or channels that are named; more are counted."""


def count(study: Study, tap: Tap) -> int:
    """Elements of a tap that aren't finite, over all clips."""
    return sum(int((~np.isfinite(e.model[tap])).sum()) for e in study.of if tap in e.model)


def finding(study: Study, tap: Tap, segment: Set[int]) -> Finding:
    """Which layer of a segment, and which of its channels, gave what isn't finite at a tap.

    A channel is named where one layer alone lies before the tap and all of the other channels are within bound.
    """
    bad, inside, size = set[int](), 0, 0
    clean = True
    for e, right in zip(study.of, study.right, strict=True):
        if tap not in e.model:
            continue
        m, expected = np.asarray(e.model[tap], np.float64), right[tap]
        if m.shape != expected.value.shape:
            clean = False
            continue
        broken = ~np.isfinite(m)
        channels = np.flatnonzero(broken.reshape(-1, m.shape[-1]).any(axis=0))
        bad |= {int(c) for c in channels}
        with np.errstate(invalid="ignore"):
            held = np.abs(m - expected.value) <= expected.bound
        clean &= bool(np.delete(held, channels, axis=-1).all())
        inside, size = inside + int(held.sum()), size + m.size
    n, width = count(study, tap), study.of[0].model[tap].shape[-1]
    some = clean and len(bad) < width
    kind = "channel" if len(bad) == 1 else "channels"
    of = f"{kind} {_listed([str(c) for c in sorted(bad)], 'and')}"
    shapes = f"{n} {'element is' if n == 1 else 'elements are'} NaN or infinite" + (f", all of {of}" if some else "")
    layers = [study.network.name(i) for i in study.network.layers if i in segment]
    causes: tuple[tuple[Cause, ...], ...] = ()
    if len(layers) == 1:
        whose = f" of {of}" if some else ""
        causes = ((Cause(KEY, f"{layers[0]}: a weight or the bias{whose} {LOST}", tap),),)
    elif layers:
        causes = ((Cause(KEY, f"a weight or a bias of {_listed(layers, 'or')} {LOST}", tap),),)
    share = inside / size if size else 0.0
    return Finding(tap, causes, False, None, share, share, None, None, shapes=shapes)


def _listed(names: list[str], word: str) -> str:
    if len(names) > NAMED:
        return f"{', '.join(names[:NAMED])} {word} {len(names) - NAMED} more"
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), names[-1])))
