"""Clips that files of integers are calibrated on, and what each tensor of a network ranges over on them.

An export quantizes by them, and `parity models ranges` writes them down beside the system: what a file of integers may
round is derived from those ranges, not from the file's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import threadpoolctl  # type: ignore[import-untyped,unused-ignore]

from parity import layout, registry, system, training
from parity.bounds import networks
from parity.errors import ConfigError
from parity.networks import ranges
from parity.networks.graph import load
from parity.protocols import Array, Clip

FILE = "ranges.json"
COUNT = 320
"""Clips that the ranges of int8 tensors are taken from."""
_FEATURES = ("librosa", "numpy", "microfrontend")
"""Backends to calibrate by, the first that honours the recipe."""


def features(of: system.System, data: Path, count: int = COUNT) -> list[Array]:
    """Features `[frames, bands]` of about `count` clips of training speakers, evenly spread over a folder of words.

    `data` is laid out like Speech Commands. SystemExit where it holds none.
    """
    clips = [r for r in training.recordings(data, of.labels) if r.split == "train"]
    if not clips:
        raise SystemExit(f"{data} has no clip of a training speaker\nhint: name a folder like Speech Commands")
    backend = next(
        b for name in _FEATURES if (b := registry.create("backend", name)).supports(of.frontend) is None
    )  # fmt: skip
    tap, out = of.frontend.output, []
    # Sums of several threads differ in their last bit, and so would the ranges and every byte that follows.
    with threadpoolctl.threadpool_limits(1):
        for clip in training.progress(clips[:: max(1, len(clips) // count)][:count], f"calibration of {of.name}"):
            samples = training.read(clip.path, of.frontend.input.rate)
            (taps,) = backend.features([Clip("", samples, of.frontend.input.rate, "")], of.frontend, frozenset({tap}))
            out.append(np.asarray(taps[tap]))
    return out


def taken(of: system.System, inputs: Sequence[Array]) -> bytes:
    """A system's ranges.json, from features `[frames, bands]`. ConfigError where it has no float graph to run."""
    artifact = networks.source(of)
    if artifact is None:
        raise ConfigError(f"{of.name} has no float32 ONNX file, whose tensors could be looked at", "export one")
    exact = np.issubdtype(np.dtype(of.frontend.dtype(of.frontend.output)), np.integer)
    native = (layout.native(np.asarray(x, np.float64), artifact.input.layout) for x in inputs)
    return ranges.written(ranges.measured(load(artifact.path), native, artifact.sha256, bool(exact)))
