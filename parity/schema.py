"""What a system.toml may hold, table by table, as frozen types. Nothing is checked here: see `parity.consistency`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from parity.protocols import Array, Artifact, Port, State, Tap


@dataclass(frozen=True, kw_only=True)
class Model:
    """[model]: the network, whatever the file."""

    taps: tuple[Tap, ...] = ("model/logits",)
    shape: tuple[int | Literal["any"], int] | None = None
    reference: str | None = None
    ranges: str | None = None
    """File beside it: what each tensor ranged over while files of integers were calibrated (`parity models ranges`)."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How a label is chosen: the largest element of the tap `source`, or whether one is above a threshold.

    The margin is its lead over the second, or over the threshold.
    """

    rule: Literal["argmax", "threshold"] = "argmax"
    source: Tap = "model/logits"
    threshold: float | None = None
    """For the rule `threshold`: the second of two labels where any element of `source` is above it, else the first."""

    def logits(self, values: Array) -> Array:
        """What the labels are chosen by, `[labels]`: `source` itself, or the threshold and the largest element."""
        if self.threshold is None or not values.size:
            return values
        return np.array([self.threshold, values.max()], values.dtype)

    def room(self, half: Array) -> Array:
        """How far each of `logits` may move where `source` may move by `half`."""
        return half.reshape(-1) if self.threshold is None else np.array([0.0, half.max(initial=0.0)])


@dataclass(frozen=True, kw_only=True)
class Published:
    """What was published of what a network costs, as it was printed, and why what is counted here differs."""

    parameters: str
    multiply_adds: str
    input: tuple[int, ...]
    """Shape that was counted with, in PyTorch's order, with its batch."""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Vector:
    """A published input and output of one or more stages; see `parity.vectors`."""

    input: str
    tap: Tap
    expected: str
    after: Tap | None = None
    transposed: bool = False
    tolerance: float = 0.0
    recipe: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """What proves the recipe when goldens are recorded, where `--anchor` doesn't say."""

    backend: str | None = None
    """An independent implementation. None: librosa, or none beside published vectors."""
    source: str = ""
    """Who published the vectors, and under which licence."""
    vector: tuple[Vector, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ArtifactTable:
    """[[artifacts]]: one file."""

    format: str
    precision: str = "float32"
    file: str
    network: str | None = None
    kernels: str | None = None
    frames: int | None = None
    state: tuple[State, ...] = ()
    context: int = 0
    constants: Mapping[str, int | float] = field(default_factory=dict)
    reset: str | None = None
    input: Port
    taps: Mapping[Tap, Port]


@dataclass(frozen=True, kw_only=True)
class StreamingTable:
    """[streaming]: how it runs on sound that doesn't end."""

    tap: Tap
    chunks: tuple[int, ...] = (1,)
    smoothing: float = 0.0
    threshold: float
    ignored: tuple[str, ...] = ()
    artifacts: tuple[ArtifactTable, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """How a system runs on sound that doesn't end: `artifacts` take a few frames and a state, and hand the state on."""

    tap: Tap
    """Logits of each frame, as if the clip ended there: equal to the whole clip's."""
    chunks: tuple[int, ...]
    """Frames in a chunk, each size tried in turn."""
    smoothing: float
    """Seconds over which posteriors are averaged."""
    threshold: float
    """A smoothed posterior above it is a detection, if its label isn't among `ignored`."""
    ignored: tuple[str, ...]
    artifacts: tuple[Artifact, ...]
    not_built: tuple[str, ...]
    unbuilt: tuple[Artifact, ...] = ()
    """The artifacts whose files aren't there, without a digest."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A whole system.toml."""

    name: str
    description: str = ""
    labels: tuple[str, ...]
    frontend: Mapping[str, Any]
    model: Model = field(default_factory=Model)
    decision: Decision = field(default_factory=Decision)
    published: Published | None = None
    anchor: Anchor = field(default_factory=Anchor)
    streaming: StreamingTable | None = None
    artifacts: tuple[ArtifactTable, ...]
