"""Augmentations: what each does to length, place and level, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity import augment

RAMP = np.linspace(-0.5, 0.5, 100, dtype=np.float32)
EVERY: list[Callable[[augment.Float32], augment.Float32]] = [
    lambda x: augment.time_shift(x, 0.2),
    lambda x: augment.zero_pad(x, 3, 4),
    lambda x: augment.gain(x, 1.5),
    lambda x: augment.play_speed(x, 1.3),
    lambda x: augment.add_noise(x, RAMP, 0.7),
]


@pytest.mark.parametrize("change", EVERY, ids=["time_shift", "zero_pad", "gain", "play_speed", "add_noise"])
@pytest.mark.parametrize("samples", [RAMP, RAMP[:1], RAMP[:0], -RAMP[::2]], ids=["ramp", "one", "none", "strided"])
def test_float32_at_full_scale_and_the_clip_itself_untouched(
    change: Callable[[augment.Float32], augment.Float32], samples: augment.Float32
) -> None:
    before = samples.copy()
    first = change(samples)
    assert first.dtype == np.float32
    assert first.ndim == 1
    assert np.abs(first).max(initial=0.0) <= 1.0
    assert np.array_equal(samples, before)
    assert not np.shares_memory(first, samples)
    assert np.array_equal(first, change(samples))


def test_a_shift_moves_by_a_share_and_what_leaves_is_gone() -> None:
    later = augment.time_shift(RAMP, 0.2)
    assert len(later) == 100
    assert not later[:20].any()
    assert np.array_equal(later[20:], RAMP[:80])
    sooner = augment.time_shift(RAMP, -0.2)
    assert np.array_equal(sooner[:80], RAMP[20:])
    assert not sooner[80:].any()
    assert np.array_equal(augment.time_shift(RAMP, 0.0), RAMP)
    assert not augment.time_shift(RAMP, 1.0).any()
    assert not augment.time_shift(RAMP, -1.0).any()


def test_zeros_are_put_at_the_side_that_is_asked_for() -> None:
    assert np.array_equal(augment.zero_pad(RAMP, before=7), np.concatenate([np.zeros(7, np.float32), RAMP]))
    assert np.array_equal(augment.zero_pad(RAMP, after=7), np.concatenate([RAMP, np.zeros(7, np.float32)]))


def test_a_gain_multiplies_and_clips_at_full_scale() -> None:
    assert np.array_equal(augment.gain(RAMP, 0.5), RAMP * np.float32(0.5))
    assert augment.gain(np.array([-0.9, 0.1, 0.9], np.float32), 1.5).tolist() == [-1.0, np.float32(0.1) * 1.5, 1.0]


@given(n=st.integers(1, 3000), speed=st.floats(0.7, 1.3))
def test_faster_is_shorter(n: int, speed: float) -> None:
    assert len(augment.play_speed(np.zeros(n, np.float32), speed)) == max(1, round(n / speed))


@pytest.mark.parametrize("speed", [0.7, 1.0, 1.3])
def test_a_tone_played_faster_is_a_higher_tone(speed: float) -> None:
    tone = np.sin(2.0 * np.pi * 440.0 * np.arange(16000) / 16000).astype(np.float32)
    played = augment.play_speed(tone, speed)
    spectrum = np.abs(np.fft.rfft(played * np.hanning(len(played))))
    assert spectrum.argmax() * 16000 / len(played) == pytest.approx(440.0 * speed, abs=2.0)
    if speed == 1.0:
        assert np.array_equal(played, tone)


def test_noise_is_added_by_its_own_level_from_a_place_and_begins_again() -> None:
    noise = np.array([0.1, -0.2, 0.3], np.float32)
    quiet = np.zeros(5, np.float32)
    assert np.allclose(augment.add_noise(quiet, noise, 0.5, start=1), [-0.1, 0.15, 0.05, -0.1, 0.15], atol=1e-7)
    assert np.array_equal(augment.add_noise(RAMP, noise, 0.0), RAMP)
    assert augment.add_noise(np.ones(1, np.float32), noise, 0.7).tolist() == [1.0]  # clipped


@pytest.mark.parametrize("bad", [-0.1, float("nan")])
def test_impossible_numbers_are_refused(bad: float) -> None:
    for change in (
        lambda: augment.gain(RAMP, bad),
        lambda: augment.play_speed(RAMP, bad),
        lambda: augment.add_noise(RAMP, RAMP, bad),
        lambda: augment.time_shift(RAMP, bad * 11),
    ):
        with pytest.raises(ValueError, match="not"):
            change()
    with pytest.raises(ValueError, match="0 samples or more"):
        augment.zero_pad(RAMP, before=-1)
    with pytest.raises(ValueError, match="no samples"):
        augment.add_noise(RAMP, RAMP[:0], 0.5)
    with pytest.raises(ValueError, match="speed"):
        augment.play_speed(RAMP, 0.0)
