"""Strategies: what they draw fits, is readable, and shrinks to what is simplest."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from parity import audio, patterns, search
from parity import frontend as fe
from parity.errors import ConfigError
from parity.parameters import Parameters, Sound, describe, from_plain, named, render, to_plain
from parity.protocols import Clip
from parity.testing import RECIPES
from tests.conftest import PROJECT

RECORDINGS = PROJECT / "golden" / "clips"


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


@given(search.parameters(RECIPES["commands-cnn"], RECORDINGS))
def test_drawn_parameters_are_few_and_written_down_exactly(drawn: Parameters) -> None:
    assert 1 <= len(named(drawn)) <= search.MOST_NAMED
    assert from_plain(to_plain(drawn)) == drawn
    assert render(drawn, RECORDINGS).shape == (drawn.samples,)


def test_a_clip_is_named_by_its_parameters_and_is_what_they_render_to() -> None:
    drawn = Parameters(dc=0.3, length=700)
    clip = search.clip_of(drawn)
    assert clip.name == describe(drawn) == "DC 0.3, length 700"
    np.testing.assert_array_equal(clip.samples, render(drawn))


FOUND = {
    "loud": (lambda p: bool(np.abs(render(p, RECORDINGS)).max() > 0.5), "tone 1000 Hz"),
    "all at negative full scale": (lambda p: bool(render(p, RECORDINGS).max() == -1.0), "DC -1"),
    "one sample short of a hop": (lambda p: p.samples > 600 and (p.samples - 512) % 160 == 159, "length 671"),
    "a recording": (lambda p: any(s.kind == "recording" for s in p.sounds), "chirp.flac"),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_is_found_shrinks_to_what_is_needed(what: str) -> None:
    condition, wanted = FOUND[what]
    found = find(search.parameters(RECIPES["commands-cnn"], RECORDINGS), condition)
    assert wanted in named(found)
    assert len(named(found)) <= 2, describe(found)


@pytest.mark.parametrize("kind", ["recording", "pink", "chirp", "step"])
def test_every_kind_is_drawn(kind: str) -> None:
    assert find(search.parameters(RECIPES["mfcc"], RECORDINGS), lambda p: [s.kind for s in p.sounds] == [kind])


@given(search.inputs((1, 7, 5)))
def test_drawn_inputs_are_finite_and_of_their_shape(x: np.ndarray) -> None:
    assert x.shape == (1, 7, 5)
    assert x.dtype == np.float32
    assert np.isfinite(x).all()


@pytest.mark.parametrize("shape", [5, [1, 5], (1, 0), (1, -1), (1, None), ("N", 5)])
def test_inputs_of_no_shape_are_refused(shape: Any) -> None:
    with pytest.raises(ConfigError, match="takes a shape as a tuple of whole numbers above 0, not"):
        search.inputs(shape)


@pytest.mark.parametrize("dtype", ["float99", "bool", "str"])
def test_inputs_of_no_dtype_are_refused(dtype: str) -> None:
    with pytest.raises(ConfigError, match="makes floats and integers, not"):
        search.inputs((1, 5), dtype)


def test_clips_of_a_path_are_refused_with_who_takes_it() -> None:
    with pytest.raises(
        ConfigError, match=r"clips\(\) takes a Frontend, not a str: parity.testing.clips takes paths too"
    ):
        search.clips("my-kws/system.toml")  # type: ignore[arg-type]


def test_inputs_too_small_to_be_normal_are_drawn_and_found_as_two_numbers() -> None:
    def denormal(p: patterns.Pattern) -> bool:
        x = patterns.render(p, (3, 4))
        return bool(((x != 0) & (np.abs(x) < np.finfo(np.float32).tiny)).any())

    assert len(patterns.named(find(search.patterns(), denormal))) <= 2


@pytest.mark.parametrize("at", [0, 7999, 8000, 12800, 14399, 14400, 15999])
def test_a_sound_that_begins_late_is_not_played_so_slowly_that_it_is_never_heard(at: int) -> None:
    sounds = (Sound(kind="recording", file="chirp.flac"), Sound(kind="impulse", at=at))
    allowed = search._speeds(sounds, 16000)
    assert {1.1, 1.25, 2.0} <= set(allowed)
    for speed in (0.5, 0.8, 0.9, 1.1, 1.25, 2.0):
        if speed in allowed:
            assert Parameters(sounds=sounds, speed=speed).speed == speed
        else:
            with pytest.raises(ValueError, match="at must be below"):
                Parameters(sounds=sounds, speed=speed)
