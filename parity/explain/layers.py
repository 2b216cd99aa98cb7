"""Mistakes with a number in them, estimated: a layer scaled, a channel, one weight, one bias, all weights of a layer.

Between the last tap within bounds and the first out of them a layer's input is right. Where only an activation stands
between its output and the tap, what the layer gave can be read off the tap, and its weights follow by least squares;
elsewhere a number is found by Levenberg-Marquardt on the part of the graph behind the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.errors import ModelError
from parity.explain import inputs, units
from parity.explain.edits import Edit
from parity.explain.study import Study
from parity.explain.surgery import RECURRENT, Network, Patch, attribute, followed
from parity.protocols import Array, Tap

FEWEST = 1.5
"""Numbers read off for each one that is estimated."""
ROUNDS = 12
DEEP = 3
"""Layers between two taps of which every channel and weight is tried."""


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


def rescaled(study: Study, tap: Tap, tries: Sequence[Any]) -> list[Edit]:
    """The input times a number, plus a number, or both."""
    measured = np.concatenate([m.ravel() for m in study.measured(tap)])

    def error(a: float, b: float) -> Array | None:
        got = study.tried(Patch(feed=inputs.scaled(a, b)), tap)
        if got is None or sum(x.size for x in got) != measured.size:
            return None
        return np.concatenate([x.ravel() for x in got]) - measured

    fed = np.concatenate([np.ravel(study.of[k].fed) for k in study.few]).astype(np.float64)
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
        for start in both if len(free) == 2 else [s for s in both if len(free) == 2 or s[1 - free[0]] == (0.0, 1.0)[free[0]]]:

            def by(x: Array, start: tuple[float, float] = start) -> Array | None:
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
            found += _channels(study.network, i, read, study)
        elif deep and len(nodes) <= DEEP:
            found += _columns(study, tap, i)
    return found


def _current(study: Study, name: str) -> Array:
    """A weight as the based graph has it."""
    return study.base.weights.get(name, study.network.weights[name])


def probe(study: Study, tap: Tap, names: Sequence[str]) -> Callable[[dict[str, Array]], Array | None]:
    """Other weights -> candidate's error at the tap for the few clips, flat."""
    part = study.part(Patch(), tap, names)
    measured = np.concatenate([m.ravel() for m in study.measured(tap)])
    clips = [c for c, k in enumerate(study.few) if tap in study.of[k].model]
    usual = {n: _current(study, n) for n in names}

    def error(weights: dict[str, Array]) -> Array | None:
        try:
            out = part.run(study.values, usual | weights)[study.artifact.taps[tap].name]
            shown = np.concatenate([study.shown(out, tap, c, study.base).ravel() for c in clips])
        except (ModelError, ValueError):
            return None
        return shown - measured if shown.size == measured.size else None

    return error


def _whole(study: Study, tap: Tap, i: int) -> list[Edit]:
    """A layer's weights, its bias, or both, times a number."""
    network = study.network
    node = network.nodes[i]
    weights = [n for n in node.input[1 : 3 if node.op_type in RECURRENT else 2] if n in network.weights]
    bias = [b] if (b := network.bias(i)) else []
    ways = [("network.weights-scaled", "weights times {0:.6g}", weights)]
    if bias and np.any(_current(study, bias[0])):
        ways += [("network.weights-scaled", "weights and bias times {0:.6g}", weights + bias),
                 ("network.bias-scaled", "bias times {0:.6g}", bias)]  # fmt: skip
    if len(weights) == 2:
        ways += [("network.weights-scaled", "input's weights times {0:.6g}", weights[:1]),
                 ("network.weights-scaled", "recurrent weights times {0:.6g}", weights[1:])]  # fmt: skip
    error = probe(study, tap, weights + bias)
    found = []
    for key, phrase, names in ways:
        x, _ = descend(lambda s, n=names: error({m: s[0] * _current(study, m) for m in n}), [1.0], [1.0])  # type: ignore[misc]
        s = float(x[0])
        if abs(s - 1.0) > 1e-9:
            made = Patch(weights={m: s * _current(study, m) for m in names})
            found.append(Edit(key, phrase.format(s), made, network.name(i), 1))
    return found


@dataclass(frozen=True, eq=False)
class Read:
    """What the candidate's layer gave, read off a tap, and what it took in."""

    given: Array
    """`[n, channels]`: before the activation."""
    known: Array
    """`[n, channels]`: where it can be told (a ReLU hides what is below 0)."""
    right: Array
    """`[n, channels]` of the trained graph."""
    wrong: Array
    """`[n, channels]`: what the tap shows of it is out of bounds."""
    taken: Array
    """`[groups, n, fan-in]`."""


