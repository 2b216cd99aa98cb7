"""The check of a system: each of its files against the weights it was trained to, and against its listing."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parity import layout
from parity.cost import example
from parity.errors import ModelError
from parity.protocols import Array, Artifact
from parity.runtimes.torch_ import build
from parity.system import System
from parity.weights import trained
from parity.weights.match import Finding, match
from parity.weights.pieces import Reading

# Format -> the function that reads it, the package that this needs, and the extra it comes in.
READERS = {
    "onnx": ("parity.weights.onnx_:read", "onnx", "onnx"),
    "tflite": ("parity.weights.tflite:read", "ai_edge_litert", "tflite"),
    "torchscript": ("parity.weights.torchscript:read", "torch", "torch"),
    "torchscript-int8": ("parity.weights.torchscript:read_int8", "torch", "torch"),
    "torch-export": ("parity.weights.torchscript:read_exported", "torch", "torch"),
}


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One file. Without findings `why` says why it wasn't checked: it isn't there, or nothing can read it."""

    artifact: Artifact
    findings: tuple[Finding, ...] = ()
    why: str = ""
    values: Mapping[str, Array] = field(default_factory=dict, repr=False)
    """Name of a constant in the file -> its numbers, dequantized, in PyTorch's axes."""

    @property
    def ok(self) -> bool:
        """Every tensor is explained."""
        return bool(self.findings) and all(f.ok for f in self.findings)


def parent(of: System) -> Artifact | None:
    """The trained weights of a system, with the code of their network."""
    return next((a for a in of.artifacts if a.format == "torch" and a.precision == "float32" and a.network), None)


def _read(form: str) -> tuple[Callable[[Path], Reading] | None, str]:
    if form not in READERS:
        return None, f"no reader for {form} files"
    module, needs, extra = READERS[form]
    if importlib.util.find_spec(needs) is None:
        return None, f"reading {form} files needs {needs}: pip install 'parity[{extra}]'"
    where, _, name = module.partition(":")
    return getattr(importlib.import_module(where), name), ""


def _shape(system: System, source: Artifact, network: Any) -> tuple[int, ...]:
    """The shape of an input, in PyTorch's order. ModelError where the network doesn't take it."""
    try:
        shape = layout.native(np.zeros(example(system, source), np.float32), source.input.layout).shape
        with torch.no_grad():
            network(torch.zeros(*shape))
    except Exception as e:  # of the network's own code
        said = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise ModelError(
            f"{system.name}: the network of {source.path} doesn't take the layout {source.input.layout!r}: {said}",
            "name the axes that it takes: input.layout of the torch artifact in system.toml",
        ) from None
    return tuple(shape)


def of(system: System) -> list[Checked]:
    """Each file of a system, of its stream too, but the trained weights. ModelError for a file that can't be read."""
    return some(system, system.files) + _missing(system)


def some(system: System, files: Sequence[Artifact]) -> list[Checked]:
    """Some files of a system, but the trained weights. ModelError for a file that can't be read."""
    source = parent(system)
    if source is None or source.network is None:
        why = "no trained weights to hold it to (a torch artifact in float32)"
        return [Checked(artifact=a, why=why) for a in files]
    network = build(source.network, Path(source.path))
    shape = _shape(system, source, network)
    found = []
    for a in files:
        if a is source:
            continue
        read, why = _read(a.format)
        if read is None:
            found.append(Checked(artifact=a, why=why))
            continue
        try:
            layers = trained.layers(network, shape, a.format)
        except NotImplementedError as e:
            raise ModelError(
                f"{system.name}: weights of {e} can't be checked yet", "add it to parity/weights"
            ) from None
        held = read(Path(a.path))
        values = {c.name: c.value for c in held.constants}
        found.append(Checked(artifact=a, findings=tuple(match(layers, held)), values=values))
    return found


def _missing(system: System) -> list[Checked]:
    """Files that system.toml names and that aren't there; none of a system of which none is."""
    if not system.files:
        return []
    unbuilt = (*system.unbuilt, *(() if system.streaming is None else system.streaming.unbuilt))
    why = f"the file isn't there: parity models export {system.name}"
    return [Checked(artifact=a, why=why) for a in unbuilt]


def records(system: System, files: Sequence[Checked]) -> list[dict[str, Any]]:
    """A plain record a tensor, and one a file that wasn't checked or was changed."""
    out: list[dict[str, Any]] = [
        {"system": system.name, "ok": False, "trained": "", "constant": "", "how": words} for words in system.changed
    ]
    for c in files:
        about = {"system": system.name, "file": Path(c.artifact.path).name, "format": c.artifact.format,
                 "precision": c.artifact.precision, "sha256": c.artifact.sha256}  # fmt: skip
        out += [about | dataclasses.asdict(f) for f in c.findings]
        if c.why:
            out.append(about | {"ok": None, "trained": "", "constant": "", "how": c.why})
    return out
