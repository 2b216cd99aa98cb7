"""Whole processes: `parity run` on goldens against the bare loop, and the memory of the whole process tree.

Ratios of runs taken in turn, so that a machine whose speed drifts doesn't decide. Needs PARITY_DATA.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.plugins_for_tests import rig

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ROUNDS = 3
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def measured(command: Sequence[str]) -> tuple[float, float]:
    """Seconds, and the largest sum of resident memory over the process and its children in MiB."""
    start, peak = time.perf_counter(), 0
    process = psutil.Popen(list(command), cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            tree = [process, *process.children(recursive=True)]
            peak = max(peak, sum(p.memory_info().rss for p in tree))
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.02)
    assert process.returncode == 0, command
    return time.perf_counter() - start, peak / 2**20


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "PARITY_DATA" not in os.environ:
        pytest.skip("PARITY_DATA is not set: no speech to measure on")
    words = Path(os.environ["PARITY_DATA"]) / "speech_commands"
    folder = tmp_path_factory.mktemp("speech")
    for n in (12, 100, 1000):
        (folder / f"{n}").mkdir()
        every = sorted(words.glob("*/*.flac"))
        for i, path in enumerate(every[:: len(every) // n][:n]):
            (folder / f"{n}" / f"{i:04}.flac").symlink_to(path)
    return folder


@pytest.mark.parametrize("clips", [12, 100, 1000])
def test_overhead(benchmark: BenchmarkFixture, speech: Path, tmp_path: Path, clips: int) -> None:
    parity = [sys.executable, "-m", "parity"]
    goldens = tmp_path / "golden"
    sound = str(speech / str(clips))
    # Float32 files alone: the bounds of other precisions, which nothing here asks for, cost a second a clip.
    of = str(rig.system(tmp_path / "commands-cnn", formats=("onnx", "torch")))
    measured([*parity, "golden", "record", "--system", of, "--audio", sound, "--out", str(goldens)])
    run = [*parity, "run", "--system", of, "--backend", "librosa", "--runtime", "onnxrt"]
    run += ["--precision", "float32"]
    run += ["--golden", str(goldens), "--report", str(tmp_path)]
    model = ROOT / "reference_models" / "commands-cnn" / "commands-cnn.onnx"
    bare = [sys.executable, str(HERE / "bare.py"), str(model), str(speech / str(clips))]
    measured(bare)  # librosa caches what it compiles
    ratios, ours, theirs = [], [], []

    def once() -> None:
        ours.append(measured(run))
        theirs.append(measured(bare))
        ratios.append(ours[-1][0] / theirs[-1][0])

    benchmark.pedantic(once, rounds=ROUNDS)
    found = {
        "ratio": statistics.median(ratios),
        "run_s": statistics.median(s for s, _ in ours),
        "bare_s": statistics.median(s for s, _ in theirs),
        "run_peak_mib": max(m for _, m in ours),
        "bare_peak_mib": max(m for _, m in theirs),
    }
    benchmark.extra_info.update(found)
    print(f"\n{clips} clips: " + ", ".join(f"{k} {v:.3g}" for k, v in found.items()))
