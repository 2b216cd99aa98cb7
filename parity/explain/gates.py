"""Recurrent layers: gates in another order, the other form of a GRU, biases lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import numpy as np

from parity.explain.patches import Made, Shapes, one
from parity.explain.surgery import Network, Patch, altered, attribute
from parity.protocols import Array

GATES = {"LSTM": "iofg", "GRU": "zrn"}
"""In ONNX's order."""


def _parts(network: Network, i: int) -> tuple[str, int, list[str], list[str]]:
    """Kind, hidden size, names of the weights (input's, recurrent) and of the bias (or none) of a recurrent layer."""
    node = network.nodes[i]
    bias = network.bias(i)
    return node.op_type, network.weights[node.input[2]].shape[2], list(node.input[1:3]), [bias] if bias else []


def recurrent(network: Network, i: int, shapes: Shapes) -> Made:
    """Edits of an LSTM or a GRU."""
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
        yield "network.linear-before-reset", words, one(altered(node, linear_before_reset=1 - now))
        z = {n: split(n).copy() for n in (*weights, *biases)}
        for x in z.values():
            x[:, :, 0] *= -1.0
        yield "network.update-gate", "update gate the other way round: z where 1 - z is due", patch(z)
    for order in itertools.permutations(range(g)):
        if order == tuple(range(g)):
            continue
        changed = {n: split(n)[:, :, list(order)] for n in (*weights, *biases)}
        yield (
            "network.gate-order",
            f"gates {_listed(names)} stand as {_listed(names[k] for k in order)}",
            patch(changed),
        )
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
            for amount, words in (
                (1.0, "1 added to the forget gate's bias"),
                (-1.0, "1 taken from the forget gate's bias"),
            ):
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
        yield "network.direction", "frames taken in reverse", one(altered(node, direction=way))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
