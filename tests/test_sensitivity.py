from __future__ import annotations

import numpy as np

from parity.sensitivity import NEAR, Sensitivity

FED, MOVED = np.full((98, 40), -3.0, np.float32), np.full((98, 40), 1e-6)
ANSWERS = {"model/logits": np.array([1.0, -2.0, 0.5])}
HALVES = {"model/logits:float32:isolated": np.array([1e-6, 2e-6, 3e-6])}


def _one() -> Sensitivity:
    known = Sensitivity()
    known.add(FED, MOVED, ANSWERS, HALVES)
    return known


def test_a_clip_like_one_that_was_worked_out_has_its_half_widths() -> None:
    assert _one().guess(FED * np.float32(1.1), MOVED, ANSWERS) is HALVES


def test_what_is_unlike_all_is_not_guessed() -> None:
    far = 10.0 ** (1.5 * NEAR)
    known = _one()
    assert known.guess(FED * np.float32(far), MOVED, ANSWERS) is None
    assert known.guess(FED, MOVED * far, ANSWERS) is None
    assert known.guess(FED, MOVED, {"model/logits": ANSWERS["model/logits"] * far}) is None
    assert Sensitivity().guess(FED, MOVED, ANSWERS) is None


def test_answers_of_another_shape_are_not_guessed() -> None:
    longer = {"model/logits": np.resize(ANSWERS["model/logits"], 6)}
    assert _one().guess(FED, MOVED, longer) is None


def test_zeros_and_what_is_not_finite_have_a_size_too() -> None:
    known = Sensitivity()
    zeros = {"model/logits": np.zeros(3)}
    known.add(np.zeros((2, 2)), np.zeros((2, 2)), zeros, HALVES)
    assert known.guess(np.zeros((2, 2)), np.zeros((2, 2)), zeros) is HALVES
    assert known.guess(np.full((2, 2), np.inf), np.zeros((2, 2)), zeros) is None
