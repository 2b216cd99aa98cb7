"""What goes wrong with networks on their way, each as an edit of the trained graph: the catalogue.

An edit has a key, the layer where it is made (or none), a phrase, and a patch. Edits of one phrase at several layers
can be made at all of them at once (`everywhere`): a converter's default is wrong in every layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from parity.explain.surgery import RECURRENT, Network, Part, Patch, altered, attribute, chain, followed
from parity.protocols import Array

GATES = {"LSTM": "iofg", "GRU": "zrn"}
"""In ONNX's order."""
BITS = (8, 7, 6, 5, 4, 3, 2)


@dataclass(frozen=True, eq=False)
class Edit:
    """A mistake. `parameters` counts the numbers in it that were estimated from what the candidate computed."""

    key: str
    phrase: str
    patch: Patch
    where: str = ""
    parameters: int = 0

    @property
    def words(self) -> str:
        """For a person."""
        return f"{self.where}: {self.phrase}" if self.where else self.phrase


def everywhere(edits: Sequence[Edit]) -> list[Edit]:
    """Edits of one key and phrase made at all of their layers at once."""
    groups: dict[tuple[str, str], list[Edit]] = {}
    for e in edits:
        groups.setdefault((e.key, e.phrase), []).append(e)
    found = []
    for (key, phrase), group in groups.items():
        if len(group) < 2 or not all(e.where for e in group):
            continue
        patch = Patch()
        for e in group:
            if not patch.clashes(e.patch):
                patch = patch | e.patch
        parameters = max(e.parameters for e in group)
        found.append(Edit(key, f"{phrase}, in all {len(group)} layers that have it", patch, parameters=parameters))
    return found


def catalogue(network: Network, shapes: Mapping[str, tuple[int, ...]]) -> list[Edit]:
    """Every edit of the graph itself. `shapes` of its tensors (with the batch) for a clip."""
    found: list[Edit] = []
    for i, node in enumerate(network.nodes):
        where = network.name(i)
        for makers in (_padding, _pool, _activation, _sum, _sequence, _softmax):
            found += [Edit(k, p, patch, where) for k, p, patch in makers(network, i, shapes)]
        if i in network.layers:
            kind = _recurrent if node.op_type in RECURRENT else _linear
            found += [Edit(k, p, patch, where) for k, p, patch in kind(network, i, shapes)]
            found += [Edit(k, p, patch, where) for k, p, patch in _stored(network, i)]
    return found + list(_exchanged(network))


Made = Iterator[tuple[str, str, Patch]]
Shapes = Mapping[str, tuple[int, ...]]


