from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tflite_micro", reason="tflite-micro isn't installed: pip install 'parity[tflm]'")

from parity import registry
from parity.errors import ConfigError, ModelError
from parity.protocols import Artifact, Port, Unsupported
from parity.testing import RuntimeConformance
from tests.runtimes.models import commands_cnn


class TestTflmConformance(RuntimeConformance):
    spec = "tflm"

    def artifact(self) -> Artifact:
        return commands_cnn("tflite")