def read_off(study: Study, tap: Tap, i: int) -> Read | None:
    """The output of a convolution or a matrix, where only activations and sums stand between it and the tap."""
    network, port = study.network, study.artifact.taps[tap]
    node = network.nodes[i]
    clips = [c for c, k in enumerate(study.few) if tap in study.of[k].model]
    if study.base.nodes or study.base.seen is not None or len(clips) < len(study.few):
        return None
    from parity import layout

    try:
        measured = np.concatenate([layout.native(m, port.layout) for m in study.measured(tap)])
        room = np.concatenate([layout.native(study.right[k][tap].bound, port.layout) for k in study.few])
    except ValueError:
        return None
    if measured.shape != study.shapes.get(port.name):
        return None
    known = np.ones(measured.shape, bool)
    wrong = np.abs(measured - study.values[port.name]) > room
    name = port.name
    end = _output(network, i)
    while name != end:
        maker = network.maker.get(name)
        if maker is None:
            return None
        n = network.nodes[maker]
        if n.op_type == "Relu":
            known &= measured > room
        elif n.op_type == "Clip":
            low, high = (float(network.constants[c].item()) if c in network.constants else None for c in n.input[1:3])
            known &= (measured > (-np.inf if low is None else low) + room) & (
                measured < (np.inf if high is None else high) - room)  # fmt: skip
        elif n.op_type == "Add":
            behind = [t for t in n.input if _reaches(network, end, t)]
            if len(behind) != 1:
                return None
            other = next(t for t in n.input if t != behind[0])
            known_other = study.values.get(other, network.constants.get(other))
            if known_other is None:
                return None
            measured = measured - known_other
            name = behind[0]
            continue
        elif n.op_type in ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout"):
            shape = study.shapes[n.input[0]]
            measured, known, room, wrong = (x.reshape(shape) for x in (measured, known, room, wrong))
        elif n.op_type == "Transpose":
            back = np.argsort(attribute(n, "perm"))
            measured, known, room, wrong = (x.transpose(back) for x in (measured, known, room, wrong))
        else:
            return None
        name = n.input[0]
    right = study.values[end]
    axis = 1 if node.op_type == "Conv" else right.ndim - 1

    def rows(x: Array) -> Array:
        return np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])

    taken = _taken(study, i)
    if taken is None:
        return None
    return Read(rows(measured), rows(known), rows(right), rows(wrong), taken)


def _output(network: Network, i: int) -> str:
    """What a layer gives with its bias."""
    node = network.nodes[i]
    if node.op_type == "MatMul" and network.bias(i):
        return str(network.nodes[network.takers[node.output[0]][0]].output[0])
    return str(node.output[0])


def _reaches(network: Network, early: str, late: str) -> bool:
    return early == late or network.maker.get(early) in network.before(late)


def _taken(study: Study, i: int) -> Array | None:
    """What each output element of a layer is a weighted sum of, `[groups, n, fan-in]`."""
    node = study.network.nodes[i]
    x = study.values[node.input[0]]
    if node.op_type != "Conv":
        return x.reshape(1, -1, x.shape[-1])
    w = study.network.weights[node.input[1]]
    n = w.ndim - 2
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", ""):
        return None
    pads = attribute(node, "pads") or [0] * (2 * n)
    stride, dilation = attribute(node, "strides", [1] * n), attribute(node, "dilations", [1] * n)
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:n], pads[n:], strict=True)])
    reach = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilation, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(x, reach, axis=tuple(range(2, 2 + n)))
    steps = [slice(None, None, s) for s in stride] + [slice(None, None, d) for d in dilation]
    seen = seen[(slice(None), slice(None), *steps)]  # [N, C, *out, *kernel]
    groups = attribute(node, "group", 1)
    seen = np.moveaxis(seen, 1, 1 + n)  # [N, *out, C, *kernel]
    flat = seen.reshape(-1, groups, w.shape[1] * int(np.prod(w.shape[2:])))
    return np.ascontiguousarray(np.moveaxis(flat, 1, 0))


def _matrix(network: Network, i: int, w: Array) -> Array:
    """Weights as `[channels, fan-in]`."""
    node = network.nodes[i]
    if node.op_type == "Conv":
        return w.reshape(len(w), -1)
    return w if node.op_type == "Gemm" and attribute(node, "transB", 0) else w.T


def _unmatrix(network: Network, i: int, m: Array, shape: tuple[int, ...]) -> Array:
    node = network.nodes[i]
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)):
        return m.reshape(shape)
    return m.T


def _place(network: Network, i: int, row: int, column: int, shape: tuple[int, ...]) -> str:
    node = network.nodes[i]
    if node.op_type == "Conv":
        return f"[{row}, {', '.join(map(str, np.unravel_index(column, shape[1:])))}]"
    return f"[{row}, {column}]"


