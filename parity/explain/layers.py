"""Mistakes with a number in them, estimated: a layer scaled, a channel, one weight, one bias, all weights of a layer.

Between the last tap within bounds and the first out of them a layer's input is right. Where only an activation stands
between its output and the tap, what the layer gave can be read off the tap, and its weights follow by least squares;
elsewhere a number is found by Levenberg-Marquardt on the part of the graph behind the layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from parity.explain import inputs, units
from parity.explain.channels import channels
from parity.explain.deep import columns, probe
from parity.explain.descent import descend
from parity.explain.patches import Edit
from parity.explain.reading import current, read_off
from parity.explain.study import Study
from parity.explain.surgery import RECURRENT, Patch
from parity.protocols import Array, Tap

DEEP = 3
"""Layers between two taps of which every channel and weight is tried."""


def rescaled(study: Study, tap: Tap, tries: Sequence[Any]) -> list[Edit]:
    """The input times a number, plus a number, or both."""
    measured = np.concatenate([m.ravel() for m in study.measured(tap)])

    def error(a: float, b: float) -> Array | None:
        got = study.tried(Patch(feed=inputs.scaled(a, b)), tap)
        if got is None or sum(x.size for x in got) != measured.size:
            return None
        return np.concatenate([x.ravel() for x in got]) - measured

    fed = np.concatenate([np.asarray(study.of[k].fed, np.float64).ravel() for k in study.few])
    mean, size = float(fed.mean()), float(fed.std()) or 1.0
    near = [t.edit.phrase.removeprefix("input ") for t in tries if t.edit.key == "network.input-scale"][:2]
    known = [inputs.SCALES[n] for n in near if n in inputs.SCALES]
    both = [*known, (1.0, 0.0), (1.0 / size, -mean / size)]
    found = []
    for which, phrase in (
        ((True, False), "input times {a:.6g}"),
        ((False, True), "input plus {b:.6g}"),
        ((True, True), "input times {a:.6g} plus {b:.6g}"),
    ):
        free = [k for k in range(2) if which[k]]
        best: tuple[float, tuple[float, float]] | None = None
        for start in (
            both if len(free) == 2 else [s for s in both if len(free) == 2 or s[1 - free[0]] == (0.0, 1.0)[free[0]]]
        ):

            def by(x: Array, start: tuple[float, float] = start, free: list[int] = free) -> Array | None:
                full = np.array(start)
                full[free] = x
                return error(*full)

            x, left = descend(by, [start[k] for k in free], [(abs(start[0]) or 1.0, size)[k] for k in free])
            full = np.array(start)
            full[free] = x
            if best is None or left < best[0]:
                best = left, (float(full[0]), float(full[1]))
        if best is not None:
            a, b = best[1]
            found.append(Edit("network.input-scale", phrase.format(a=a, b=b), Patch(feed=inputs.scaled(a, b)),
                              parameters=len(free)))  # fmt: skip
    return found


def fitted(study: Study, tap: Tap, nodes: Sequence[int], deep: bool) -> list[Edit]:
    """Of each layer of a segment: what may have been done to its numbers; `deep`: to any one of them, too."""
    found: list[Edit] = []
    for i in nodes:
        found += _whole(study, tap, i)
        if study.network.nodes[i].op_type in RECURRENT:
            found += units.fitted(study, tap, i)
        elif (read := read_off(study, tap, i)) is not None:
            found += channels(study.network, i, read, study)
        elif deep and len(nodes) <= DEEP:
            found += columns(study, tap, i)
    return found


def _whole(study: Study, tap: Tap, i: int) -> list[Edit]:
    """A layer's weights, its bias, or both, times a number."""
    network = study.network
    node = network.nodes[i]
    weights = [n for n in node.input[1 : 3 if node.op_type in RECURRENT else 2] if n in network.weights]
    bias = [b] if (b := network.bias(i)) else []
    ways = [("network.weights-scaled", "weights times {0:.6g}", weights)]
    if bias and np.any(current(study, bias[0])):
        ways += [("network.weights-scaled", "weights and bias times {0:.6g}", weights + bias),
                 ("network.bias-scaled", "bias times {0:.6g}", bias)]  # fmt: skip
    if len(weights) == 2:
        ways += [("network.weights-scaled", "input's weights times {0:.6g}", weights[:1]),
                 ("network.weights-scaled", "recurrent weights times {0:.6g}", weights[1:])]  # fmt: skip
    error = probe(study, tap, weights + bias)
    found = []
    for key, phrase, names in ways:
        x, _ = descend(lambda s, n=names: error({m: s[0] * current(study, m) for m in n}), [1.0], [1.0])  # type: ignore[misc]
        s = float(x[0])
        if abs(s - 1.0) > 1e-9:
            made = Patch(weights={m: s * current(study, m) for m in names})
            found.append(Edit(key, phrase.format(s), made, network.name(i), 1))
    return found
