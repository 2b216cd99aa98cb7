"""What judging and deriving bounds cost, apart from everything else: `make bench`.

Bounds are measured against the oracle: ratios of calls taken in turn, so that a machine whose speed drifts doesn't
decide.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from parity import frontend as fe
from parity import system
from parity.backends import reference
from parity.bounds.features import Interval, bounds
from parity.compare import compare
from parity.protocols import Arithmetic, Array, Clip
from parity.signals import Signal, render
from parity.sources import CHUNK

SPEECH_LIKE = Signal(kind="pink", level_dbfs=-12.0, seed=1, fade=2000, noise_dbfs=-60.0)
CLIP = Clip("pink noise", render(SPEECH_LIKE), 16_000, "")
RECIPES: dict[fe.Frontend, str] = {s.frontend: s.name for s in reversed(system.find([])) if s.frontend.stft is not None}
"""Each recipe of the reference models that starts from a spectrum, and the first system that has it."""


def taps_of(count: int) -> list[tuple[Array, Interval]]:
    """As many log-mel taps of (98, 40), each with its bound, as a correct float32 implementation might give them."""
    random = np.random.default_rng(0)
    made = []
    for _ in range(count):
        value = random.uniform(-14.0, 2.0, (98, 40))
        half = 1e-5 * random.uniform(0.1, 1.0, value.shape)
        got = (value + half * random.uniform(-0.5, 0.5, value.shape)).astype(np.float32)
        made.append((got, Interval(value, value - half, value + half)))
    return made


def judged(taps: Sequence[tuple[Array, Interval]]) -> bool:
    return all(compare(got, x.value, x.lo, x.hi, "float32").outcome == "pass" for got, x in taps)


def test_one_98_by_40_tap(benchmark: BenchmarkFixture) -> None:
    assert benchmark(judged, taps_of(1))
    assert benchmark.stats.stats.min <= 150e-6


def test_98_by_40_taps_of_a_job(benchmark: BenchmarkFixture) -> None:
    """A job's clips, one after the other, as they are judged."""
    assert benchmark(judged, taps_of(CHUNK))
    each = benchmark.stats.stats.min / CHUNK
    benchmark.extra_info["each_us"] = round(1e6 * each, 1)
    print(f"\n(98, 40), each of {CHUNK}: {1e6 * each:.1f} µs")
    assert each <= 50e-6


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@pytest.mark.parametrize("arithmetic", ["float32", "float64-rounded"])
@pytest.mark.parametrize("frontend", RECIPES, ids=RECIPES.values())
def test_bounds_over_the_oracle(benchmark: BenchmarkFixture, frontend: fe.Frontend, arithmetic: Arithmetic) -> None:
    """At most three times the oracle's own time for one second of sound."""
    arrays = reference.oracle(frontend, CLIP)
    bounds(frontend, arrays, arithmetic)
    found: list[tuple[float, float]] = []

    def in_turn() -> None:
        found.append(
            (seconds(lambda: reference.oracle(frontend, CLIP)), seconds(lambda: bounds(frontend, arrays, arithmetic)))
        )

    benchmark.pedantic(in_turn, rounds=200)
    oracle, derived = (statistics.median(column) for column in zip(*found, strict=True))
    ratio = statistics.median(b / a for a, b in found)
    benchmark.extra_info.update({"oracle_ms": 1e3 * oracle, "bounds_ms": 1e3 * derived, "ratio": ratio})
    print(f"\n{RECIPES[frontend]}, {arithmetic}: oracle {1e3 * oracle:.2f} ms, bounds {1e3 * derived:.2f} ms, "
          f"ratio {ratio:.2f}")  # fmt: skip
    assert ratio <= 3.0
