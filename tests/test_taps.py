from __future__ import annotations

import pytest

from parity import frontend as fe
from parity import taps
from parity.testing import RECIPES


@pytest.mark.parametrize("name", [*taps.FEATURE_TAPS, *taps.DECISION_TAPS, taps.MODEL_INPUT, "model/conv1.bn_2-x"])
def test_names_that_follow_the_grammar(name: str) -> None:
    assert taps.is_tap(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "model",
        "model/",
        "logits",
        "Model/x",
        "model/X",
        "model/a/b",
        "model/_x",
        "other/x",
        "model/x\n",
        " model/x",
    ],
)
def test_names_that_dont(name: str) -> None:
    assert not taps.is_tap(name)


def test_a_recipes_taps_are_in_flow_order() -> None:
    for frontend in RECIPES.values():
        assert [t for t in taps.FEATURE_TAPS if t in frontend.taps] == list(frontend.taps)


def test_every_stage_has_its_tap() -> None:
    assert len(taps.FEATURE_TAPS) == len(fe.STAGES)
    assert all(taps.is_feature(t) for t in taps.FEATURE_TAPS)
    assert not taps.is_feature(taps.MODEL_INPUT)


def test_regenerated_taps_come_before_the_first_arithmetic() -> None:
    assert {"features/audio", "features/frames", "features/windowed"} == taps.REGENERATED_TAPS
