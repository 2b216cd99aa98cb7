"""The mutants of networks are what they say: each mistake starts at its own tap, and its file computes it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from parity.expected import features_of
from parity.protocols import Array, Clip, Tap
from tests.mutants import recipes
from tests.mutants.networks import NETWORKS, Mutant
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # every network is exported

CLIPS = ("yes-en-us-f2", "on-en-gb-midlands-m5")


def nothing(_net: object) -> None:
    """Leaves a network as it was trained."""


@cache
def fed(of: str, name: str) -> Array:
    return features_of(Clip(name, rig.clip(name), 16000, ""), recipes.frontend(of))[1]


@cache
def trained(of: str, name: str) -> dict[Tap, Array]:
    with Mutant("trained", of, nothing, (), "").exact() as run:
        return run(fed(of, name))


def away(a: Array, b: Array) -> float:
    """Largest difference over the root mean square of `b`."""
    return float(np.abs(a - b).max() / np.sqrt(np.square(b).mean()))


@pytest.mark.parametrize("mutant", NETWORKS, ids=[m.name for m in NETWORKS])
def test_a_mistake_starts_at_its_own_tap_and_its_file_computes_it(mutant: Mutant, tmp_path: Path) -> None:
    with mutant.candidate(tmp_path) as run, mutant.exact() as run_exactly:
        for name in CLIPS:
            right, wrong = trained(mutant.of, name), run_exactly(fed(mutant.of, name))
            shown = [tap for tap in right if away(wrong[tap], right[tap]) > 1e-9]
            assert shown
            assert shown[0] == mutant.tap
            got = run(fed(mutant.of, name))
            assert got.keys() == right.keys()
            assert max(away(got[tap], wrong[tap]) for tap in right) < 1e-4


@pytest.mark.parametrize("of", sorted({m.of for m in NETWORKS}))
def test_a_file_without_a_mistake_computes_the_trained_network(of: str, tmp_path: Path) -> None:
    with Mutant("trained", of, nothing, (), "").candidate(tmp_path) as run:
        for name in CLIPS:
            got = run(fed(of, name))
            assert max(away(got[tap], right) for tap, right in trained(of, name).items()) < 1e-4


def test_the_list_covers_each_kind_of_network_and_both_runtimes() -> None:
    assert len({m.name for m in NETWORKS}) == len(NETWORKS) >= 25
    assert {m.of for m in NETWORKS} == {
        f"{n}" for n in ("commands-cnn", "mfcc-lstm", "mel40-mobilenetv2", "logmel-gru", "tiny-conv")
    }
    assert {m.runtime for m in NETWORKS} == {"onnxrt", "torch"}
    assert len(recipes.SINGLE) + len(NETWORKS) >= 45
