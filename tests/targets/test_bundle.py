"""The far side is one file that needs NumPy and nothing of parity."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import parity
from parity.targets.bundle import bundle


def test_the_same_sources_give_the_same_bytes() -> None:
    one = bundle()
    bundle.cache_clear()
    assert bundle() == one
    assert one.sha256 == hashlib.sha256(one.data).hexdigest()


def test_it_holds_what_runs_there_and_nothing_of_this_side() -> None:
    names = zipfile.ZipFile(io.BytesIO(bundle().data)).namelist()
    assert {"__main__.py", "parity/targets/far.py", "parity/backends/numpy_.py", "parity/runtimes/onnxrt.py"} <= set(
        names
    )
    assert not [n for n in names if n.startswith(("parity/cli", "parity/report", "parity/pipeline", "parity/bounds"))]


def test_it_starts_where_there_is_no_parity(tmp_path: Path) -> None:
    """Under an interpreter that finds NumPy alone: whatever else it imported would be missing."""
    import numpy as np

    (tmp_path / "far.pyz").write_bytes(bundle().data)
    site = tmp_path / "site"
    site.mkdir()
    packages = Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs"):
        if (packages / name).exists():
            (site / name).symlink_to(packages / name)
    done = subprocess.run(
        [sys.executable, "-S", str(tmp_path / "far.pyz")], input=b"", capture_output=True, timeout=60, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(site)},
    )  # fmt: skip
    assert done.stdout.startswith(b"\0parity-far-1\n"), done.stderr.decode()
    assert b'"hello"' in done.stdout
    assert str(Path(parity.__file__).parent).encode() not in done.stdout
