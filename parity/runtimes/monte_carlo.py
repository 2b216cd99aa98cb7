"""How far each activation of a network may move, by Monte Carlo arithmetic on its float32 ONNX graph.

Not a runtime to be compared: it says what the others are held to, when goldens are recorded and for clips that have
none. Beside a tap `model/x`, float64, it gives `model/x:int8:isolated` and `model/x:int8:cumulative` (any precision of
`parity.networks.arithmetic`): half-widths of the bound around it, for what a file of that precision rounds, and for
that together with features that moved as a backend's own rounding may move them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx

from parity.errors import ConfigError, ModelError
from parity.networks import ranges, spread
from parity.networks.arithmetic import PRECISIONS, Held, Noise
from parity.networks.graph import Graph, load
from parity.protocols import Array, Artifact, Session, Tap, Taps, Tensor, Unsupported


class MonteCarloRuntime:
    """Options: `copies` of a clip, whose spread is taken."""

    def __init__(self, copies: str = "16") -> None:
        if not copies.isdecimal() or not 2 <= int(copies) <= 1000:
            raise ConfigError(f"copies is a number from 2 to 1000, not {copies!r}", "write copies=16")
        self._copies = int(copies)

    def versions(self) -> Mapping[str, str]:
        return {"onnx": onnx.__version__, "numpy": np.__version__}

    def supports(self, artifact: Artifact) -> Unsupported | None:
        if artifact.format != "onnx" or artifact.precision != "float32":
            return Unsupported("bounds are derived from a float32 ONNX file")
        if artifact.state or artifact.constants or artifact.frames is not None:
            return Unsupported("bounds are derived from a network that takes a whole clip, and nothing else")
        try:
            Graph(load(artifact.path))
        except ModelError as e:
            return Unsupported(e.message)
        return None

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        yield _Session(artifact, self._copies)


class _Session:
    tensors: Mapping[Tap, Tensor] = {}

    def __init__(self, artifact: Artifact, copies: int) -> None:
        self._model = load(artifact.path)
        self._graph = Graph(self._model)
        self._artifact, self._copies = artifact, copies
        self._held: dict[str, dict[str, Held]] = {}
        if missing := sorted({port.name for port in artifact.taps.values()} - self._graph.tensors):
            raise ModelError(f"{artifact.path} has no tensor {missing[0]!r}", "mend the taps in system.toml")

    def _noise(self, precision: str) -> Noise:
        if precision not in self._held:
            of = PRECISIONS[precision]
            self._held[precision] = {}
            if of.levels:
                self._held[precision] = ranges.held(self._model, ranges.of(self._artifact), of)
        return Noise(PRECISIONS[precision], self._copies + 1, seed=0, held=self._held[precision])

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        """`inputs` may hold `moved`, of the features' shape: how far each of them may move."""
        ports, name = self._artifact.taps, self._artifact.input.name
        x = np.asarray(inputs[name], np.float64)
        before = self._graph.before
        names = {ports[tap].name for tap in taps}
        exact = self._graph.run({name: x}, names | {before[n] for n in names if n in before})
        out: dict[Tap, Array] = {}
        bounded: dict[tuple[str, str], list[Tap]] = defaultdict(list)
        for tap in sorted(taps):
            own, _, of = tap.partition(":")
            if of:
                precision, _, path = of.partition(":")
                bounded[precision, path].append(tap)
            else:
                out[own] = exact[ports[own].name]
        for (precision, path), wanted in bounded.items():
            noise = self._noise(precision)
            batch = np.repeat(x, self._copies + 1, axis=0)
            if path == "cumulative":
                batch = batch + _features(noise, batch.shape) * inputs["moved"]
            names = {ports[tap].name for tap in wanted}
            seen = self._graph.run({name: batch}, names | {before[n] for n in names if n in before}, noise)
            for tap in wanted:
                at, axes = ports[tap].name, ports[tap].layout
                fed = (exact[before[at]], seen[before[at]]) if at in before else None
                parts = spread.moved(exact[at], seen[at], axes, self._graph.operators[at], precision, fed)
                out[tap] = spread.half_width(parts, axes, precision)
        return out


def _features(noise: Noise, shape: tuple[int, ...]) -> Array:
    """By which part of its room each feature moves in each copy: in a few copies all alike, in the others each apart.

    A backend's errors may have one sign in many places: a window that is off, a click whose bins all lie on an edge.
    """
    draw = noise.drawn(shape)
    alike = max(2, (len(draw) - 1) // 4)
    draw[1 : 1 + alike] = np.resize([1.0, -1.0], alike).reshape(-1, *[1] * (len(shape) - 1))
    return draw
