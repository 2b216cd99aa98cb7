"""What a page costs: `make bench`. Aims: 5 s for 100 clips, 20 taps and 9 pairs; 6 MB for 8 systems and 12 clips."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from parity.records import read_run
from parity.report import html
from tests.report.large import large


@pytest.mark.parametrize("failing", [False, True], ids=["passing", "failing"])
def test_a_page_of_100_clips_20_taps_9_pairs(benchmark: BenchmarkFixture, tmp_path: Path, failing: bool) -> None:
    folder = large(tmp_path, systems=1, clips=100, failing=failing)
    run = read_run(folder)
    benchmark.pedantic(lambda: html.write(folder, run), rounds=3)
    assert benchmark.stats["max"] < 5.0


@pytest.mark.parametrize("failing", [False, True], ids=["passing", "failing"])
def test_a_page_of_8_systems_of_12_clips(benchmark: BenchmarkFixture, tmp_path: Path, failing: bool) -> None:
    folder = large(tmp_path, systems=8, clips=12, backends=4, runtimes=8, failing=failing)
    run = read_run(folder)
    benchmark.pedantic(lambda: html.write(folder, run), rounds=1)
    size = (folder / "index.html").stat().st_size
    print(f"{size / 1e6:.2f} MB")
    assert size < 6_000_000
