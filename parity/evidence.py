"""What a candidate computed for a clip at every tap that it gave: what `explain` works on, wherever it came from.

A run keeps it for clips that fail; a dump from a device is read into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from parity.protocols import Array, Clip, Tap


@dataclass(frozen=True, eq=False)
class Evidence:
    """A clip, and the candidate's arrays at the taps that it gave: time-major, of the dtype that it gave them in.

    `features` are those of a backend. `model` are the activations of a runtime fed with `fed` (the golden's features
    where `path` is isolated, the backend's where it is cumulative).
    """

    system: str
    clip: Clip
    features: Mapping[Tap, Array] = field(default_factory=dict)
    model: Mapping[Tap, Array] = field(default_factory=dict)
    fed: Array | None = None
    backend: str = ""
    runtime: str = ""
    precision: str = ""
    path: str = "features"
    """features, isolated or cumulative."""
