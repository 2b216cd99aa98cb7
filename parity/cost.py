"""What a network costs: parameters, multiply-adds for one clip, bytes of each file. Imports PyTorch.

Counted by PyTorch's own counter on the network that system.toml names, not on a formula of ours.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from parity import layout, registry
from parity.protocols import Artifact
from parity.runtimes.torch_ import build
from parity.system import System

RULE = (
    "Parameters: all that training sets; running statistics of batch normalization aren't among them. "
    "Multiply-adds: for one clip, half of what torch.utils.flop_counter counts, which is 2 for each multiply-add of a "
    "convolution or a product of two matrices (LSTM and GRU as such) and nothing for anything else: bias, batch "
    "normalization, activation, pooling, element-wise products, features."
)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a network of PyTorch costs for an input of a shape in PyTorch's own order, with a batch of one."""

    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def example(of: System, artifact: Artifact) -> tuple[int, int]:
    """[frames, bands] that the network is counted with: those it takes; where it takes any, those of one second."""
    frames, bands = artifact.shape
    clip = of.frontend.input.length or of.frontend.input.rate
    return frames or of.frontend.frames(clip), bands or of.frontend.bands


def count(network: torch.nn.Module, shape: Sequence[int]) -> Cost:
    """The cost of a network in eval mode for an input of zeros."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of settings that are for other machines
        # With oneDNN an LSTM is one operator, which the counter doesn't know: it would be free of charge.
        with torch.backends.mkldnn.flags(enabled=False), torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(*shape))
    total = int(counter.get_total_flops())
    return Cost(
        shape=tuple(shape), parameters=sum(p.numel() for p in network.parameters()), multiply_adds=total // 2
    )  # fmt: skip


def of(system: System) -> Cost | None:
    """The cost of a system's PyTorch network; None where it has none.

    It costs the same without its weights: those of a system that isn't built are left as they begin. ModelError where
    the network or its weights can't be loaded.
    """
    trained = [a for a in (*system.artifacts, *system.unbuilt) if a.format == "torch" and a.network is not None]
    chosen = next((a for a in trained if a.precision == "float32"), next(iter(trained), None))
    if chosen is None or chosen.network is None:
        return None
    features = np.zeros(example(system, chosen), np.float32)
    shape = layout.native(features, chosen.input.layout).shape
    weights = Path(chosen.path) if chosen in system.artifacts else None
    if weights is None and not Path(chosen.network.rpartition(":")[0]).is_file():
        return None
    return count(build(chosen.network, weights), shape)


def beside(system: System, cost: Cost | None) -> str:
    """What was published of a system, what is counted for the same input, and why they differ; '' where nothing was."""
    said = system.published
    if said is None or cost is None:
        return ""
    clips = said.input[0] if said.input[1:] == cost.shape[1:] else 0
    if not clips:
        return f"{system.name}: published for another input, {said.input}"
    return (
        f"{system.name}: published {said.parameters} parameters, {said.multiply_adds} multiply-adds for "
        f"{said.input}; counted {cost.parameters / 1e6:.4f} M, {cost.multiply_adds * clips / 1e9:.4f} G for "
        f"{clips} clips. {said.why}".rstrip()
    )


def arenas(system: System, limit: float = 60.0) -> dict[str, int]:
    """Path -> bytes of working memory that tflite-micro needs for each int8 TensorFlow Lite file, measured.

    Empty where tflite-micro isn't installed; without the files that it can't run, or that take longer than `limit`
    seconds: each is tried in a process of its own, for the interpreter may hang or die of one.
    """
    if registry.plugins("runtime")["tflm"].missing:
        return {}
    found = {}
    for path in (a.path for a in system.artifacts if (a.format, a.precision) == ("tflite", "int8")):
        with contextlib.suppress(subprocess.SubprocessError, ValueError):
            done = subprocess.run(
                [sys.executable, "-m", "parity.runtimes.tflm", path],
                capture_output=True, text=True, timeout=limit, check=True,
            )  # fmt: skip
            found[path] = int(done.stdout)
    return found
