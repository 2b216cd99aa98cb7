"""A real run that the tests of machine formats read: a wrong backend beside a right one, on three clips."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity import gate, settings
from parity.plan import Selection
from tests.plugins_for_tests import rig

WRONG = "faulty.backends:SymmetricHann"


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a gate run that fails."""
    folder = tmp_path_factory.mktemp("real")
    golden = rig.goldens(folder / "golden")
    selection = Selection(
        systems=(str(rig.SYSTEM),), backends=("numpy", WRONG), runtimes=("onnxrt", "tflite"),
        precisions=("float32", "int8"), golden=golden,
    )  # fmt: skip
    with rig.target() as target:
        done, written = gate.gate(
            selection, target, folder / "reports", settings.Gate(), "parity gate", lambda *_: None
        )
    assert done.exit_code == 1
    return written
