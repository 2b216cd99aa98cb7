"""What a layer gave, read off the tap behind it, where only an activation and sums stand between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parity import layout
from parity.explain.study import Study
from parity.explain.surgery import Network, attribute
from parity.protocols import Array, Tap


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
            measured, known, room, wrong = (np.reshape(x, shape) for x in (measured, known, room, wrong))
        elif n.op_type == "Transpose":
            back = np.argsort(attribute(n, "perm"))
            measured, known, room, wrong = (np.transpose(x, back) for x in (measured, known, room, wrong))
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


def current(study: Study, name: str) -> Array:
    """A weight as the based graph has it."""
    return study.base.weights.get(name, study.network.weights[name])


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


def matrix(network: Network, i: int, w: Array) -> Array:
    """Weights as `[channels, fan-in]`."""
    node = network.nodes[i]
    if node.op_type == "Conv":
        return w.reshape(len(w), -1)
    return w if node.op_type == "Gemm" and attribute(node, "transB", 0) else w.T


def unmatrix(network: Network, i: int, m: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `matrix`."""
    node = network.nodes[i]
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)):
        return m.reshape(shape)
    return m.T


def place(network: Network, i: int, row: int, column: int, shape: tuple[int, ...]) -> str:
    """An element of a layer's weights in words."""
    node = network.nodes[i]
    if node.op_type == "Conv":
        return f"[{row}, {', '.join(map(str, np.unravel_index(column, shape[1:])))}]"
    return f"[{row}, {column}]"
