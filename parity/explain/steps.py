"""Steps without weights: activations, softmax, sums, the frame that is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from parity.explain.patches import Edit, Made, Shapes, chained, constant, instead, only
from parity.explain.surgery import RECURRENT, Network, Patch, altered, attribute, followed
from parity.protocols import Array

ACTIVATIONS: Mapping[str, tuple[str, Mapping[str, Any], Sequence[Array]]] = {
    "ReLU": ("Relu", {}, ()),
    "ReLU6": ("Clip", {}, (np.array(0.0), np.array(6.0))),
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


def activations(network: Network, i: int, shapes: Shapes) -> Made:
    """ReLU missing, or another; one where none is due."""
    node = network.nodes[i]
    key = "network.activation"
    if node.op_type in ("Relu", "Clip"):
        name = "ReLU" if node.op_type == "Relu" else "ReLU6"
        yield key, f"{name} missing", instead(node, "Identity", {}, ())
        for other, (kind, attributes, constants) in ACTIVATIONS.items():
            if other != name and (kind != "HardSwish" or network.opset >= 14):
                yield key, f"{other} for {name}", instead(node, kind, attributes, constants)
    elif (i in network.layers and node.op_type not in RECURRENT) or node.op_type == "Add":
        takers = [network.nodes[k].op_type for k in network.takers.get(node.output[0], ())]
        if not {"Relu", "Clip", "Add", "BatchNormalization", "Softmax"} & set(takers):
            for other in ("ReLU", "ReLU6"):
                patch = Patch({node.output[0]: followed(node, ACTIVATIONS[other])})
                yield "network.activation-added", f"{other} where none is due", patch


def softmax(network: Network, i: int, shapes: Shapes) -> Made:
    """Softmax missing, taken twice, or something else."""
    node = network.nodes[i]
    if node.op_type not in ("Softmax", "LogSoftmax"):
        return
    yield "network.softmax-missing", "softmax missing: logits where probabilities are due", instead(
        node, "Identity", {}, ())  # fmt: skip
    axis = attribute(node, "axis", -1)
    twice = followed(node, (node.op_type, {"axis": axis}, ()))
    yield "network.softmax-twice", "softmax taken twice", Patch({node.output[0]: twice})
    other = "LogSoftmax" if node.op_type == "Softmax" else "Softmax"
    words = "log-softmax for softmax" if other == "LogSoftmax" else "softmax for log-softmax"
    yield "network.output-activation", words, instead(node, other, {"axis": axis}, ())
    yield "network.output-activation", "a sigmoid for softmax", instead(node, "Sigmoid", {}, ())


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


def sums(network: Network, i: int, shapes: Shapes) -> Made:
    """The input of a block that isn't added."""
    node = network.nodes[i]
    if node.op_type != "Add" or any(name in network.constants for name in node.input):
        return
    a, b = node.input
    if shapes.get(a) == shapes.get(b) and network.maker.keys() >= {a, b}:
        early, late = sorted((a, b), key=lambda name: network.maker[name])
        for kept, words in ((late, "the block's input isn't added"), (early, "only the block's input is left")):
            yield "network.residual-missing", words, only(node, kept)


def sequences(network: Network, i: int, shapes: Shapes) -> Made:
    """Gather of the last frame."""
    node = network.nodes[i]
    if node.op_type != "Gather" or node.input[0] not in shapes or len(shapes[node.input[0]]) != 3:
        return
    index = network.constants.get(node.input[1])
    axis = attribute(node, "axis", 0)
    if index is None or index.size != 1 or int(index.reshape(-1)[0]) != -1:
        return
    for at, words in ((0, "the first frame's output taken, not the last's"), (-2, "the last frame but one taken")):
        name = f"{node.output[0]}:at"
        made = [constant(name, np.full(index.shape, at, np.int64)), altered(node, {1: name})]
        yield "network.last-frame", words, Patch({node.output[0]: made})
    if network.opset >= 18:
        mean = chained(node.input[0], node.output[0], "ReduceMean", {"keepdims": 0}, [np.array([axis], np.int64)])
    else:
        mean = chained(node.input[0], node.output[0], "ReduceMean", {"keepdims": 0, "axes": [axis]}, [])
    yield "network.last-frame", "the mean over the frames taken, not the last frame", Patch({node.output[0]: mean})
