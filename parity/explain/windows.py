"""What convolutions and pools look at: padding at another side, another kind of pool."""

from __future__ import annotations

import numpy as np

from parity.explain.patches import Made, Shapes, chained, constant, one
from parity.explain.surgery import Network, Part, Patch, altered, attribute
from parity.protocols import Array


def _same(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Zeros in all that SAME asks for."""
    return max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)


def padding(network: Network, i: int, shapes: Shapes) -> Made:
    """Other paddings that give as many elements."""
    node = network.nodes[i]
    if node.op_type == "Pad":
        yield from _pad_node(network, i)
        return
    if node.op_type not in ("Conv", "MaxPool", "AveragePool") or node.input[0] not in shapes:
        return
    size = shapes[node.input[0]][2:]
    n = len(size)
    kernel = attribute(node, "kernel_shape") or network.weights[node.input[1]].shape[2:]
    stride, dilation = attribute(node, "strides", [1] * n), attribute(node, "dilations", [1] * n)
    pads = list(attribute(node, "pads") or [0] * (2 * n))
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "") or attribute(node, "ceil_mode", 0):
        return
    totals = [pads[k] + pads[k + n] for k in range(n)]
    same = [_same(*of) for of in zip(size, kernel, stride, dilation, strict=True)]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    wanted = [(s + t - r) // st for s, t, r, st in zip(size, totals, reach, stride, strict=True)]
    rules = {
        "padding SAME, the odd zero behind, not explicit": [(t // 2, t - t // 2) for t in same],
        "padding SAME, the odd zero in front, not explicit": [(t - t // 2, t // 2) for t in same],
        "padding the same on both sides, not SAME": [(-(-t // 2), -(-t // 2)) for t in totals],
        "all of the padding in front": [(t, 0) for t in totals],
        "all of the padding behind": [(0, t) for t in totals],
        "padding in front and behind exchanged": [(pads[k + n], pads[k]) for k in range(n)],
        "padding one further to the front": [(pads[k] + 1, pads[k + n] - 1) for k in range(n)],
        "padding one further back": [(pads[k] - 1, pads[k + n] + 1) for k in range(n)],
    }
    seen = {tuple(pads)}
    now = [(pads[k], pads[k + n]) for k in range(n)]
    for phrase, sides in rules.items():
        for axes in [tuple(range(n)), *((k,) for k in range(n) if n > 1)]:
            mixed = [sides[k] if k in axes else now[k] for k in range(n)]
            made = [b for b, _ in mixed] + [e for _, e in mixed]
            fits = [(s + b + e - r) // st for s, (b, e), r, st in zip(size, mixed, reach, stride, strict=True)]
            if min(made) < 0 or tuple(made) in seen or fits != wanted:
                continue
            seen.add(tuple(made))
            words = phrase if len(axes) == n else f"{phrase} (axis {axes[0] + 2} only)"
            yield "network.padding", words, one(altered(node, pads=made))
    if node.op_type == "Conv" and any(pads):
        outer = np.array([0, 0, *pads[:n], 0, 0, *pads[n:]], np.int64)
        for mode, words in (("edge", "padded with the edge's values"), ("reflect", "padded by reflection")):
            if mode == "reflect" and any(p >= s for p, s in zip(pads[:n], size, strict=True)):
                continue
            taken = f"{node.output[0]}:padded"
            inside = altered(node, {0: taken}, pads=[0] * (2 * n))
            made_pad = chained(node.input[0], taken, "Pad", {"mode": mode}, [outer])
            yield "network.padding-value", f"{words}, not with zeros", Patch({node.output[0]: [*made_pad, inside]})


def _pad_node(network: Network, i: int) -> Made:
    """A Pad of its own, before a convolution: what else gives as many elements."""
    node = network.nodes[i]
    pads = _worked_out(network, node.input[1]) if len(node.input) > 1 else None
    if pads is None:
        return
    n = len(pads) // 2
    front, back = np.split(pads.astype(np.int64), 2)
    padded = (front + back) > 0
    half = (front + back) // 2
    ways = {
        "padding in front and behind exchanged": (back, front),
        "padding the same on both sides, not SAME": (np.where(padded, -(-(front + back) // 2), 0),) * 2,
        "all of the padding in front": (front + back, 0 * front),
        "all of the padding behind": (0 * front, front + back),
        "padding one further to the front": (front + padded, back - padded),
        "padding one further back": (front - padded, back + padded),
        "padding with the odd zero in front": (front + back - half, half),
    }
    seen = {tuple(pads)}
    for phrase, (b, e) in ways.items():
        for axes in [range(n), *([k] for k in range(n) if padded[k])]:
            chosen = np.isin(np.arange(n), list(axes))
            made = np.concatenate([np.where(chosen, b, front), np.where(chosen, e, back)])
            if tuple(made) in seen or (made < 0).any():
                continue
            seen.add(tuple(made))
            words = phrase if len(list(axes)) == n else f"{phrase} (axis {axes[0]} only)"
            name = f"{node.output[0]}:pads"
            nodes = [constant(name, made), altered(node, {1: name})]
            yield "network.padding", words, Patch({node.output[0]: nodes})
    for mode, words in (("edge", "padded with the edge's values"), ("reflect", "padded by reflection")):
        yield "network.padding-value", f"{words}, not with zeros", one(altered(node, mode=mode))


def _worked_out(network: Network, name: str) -> Array | None:
    """The value of a tensor that depends on constants only."""
    if name in network.constants:
        return network.constants[name]
    behind = network.before(name)
    if not behind or any(t in network.inputs for k in behind for t in network.nodes[k].input):
        return None
    made = Patch({network.nodes[k].output[0]: [network.nodes[k]] for k in behind})
    return Part(network, made, [name]).run({})[name]


def pools(network: Network, i: int, shapes: Shapes) -> Made:
    """Mean for maximum, or the other way round."""
    node = network.nodes[i]
    kind, key = node.op_type, "network.pool-kind"
    if kind == "MaxPool":
        drop = ("storage_order", "dilations")
        yield key, "the mean of each pool, not its maximum", one(altered(node, op="AveragePool", drop=drop))
        if any(attribute(node, "pads") or [0]):
            counted = altered(node, op="AveragePool", drop=drop, count_include_pad=1)
            yield key, "the mean of each pool with its padding counted, not its maximum", one(counted)
    elif kind == "AveragePool":
        yield (
            key,
            "the maximum of each pool, not its mean",
            one(altered(node, op="MaxPool", drop=["count_include_pad"])),
        )
        if any(attribute(node, "pads") or [0]):
            other = 1 - attribute(node, "count_include_pad", 0)
            words = "padding counted" if other else "padding not counted"
            yield (
                "network.pool-count",
                f"{words} in the mean of each pool",
                one(altered(node, count_include_pad=other)),
            )
    elif kind in ("GlobalAveragePool", "ReduceMean"):
        most = "GlobalMaxPool" if kind.startswith("Global") else "ReduceMax"
        yield key, "the maximum over the image, not its mean", one(altered(node, op=most))
        if kind == "ReduceMean":
            yield key, "the sum over the image, not its mean", one(altered(node, op="ReduceSum"))
    elif kind in ("GlobalMaxPool", "ReduceMax"):
        mean = "GlobalAveragePool" if kind.startswith("Global") else "ReduceMean"
        yield key, "the mean over the image, not its maximum", one(altered(node, op=mean))
