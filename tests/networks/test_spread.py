"""From copies to a half-width."""

from __future__ import annotations

import numpy as np
import pytest

from parity.errors import ModelError
from parity.networks import spread

C = spread.SPREADS["float32"]
DRAWS = np.random.default_rng(0)


def copies_of(exact: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """The exact tensor, and one moved by each of `moved`, along the first axis."""
    return np.concatenate([exact, exact + moved])


def test_a_half_width_is_so_many_spreads_of_an_element() -> None:
    exact = np.zeros((1, 4, 2))
    moved = DRAWS.standard_normal((10_000, 4, 2)) * [1.0, 1.0]
    half = spread.half_width(exact, copies_of(exact, moved), "NTC", "Conv", "float32")
    np.testing.assert_allclose(half, C, rtol=0.05)


def test_half_the_spread_of_its_channel_is_the_least() -> None:
    exact = np.zeros((1, 4, 1))
    moved = np.zeros((8, 4, 1))
    moved[:, 0] = 2.0  # one element of four moves: the channel's root mean square is 1
    half = spread.half_width(exact, copies_of(exact, moved), "NTC", "Conv", "float32")
    np.testing.assert_allclose(half.ravel(), [2 * C, C / 2, C / 2, C / 2])


def test_a_channel_that_is_off_keeps_a_twentieth_of_the_tensors() -> None:
    exact = np.zeros((1, 2, 2))
    moved = np.zeros((8, 2, 2))
    moved[..., 0] = np.sqrt(2.0)  # the tensor's root mean square is 1
    half = spread.half_width(exact, copies_of(exact, moved), "NTC", "Conv", "float32")
    np.testing.assert_allclose(half[..., 1], 0.05 * C)


def test_probabilities_keep_a_relative_floor() -> None:
    exact = np.array([[0.9, 0.1, 1e-12]])
    moved = exact * np.array([[1e-6], [-1e-6]])
    half = spread.half_width(exact, copies_of(exact, moved), "NC", "Softmax", "float32")
    np.testing.assert_allclose(half / exact, C * 1e-6, rtol=1e-6)


def test_what_may_be_flushed_is_within() -> None:
    exact = np.zeros((1, 3))
    half = spread.half_width(exact, np.zeros((4, 3)), "NC", "Gemm", "float32")
    assert (half == 2.0**-126).all()


def test_copies_behind_another_axis() -> None:
    exact = np.zeros((3, 1, 2))
    moved = np.zeros((3, 5, 2))
    moved[:, 1:] = 1.0
    half = spread.half_width(exact, moved, "TNC", "LSTM", "float32")
    assert half.shape == exact.shape
    np.testing.assert_allclose(half, C)


def test_clips_of_a_batch_that_dont_stand_apart_are_told() -> None:
    exact = np.ones((1, 3))
    with pytest.raises(ModelError, match="don't stand apart"):
        spread.half_width(exact, np.zeros((4, 3)), "NC", "Gemm", "float32")
