"""What a layer's own output says of its weights: one of them, one channel, all of them, channels in another order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from parity.explain.patches import Edit
from parity.explain.reading import Read, current, matrix, place, unmatrix
from parity.explain.study import Study
from parity.explain.surgery import Network, Patch, followed
from parity.protocols import Array, Tap

FEWEST = 1.5
"""Numbers read off for each one that is estimated."""


def channels(network: Network, i: int, read: Read, study: Study) -> list[Edit]:
    """What the layer's own output says."""
    node, where = network.nodes[i], network.name(i)
    name, bias = node.input[1], network.bias(i)
    shape = network.weights[name].shape
    w = matrix(network, i, current(study, name))
    b = current(study, bias) if bias else np.zeros(len(w))
    per = len(w) // len(read.taken)
    off = read.given - read.right
    bad = [o for o in range(len(w)) if read.wrong[:, o].any()]
    found: list[Edit] = []

    def made(
        key: str, phrase: str, weights: Array | None = None, biases: Array | None = None, parameters: int = 1
    ) -> None:
        patch = {} if weights is None else {name: unmatrix(network, i, weights, shape)}
        if biases is not None and bias:
            patch[bias] = biases
        if patch:
            found.append(Edit(key, phrase, Patch(weights=patch), where, parameters))

    all_w, all_b = w.copy(), b.copy()
    scales, shifts = np.ones(len(w)), np.zeros(len(w))
    counted = enough = 0
    for o in bad:
        rows = read.known[:, o]
        d, p, z = off[rows, o], read.taken[o // per][rows], read.right[rows, o]
        if len(bad) == 1:
            none, beside = w.copy(), b.copy()
            none[o], beside[o] = 0.0, 0.0
            made("network.channel", f"channel {o} is 0", none, beside, parameters=0)
        counted += 1
        if not len(d):
            continue
        shifts[o] = d.mean()
        inner = z - b[o]
        scales[o] = 1.0 + float(inner @ d) / max(float(inner @ inner), 1e-300)
        if len(bad) == 1:
            _one(network, i, o, d, p, z, w, b, shape, made)
        unknown = p.shape[1] + 1
        if len(d) >= FEWEST * unknown:
            enough += 1
            step = np.linalg.lstsq(np.column_stack([p, np.ones(len(d))]), d, rcond=1e-10)[0]
            all_w[o] += step[:-1]
            all_b[o] += step[-1]
    if len(bad) > 1:
        _permuted(read, w, b, made)
        made("network.bias-changed", f"biases of {len(bad)} channels changed, the most by {_largest(shifts):.3g}",
             biases=b + shifts, parameters=len(bad))  # fmt: skip
        made("network.channel", f"weights of {len(bad)} channels scaled, by {scales[bad].min():.4g} to "
             f"{scales[bad].max():.4g}", weights=w * scales[:, None], parameters=len(bad))  # fmt: skip
    if counted and enough == counted:
        change = np.abs(all_w - w)
        row, column = np.unravel_index(int(change.argmax()), change.shape)
        at = place(network, i, int(row), int(column), shape)
        channel = f"channel {bad[0]}" if len(bad) == 1 else f"{len(bad)} channels"
        key = "network.channel" if len(bad) == 1 else "network.weights-changed"
        most = f"{at} is {all_w[row, column]:.6g}, not {w[row, column]:.6g}"
        made(key, f"weights of {channel} changed: {most}, and others",
             all_w, all_b if bias else None, parameters=len(bad) * (w.shape[1] + 1))  # fmt: skip
    return found


def _one(network: Network, i: int, o: int, d: Array, p: Array, z: Array, w: Array, b: Array,
         shape: tuple[int, ...], made: Callable[..., None]) -> None:  # fmt: skip
    """One channel alone is off."""
    moved = b.copy()
    moved[o] += d.mean()
    made("network.one-bias", f"bias[{o}] is {moved[o]:.6g}, not {b[o]:.6g}", biases=moved)
    power = np.square(p).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(power > 0, (p.T @ d) / power, 0.0)
    gained = steps * (p.T @ d)
    for j in np.argsort(-gained)[:3] if len(d) > 2 else np.flatnonzero(power)[:1]:
        other = w.copy()
        other[o, j] += steps[j]
        by = f", off by {100.0 * steps[j] / w[o, j]:.3g} %" if w[o, j] else ""
        made("network.one-weight", f"weight{place(network, i, o, int(j), shape)} is {other[o, j]:.6g}, not "
             f"{w[o, j]:.6g}{by}", weights=other)  # fmt: skip
    for size, biased in ((z - b[o], False), (z, True)):
        s = 1.0 + float(size @ d) / max(float(size @ size), 1e-300)
        other, beside = w.copy(), b.copy()
        other[o] *= s
        beside[o] *= s if biased else 1.0
        what = "weights and bias" if biased else "weights"
        made("network.channel", f"{what} of channel {o} times {s:.6g}", other, beside if biased else None)


def _permuted(read: Read, w: Array, b: Array, made: Callable[..., None]) -> None:
    """Output channels in another order: each is given what another should give."""
    if len(read.taken) > 1:
        return
    cost = np.empty((len(w), len(w)))
    for o in range(len(w)):
        rows = read.known[:, o]
        cost[o] = np.square(read.given[rows, o : o + 1] - read.right[rows]).sum(axis=0) if rows.any() else 0.0
    order = _assigned(cost)
    if (order == np.arange(len(w))).all():
        return
    made("network.channels-permuted", f"channels in another order: {_short(order)}", w[order], b[order], parameters=0)


def permuted_answers(study: Study, tap: Tap) -> list[Edit]:
    """Labels in another order, at a tap that holds a number a label."""
    measured, clips = study.measured(tap), [k for k in study.few if tap in study.of[k].model]
    right = [study.right[k][tap].value for k in clips]
    if any(m.ndim != 1 or m.shape != r.shape or not np.isfinite(m).all() for m, r in zip(measured, right, strict=True)):
        return []
    cost = np.square(np.stack(measured)[:, :, None] - np.stack(right)[:, None, :]).sum(axis=0)
    order = _assigned(cost)
    if (order == np.arange(len(order))).all():
        return []
    name = study.artifact.taps[tap].name
    moved = ", ".join(f"{o} gives {k}" for o, k in enumerate(order) if o != k)
    patch = Patch({name: followed(study.network.nodes[study.network.maker[name]],
                                  ("Gather", {"axis": -1}, (order.astype(np.int64),)))})  # fmt: skip
    return [Edit("network.labels", f"outputs in another order: {moved}", patch)]


def _assigned(cost: Array) -> Array:
    """Row -> column, each once, of the least sum."""
    from scipy.optimize import linear_sum_assignment

    return np.asarray(linear_sum_assignment(cost)[1])


def _short(order: Array) -> str:
    shown = ", ".join(map(str, order[:8]))
    return shown + (", ..." if len(order) > 8 else "")


def _largest(x: Array) -> float:
    return float(x[np.abs(x).argmax()])
