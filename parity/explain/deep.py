"""One number of a layer that lies deeper: which of them moves the tap in the way it is off."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from parity.errors import ModelError
from parity.explain.descent import descend
from parity.explain.patches import Edit
from parity.explain.reading import current, matrix, place, unmatrix
from parity.explain.study import Study
from parity.explain.surgery import Network, Patch
from parity.protocols import Array, Tap


def probe(study: Study, tap: Tap, names: Sequence[str]) -> Callable[[dict[str, Array]], Array | None]:
    """Other weights -> candidate's error at the tap for the few clips, flat."""
    part = study.part(Patch(), tap, names)
    measured = np.concatenate([m.ravel() for m in study.measured(tap)])
    clips = [c for c, k in enumerate(study.few) if tap in study.of[k].model]
    usual = {n: current(study, n) for n in names}

    def error(weights: dict[str, Array]) -> Array | None:
        try:
            with np.errstate(all="ignore"):
                out = part.run(study.values, usual | weights)[study.artifact.taps[tap].name]
            shown = np.concatenate([study.shown(out, tap, c, study.base).ravel() for c in clips])
        except (ModelError, ValueError):
            return None
        return shown - measured if shown.size == measured.size else None

    return error


def columns(study: Study, tap: Tap, i: int) -> list[Edit]:
    """One channel or one weight of a layer that lies deeper: which of them moves the tap in the way it is off."""
    network = study.network
    node, where = network.nodes[i], network.name(i)
    name, bias = node.input[1], network.bias(i)
    w, shape = matrix(network, i, current(study, name)), network.weights[name].shape
    b = current(study, bias) if bias else np.zeros(len(w))
    error = probe(study, tap, [name, bias] if bias else [name])
    now = error({})
    if now is None or len(w) > 200:
        return []

    def at(weights: Array, biases: Array) -> Array | None:
        return error({name: unmatrix(network, i, weights, shape), **({bias: biases} if bias else {})})

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
    for _, k in sorted(scores, reverse=True)[:2]:
        o, j = divmod(k, w.shape[1])
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
    patch = {node.input[1]: unmatrix(network, i, ww, shape), **({bias: bb} if bias else {})}
    if j is None:
        key, words = "network.channel", f"weights of channel {o} times {1.0 + x[0]:.6g}"
    elif j < 0:
        key, words = "network.one-bias", f"bias[{o}] is {bb[o]:.6g}, not {b[o]:.6g}"
    else:
        key = "network.one-weight"
        words = f"weight{place(network, i, o, j, shape)} is {ww[o, j]:.6g}, not {w[o, j]:.6g}"
    return Edit(key, words, Patch(weights=patch), where, 1)
