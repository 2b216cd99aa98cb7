"""`parity gate` as typed, on three systems with all that is installed, 19 clips: under three minutes on 2 cores."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = ("commands-cnn", "mfcc-lstm", "tiny-conv")


def test_gate(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    golden = shutil.copytree(ROOT / "golden", tmp_path / "golden")
    where = [f"--golden={golden}", f"--report={tmp_path / 'reports'}"]
    gate = [sys.executable, "-m", "parity", "gate", *(f"--system={s}" for s in SYSTEMS), *where]

    def once() -> None:
        subprocess.run(gate, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    once()  # librosa caches what it compiles; and there is something to accept
    accept = [sys.executable, "-m", "parity", "accept", "--reason=measured", *where]
    subprocess.run(accept, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    benchmark.pedantic(once, rounds=1)
    took = benchmark.stats.stats.max
    print(f"\nparity gate on {', '.join(SYSTEMS)}: {took:.0f} s")
    assert took < 180
