"""Which tensors a file of integers stores, and what each can hold: from the float graph and clips, not from the file.

A file that is badly quantized must not widen its own bound. So the least and largest number of every tensor of the
float32 network are taken from the clips that such files are calibrated on, and kept beside the system
(`ranges.json`); scales and clamps follow from those.

TensorFlow Lite's int8 specification says what has which scale: pads, pools, reshapes and concatenations keep one;
a softmax has 1/256. A convolution, product or sum stores what its activation gives, not what goes into it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from parity.errors import ConfigError
from parity.networks.arithmetic import Held, Precision
from parity.networks.graph import Graph
from parity.networks.operators import CUTS, MOVES
from parity.protocols import Array, Artifact

_KEEPS = (MOVES | {"MaxPool"}) - {*CUTS, "Abs", "Neg", "Max", "Min", "Where"}
"""Operators whose output is one of their inputs' numbers, in their scale."""
_TAKES_ACTIVATION = ("Conv", "Gemm", "MatMul", "Add", "Sub", "Mul", "BatchNormalization")
BATCH = 4
"""Clips that go through a graph at once when ranges are taken."""


@dataclass(frozen=True)
class Ranges:
    """Least and largest number of each tensor of a float graph over `clips` clips; `sha256` is the model file's."""

    tensors: Mapping[str, tuple[float, float]]
    clips: int
    sha256: str


def measured(model: onnx.ModelProto, inputs: Iterable[Array], sha256: str, exact_input: bool = False) -> Ranges:
    """The ranges of a float graph over native inputs, each a batch of one.

    `exact_input`: the recipe ends in integers, which files of integers take as they are; its range isn't kept.
    """
    graph = Graph(model)
    (name,) = graph.inputs
    found: dict[str, tuple[float, float]] = {}
    waiting: list[Array] = []
    clips = 0

    def given(batch: Array) -> dict[str, Array]:
        return {} if exact_input else {name: batch}

    def take() -> None:
        batch = np.concatenate(waiting).astype(np.float64)
        waiting.clear()
        for tensor, x in {**given(batch), **graph.run({name: batch}, graph.tensors)}.items():
            if isinstance(x, np.ndarray) and x.dtype == np.float64 and x.shape[:1] == batch.shape[:1] and x.size:
                low, high = found.get(tensor, (np.inf, -np.inf))
                found[tensor] = min(low, float(x.min())), max(high, float(x.max()))

    for x in inputs:
        if waiting and (len(waiting) == BATCH or waiting[0].shape != x.shape):
            take()
        waiting.append(x)
        clips += 1
    if not waiting:
        raise ConfigError("ranges need clips", "name a folder of speech: --audio DIR")
    take()
    return Ranges(found, clips, sha256)


def written(ranges: Ranges) -> bytes:
    """The bytes of a ranges.json, the same for the same ranges; numbers rounded to float32, as files have them."""
    plain = {
        "clips": ranges.clips,
        "model_sha256": ranges.sha256,
        "tensors": {t: [float(f"{end:.7g}") for end in ends] for t, ends in sorted(ranges.tensors.items())},
    }
    lines = json.dumps(plain, indent=1).replace("[\n   ", "[").replace(",\n   ", ", ").replace("\n  ]", "]")
    return (lines + "\n").encode()


def read(path: Path) -> Ranges:
    """A ranges.json. ConfigError where it can't be read."""
    hint = "make it again: parity models ranges SYSTEM"
    try:
        plain = json.loads(path.read_bytes())
        tensors = {str(t): (float(low), float(high)) for t, (low, high) in plain["tensors"].items()}
        found = Ranges(tensors, int(plain["clips"]), str(plain["model_sha256"]))
    except OSError as e:
        raise ConfigError(f"{path} can't be read: {e.strerror}", hint) from None
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise ConfigError(f"{path} holds no ranges: {e!r}", hint) from None
    for tensor, ends in tensors.items():
        if not (np.isfinite(ends).all() and ends[0] <= ends[1]):
            raise ConfigError(f"{path}: {tensor} is said to range from {ends[0]} to {ends[1]}", hint)
    return found


