"""The committed network in the format of a runtime."""

from __future__ import annotations

from parity import system
from parity.protocols import Artifact
from tests.conftest import PROJECT


def commands_cnn(form: str) -> Artifact:
    """The float32 file of commands-cnn in a format."""
    found = system.load(PROJECT / "reference_models" / "commands-cnn")
    return next(a for a in found.artifacts if a.format == form and a.precision == "float32")
