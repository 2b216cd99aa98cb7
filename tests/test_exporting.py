"""The committed files are what the export writes today, and an export that isn't the network is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.plugins_for_tests import rig

pytest.importorskip("tensorflow")
pytest.importorskip("torch")
pytestmark = pytest.mark.slow


def test_the_committed_files_are_what_is_exported_today(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(rig.SYSTEM / "export.py"), "--out", str(tmp_path)], env=rig.environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    committed = json.loads((rig.SYSTEM / "artifacts.json").read_text())
    written = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.iterdir() if p.suffix != ".json"}
    assert written == {n: a["sha256"] for n, a in committed.items()}


def test_what_leaves_pytorch_is_refused_and_named() -> None:
    from parity import exporting

    x = {"model/relu1": np.ones((2, 3), np.float32), "model/logits": np.ones(3, np.float32)}
    off = x | {"model/logits": np.array([1, 1, 1.01], np.float32)}
    exporting.hold("it", iter([x]), [x], 1e-5)
    with pytest.raises(SystemExit, match=r"it is not the PyTorch network: model/logits differs by 1\.0e-02"):
        exporting.hold("it", iter([off]), [x], 1e-5)
    with pytest.raises(SystemExit, match=r"model/relu1 has shape \(3, 2\)"):
        exporting.hold("it", iter([x | {"model/relu1": np.ones((3, 2), np.float32)}]), [x], 1e-5)
    with pytest.raises(SystemExit, match="differs by nan"):
        exporting.hold("it", iter([x | {"model/logits": np.full(3, np.nan, np.float32)}]), [x], 1e-5)