def of(artifact: Artifact) -> Ranges:
    """The ranges beside a float file. ConfigError where there are none, or they are of another file."""
    hint = f"take them again: parity models ranges {artifact.system}"
    if artifact.ranges is None:
        raise ConfigError(f"{artifact.system} has no ranges that its files of integers were calibrated to", hint)
    found = read(Path(artifact.ranges))
    if found.sha256 != artifact.sha256:
        raise ConfigError(f"{artifact.ranges} has the ranges of another file than {Path(artifact.path).name}", hint)
    return found


class _Groups:
    """Tensors that have one scale."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def of(self, name: str) -> str:
        while (parent := self._parent.get(name, name)) != name:
            name = parent
        return name

    def join(self, a: str, b: str) -> None:
        self._parent[self.of(a)] = self.of(b)


def held(model: onnx.ModelProto, ranges: Ranges, precision: Precision) -> dict[str, Held]:
    """What the tensors can hold that a file of a precision stores, by the graph's names; none where it stores floats.

    A tensor is rounded to the step of the widest that shares its scale: a format that gives each its own is finer.
    Where a convolution or a sum stores what its activation gives, it is rounded before that (what a ReLU cuts off is
    exact, as it is in the file) and clamped after.
    """
    if not precision.levels:
        return {}
    nodes, known = model.graph.node, ranges.tensors
    takers: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    outputs = {o.name for o in model.graph.output}
    groups, rounded, cut, again, given = _Groups(), [], [], [], {}
    for node in nodes:
        y = node.output[0] if node.output else ""
        if y not in known:
            continue
        after = takers[y][0] if len(takers.get(y, [])) == 1 and y not in outputs else None
        if (
            after is not None
            and node.op_type in _TAKES_ACTIVATION
            and after.op_type in precision.fuses
            and after.output[0] in known
        ):
            given[y] = after.output[0]
        elif node.op_type in (*_KEEPS, *CUTS, *precision.keeps_scale):
            for x in node.input:
                if x in known and x not in given and node.op_type not in precision.quantizes_again:
                    groups.join(y, x)
            if node.op_type in CUTS and node.input[0] not in given:
                cut.append(y)  # its ends are numbers that the tensor can hold
            elif node.op_type in precision.quantizes_again:
                again.append(y)
            elif node.op_type in precision.keeps_scale:
                rounded.append(y)  # a mean is rounded anew, to its input's step
        else:
            rounded.append(y)
    widest: dict[str, tuple[float, float]] = {}
    for name, ends in known.items():
        if name not in given:
            before = widest.get(groups.of(name), (0.0, 0.0))  # zero is always held exactly
            widest[groups.of(name)] = min(before[0], ends[0]), max(before[1], ends[1])
    kinds = {n.output[0]: n.op_type for n in nodes if n.output}
    found = {}
    for name in [*(i.name for i in model.graph.input if i.name in known), *rounded, *cut, *again, *given]:
        stored = given.get(name, name)
        bottom, top = widest[groups.of(stored)]
        half = 0.5 * (top - bottom) / precision.levels
        least, most = min(0.0, known[stored][0]), max(0.0, known[stored][1])
        spare = 2.0 * half * precision.spare
        low, high = (least, bottom), (most + spare, top + spare)
        if name in cut:
            found[name] = Held((least, least), (most, most), half, rounds=False)
        elif name in given:
            found[name], found[stored] = Held(low, high, half, cuts=False), Held(low, high, half, rounds=False)
        elif kinds.get(name) == "Softmax":
            found[name] = Held((0.0, 0.0), (1.0 - 1.0 / 256.0, 1.0 - 1.0 / 256.0), 1.0 / 512.0)
        else:
            found[name] = Held(low, high, half)
    return found
