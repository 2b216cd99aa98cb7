from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from parity import audio, search
from parity import frontend as fe
from parity.protocols import Clip
from parity.signals import Signal, describe, render
from parity.testing import RECIPES


@given(st.sampled_from(sorted(RECIPES)).flatmap(lambda n: st.tuples(st.just(RECIPES[n]), search.clips(RECIPES[n]))))
def test_drawn_clips_fit_their_recipe(drawn: tuple[fe.Frontend, Clip]) -> None:
    frontend, clip = drawn
    assert clip.rate == frontend.input.rate
    assert clip.samples.dtype == np.float32
    assert np.abs(clip.samples).max() <= 1.0
    assert frontend.frames(len(clip.samples)) >= 1
    assert clip.sha256 == audio.digest(clip.samples, clip.rate)


def test_a_recipe_that_refuses_other_lengths_gets_its_own() -> None:
    strict = dataclasses.replace(RECIPES["commands-cnn"], input=fe.Input(rate=16000, length=16032, fit="refuse"))

    @given(search.clips(strict))
    def check(clip: Clip) -> None:
        assert len(clip.samples) == 16032

    check()


@pytest.mark.parametrize("n", [16032, 512, 511, 513, 672, 8016])
def test_lengths_hold_the_edges_of_framing(n: int) -> None:
    assert find(search.lengths(RECIPES["commands-cnn"]), lambda x: x == n) == n


def test_a_clip_is_named_by_its_parameters_and_is_what_they_render_to() -> None:
    signal = Signal(kind="tone", frequency=440.0, level_dbfs=-80.0, dc=0.3)
    clip = search.clip_of(signal)
    assert clip.name == describe(signal)
    np.testing.assert_array_equal(clip.samples, render(signal))


def test_what_is_found_shrinks_to_readable_numbers() -> None:
    signal = find(search.signals(RECIPES["commands-cnn"]), lambda s: bool(np.abs(render(s)).max() > 0.5))
    assert len(describe(signal)) < 60, describe(signal)
