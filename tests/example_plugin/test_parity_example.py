"""Their own tests: parity's conformance suite. The model is one with a system.toml beside it."""

from __future__ import annotations

import os
from pathlib import Path

from parity import system
from parity.protocols import Artifact
from parity.testing import BackendConformance, RuntimeConformance


class TestFrontend(BackendConformance):
    spec = "example"
    examples = 1


class TestRuntime(RuntimeConformance):
    spec = "example"

    def artifact(self) -> Artifact:
        found = system.load(Path(os.environ["EXAMPLE_MODEL"]))
        return next(a for a in found.artifacts if (a.format, a.precision) == ("tflite", "float32"))
