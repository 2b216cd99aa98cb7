"""TorchScript: a traced or scripted file as torch.jit.load reads it, without the code that built the network.

A tap is named `output` (`output.0`, `output.1`, ... where forward returns a tuple) or by the path of a submodule, as in
the runtime `torch`. The deployed file is run as it is for its own outputs. Modules in it can't be hooked; inner tensors
are read from a second function, the file's own inlined graph with copies of them as more outputs, so that asking for a
layer can't change what the deployed file answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parity.errors import ModelError
from parity.protocols import Artifact, Session, Tap, Taps, Tensor, Unsupported

_OWN = re.compile(r"output(?:\.(\d+))?")


class TorchScriptRuntime:
    """A file's own code and weights, on the CPU."""

    def versions(self) -> Mapping[str, str]:
        return {"torch": torch.__version__}

    def supports(self, artifact: Artifact) -> Unsupported | None:
        fits = artifact.format == "torchscript"
        return None if fits else Unsupported(f"torch.jit.load doesn't read {artifact.format} files")

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        yield ScriptSession(artifact)


def load(path: str) -> Any:
    """The file's module, on the CPU. ModelError where it can't be read."""
    if not Path(path).is_file():
        raise ModelError(f"{path} can't be read: no such file", "export it again")
    try:
        # Not torch.load, which would unpickle: this reads TorchScript's own code and plain tensors only. Not eval(): a
        # file that was saved in training mode answers so where it is deployed.
        return torch.jit.load(path, map_location="cpu")
    except Exception as e:  # torch raises many types for a damaged or foreign file
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise ModelError(f"torch.jit can't load {path}: {reason}", "export it again with torch.jit.save") from None


def _path(node: Any) -> str:
    """The submodule that a node belongs to: `block(Block).relu(ReLU)` is `block.relu`."""
    return re.sub(r"\([^)]*\)", "", node.getModuleHierarchy())


def value_of(graph: Any, module: str) -> Any:
    """What a submodule gives, in its last call: its last tensor that is used outside of it, or None."""

    def inside(node: Any) -> bool:
        return f"{_path(node)}.".startswith(f"{module}.")

    values = (v for node in reversed(list(graph.nodes())) if inside(node) for v in node.outputs())
    tensor = torch._C.TensorType.get()
    return next((v for v in values if v.type().isSubtypeOf(tensor) and any(not inside(u.user) for u in v.uses())), None)


def _with_outputs(model: Any, modules: list[str]) -> Any:
    """A function of the model and its input that gives what the model gives, and then what its submodules give."""
    graph = model.inlined_graph.copy()
    for module in modules:
        value = value_of(graph, module)
        # A copy, made at once: a later in-place operation must not reach what was seen.
        nothing = graph.create("prim::Constant", [], 1)
        nothing.output().setType(torch._C.NoneType.get())
        nothing.insertAfter(value.node())
        clone = graph.create("aten::clone", [value, nothing.output()], 1)
        clone.output().setType(value.type())
        clone.insertAfter(nothing)
        graph.registerOutput(clone.output())
    graph.makeMultiOutputIntoTuple()
    graph.lint()
    return torch._C._create_function_from_graph("with_outputs", graph)


class ScriptSession:
    """A file that is loaded, and how its taps are found in it."""

    tensors: Mapping[Tap, Tensor] = {}

    def __init__(self, artifact: Artifact) -> None:
        self._path, self._takes = artifact.path, artifact.input.dtype
        self._model = load(artifact.path)
        self._names = {tap: port.name for tap, port in artifact.taps.items()}
        self._own = {tap: found for tap, name in self._names.items() if (found := _OWN.fullmatch(name))}
        self._inner: Any = None
        self._constants, self._state = tuple(artifact.constants), tuple(s.name for s in artifact.state)
        self._reset = artifact.reset
        if self._reset is not None and not hasattr(self._model, self._reset):
            raise ModelError(f"{artifact.path} has no method {self._reset!r}", "mend `reset` in system.toml")
        arguments = [a.name for a in self._model.forward.schema.arguments[1:]] if self._constants else []
        for name in (n for n in self._constants if n not in arguments):
            raise ModelError(
                f"{artifact.path} takes no {name!r}", f"forward() takes {', '.join(arguments)}: name one of them"
            )
        graph = self._model.inlined_graph
        for tap in self._names.keys() - self._own.keys():
            if value_of(graph, self._names[tap]) is None:
                modules = ", ".join(sorted({p for node in graph.nodes() if (p := _path(node))}))
                raise ModelError(
                    f"{artifact.path} has no module {self._names[tap]!r} for {tap}",
                    f"name 'output', or one of its modules: {modules or 'it has none that can be told apart'}",
                )

    def reset(self) -> None:
        """Make the file forget what it heard."""
        getattr(self._model, str(self._reset))()

    def _output(self, given: Any, tap: Tap) -> Any:
        """What forward returned, at a tap. ModelError where that isn't a tensor."""
        index = self._own[tap].group(1)
        parts = [given] if isinstance(given, torch.Tensor) else given
        fits = isinstance(parts, list | tuple) and all(isinstance(p, torch.Tensor) for p in parts)
        if not fits or (index is None and len(parts) != 1) or int(index or 0) >= len(parts):
            what = f"{len(parts)} tensors" if fits else f"a {type(given).__name__}"
            raise ModelError(f"{self._path} gives {what}, not {self._names[tap]!r} for {tap}",
                             "name 'output' for a tensor, 'output.0', 'output.1', ... for a tuple of them")  # fmt: skip
        return parts[int(index or 0)]

    def values(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> dict[Tap, torch.Tensor]:
        """The tensors at taps for named inputs, the features first, as the network has them."""
        value, *_ = inputs.values()
        # A copy: an in-place operation of the network must not reach the caller's array. Whole numbers become what
        # system.toml says the file takes: a traced file can't tell.
        whole = np.issubdtype(value.dtype, np.integer)
        x = torch.from_numpy(np.array(value, dtype=self._takes if whole else None, order="C"))
        # Numbers by their name in forward(); a state follows the features, in system.toml's order.
        numbers = {name: inputs[name].item() for name in self._constants}
        handed_on = [torch.from_numpy(np.array(inputs[name], order="C")) for name in self._state]
        own, inner = sorted(taps & self._own.keys()), sorted(taps - self._own.keys())
        out: dict[Tap, torch.Tensor] = {}
        with torch.inference_mode():
            if own:
                given = self._model(x.clone(), *handed_on, **numbers)
                out |= {tap: self._output(given, tap) for tap in own}
            if inner:
                every = sorted(self._names.keys() - self._own.keys())
                if self._inner is None:
                    self._inner = _with_outputs(self._model, [self._names[tap] for tap in every])
                _, *found = self._inner(self._model._c, x, *handed_on, *numbers.values())
                out |= {tap: found[every.index(tap)] for tap in inner}
        return out

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        found = self.values(inputs, taps)
        return {tap: (t.dequantize() if t.is_quantized else t).numpy() for tap, t in found.items()}
