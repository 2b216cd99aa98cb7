"""From copies to a half-width."""

from __future__ import annotations

import numpy as np
import pytest

from parity.errors import ModelError
from parity.networks import spread

LAYER, VECTOR = spread.SPREADS["float32"]
DRAWS = np.random.default_rng(0)
EITHER = np.array([-1.0, 1.0] * 4)
"""Eight copies moved either way by one: their standard deviation is the root of 8/7."""
ONE = np.sqrt(8.0 / 7.0)


def half_width(exact: np.ndarray, copies: np.ndarray, axes: str, operator: str) -> np.ndarray:
    return spread.half_width(spread.moved(exact, copies, axes, operator, "float32"), axes, "float32")


def copies_of(exact: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """The exact tensor, and one moved by each of `moved`, along the first axis."""
    return np.concatenate([exact, exact + moved])


def test_a_half_width_is_so_many_spreads_of_an_element() -> None:
    exact = np.zeros((1, 4, 2))
    half = half_width(exact, copies_of(exact, DRAWS.standard_normal((10_000, 4, 2))), "NTC", "Conv")
    np.testing.assert_allclose(half, LAYER, rtol=0.05)


def test_a_tensor_without_positions_has_a_factor_of_its_own() -> None:
    exact = np.zeros((1, 2))
    half = half_width(exact, copies_of(exact, DRAWS.standard_normal((10_000, 2))), "NC", "Gemm")
    np.testing.assert_allclose(half, VECTOR, rtol=0.05)


def test_half_the_spread_of_its_channel_is_the_least() -> None:
    exact = np.zeros((1, 4, 1))
    moved = np.zeros((8, 4, 1))
    moved[:, 0, 0] = 2.0 * EITHER  # one element of four moves: the channel's root mean square is 1
    half = half_width(exact, copies_of(exact, moved), "NTC", "Conv").ravel()
    np.testing.assert_allclose(half / ONE, [2 * LAYER, LAYER / 2, LAYER / 2, LAYER / 2])


def test_a_channel_that_is_off_keeps_a_twentieth_of_the_tensors() -> None:
    exact = np.zeros((1, 2, 2))
    moved = np.zeros((8, 2, 2))
    moved[..., 0] = np.sqrt(2.0) * EITHER[:, None]  # the tensor's root mean square is 1
    half = half_width(exact, copies_of(exact, moved), "NTC", "Conv")
    np.testing.assert_allclose(half[..., 1] / ONE, 0.05 * LAYER)


def test_what_moves_all_copies_alike_counts_once() -> None:
    exact = np.zeros((1, 4, 1))
    moved = np.full((8, 4, 1), -3.0)  # a clamp
    moved += 0.1 * EITHER[:, None, None]
    half = half_width(exact, copies_of(exact, moved), "NTC", "Conv")
    np.testing.assert_allclose(half, 3.0 + 0.1 * ONE * LAYER)


def test_the_factor_that_an_error_takes_is_the_least_that_allows_it() -> None:
    moved = spread.Moved(np.array([0.0, 1.0, 1.0, 0.0, 0.0]), np.array([0.5, 0.5, 0.5, 0.0, 0.5]),
                         np.array([0.0, 0.0, 0.0, 0.0, 2.0]))  # fmt: skip
    error = np.array([2.0, 2.0, 0.5, 1.0, 1.0])
    np.testing.assert_array_equal(moved.factor(error), [4.0, 2.0, 0.0, np.inf, 6.0])
    np.testing.assert_array_equal(moved.half_width(6.0), [3.0, 4.0, 4.0, 0.0, 1.0])
    assert (moved.factor(np.zeros(5)) == 0.0).all()


def test_what_an_activation_cut_off_is_within_reach_or_exact() -> None:
    before = np.array([[[0.5], [-0.1], [-9.0], [8.0]]])
    shown = np.clip(before, 0.0, 6.0)
    copies = copies_of(before, np.repeat(0.1 * EITHER[:, None, None], 4, axis=1))
    parts = spread.moved(shown, np.clip(copies, 0.0, 6.0), "NTC", "Clip", "float32", (before, copies))
    half = spread.half_width(parts, "NTC", "float32").ravel()
    np.testing.assert_allclose(half[:2], 0.1 * ONE * LAYER - np.array([0.0, 0.1]))
    assert (half[2:] == 2.0**-126).all()


def test_probabilities_keep_a_relative_floor() -> None:
    exact = np.array([[0.9, 0.1, 1e-12]])
    half = half_width(exact, copies_of(exact, exact * 1e-6 * EITHER[:, None]), "NC", "Softmax")
    np.testing.assert_allclose(half / exact, VECTOR * ONE * 1e-6, rtol=1e-6)


def test_what_may_be_flushed_is_within() -> None:
    exact = np.zeros((1, 3))
    assert (half_width(exact, np.zeros((4, 3)), "NC", "Gemm") == 2.0**-126).all()


def test_copies_behind_another_axis() -> None:
    exact = np.zeros((3, 1, 2))
    moved = np.zeros((3, 9, 2))
    moved[:, 1:] = EITHER[None, :, None]
    half = half_width(exact, moved, "TNC", "LSTM")
    assert half.shape == exact.shape
    np.testing.assert_allclose(half, LAYER * ONE)


def test_clips_of_a_batch_that_dont_stand_apart_are_told() -> None:
    exact = np.ones((1, 3))
    with pytest.raises(ModelError, match="don't stand apart"):
        half_width(exact, np.zeros((4, 3)), "NC", "Gemm")
