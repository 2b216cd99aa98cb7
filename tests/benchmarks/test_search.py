"""`parity search` as typed: 10,000 examples of numpy and ONNX Runtime on commands-cnn in a minute on 2 cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from pytest_benchmark.fixture import BenchmarkFixture

from parity import system
from parity.parameters import Parameters, render
from parity.search import parameters

ROOT = Path(__file__).resolve().parents[2]
CLIPS = ROOT / "golden" / "clips"
PAIR = ("--system", "commands-cnn", "--backend", "numpy", "--runtime", "onnxrt")


def test_ten_thousand_examples(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    search = [sys.executable, "-m", "parity", "search", *PAIR, "--examples", "10000", "--format", "json"]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def once() -> str:
        done = subprocess.run(search, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
        return done.stdout

    told = json.loads(benchmark.pedantic(once, rounds=1))
    took = benchmark.stats.stats.max
    print(f"\n10,000 examples, {told['judged']:,} different, {told['bounds_worked_out']} with bounds of their own: "
          f"{took:.0f} s; nearest {told['worst']['ratio']:.2f} of its bound")  # fmt: skip
    assert told["examples"] == 10_000
    assert told["bounds_worked_out"] >= 100
    assert took < 60


def test_rendering_an_example(benchmark: BenchmarkFixture) -> None:
    frontend = system.load(ROOT / "reference_models" / "commands-cnn").frontend
    drawn: list[Parameters] = []

    @settings(max_examples=500, database=None, derandomize=True, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(parameters(frontend, CLIPS))
    def draw(p: Parameters) -> None:
        drawn.append(p)

    draw()
    took = []
    for p in drawn:
        begun = time.perf_counter()
        render(p, CLIPS)
        took.append(1e3 * (time.perf_counter() - begun))
    benchmark.pedantic(lambda: [render(p, CLIPS) for p in drawn], rounds=3)
    each = 1e3 * benchmark.stats.stats.min / len(drawn)
    print(
        f"\nrendering an example: {each:.2f} ms on average, {sorted(took)[int(0.99 * len(took))]:.2f} ms at most (99 %)"
    )
    assert each < 1.5
