"""Cutting an ONNX graph: a copy with a few nodes or weights exchanged, and only the part that they reach.

A `Patch` says what is exchanged. `whole` makes the complete graph with it; `Part` runs only what lies behind it, on the
tensors that the unchanged graph gave before it, so that thousands of patches can be tried.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from parity.networks.graph import Graph
from parity.protocols import Array

Change = Callable[[Array], Array]

RECURRENT = ("LSTM", "GRU", "RNN")
LINEAR = ("Conv", "Gemm", "MatMul", *RECURRENT)
"""Operators that take trained weights."""


@dataclass(frozen=True, eq=False)
class Patch:
    """What is exchanged in a graph.

    `nodes`: the name of a node's first output -> what stands in its place (it must give that output). `weights`: an
    initializer's name -> other numbers.
    """

    nodes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    weights: Mapping[str, Array] = field(default_factory=dict)
    feed: Change | None = None
    """What is done to the time-major features of a clip before they are fed."""
    seen: Change | None = None
    """What is done to the time-major array of a tap (one clip) before it is looked at."""
    room: float = 1.0
    """Bounds that what it gives is allowed: 2 where somebody else rounded in working out the weights."""

    def __or__(self, other: Patch) -> Patch:
        return Patch(
            {**self.nodes, **other.nodes}, {**self.weights, **other.weights},
            self.feed or other.feed, self.seen or other.seen, max(self.room, other.room),
        )  # fmt: skip

    def clashes(self, other: Patch) -> bool:
        """Whether both exchange the same."""
        both = self.nodes.keys() & other.nodes.keys() or self.weights.keys() & other.weights.keys()
        return bool(both or (self.feed and other.feed) or (self.seen and other.seen))


@dataclass(frozen=True, eq=False)
class Network:
    """A float32 ONNX graph, looked at: who gives what to whom."""

    model: Any

    @cached_property
    def nodes(self) -> list[Any]:
        """In an order in which they can run."""
        return list(self.model.graph.node)

    @cached_property
    def weights(self) -> dict[str, Array]:
        """Initializers by name, float64 where they are float32."""
        return {w.name: _float64(numpy_helper.to_array(w)) for w in self.model.graph.initializer}

    @cached_property
    def maker(self) -> dict[str, int]:
        """Tensor -> the node that gives it."""
        return {name: i for i, n in enumerate(self.nodes) for name in n.output if name}

    @cached_property
    def takers(self) -> dict[str, list[int]]:
        """Tensor -> the nodes that take it."""
        found: dict[str, list[int]] = {}
        for i, n in enumerate(self.nodes):
            for name in dict.fromkeys(n.input):
                found.setdefault(name, []).append(i)
        return found

    @cached_property
    def inputs(self) -> list[str]:
        """Names of what is fed."""
        return [i.name for i in self.model.graph.input if i.name not in self.weights]

    @cached_property
    def constants(self) -> dict[str, Array]:
        """What Constant nodes and initializers hold."""
        found = dict(self.weights)
        for n in self.nodes:
            if n.op_type == "Constant" and n.attribute and n.attribute[0].name == "value":
                found[n.output[0]] = _float64(numpy_helper.to_array(n.attribute[0].t))
        return found

    def before(self, tensor: str) -> set[int]:
        """Every node that a tensor is worked out with."""
        found: set[int] = set()
        left = [tensor]
        while left:
            i = self.maker.get(left.pop())
            if i is not None and i not in found:
                found.add(i)
                left += self.nodes[i].input
        return found

    def touched(self, patch: Patch) -> set[int]:
        """Nodes that a patch exchanges, or whose weights it does."""
        fed = self.inputs if patch.feed else ()
        return {self.maker[name] for name in patch.nodes}.union(
            *(self.takers.get(name, ()) for name in (*patch.weights, *fed))
        )

    @cached_property
    def layers(self) -> list[int]:
        """Nodes with weights of their own, in order."""
        return [
            i for i, n in enumerate(self.nodes)
            if n.op_type in LINEAR and len(n.input) > 1 and n.input[1] in self.weights
        ]  # fmt: skip

    def name(self, i: int) -> str:
        """What a person calls a node: `conv3`, `block2/expand/conv`."""
        node = self.nodes[i]
        for name in [n for n in node.input if n in self.weights]:
            if "::" not in name and re.search(r"[._/](weight|bias|kernel|W|R|B)\w*$", name):
                return re.sub(r"[._/](weight|bias|kernel|W|R|B)\w*$", "", name).replace(".", "/")
        parts = re.sub(r"_output_\d+$", "", node.output[0]).strip("/").split("/")
        if len(parts) > 1 and re.fullmatch(rf"{node.op_type}(_\d+)?", parts[-1]):
            parts = parts[:-1]
        return "/".join(parts)

    def shape(self, weight: str) -> tuple[int, ...]:
        """Of an initializer."""
        return self.weights[weight].shape

    @cached_property
    def opset(self) -> int:
        """Version of ONNX's own operators."""
        return next((int(o.version) for o in self.model.opset_import if o.domain in ("", "ai.onnx")), 1)

    def bias(self, i: int) -> str:
        """The initializer that a layer adds; '' where it adds none."""
        node = self.nodes[i]
        place = 3 if node.op_type in RECURRENT else 2
        if node.op_type != "MatMul":
            return node.input[place] if len(node.input) > place and node.input[place] in self.weights else ""
        takers = [self.nodes[k] for k in self.takers.get(node.output[0], ())]
        if len(takers) == 1 and takers[0].op_type == "Add":
            return next((n for n in takers[0].input if n in self.weights), "")
        return ""

    def whole(self, patch: Patch) -> Graph:
        """The complete graph with a patch in it."""
        nodes = [made for n in self.nodes for made in patch.nodes.get(n.output[0], [n])]
        kept = [w for w in self.model.graph.initializer if w.name not in patch.weights]
        made = [_initializer(name, value) for name, value in patch.weights.items()]
        return Graph(self._model(nodes, self.model.graph.input, [*kept, *made]))

    def _model(self, nodes: Sequence[Any], inputs: Sequence[Any], weights: Sequence[Any]) -> Any:
        graph = helper.make_graph(nodes, "part", inputs, [], weights)
        return helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)

    @cached_property
    def _initializers(self) -> dict[str, Any]:
        return {w.name: w for w in self.model.graph.initializer}