def _channels(network: Network, i: int, read: Read, study: Study) -> list[Edit]:
    """What the layer's own output says."""
    node, where = network.nodes[i], network.name(i)
    name, bias = node.input[1], network.bias(i)
    shape = network.weights[name].shape
    w = _matrix(network, i, _current(study, name))
    b = _current(study, bias) if bias else np.zeros(len(w))
    per = len(w) // len(read.taken)
    off = read.given - read.right
    bad = [o for o in range(len(w)) if read.wrong[:, o].any()]
    found: list[Edit] = []

    def made(key: str, phrase: str, weights: Array | None = None, biases: Array | None = None, parameters: int = 1) -> None:
        patch = {} if weights is None else {name: _unmatrix(network, i, weights, shape)}
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
        at = _place(network, i, int(row), int(column), shape)
        channel = f"channel {bad[0]}" if len(bad) == 1 else f"{len(bad)} channels"
        key = "network.channel" if len(bad) == 1 else "network.weights-changed"
        made(key, f"weights of {channel} changed: {at} is {all_w[row, column]:.6g}, not {w[row, column]:.6g}, and others",
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
        made("network.one-weight", f"weight{_place(network, i, o, int(j), shape)} is {other[o, j]:.6g}, not "
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


def _columns(study: Study, tap: Tap, i: int) -> list[Edit]:
    """One channel or one weight of a layer that lies deeper: which of them moves the tap in the way it is off."""
    network = study.network
    node, where = network.nodes[i], network.name(i)
    name, bias = node.input[1], network.bias(i)
    w, shape = _matrix(network, i, _current(study, name)), network.weights[name].shape
    b = _current(study, bias) if bias else np.zeros(len(w))
    error = probe(study, tap, [name, bias] if bias else [name])
    now = error({})
    if now is None or len(w) > 200:
        return []

    def at(weights: Array, biases: Array) -> Array | None:
        return error({name: _unmatrix(network, i, weights, shape), **({bias: biases} if bias else {})})

    found: list[Edit] = []
    best: tuple[float, int] | None = None
    size = float(np.abs(w).max()) or 1.0
    for what in ("bias", "weights"):
        scores = []
        for o in range(len(w) if what == "weights" or bias else 0):
            ww, bb = w.copy(), b.copy()
            if what == "bias":
                bb[o] += 1e-4 * size
            else:
                ww[o] *= 1.0 + 1e-4
            moved = at(ww, bb)
            if moved is not None:
                scores.append((_gain(now, moved - now), o))
        for gain, o in sorted(scores, reverse=True)[:2]:
            edit = _refined(study, network, i, at, w, b, o, None if what == "weights" else -1, shape, where)
            found += [edit] if edit is not None else []
            best = max(best, (gain, o)) if best is not None else (gain, o)
    candidates: list[tuple[int, int]] = []
    if w.size <= 800:
        candidates = [(o, j) for o in range(len(w)) for j in range(w.shape[1])]
    elif best is not None and w.shape[1] <= 800:
        candidates = [(best[1], j) for j in range(w.shape[1])]
    scores = []
    for o, j in candidates:
        ww = w.copy()
        ww[o, j] += 1e-4 * size
        moved = at(ww, b)
        if moved is not None:
            scores.append((_gain(now, moved - now), o * w.shape[1] + j))
    for _, place in sorted(scores, reverse=True)[:2]:
        o, j = divmod(place, w.shape[1])
        edit = _refined(study, network, i, at, w, b, o, j, shape, where)
        found += [edit] if edit is not None else []
    return found


def _gain(error: Array, column: Array) -> float:
    """Share of the squared error that a multiple of a column takes away."""
    power = float(column @ column) * float(error @ error)
    return float(error @ column) ** 2 / power if power > 0 else 0.0


def _refined(study: Study, network: Network, i: int, at: Callable[[Array, Array], Array | None], w: Array, b: Array,
             o: int, j: int | None, shape: tuple[int, ...], where: str) -> Edit | None:  # fmt: skip
    """The number itself. `j`: a column; -1 the bias; None the whole channel's factor."""

    def changed(x: float) -> tuple[Array, Array]:
        ww, bb = w.copy(), b.copy()
        if j is None:
            ww[o] *= 1.0 + x
        elif j < 0:
            bb[o] += x
        else:
            ww[o, j] += x
        return ww, bb

    size = 1.0 if j is None else float(np.abs(w).max()) or 1.0
    x, left = descend(lambda x: at(*changed(float(x[0]))), [0.0], [size])
    if not np.isfinite(left) or x[0] == 0.0:
        return None
    ww, bb = changed(float(x[0]))
    node, bias = network.nodes[i], network.bias(i)
    patch = {node.input[1]: _unmatrix(network, i, ww, shape), **({bias: bb} if bias else {})}
    if j is None:
        key, words = "network.channel", f"weights of channel {o} times {1.0 + x[0]:.6g}"
    elif j < 0:
        key, words = "network.one-bias", f"bias[{o}] is {bb[o]:.6g}, not {b[o]:.6g}"
    else:
        key = "network.one-weight"
        words = f"weight{_place(network, i, o, j, shape)} is {ww[o, j]:.6g}, not {w[o, j]:.6g}"
    return Edit(key, words, Patch(weights=patch), where, 1)
