"""torch.export: a `.pt2` file as torch.export.load reads it, without the code that built the network.

A tap is named `output` (what forward returns, a tensor) or by the path of a submodule, as in the runtimes `torch` and
`torchscript`: each operator of the file says which modules it belongs to. The deployed file is run as it is for its own
outputs; inner tensors are read from a second run, operator by operator.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import fx

from parity.errors import ModelError
from parity.protocols import Artifact, Session, Tap, Taps, Tensor, Unsupported

OWN = "output"


class TorchExportRuntime:
    """A file's own graph and weights, on the CPU."""

    def versions(self) -> Mapping[str, str]:
        return {"torch": torch.__version__}

    def supports(self, artifact: Artifact) -> Unsupported | None:
        fits = artifact.format == "torch-export"
        return None if fits else Unsupported(f"torch.export.load doesn't read {artifact.format} files")

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        yield _ExportSession(artifact)


def load(path: str | Path) -> Any:
    """The program in a `.pt2` file. ModelError where there is none, and for one that holds more than plain tensors."""
    if not Path(path).is_file():
        raise ModelError(f"{path} can't be read: no such file", "export it again")
    try:
        # The format may hold pickles: those of plain tensors only are read.
        with mock.patch.dict(os.environ, {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Path(path).open("rb") as file:
                return torch.export.load(file)
    except Exception as e:  # torch raises many types for a damaged or foreign file
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise ModelError(
            f"torch.export can't load {path}: {reason}", "export it again with torch.export.save"
        ) from None


def _modules(node: fx.Node) -> list[str]:
    """Paths of the submodules that an operator belongs to."""
    return [path for path, _ in node.meta.get("nn_module_stack", {}).values() if path]


class _Watched(fx.Interpreter):  # type: ignore[misc]
    """Runs a graph, and keeps what some of its operators give."""

    def __init__(self, module: Any, wanted: frozenset[str]) -> None:
        super().__init__(module)
        self._wanted, self.seen = wanted, dict[str, torch.Tensor]()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self._wanted:
            self.seen[n.name] = value.clone()  # a later in-place operation must not reach what was seen
        return value


class _ExportSession:
    tensors: Mapping[Tap, Tensor] = {}

    def __init__(self, artifact: Artifact) -> None:
        self._module = load(artifact.path).module()
        last = {path: node.name for node in self._module.graph.nodes for path in _modules(node)}
        self._own = {tap for tap, port in artifact.taps.items() if port.name == OWN}
        self._nodes: dict[Tap, str] = {}
        for tap, port in artifact.taps.items():
            if tap in self._own:
                continue
            if port.name not in last:
                raise ModelError(
                    f"{artifact.path} has no module {port.name!r} for {tap}",
                    f"name {OWN!r}, or one of its modules: {', '.join(sorted(last)) or 'it names none'}",
                )
            self._nodes[tap] = last[port.name]
        self._path = artifact.path

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        (value,) = inputs.values()
        # Copies: an in-place operation of the network must not reach the caller's array.
        x = torch.from_numpy(np.array(value, order="C"))
        out: dict[Tap, Any] = {}
        with torch.inference_mode():
            if own := taps & self._own:
                given = self._module(x.clone())
                if not isinstance(given, torch.Tensor):
                    raise ModelError(f"{self._path} gives a {type(given).__name__}, not a tensor", "name a submodule")
                out |= dict.fromkeys(own, given)
            if inner := sorted(taps - self._own):
                watched = _Watched(self._module, frozenset(self._nodes[t] for t in inner))
                watched.run(x)
                out |= {tap: watched.seen[self._nodes[tap]] for tap in inner}
        return {tap: t.numpy() for tap, t in out.items()}