def _same(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Zeros in all that SAME asks for."""
    return max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)


def _padding(network: Network, i: int, shapes: Shapes) -> Made:
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
            yield "network.padding", words, _node(altered(node, pads=made))
    if node.op_type == "Conv" and any(pads):
        outer = np.array([0, 0, *pads[:n], 0, 0, *pads[n:]], np.int64)
        for mode, words in (("edge", "padded with the edge's values"), ("reflect", "padded by reflection")):
            if mode == "reflect" and any(p >= s for p, s in zip(pads[:n], size, strict=True)):
                continue
            taken = f"{node.output[0]}:padded"
            inside = altered(node, {0: taken}, pads=[0] * (2 * n))
            made_pad = _chained(node.input[0], taken, "Pad", {"mode": mode}, [outer])
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
            constant = f"{node.output[0]}:pads"
            nodes = [_constant(constant, made), altered(node, {1: constant})]
            yield "network.padding", words, Patch({node.output[0]: nodes})
    for mode, words in (("edge", "padded with the edge's values"), ("reflect", "padded by reflection")):
        yield "network.padding-value", f"{words}, not with zeros", _node(altered(node, mode=mode))


def _worked_out(network: Network, name: str) -> Array | None:
    """The value of a tensor that depends on constants only."""
    if name in network.constants:
        return network.constants[name]
    behind = network.before(name)
    if not behind or any(t in network.inputs for k in behind for t in network.nodes[k].input):
        return None
    made = Patch({network.nodes[k].output[0]: [network.nodes[k]] for k in behind})
    return Part(network, made, [name]).run({})[name]


def _pool(network: Network, i: int, shapes: Shapes) -> Made:
    node = network.nodes[i]
    kind, key = node.op_type, "network.pool-kind"
    if kind == "MaxPool":
        drop = ("storage_order", "dilations")
        yield key, "the mean of each pool, not its maximum", _node(altered(node, op="AveragePool", drop=drop))
        if any(attribute(node, "pads") or [0]):
            counted = altered(node, op="AveragePool", drop=drop, count_include_pad=1)
            yield key, "the mean of each pool with its padding counted, not its maximum", _node(counted)
    elif kind == "AveragePool":
        yield key, "the maximum of each pool, not its mean", _node(altered(node, op="MaxPool", drop=["count_include_pad"]))
        if any(attribute(node, "pads") or [0]):
            other = 1 - attribute(node, "count_include_pad", 0)
            words = "padding counted" if other else "padding not counted"
            yield "network.pool-count", f"{words} in the mean of each pool", _node(altered(node, count_include_pad=other))
    elif kind in ("GlobalAveragePool", "ReduceMean"):
        most = "GlobalMaxPool" if kind.startswith("Global") else "ReduceMax"
        yield key, "the maximum over the image, not its mean", _node(altered(node, op=most))
        if kind == "ReduceMean":
            yield key, "the sum over the image, not its mean", _node(altered(node, op="ReduceSum"))
    elif kind in ("GlobalMaxPool", "ReduceMax"):
        mean = "GlobalAveragePool" if kind.startswith("Global") else "ReduceMean"
        yield key, "the mean over the image, not its maximum", _node(altered(node, op=mean))


ACTIVATIONS: Mapping[str, tuple[str, Mapping[str, Any], Sequence[Array]]] = {
    "ReLU": ("Relu", {}, ()),
    "ReLU6": ("Clip", {}, (np.float32(0.0), np.float32(6.0))),
    "a leaky ReLU (0.01)": ("LeakyRelu", {"alpha": 0.01}, ()),
    "a leaky ReLU (0.1)": ("LeakyRelu", {"alpha": 0.1}, ()),
    "a leaky ReLU (0.2)": ("LeakyRelu", {"alpha": 0.2}, ()),
    "a leaky ReLU (0.3)": ("LeakyRelu", {"alpha": 0.3}, ()),
    "ELU": ("Elu", {}, ()),
    "a sigmoid": ("Sigmoid", {}, ()),
    "tanh": ("Tanh", {}, ()),
    "softplus": ("Softplus", {}, ()),
    "hard swish": ("HardSwish", {}, ()),
}


def _activation(network: Network, i: int, shapes: Shapes) -> Made:
    node = network.nodes[i]
    key = "network.activation"
    if node.op_type in ("Relu", "Clip"):
        name = "ReLU" if node.op_type == "Relu" else "ReLU6"
        yield key, f"{name} missing", _instead(node, "Identity", {}, ())
        for other, (kind, attributes, constants) in ACTIVATIONS.items():
            if other != name and (kind != "HardSwish" or network.opset >= 14):
                yield key, f"{other} for {name}", _instead(node, kind, attributes, constants)
    elif i in network.layers and node.op_type not in RECURRENT or node.op_type == "Add":
        takers = [network.nodes[k].op_type for k in network.takers.get(node.output[0], ())]
        if not {"Relu", "Clip", "Add", "BatchNormalization", "Softmax"} & set(takers):
            for other in ("ReLU", "ReLU6"):
                patch = Patch({node.output[0]: followed(node, ACTIVATIONS[other])})
                yield "network.activation-added", f"{other} where none is due", patch


def _softmax(network: Network, i: int, shapes: Shapes) -> Made:
    node = network.nodes[i]
    if node.op_type not in ("Softmax", "LogSoftmax"):
        return
    yield "network.softmax-missing", "softmax missing: logits where probabilities are due", _instead(
        node, "Identity", {}, ())  # fmt: skip
    axis = attribute(node, "axis", -1)
    twice = followed(node, (node.op_type, {"axis": axis}, ()))
    yield "network.softmax-twice", "softmax taken twice", Patch({node.output[0]: twice})
    other = "LogSoftmax" if node.op_type == "Softmax" else "Softmax"
    words = "log-softmax for softmax" if other == "LogSoftmax" else "softmax for log-softmax"
    yield "network.output-activation", words, _instead(node, other, {"axis": axis}, ())
    yield "network.output-activation", "a sigmoid for softmax", _instead(node, "Sigmoid", {}, ())


def answers(network: Network, tensors: Sequence[tuple[str, int]]) -> list[Edit]:
    """Edits of the tensors that hold a number a label: (name, axis of the labels)."""
    found = []
    for name, axis in tensors:
        node = network.nodes[network.maker[name]]
        if node.op_type in ("Softmax", "LogSoftmax"):
            continue
        for key, words, kind, attributes in (
            ("network.softmax-added", "softmax where logits are due", "Softmax", {"axis": axis}),
            ("network.output-activation", "log-softmax where logits are due", "LogSoftmax", {"axis": axis}),
            ("network.output-activation", "a sigmoid where logits are due", "Sigmoid", {}),
            ("network.output-activation", "ReLU where logits are due", "Relu", {}),
        ):
            found.append(Edit(key, words, Patch({name: followed(node, (kind, attributes, ()))})))
    return found


def _sum(network: Network, i: int, shapes: Shapes) -> Made:
    node = network.nodes[i]
    if node.op_type != "Add" or any(name in network.constants for name in node.input):
        return
    a, b = node.input
    if shapes.get(a) == shapes.get(b) and network.maker.keys() >= {a, b}:
        early, late = sorted((a, b), key=lambda name: network.maker[name])
        for kept, words in ((late, "the block's input isn't added"), (early, "only the block's input is left")):
            yield "network.residual-missing", words, _only(node, kept)


def _sequence(network: Network, i: int, shapes: Shapes) -> Made:
    """Gather of the last frame."""
    node = network.nodes[i]
    if node.op_type != "Gather" or node.input[0] not in shapes or len(shapes[node.input[0]]) != 3:
        return
    index = network.constants.get(node.input[1])
    axis = attribute(node, "axis", 0)
    if index is None or index.size != 1 or int(index.reshape(-1)[0]) != -1:
        return
    for at, words in ((0, "the first frame's output taken, not the last's"), (-2, "the last frame but one taken")):
        constant = f"{node.output[0]}:at"
        made = [_constant(constant, np.full(index.shape, at, np.int64)), altered(node, {1: constant})]
        yield "network.last-frame", words, Patch({node.output[0]: made})
    if network.opset >= 18:
        mean = _chained(node.input[0], node.output[0], "ReduceMean", {"keepdims": 0}, [np.array([axis], np.int64)])
    else:
        mean = _chained(node.input[0], node.output[0], "ReduceMean", {"keepdims": 0, "axes": [axis]}, [])
    yield "network.last-frame", "the mean over the frames taken, not the last frame", Patch({node.output[0]: mean})


def _linear(network: Network, i: int, shapes: Shapes) -> Made:
    node = network.nodes[i]
    weight, bias = node.input[1], network.bias(i)
    w = network.weights[weight]
    if bias:
        b = network.weights[bias]
        if np.any(b):
            yield "network.bias-missing", "bias missing", Patch(weights={bias: np.zeros_like(b)})
            yield "network.bias-twice", "bias added twice", Patch(weights={bias: 2.0 * b})
            yield "network.bias-twice", "bias subtracted", Patch(weights={bias: -b})
    yield "network.weights-zero", "all weights 0", Patch(weights={weight: np.zeros_like(w)})
    if node.op_type == "Conv" and max(w.shape[2:]) > 1:
        spatial = tuple(range(2, w.ndim))
        yield "network.kernel-flipped", "kernels flipped: convolution for correlation", Patch(
            weights={weight: np.flip(w, spatial)})  # fmt: skip
        for axis in spatial if len(spatial) > 1 else ():
            yield "network.kernel-flipped", f"kernels flipped along axis {axis}", Patch(
                weights={weight: np.flip(w, axis)})  # fmt: skip
        if w.ndim == 4 and w.shape[2] == w.shape[3]:
            yield "network.kernel-transposed", "axes of the kernels exchanged", Patch(
                weights={weight: np.swapaxes(w, 2, 3)})  # fmt: skip
        elif w.ndim == 4:
            other = w.reshape(*w.shape[:2], w.shape[3], w.shape[2]).swapaxes(2, 3)
            yield "network.kernel-transposed", "kernels read in the other order of axes", Patch(weights={weight: other})
    if w.shape[0] == w.shape[1] > 1:
        yield "network.weights-transposed", "weights transposed", Patch(weights={weight: np.swapaxes(w, 0, 1)})
    if node.op_type in ("Gemm", "MatMul"):
        yield from _flattened(network, i, shapes)


def _flattened(network: Network, i: int, shapes: Shapes) -> Made:
    """A layer after a flatten, its columns in another order of the axes."""
    node = network.nodes[i]
    maker = network.maker.get(node.input[0])
    if maker is None or network.nodes[maker].op_type not in ("Flatten", "Reshape"):
        return
    before = shapes.get(network.nodes[maker].input[0], ())[1:]
    w = network.weights[node.input[1]]
    columns_last = node.op_type == "Gemm" and attribute(node, "transB", 0)
    turned = w if columns_last else w.T
    if sum(s > 1 for s in before) < 2 or int(np.prod(before)) != turned.shape[1]:
        return
    places = np.arange(turned.shape[1]).reshape(before)
    seen = {tuple(places.ravel())}
    for axes in itertools.permutations(range(len(before))):
        order = places.transpose(axes).ravel()
        last = "the channel last" if axes[-1] == 0 else f"the axes in the order {', '.join(map(str, axes))}"
        for ours, words in ((order, f"what comes in is flattened with {last}"),
                            (np.argsort(order), f"weights are in the order of a flatten with {last}")):  # fmt: skip
            if tuple(ours) in seen:
                continue
            seen.add(tuple(ours))
            made = np.empty_like(turned)
            made[:, ours] = turned
            patch = Patch(weights={node.input[1]: made if columns_last else made.T})
            yield "network.flatten-order", words, patch


def _parts(network: Network, i: int) -> tuple[str, int, list[str], list[str]]:
    """Kind, hidden size, weights (input's, recurrent) and biases (the one initializer, or none) of a recurrent layer."""
    node = network.nodes[i]
    bias = network.bias(i)
    return node.op_type, network.weights[node.input[2]].shape[2], list(node.input[1:3]), [bias] if bias else []


def _recurrent(network: Network, i: int, shapes: Shapes) -> Made:
    node = network.nodes[i]
    kind, hidden, weights, biases = _parts(network, i)
    if kind not in GATES or node.input[2] not in network.weights:
        return
    names = GATES[kind]
    g = len(names)

    def split(name: str) -> Array:
        x = network.weights[name]
        return x.reshape(x.shape[0], -1, g, hidden, *x.shape[2:])

    def patch(changed: Mapping[str, Array]) -> Patch:
        return Patch(weights={n: x.reshape(network.weights[n].shape) for n, x in changed.items()})

    if kind == "GRU":
        now = attribute(node, "linear_before_reset", 0)
        words = "linear_before_reset 0, where 1 is due" if now else "linear_before_reset 1, where 0 is due"
        yield "network.linear-before-reset", words, _node(altered(node, linear_before_reset=1 - now))
        z = {n: split(n).copy() for n in (*weights, *biases)}
        for x in z.values():
            x[:, :, 0] *= -1.0
        yield "network.update-gate", "update gate the other way round: z where 1 - z is due", patch(z)
    for order in itertools.permutations(range(g)):
        if order == tuple(range(g)):
            continue
        changed = {n: split(n)[:, :, list(order)] for n in (*weights, *biases)}
        yield "network.gate-order", f"gates {_listed(names)} stand as {_listed(names[k] for k in order)}", patch(changed)
    if biases:
        b = split(biases[0])
        lost = b.copy()
        lost[:, 1] = 0.0
        yield "network.rnn-bias", "recurrent bias missing", patch({biases[0]: lost})
        lost = b.copy()
        lost[:, 0] = 0.0
        yield "network.rnn-bias", "input's bias missing", patch({biases[0]: lost})
        yield "network.bias-missing", "bias missing", patch({biases[0]: np.zeros_like(b)})
        yield "network.bias-twice", "bias added twice", patch({biases[0]: 2.0 * b})
        if kind == "GRU":
            yield "network.rnn-bias", "input's and recurrent bias exchanged", patch({biases[0]: b[:, ::-1]})
            total = np.zeros_like(b)
            total[:, 0] = b.sum(axis=1)
            yield "network.rnn-bias", "the two biases as one sum outside of the reset", patch({biases[0]: total})
        else:
            for amount, words in ((1.0, "1 added to the forget gate's bias"), (-1.0, "1 taken from the forget gate's bias")):
                moved = b.copy()
                moved[:, 0, 2] += amount
                yield "network.forget-bias", words, patch({biases[0]: moved})
        for k, gate in enumerate(names):
            lost = b.copy()
            lost[:, :, k] = 0.0
            yield "network.rnn-bias", f"bias of gate {gate} missing", patch({biases[0]: lost})
    r = split(node.input[2])
    yield "network.weights-transposed", "recurrent weights transposed", patch({node.input[2]: np.swapaxes(r, -1, -2)})
    yield "network.weights-zero", "recurrent weights 0: nothing is remembered through them", patch(
        {node.input[2]: np.zeros_like(r)})  # fmt: skip
    yield "network.weights-zero", "input's weights 0", patch({node.input[1]: np.zeros_like(split(node.input[1]))})
    if attribute(node, "direction", "forward") in ("forward", "reverse"):
        way = "reverse" if attribute(node, "direction", "forward") == "forward" else "forward"
        yield "network.direction", "frames taken in reverse", _node(altered(node, direction=way))


def _stored(network: Network, i: int) -> Made:
    """What storing the weights in fewer bits makes of them."""
    node = network.nodes[i]
    names = [n for n in node.input[1 : 3 if node.op_type in RECURRENT else 2] if n in network.weights]
    axis = 1 if node.op_type in RECURRENT else 0 if attribute(node, "transB", 0) or node.op_type == "Conv" else -1
    values = {n: network.weights[n] for n in names}
    bias = network.bias(i)
    both = {**values, **({bias: network.weights[bias]} if bias else {})}

    def made(of: Mapping[str, Array], rounded: Any) -> Patch:
        return Patch(weights={n: rounded(w) for n, w in of.items()})

    for of, words in ((both, "weights and bias"), (values, "weights")):
        yield "network.weights-float16", f"{words} in float16", made(of, _float16)
        yield "network.weights-bfloat16", f"{words} in bfloat16", made(of, bfloat16)
        if not bias:
            break
    for bits in BITS:
        most = 2.0 ** (bits - 1) - 1.0
        yield "network.weights-quantized", f"weights in {bits} bits, a step a tensor", made(
            values, lambda w, m=most: on_grid(w, np.abs(w).max() / m))  # fmt: skip
        yield "network.weights-quantized", f"weights in {bits} bits, a step a channel", made(
            values, lambda w, m=most: on_grid(w, _by_channel(w, axis) / m))  # fmt: skip
        yield "network.weights-quantized", f"weights in {bits} bits from the least to the largest, a step a tensor", made(
            values, lambda w, b=bits: _affine(w, b))  # fmt: skip
    for decimals in (4, 3, 2, 1):
        yield "network.weights-quantized", f"weights and bias with {decimals} decimals", made(
            both, lambda w, d=decimals: np.round(w, d))  # fmt: skip
    yield "network.weights-scaled", "weights negated", made(values, np.negative)


def _exchanged(network: Network) -> Iterator[Edit]:
    """Weights of two layers of one shape."""
    for i, j in itertools.combinations(network.layers, 2):
        a, b = network.nodes[i], network.nodes[j]
        last = 4 if a.op_type in RECURRENT else 3
        ours, theirs = ([n for n in x.input[1:last] if n in network.weights] for x in (a, b))
        alike = [network.weights[n].shape for n in ours] == [network.weights[n].shape for n in theirs]
        if a.op_type == b.op_type and alike and not set(ours) & set(theirs):
            w = network.weights
            swapped = {**{m: w[n] for m, n in zip(ours, theirs, strict=True)},
                       **{n: w[m] for m, n in zip(ours, theirs, strict=True)}}  # fmt: skip
            words = f"{network.name(i)} and {network.name(j)}: weights exchanged"
            yield Edit("network.weights-exchanged", words, Patch(weights=swapped))


def _float16(w: Array) -> Array:
    return w.astype(np.float16).astype(np.float64)


def bfloat16(w: Array) -> Array:
    """Rounded to bfloat16, half to even."""
    bits = w.astype(np.float32).view(np.uint32).astype(np.uint64)
    kept = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return kept.astype(np.uint32).view(np.float32).astype(np.float64)


def on_grid(w: Array, step: Array | float) -> Array:
    """Rounded to whole steps, half to even."""
    step = np.maximum(step, 1e-30)
    return np.asarray(np.round(w / step) * step)


def _by_channel(w: Array, axis: int) -> Array:
    others = tuple(k for k in range(w.ndim) if k != axis % w.ndim)
    return np.asarray(np.abs(w).max(axis=others, keepdims=True))


def _affine(w: Array, bits: int) -> Array:
    low, high = min(float(w.min()), 0.0), max(float(w.max()), 0.0)
    step = max(high - low, 1e-30) / (2.0**bits - 1.0)
    zero = np.round(-low / step)
    return np.asarray((np.clip(np.round(w / step) + zero, 0, 2.0**bits - 1) - zero) * step)


def _node(node: Any) -> Patch:
    return Patch({node.output[0]: [node]})


def _constant(name: str, value: Array) -> Any:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def _chained(taken: str, given: str, kind: str, attributes: Mapping[str, Any], constants: Sequence[Array]) -> list[Any]:
    return chain(taken, given, (kind, attributes, constants))


def _instead(node: Any, kind: str, attributes: Mapping[str, Any], constants: Sequence[Array]) -> Patch:
    return Patch({node.output[0]: _chained(node.input[0], node.output[0], kind, attributes, constants)})


def _only(node: Any, kept: str) -> Patch:
    return Patch({node.output[0]: _chained(kept, node.output[0], "Identity", {}, [])})


def _listed(names: Any) -> str:
    return ", ".join(names)
