"""How far a network's activations may move: which file says it, for which precisions, and under which names.

The numbers are made where the network is run (`parity.runtimes.monte_carlo`); a golden keeps them beside its values,
and for clips that have none they are worked out in the run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from parity.bounds.features import Interval, U
from parity.frontend import Frontend
from parity.networks.arithmetic import PRECISIONS
from parity.protocols import Array, Artifact, Tap
from parity.system import System

RUNTIME = "monte-carlo"
PATHS = ("isolated", "cumulative")

MOVED = 0.1
"""Features move by their spread, not by their bound: uniform in this part of it either way. Root mean squares of error
over bound that were measured on six recipes, four backends and 59 clips: 0.01 to 0.26, half of them below 0.04."""


def source(system: System) -> Artifact | None:
    """The float32 ONNX file that bounds are derived from, if there is one."""
    return next(
        (
            a
            for a in system.artifacts
            if a.format == "onnx" and a.precision == "float32" and not (a.state or a.constants) and a.frames is None
        ),
        None,
    )


def held(precision: str, path: str) -> tuple[float, str, str] | None:
    """(factor, precision, path) of the half-width that a verdict goes by; None where none is derived.

    A file of floats and the kernels that say what it computes each round in float32, either way. What dynamic range
    quantizes as it comes is between its own kernels alone; of integers, how kernels round them isn't arithmetic.
    """
    if path in PATHS:
        return 1.0, precision, path
    if path == "deployment" and precision in ("float32", "float16", "bfloat16"):
        return 2.0, "float32", "isolated"
    return (2.0, precision, "isolated") if path == "deployment" and precision == "dynamic" else None


def name(tap: Tap, precision: str, path: str) -> str:
    """The name of a half-width beside its tap: `model/logits:int8:isolated`."""
    return f"{tap}:{precision}:{path}"


def _known(artifact: Artifact, precision: str) -> bool:
    """Whether what a precision rounds is known: of integers by the ranges that they were calibrated to."""
    return precision in PRECISIONS and (not PRECISIONS[precision].levels or artifact.ranges is not None)


def bounded(artifact: Artifact, precisions: Iterable[str]) -> Artifact:
    """The artifact with the half-widths of the precisions that can be derived as taps of it."""
    known = [p for p in sorted(set(precisions)) if _known(artifact, p)]
    ports = {
        name(tap, precision, path): port
        for tap, port in artifact.taps.items() for precision in known for path in PATHS
    }  # fmt: skip
    return dataclasses.replace(artifact, taps={**artifact.taps, **ports})


def wanted(taps: Iterable[Tap], artifact: Artifact) -> frozenset[Tap]:
    """The taps, and the half-widths beside them that `artifact` (see `bounded`) gives."""
    asked = set(taps)
    return frozenset(t for t in artifact.taps if t.partition(":")[0] in asked)


def moved(frontend: Frontend, features: Interval) -> Array:
    """How far each of the network's features may move, float64: their spread, where the bound says how far at most.

    Integers move by whole steps, where they may at all.
    """
    with np.errstate(invalid="ignore"):
        half = np.maximum(features.hi - features.value, features.value - features.lo)
    half = np.where(np.isfinite(half), half, 0.0)
    return np.asarray(half if np.issubdtype(np.dtype(frontend.dtype(frontend.output)), np.integer) else MOVED * half)


def half_of(halves: Mapping[str, Array], tap: Tap, precision: str, path: str) -> Array | None:
    """The half-width that a verdict goes by, where it is derived."""
    if (by := held(precision, path)) is None:
        return None
    half = halves.get(name(tap, by[1], by[2]))
    if half is None or path != "deployment":
        return half
    # Another file than the trained network: a channel that is off there may be on in it.
    return by[0] * np.maximum(half, 0.5 * np.sqrt(np.square(half).mean()))


def halves(taps: Mapping[Tap, Array]) -> dict[str, Array]:
    """The half-widths among what the runtime gave."""
    return {t: np.asarray(a, np.float64) for t, a in taps.items() if ":" in t}


def stored(value: Array, half: Array) -> Array:
    """The half-width around the float32 that a golden stores: half an ulp more."""
    return np.asarray(half + U * np.abs(np.asarray(value, np.float64)))


def interval(value: Array, half: Array) -> Interval:
    """The interval of a half-width around an activation."""
    v = np.asarray(value, np.float64)
    return Interval(v, v - half, v + half)


def derivable(system: System, tap: Tap, precision: str, path: str) -> bool:
    """Whether the bound of a tap of a file of this precision follows from arithmetic: then it needs no rule."""
    artifact = source(system)
    if artifact is None or tap not in artifact.taps or not _known(artifact, precision):
        return False
    return held(precision, path) is not None


def underived(system: System) -> list[str]:
    """Precisions of a system's files that have no bounds although its graph can be followed, sorted."""
    artifact = source(system)
    return [p for p in precisions(system.artifacts) if artifact is not None and not _known(artifact, p)]


def precisions(artifacts: Sequence[Artifact]) -> list[str]:
    """The precisions of files, each once, sorted."""
    return sorted({a.precision for a in artifacts})
