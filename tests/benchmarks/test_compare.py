"""What judging costs, apart from everything else: `make bench`."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from parity import system
from parity.backends import reference
from parity.bounds.features import bounds
from parity.compare import compare
from parity.protocols import Clip


@pytest.fixture(scope="module")
def noise() -> Clip:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)
    return Clip("noise", samples, 16_000, "")


def test_one_98_by_50_tap(benchmark: BenchmarkFixture, noise: Clip) -> None:
    frontend = system.find(["commands-cnn"])[0].frontend
    oracle = reference.oracle(frontend, noise)
    x = bounds(frontend, oracle)[frontend.output]
    candidate = x.value.astype(np.float32)
    assert benchmark(compare, candidate, x.value, x.lo, x.hi, "float32").outcome == "pass"


def test_oracle_of_one_second(benchmark: BenchmarkFixture, noise: Clip) -> None:
    benchmark(reference.oracle, system.find(["commands-cnn"])[0].frontend, noise)


def test_bounds_of_one_second(benchmark: BenchmarkFixture, noise: Clip) -> None:
    frontend = system.find(["commands-cnn"])[0].frontend
    benchmark(bounds, frontend, reference.oracle(frontend, noise))
