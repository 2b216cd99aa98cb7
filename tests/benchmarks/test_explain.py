"""What an explanation costs: `make bench`. The aim is the whole single-setting catalogue on one second within 10 s."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from parity.explain.cases import cases
from parity.explain.definition import Definition
from parity.explain.search import Search
from tests.explain.test_features import evidence, frontend


@pytest.mark.parametrize("name", ["commands-cnn", "mfcc-lstm"])
def test_all_single_settings_on_one_second(benchmark: BenchmarkFixture, name: str) -> None:
    """From the last tap alone, so that every setting of every stage is tried; nothing stops at the first that fits."""
    recipe = frontend(name)
    found = cases(evidence(name, periodic=False)[:1], recipe)
    search, d = Search(found, recipe), Definition(recipe)
    entries = search.entries(d, recipe.output, None)

    def whole() -> int:
        return len(search.singles(d, entries, found[0], recipe.output))

    assert benchmark.pedantic(whole, rounds=3) > 200
    assert benchmark.stats["max"] < 10.0
