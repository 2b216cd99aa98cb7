"""Clips that files of integers are calibrated on, and what each tensor of a network ranges over on them.

An export quantizes by them, and `parity models ranges` writes them down beside the system: what a file of integers may
round is derived from those ranges, not from the file's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import threadpoolctl  # type: ignore[import-untyped,unused-ignore]

from parity import audio, layout, registry, system
from parity.bounds import networks
from parity.errors import ConfigError, MissingExtra, NothingCompared
from parity.networks import ranges
from parity.networks.graph import load
from parity.protocols import Array, FeatureBackend
from parity.sources import Progress
from parity.speech import recordings

FILE = "ranges.json"
COUNT = 320
"""Clips that the ranges of int8 tensors are taken from."""
_FEATURES = ("librosa", "numpy", "microfrontend")
"""Backends to calibrate by, the first that honours the recipe."""


def clips(of: system.System, folder: Path) -> list[Path]:
    """Audio files to calibrate on: training speakers where words and speakers are told; else all below a folder.

    ConfigError where there are none, or speech of other splits alone.
    """
    said = recordings(folder, of.labels) if folder.is_dir() else []
    if trained := [r.path for r in said if r.split == "train"]:
        return trained
    if any("_nohash_" in r.path.name for r in said):
        raise ConfigError(f"{folder} has no clip of a training speaker, only of those that a network is judged on",
                          "add clips of others, or name another folder")  # fmt: skip
    try:
        return audio.find(folder)
    except NothingCompared as e:
        raise ConfigError(e.message, e.hint) from None


def features(of: system.System, folder: Path, step: Progress, count: int = COUNT) -> list[Array]:
    """Features `[frames, bands]` of about `count` clips below a folder, evenly spread.

    ConfigError where it holds none to calibrate on, or one that doesn't fit the recipe.
    """
    found = clips(of, folder)
    paths = found[:: max(1, len(found) // count)][:count]
    backend, tap, out = _backend(of), of.frontend.output, []
    # Sums of several threads differ in their last bit, and so would the ranges and every byte that follows.
    with threadpoolctl.threadpool_limits(1):
        for done, path in enumerate(paths):
            step(f"calibration of {of.name}", done, len(paths))
            clip = audio.read(path, audio.name_of(path, folder), of.frontend)
            (taps,) = backend.features([clip], of.frontend, frozenset({tap}))
            out.append(np.asarray(taps[tap]))
    return out


def _backend(of: system.System) -> FeatureBackend:
    for name in _FEATURES:
        try:
            backend: FeatureBackend = registry.create("backend", name)
        except MissingExtra:
            continue
        if backend.supports(of.frontend) is None:
            return backend
    raise ConfigError(f"no backend that is installed computes the recipe of {of.name}", "parity list plugins")


def taken(of: system.System, inputs: Sequence[Array]) -> bytes:
    """A system's ranges.json, from features `[frames, bands]`. ConfigError where it has no float graph to run."""
    artifact = networks.source(of)
    if artifact is None:
        raise ConfigError(f"{of.name} has no float32 ONNX file, whose tensors could be looked at", "export one")
    exact = np.issubdtype(np.dtype(of.frontend.dtype(of.frontend.output)), np.integer)
    native = (layout.native(np.asarray(x, np.float64), artifact.input.layout) for x in inputs)
    return ranges.written(ranges.measured(load(artifact.path), native, artifact.sha256, bool(exact)))
