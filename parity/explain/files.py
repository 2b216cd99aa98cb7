"""The model file that a candidate ran: where its weights aren't the trained ones, that is a cause by itself.

A file is read, not run (`parity.weights`). What its weights make of the trained graph is tried like any other edit: so
it is told whether they explain what came out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from parity import registry
from parity.errors import ParityError
from parity.evidence import Evidence
from parity.explain.patches import Edit
from parity.explain.reading import matrix, unmatrix
from parity.explain.surgery import RECURRENT, Network, Patch
from parity.protocols import Array, Artifact
from parity.system import System

KEY = "network.file-weights"
TOLD = 3
"""Tensors of a file that are told; the rest are counted."""


@dataclass(frozen=True)
class Wrong:
    """A tensor of a file that isn't what was trained."""

    trained: str
    """`conv3.weight`; '' for one that training knows nothing of."""
    how: str
    value: Array | None = field(default=None, compare=False)
    """Its numbers, dequantized, in PyTorch's axes."""


@dataclass(frozen=True)
class Held:
    """What a file's weights say: of which file, and what is wrong with it."""

    file: str
    wrong: Sequence[Wrong] = ()
    note: str = ""
    """Why nobody knows, where nobody does."""

    @property
    def words(self) -> str:
        """For a person; '' where nothing is known."""
        if not self.file:
            return ""
        if self.note or not self.wrong:
            return self.note or f"the weights in {self.file} are the trained ones"
        more = f"; and {len(self.wrong) - TOLD} more tensors" if len(self.wrong) > TOLD else ""
        told = "; ".join(w.how for w in self.wrong[:TOLD])
        return f"the weights in {self.file} aren't the trained ones: {told}{more}"


def candidates(system: System, of: Evidence) -> list[Artifact]:
    """The files that a candidate may have run: of its precision, and of the format that its runtime reads."""
    plugin = registry.plugins("runtime").get(registry.parse(of.runtime)[0].partition(":")[0])
    reads = "" if plugin is None else plugin.reads
    return [a for a in system.artifacts
            if a.precision == of.precision and a.format != "torch" and reads in ("", a.format)]  # fmt: skip


def held(system: System, of: Evidence, run: Mapping[str, str]) -> Held:
    """What the file that a candidate ran holds; the first that is wrong, where it isn't known which that was.

    `run`: name of a file -> its sha256 in the run, where that was kept.
    """
    if importlib.util.find_spec("torch") is None:
        return Held("")
    found: list[Held] = []
    from parity.weights import check

    for a in candidates(system, of):
        name = Path(a.path).name
        if run.get(name, a.sha256) != a.sha256:
            found.append(Held(name, note=f"{name} isn't the file any more that the run was made with"))
            continue
        try:
            checked = check.some(system, [a])
        except (ParityError, ImportError) as e:
            found.append(Held(name, note=f"the weights in {name} couldn't be read: {e}"))
            continue
        for c in checked:
            wrong = [Wrong(f.trained, f.how, c.values.get(f.constant)) for f in c.findings if not f.ok]
            if c.findings:
                found.append(Held(name, wrong))
    return next((h for h in found if h.wrong), found[0] if len(found) == 1 else Held(""))


def edits(network: Network, of: Held) -> list[Edit]:
    """A file's own weights put into the trained graph: of each layer that is wrong, and of all of them together.

    Integers are summed up with their bias before they are scaled, so that a wrong scale of a channel's weights scales
    what is added to them as well: each is tried both ways.
    """
    layers = {network.name(i): i for i in network.layers if network.nodes[i].op_type not in RECURRENT}
    patches: dict[str, dict[str, Array]] = {}
    scaled: dict[str, dict[str, Array]] = {}
    words: dict[str, str] = {}
    for w in of.wrong:
        where, _, part = w.trained.rpartition(".")
        i = layers.get(where.replace(".", "/"))
        if i is None or w.value is None or part not in ("weight", "bias"):
            continue
        name, bias = network.nodes[i].input[1] if part == "weight" else network.bias(i), network.bias(i)
        if not name or w.value.size != network.weights[name].size:
            continue
        shape, value = network.weights[name].shape, w.value
        if part == "weight":
            rows, right = value.reshape(len(value), -1), matrix(network, i, network.weights[name])
            value = unmatrix(network, i, rows, shape)
            if bias:
                power = np.maximum(np.square(right).sum(axis=1), 1e-300)
                by = (rows * right).sum(axis=1) / power
                scaled[where] = {bias: by * network.weights[bias].reshape(-1)}
        patches.setdefault(where, {})[name] = value.reshape(shape)
        words.setdefault(where, w.how)
    found = []
    for where, patch in patches.items():
        phrase, path = f"weights in {of.file} aren't the trained ones ({words[where]})", where.replace(".", "/")
        found.append(Edit(KEY, phrase, Patch(weights=patch), path))
        if where in scaled:
            found.append(Edit(KEY, phrase, Patch(weights=scaled[where] | patch), path))
    if len(patches) > 1:
        told = f"weights of {', '.join(patches)} in {of.file} aren't the trained ones"
        for more in ({}, scaled):
            every = {n: x for where, patch in patches.items() for n, x in {**more.get(where, {}), **patch}.items()}
            found.append(Edit(KEY, told, Patch(weights=every)))
    return found