class Part:
    """What lies between a patch and some tensors. `free` are weights that each run is given anew."""

    def __init__(self, network: Network, patch: Patch, wanted: Iterable[str], free: Sequence[str] = (),
                 base: Patch | None = None) -> None:  # fmt: skip
        """`base` is already in the graph that gave the tensors before."""
        self._wanted, self._free = list(wanted), list(free)
        seeds = network.touched(patch).union(*(network.takers.get(w, ()) for w in free))
        needed = set[int]().union(*(network.before(t) for t in self._wanted))
        behind: set[int] = set()
        changed: set[str] = set()
        for i, n in enumerate(network.nodes):
            if i in seeds or any(name in changed for name in n.input):
                behind.add(i)
                changed |= set(n.output)
        inside = sorted(behind & needed)
        patch = patch if base is None else base | patch
        self.untouched = [t for t in self._wanted if network.maker.get(t) not in behind]
        nodes = [made for i in inside for made in patch.nodes.get(network.nodes[i].output[0], [network.nodes[i]])]
        given = {name for n in nodes for name in n.output}
        taken = [name for name in dict.fromkeys(name for n in nodes for name in n.input if name) if name not in given]
        held = [name for name in taken if name in network.weights and name not in self._free]
        self.boundary = [name for name in taken if name not in held and name not in self._free]
        weights = [
            _initializer(name, patch.weights[name]) if name in patch.weights else network._initializers[name]
            for name in held
        ]
        inputs = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in [*self.boundary, *self._free]
        ]
        self._graph = Graph(network._model(nodes, inputs, weights)) if nodes else None

    def run(self, values: Mapping[str, Array], free: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """The wanted tensors, float64 `[clips, ...]`, from the unchanged graph's `values`."""
        out = {t: values[t] for t in self.untouched}
        if self._graph is not None:
            feed = {name: values[name] for name in self.boundary} | dict(free or {})
            out |= self._graph.run(feed, self._wanted)
        return out


def _float64(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype in (np.float32, np.float16) else x


def _initializer(name: str, value: Array) -> Any:
    """A weight, in float32 as files hold it."""
    held = value.astype(np.float32) if value.dtype == np.float64 else value
    return numpy_helper.from_array(np.ascontiguousarray(held), name)


def attribute(node: Any, name: str, usual: Any = None) -> Any:
    """An attribute of a node, as a plain value."""
    for a in node.attribute:
        if a.name == name:
            value = helper.get_attribute_value(a)
            return value.decode() if isinstance(value, bytes) else value
    return usual


def altered(node: Any, inputs: Mapping[int, str] | None = None, op: str = "", drop: Sequence[str] = (),
            **attributes: Any) -> Any:  # fmt: skip
    """A copy of a node with other inputs (by position), attributes, or another operator."""
    made = onnx.NodeProto()
    made.CopyFrom(node)
    if op:
        made.op_type = op
    for i, name in (inputs or {}).items():
        made.input[i] = name
    kept = [a for a in made.attribute if a.name not in attributes and a.name not in drop]
    del made.attribute[:]
    made.attribute.extend(kept)
    made.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    return made


def followed(node: Any, *operators: tuple[str, Mapping[str, Any], Sequence[Array]]) -> list[Any]:
    """A node and then operators (kind, attributes, constants), the last of which gives what the node gave."""
    out = node.output[0]
    first = onnx.NodeProto()
    first.CopyFrom(node)
    first.output[0] = f"{out}:0"
    return [first, *chain(f"{out}:0", out, *operators)]


def chain(taken: str, given: str, *operators: tuple[str, Mapping[str, Any], Sequence[Array]]) -> list[Any]:
    """Operators one behind the other, from one tensor to another."""
    made: list[Any] = []
    name = taken
    for k, (kind, attributes, constants) in enumerate(operators):
        names = []
        for j, c in enumerate(constants):
            names.append(f"{given}:{k}:{j}")
            made.append(helper.make_node("Constant", [], [names[-1]], value=numpy_helper.from_array(np.asarray(c))))
        out = given if k == len(operators) - 1 else f"{given}:{k + 1}"
        made.append(helper.make_node(kind, [name, *names], [out], **attributes))
        name = out
    return made
