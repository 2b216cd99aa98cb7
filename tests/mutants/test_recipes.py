"""The mutants are what they say: the front end beneath them is right, and each mistake starts at its own tap."""

from __future__ import annotations

import numpy as np
import pytest

from parity.backends import reference
from parity.compare import compare
from parity.expected import features_of
from parity.protocols import Array, Clip, Tap
from tests.mutants import featurizer, recipes
from tests.plugins_for_tests import rig

SYSTEMS = (recipes.COMMANDS, recipes.MFCC, recipes.MEL40, recipes.LOGMEL, recipes.TINY)
CLIPS = ("yes-en-us-f2", "stop-en-us-m4", "quiet-yes", "clipped-stop")
EVERY = tuple(recipes.every())


def clip(name: str) -> Clip:
    return Clip(name, rig.clip(name), 16000, "")


def out_of_bounds(candidate: dict[Tap, Array], clip: Clip, of: str) -> list[Tap]:
    frontend = recipes.frontend(of)
    exact, _ = features_of(clip, frontend)
    return [
        tap
        for tap in frontend.taps
        if tap in candidate
        and compare(candidate[tap], exact[tap].value, exact[tap].lo, exact[tap].hi, frontend.dtype(tap)).outcome
        != "pass"
    ]


@pytest.mark.parametrize("of", SYSTEMS)
def test_without_a_mistake_it_is_the_recipe(of: str) -> None:
    frontend = recipes.frontend(of)
    right = featurizer.settings(frontend)
    for name in CLIPS:
        oracle = reference.oracle(frontend, clip(name))
        exact = featurizer.compute(right, rig.clip(name), np.float64)
        assert exact.keys() == oracle.keys()
        for tap, array in exact.items():
            np.testing.assert_allclose(array, oracle[tap], rtol=1e-9, atol=1e-12 * np.abs(oracle[tap]).max())
        assert out_of_bounds(featurizer.compute(right, rig.clip(name)), clip(name), of) == []


def differing(mutant: recipes.Mutant, samples: Array) -> list[Tap]:
    """The taps at which the mistake shows in float64, far above rounding."""
    right = featurizer.compute(featurizer.settings(recipes.frontend(mutant.of)), samples, np.float64)
    wrong = mutant.exact(samples)
    return [
        tap
        for tap, array in wrong.items()
        if array.shape != right[tap].shape
        or (np.abs(array.astype(np.float64) - right[tap]) > 1e-9 * np.abs(right[tap]).max()).any()
    ]


@pytest.mark.parametrize("mutant", EVERY, ids=[m.name for m in EVERY])
def test_a_mistake_starts_at_its_own_tap(mutant: recipes.Mutant) -> None:
    firsts = {found[0] for name in CLIPS if (found := differing(mutant, rig.clip(name)))}
    assert mutant.tap in firsts
    assert firsts <= set(mutant.taps)


@pytest.mark.parametrize("mutant", EVERY, ids=[m.name for m in EVERY])
def test_a_mistake_is_out_of_bounds_at_its_own_tap_first(mutant: recipes.Mutant) -> None:
    found = [out_of_bounds(mutant.candidate(rig.clip(name)), clip(name), mutant.of) for name in CLIPS]
    firsts = {taps[0] for taps in found if taps}
    assert mutant.tap in firsts
    assert firsts <= set(mutant.taps)


def test_the_list_is_long_and_says_each_thing_once() -> None:
    assert len(recipes.SINGLE) >= 45
    assert len(recipes.PAIRS) >= 20
    assert len({m.name for m in EVERY}) == len(EVERY)
    assert {m.of for m in EVERY} == set(SYSTEMS)
