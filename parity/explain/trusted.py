"""Which graph to edit: the system's float32 ONNX file, if it is the trained network; else one exported anew.

A file that went wrong at export can't be what it is held to. So it is run beside the trained weights in PyTorch, in
float64, where those are there; where they differ, PyTorch exports the graph again, and that is held to it as well.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from parity import layout
from parity.errors import ModelError, ParityError
from parity.explain.surgery import Network, Patch
from parity.networks.graph import load
from parity.protocols import Array, Artifact, Tap
from parity.system import System

SAME = 1e-4
"""Largest difference over a tap's root mean square: weights that were folded in float32 make it about 1e-6."""
ANEW = "the system's own ONNX file isn't the trained network; its graph was exported again from {0}"
DOUBTFUL = "the system's own ONNX file isn't the trained network ({0}): causes are told against that file"


def graph(system: System, artifact: Artifact, fed: Array) -> tuple[Network, str]:
    """The graph, and what is to be said of it. `fed`: what a network was fed with. ModelError for a damaged file."""
    network = Network(load(artifact.path))
    trained = next(
        (a for a in system.artifacts if a.format == "torch" and a.precision == "float32" and a.network), None
    )
    if trained is None or importlib.util.find_spec("torch") is None:
        return network, ""
    try:
        right = _by_torch(trained, fed)
    except (ParityError, RuntimeError, ValueError) as e:
        return network, f"the trained network couldn't be run beside the graph: {e}"
    if (off := _off(network, artifact, right, fed)) <= SAME:
        return network, ""
    why = f"{off:.3g} of a tap's size"
    try:
        anew = Network(_exported(trained, artifact, network.model, fed))
        if _off(anew, artifact, right, fed) <= SAME:
            return anew, ANEW.format(Path(trained.path).name)
    except Exception as e:  # the exporter raises what it likes
        why = (str(e).strip().splitlines() or [type(e).__name__])[0]
    return network, DOUBTFUL.format(why)


def _by_torch(trained: Artifact, fed: Array) -> Mapping[Tap, Array]:
    from parity.runtimes.torch_ import TorchRuntime

    with TorchRuntime(dtype="float64").open(trained) as session:
        x = layout.native(np.asarray(fed, np.float64), trained.input.layout)
        out = session.run({trained.input.name: x}, frozenset(trained.taps))
    return {t: layout.time_major(a, trained.taps[t].layout) for t, a in out.items()}


def _off(network: Network, artifact: Artifact, right: Mapping[Tap, Array], fed: Array) -> float:
    """Largest difference of a tap over its root mean square; infinite where the graph can't be run or lacks a tap."""
    x = layout.native(np.asarray(fed, np.float64), artifact.input.layout)
    ports = {t: p for t, p in artifact.taps.items() if t in right}
    try:
        out = network.whole(Patch()).run({artifact.input.name: x}, [p.name for p in ports.values()])
        found = {t: layout.time_major(out[p.name], layout.plain(p.layout)) for t, p in ports.items()}
    except (ModelError, KeyError, ValueError):
        return float("inf")
    if any(found[t].shape != right[t].shape for t in found):
        return float("inf")
    return max(
        (float(np.abs(a - right[t]).max() / max(float(np.sqrt(np.square(right[t]).mean())), 1e-30))
         for t, a in found.items()), default=float("inf"),
    )  # fmt: skip


def _exported(trained: Artifact, artifact: Artifact, model: Any, fed: Array) -> Any:
    """The trained network as a graph whose tensors have the names that the older exporter gives them."""
    import torch

    from parity.runtimes.torch_ import build

    assert trained.network is not None
    net = build(trained.network, Path(trained.path))
    x = layout.native(np.asarray(fed, np.float32), trained.input.layout)
    given = model.graph.input[0]
    dims = [*enumerate(given.type.tensor_type.shape.dim)]
    free = {i: d.dim_param or f"d{i}" for i, d in dims if not d.HasField("dim_value")}
    outputs = [o.name for o in model.graph.output][:1]
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of the exporter; traced conditions on fixed shapes
        torch.onnx.export(
            net, (torch.from_numpy(np.ascontiguousarray(x)),), buffer, dynamo=False,
            opset_version=max((o.version for o in model.opset_import if o.domain == ""), default=17),
            input_names=[artifact.input.name], output_names=outputs,
            dynamic_axes={artifact.input.name: free, outputs[0]: {0: free.get(0, "batch")}},
        )  # fmt: skip
    return onnx.load_from_string(buffer.getvalue())
