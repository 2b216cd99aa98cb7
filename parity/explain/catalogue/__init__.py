"""The neighbourhood of a recipe: every setting that people mix up, as data.

A module a group of stages; each has `entries(frontend)`, which gives what there is to change in that recipe. To add a
setting: a line there, and its key in `tests/explain`.
"""

from __future__ import annotations

from parity import frontend as fe
from parity.explain.catalogue import bank, compress, framing, integers, layout, samples, spectrum
from parity.explain.settings import Knob, Setting

Entry = Setting | Knob


def entries(frontend: fe.Frontend) -> list[Entry]:
    """All settings and knobs of a recipe, in flow order."""
    groups = (samples, framing, spectrum, bank, compress, integers, layout)
    return [entry for group in groups for entry in group.entries(frontend)]
