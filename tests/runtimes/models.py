"""The committed networks in the format of a runtime."""

from __future__ import annotations

from parity import system
from parity.protocols import Artifact
from tests.conftest import PROJECT


def of(name: str, form: str) -> Artifact:
    """The float32 file of a committed system in a format."""
    found = system.load(PROJECT / "reference_models" / name)
    return next(a for a in found.artifacts if a.format == form and a.precision == "float32")


def commands_cnn(form: str) -> Artifact:
    """The float32 file of commands-cnn in a format."""
    return of("commands-cnn", form)
