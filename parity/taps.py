"""The grammar of tap names: `features/<stage>`, `model/<layer>`, `decision/<what>`.

A tap is a point where arrays are compared. Names pair exactly; there is no matching by substring or position.
Every array at a tap is C-contiguous and *time-major*: `[frames, bins]` for features, `[time, band, channel]`
(whichever of them exist) for activations, whatever the framework's own order; the batch axis is dropped.
"""

from __future__ import annotations

import re

# In the order in which a recipe computes them.
FEATURE_TAPS = (
    "features/audio",
    "features/frames",
    "features/windowed",
    "features/spectrum",
    "features/micro",
    "features/filterbank",
    "features/compressed",
    "features/cepstrum",
    "features/normalized",
    "features/quantized",
)
# Taps that only copy samples about: goldens keep their digest, the oracle makes them again.
REGENERATED_TAPS = frozenset(FEATURE_TAPS[:3])

MODEL_INPUT = "model/input"
LABEL = "decision/label"
MARGIN = "decision/margin"
DECISION_TAPS = (LABEL, MARGIN)

_NAME = re.compile(r"(features|model|decision)/[a-z0-9][a-z0-9_.-]*")


def is_tap(name: str) -> bool:
    """Whether `name` follows the grammar."""
    return _NAME.fullmatch(name) is not None


def is_feature(name: str) -> bool:
    """Whether `name` is a stage of the frontend."""
    return name.startswith("features/")
