"""PyTorch in eager mode: a module built by the system's own code, with its weights loaded strictly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parity.errors import ConfigError, ModelError
from parity.protocols import Artifact, Session, Tap, Taps, Tensor, Unsupported
from parity.runtimes.torch_weights import load_strictly, network_of, state_of


def build(network: str, weights: Path | None) -> torch.nn.Module:
    """The network that `path/to/file.py:callable` makes, with `weights` (if any) loaded strictly, in eval mode.

    ModelError where either can't be had, or they don't fit; no pickle is read.
    """
    net = network_of(network)
    return net.eval() if weights is None else load_strictly(net, state_of(weights), weights)


class TorchRuntime:
    """Options: `dtype` float32 or float64 (the trained weights in double: what goldens are recorded from)."""

    def __init__(self, dtype: str = "float32") -> None:
        if dtype not in ("float32", "float64"):
            raise ConfigError(f"torch has no dtype {dtype!r}", "dtype is float32 or float64")
        self._dtype = getattr(torch, dtype)

    def versions(self) -> Mapping[str, str]:
        return {"torch": torch.__version__}

    def supports(self, artifact: Artifact) -> Unsupported | None:
        return None if artifact.format == "torch" else Unsupported(f"PyTorch doesn't read {artifact.format} files")

    @contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Session]:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        assert artifact.network is not None  # system.toml is checked for it
        net = build(artifact.network, Path(artifact.path)).to(self._dtype)
        yield _TorchSession(net, artifact, self._dtype)


class _TorchSession:
    tensors: Mapping[Tap, Tensor] = {}

    def __init__(self, net: torch.nn.Module, artifact: Artifact, dtype: torch.dtype) -> None:
        self._net, self._dtype = net, dtype
        self._seen: dict[Tap, Any] = {}
        self._wanted: frozenset[Tap] = frozenset()
        modules = dict(net.named_modules())
        for tap, port in artifact.taps.items():
            name = port.name
            if name not in modules:
                raise ModelError(
                    f"the network has no module {name!r} for {tap}", f"modules: {', '.join(filter(None, modules))}"
                )
            modules[name].register_forward_hook(self._keep(tap))

    def _keep(self, tap: Tap) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            # A copy: a later in-place operation must not reach what was seen.
            if tap in self._wanted:
                self._seen[tap] = output.detach().clone()

        return hook

    def run(self, inputs: Mapping[str, Any], taps: frozenset[Tap]) -> Taps:
        self._seen.clear()
        self._wanted = taps
        with torch.inference_mode():
            # Copies: an in-place operation of the network must not reach the caller's arrays.
            self._net(*(torch.tensor(np.ascontiguousarray(x), dtype=self._dtype) for x in inputs.values()))
        return {tap: self._seen[tap].numpy() for tap in taps if tap in self._seen}
