"""One number of a recurrent layer: found on what the candidate itself remembered.

Each time step is worked out from the candidate's own output of the step before. Then a wrong weight moves its own unit
alone: the unit is seen, and every weight of its gates is tried by Newton's method, all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from parity import layout
from parity.explain.gates import GATES
from parity.explain.patches import Edit
from parity.explain.study import Study
from parity.explain.surgery import Patch, attribute
from parity.networks.operators import sigmoid
from parity.protocols import Array, Tap

ROUNDS = 8


def fitted(study: Study, tap: Tap, i: int) -> list[Edit]:
    """One weight or bias of a forward LSTM or GRU whose output sequence is the tap."""
    network = study.network
    node, kind = network.nodes[i], network.nodes[i].op_type
    names = [n for n in (*node.input[1:3], network.bias(i)) if n]
    port = study.artifact.taps[tap]
    plain = kind in GATES and attribute(node, "direction", "forward") == "forward" and len(names) == 3
    if not plain or study.base.nodes or study.base.feed or study.base.seen or set(port.layout) != set("NTC"):
        return []
    first = study.network.before(port.name)
    behind = [k for k in network.layers if k in first and i in network.before(network.nodes[k].output[0]) and k != i]
    if behind:
        return []
    w, r, b = ((study.base.weights.get(n, network.weights[n]))[0] for n in names)
    g, hidden = len(GATES[kind]), r.shape[1]
    w, r, b = w.reshape(g, hidden, -1), r.reshape(g, hidden, hidden), b.reshape(2, g, hidden)
    x = study.values[node.input[0]]  # [T, N, in]
    h = np.stack([layout.native(m, "NTC")[0] for m in study.measured(tap)], axis=1)  # [T, N, H]
    room = np.stack([layout.native(study.right[k][tap].bound, "NTC")[0] for k in study.few], axis=1)
    if h.shape[:2] != x.shape[:2]:
        return []
    before = np.concatenate([np.zeros_like(h[:1]), h[:-1]])
    linear = bool(attribute(node, "linear_before_reset", 0))
    inner = np.einsum("tni,ghi->tngh", x, w) + b[0]
    outer = np.einsum("tnk,ghk->tngh", before, r) + b[1]
    if kind == "GRU" and not linear:
        return []
    out = _steps(kind, inner, outer, before)
    off = np.abs(out - h) / room
    bad = np.flatnonzero((off > 4.0).any(axis=(0, 1)))
    if len(bad) != 1:
        return []
    u = int(bad[0])
    found = []
    for k in range(g):
        # What a change of each of the gate's numbers multiplies, [P, T, N], and where it is added.
        sources = [(np.moveaxis(x, -1, 0), False, "W"), (np.moveaxis(before, -1, 0), True, "R"),
                   (np.ones((1, *h.shape[:2])), False, "Wb"), (np.ones((1, *h.shape[:2])), True, "Rb")]  # fmt: skip
        for taken, recurrent, what in sources:
            if what == "Rb" and kind == "LSTM":
                continue  # the two biases are added: one of them can't be told from the other

            def run(delta: Array, k: int = k, taken: Array = taken, recurrent: bool = recurrent) -> Array:
                i1 = np.repeat(inner[None, ..., u], len(delta), axis=0)
                o1 = np.repeat(outer[None, ..., u], len(delta), axis=0)
                (o1 if recurrent else i1)[..., k] += delta[:, None, None] * taken
                return _unit(kind, i1, o1, before[..., u])

            delta, left = _newton(run, len(taken), h[..., u])
            for p in np.argsort(left)[:2]:
                found.append((float(left[p]), k, what, int(p), float(delta[p])))
    edits = []
    for _, k, what, p, step in sorted(found)[:4]:
        edits.append(_edit(study, i, names, (k, u, p, what), step))
    return edits


def _steps(kind: str, inner: Array, outer: Array, before: Array) -> Array:
    """Each step's output from the step before, `[T, N, hidden]`."""
    out = [_unit(kind, inner[None, ..., u], outer[None, ..., u], before[..., u])[0] for u in range(before.shape[-1])]
    return np.stack(out, axis=-1)


def _unit(kind: str, inner: Array, outer: Array, before: Array) -> Array:
    """One unit's outputs `[P, T, N]` from its gates' sums `[P, T, N, gates]` and its output before, `[T, N]`."""
    if kind == "GRU":
        z, reset = sigmoid(inner[..., 0] + outer[..., 0]), sigmoid(inner[..., 1] + outer[..., 1])
        new = np.tanh(inner[..., 2] + reset * outer[..., 2])
        return np.asarray((1.0 - z) * new + z * before)
    total = inner + outer
    i, o, f = (sigmoid(total[..., k]) for k in range(3))
    g = np.tanh(total[..., 3])
    c = np.zeros_like(i[:, 0])
    out = np.empty_like(i)
    for t in range(i.shape[1]):
        c = f[:, t] * c + i[:, t] * g[:, t]
        out[:, t] = o[:, t] * np.tanh(c)
    return out


def _newton(run: Callable[[Array], Array], count: int, h: Array) -> tuple[Array, Array]:
    """For each of `count` numbers the change that brings the unit nearest, and the RMS that is left."""
    x = np.zeros(count)
    best, least = x.copy(), np.full(count, np.inf)
    for _ in range(ROUNDS):
        r = run(x) - h
        left = np.sqrt(np.square(r).mean(axis=(1, 2)))
        better = left < least
        best[better], least[better] = x[better], left[better]
        step = 1e-6 * (1.0 + np.abs(x))
        slope = (run(x + step) - h - r) / step[:, None, None]
        power = np.maximum(np.square(slope).sum(axis=(1, 2)), 1e-300)
        x = x - np.clip((slope * r).sum(axis=(1, 2)) / power, -1e3, 1e3)
    return best, least


def _edit(study: Study, i: int, names: list[str], place: tuple[int, int, int, str], step: float) -> Edit:
    k, u, p, what = place
    network = study.network
    kind = network.nodes[i].op_type
    name = names["WRB".index(what[0])] if len(what) == 1 else names[2]
    now = study.base.weights.get(name, network.weights[name])
    other = now.copy()
    g = len(GATES[kind])
    hidden = network.weights[names[1]].shape[2]
    index = (0, k * hidden + u, p) if len(what) == 1 else (0, (what == "Rb") * g * hidden + k * hidden + u)
    other[index] += step
    gate = GATES[kind][k]
    words = {"W": f"input's weight [{gate} {u}, {p}]", "R": f"recurrent weight [{gate} {u}, {p}]",
             "Wb": f"bias [{gate} {u}]", "Rb": f"recurrent bias [{gate} {u}]"}[what]  # fmt: skip
    by = f", off by {100.0 * step / now[index]:.3g} %" if now[index] else ""
    key = "network.one-weight" if len(what) == 1 else "network.one-bias"
    phrase = f"{words} is {other[index]:.6g}, not {now[index]:.6g}{by}"
    return Edit(key, phrase, Patch(weights={name: other}), network.name(i), 1)
