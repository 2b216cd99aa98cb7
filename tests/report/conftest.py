"""A real run that the tests of machine formats read: a wrong backend beside a right one, on three clips."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugins_for_tests import rig

WRONG = "faulty.backends:SymmetricHann"


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that fails."""
    folder = tmp_path_factory.mktemp("real")
    golden = rig.goldens(folder / "golden")
    with rig.target() as target:
        done = rig.run(target, golden, folder / "reports", backends=("numpy", WRONG), runtimes=("onnxrt", "tflite"),
                       precisions=("float32", "int8"))  # fmt: skip
    assert done.exit_code == 1
    return folder / "reports" / done.name
