"""`parity.compare` to the last word and number: what a changed operator or a changed message would go by unseen."""

from __future__ import annotations

import numpy as np
import pytest

from parity.compare import Choice, Comparison, _clearly_inside, _numbers, compare, compare_label, decide
from parity.protocols import Array

F32 = np.float32
INF, NAN = float("inf"), float("nan")


def array(*values: float) -> Array:
    return np.array(values, np.float64)


def test_what_is_said_before_numbers_are_looked_at() -> None:
    v = np.zeros((2, 3))
    assert compare(None, v, v, v, "float32") == Comparison("missing", "declared, but the plugin didn't return it")
    assert compare(v, v, v, v, "float32") == Comparison("fail", "dtype is float64, declared is float32")
    empty = np.zeros((0, 3))
    assert compare(empty.astype(F32), empty, empty, empty, "float32") == Comparison(
        "fail", "empty: nothing was compared"
    )


@pytest.mark.parametrize(
    ("candidate", "golden", "message"),
    [
        ((3, 2), (2, 3), "shape is [3, 2], the golden's is [2, 3]: transposed?"),
        ((5, 3), (2, 3), "shape is [5, 3], the golden's is [2, 3]: 3 frames more"),
        ((1, 3), (4, 3), "shape is [1, 3], the golden's is [4, 3]: 3 frames fewer"),
        ((2, 4), (2, 3), "shape is [2, 4], the golden's is [2, 3]"),
        ((3, 2, 1), (2, 3), "shape is [3, 2, 1], the golden's is [2, 3]"),
        ((6,), (2, 3), "shape is [6], the golden's is [2, 3]"),
        ((5,), (), "shape is [5], the golden's is []"),
        ((5,), (2,), "shape is [5], the golden's is [2]: 3 frames more"),
    ],
)
def test_another_shape_in_words(candidate: tuple[int, ...], golden: tuple[int, ...], message: str) -> None:
    v = np.zeros(golden)
    assert compare(np.zeros(candidate, F32), v, v - 1, v + 1, "float32") == Comparison("fail", message)


def test_what_is_not_finite_in_words_with_its_place_and_share() -> None:
    v = np.full((2, 2), 0.123456789)
    c = v.astype(F32)
    c[0, 1] = c[1, 0] = NAN
    assert compare(c, v, v - 1, v + 1, "float32") == Comparison(
        "fail", "nan at [0, 1] where the golden is 0.123457", index=(0, 1), outside=0.5
    )
    # A finite number out of bounds beside it isn't what is told; nor does it count here.
    c[0, 0] = 9.0
    assert compare(c, v, v - 1, v + 1, "float32") == Comparison(
        "fail", "nan at [0, 1] where the golden is 0.123457", index=(0, 1), outside=0.5
    )
    c[0, 1] = INF
    assert compare(c, v, v - 1, v + 1, "float32").message == "inf at [0, 1] where the golden is 0.123457"
    c[0, 1] = -INF
    assert compare(c, v, v - 1, v + 1, "float32").message == "-inf at [0, 1] where the golden is 0.123457"
    signalling = np.array([0x7F800001], np.uint32).view(F32)
    assert compare(signalling, v[0, :1], v[0, :1] - 1, v[0, :1] + 1, "float32").message.startswith("nan at [0]")
    golden = array(NAN, 1.0)
    got = compare(np.array([0.5, 1.0], F32), golden, golden, golden, "float32")
    assert got == Comparison("fail", "0.5 at [0] where the golden is nan", index=(0,), outside=0.5)


def test_infinite_and_not_a_number_where_the_golden_is_too() -> None:
    v = array(-INF, NAN, 2.0, INF)
    got = compare(v.astype(F32), v, v, v, "float32")
    assert (got.outcome, got.ratio, got.error, got.outside, got.message) == ("pass", 0.0, 0.0, 0.0, "")
    # A number out of bounds beside them fails by its number.
    c = np.array([-INF, NAN, 2.5, INF], F32)
    got = compare(c, v, array(-INF, NAN, 1.0, INF), array(-INF, NAN, 2.25, INF), "float32")
    assert got == Comparison(
        "fail", "1 of 4 elements out of bounds; at [2] 2.5, golden 2", ratio=2.0, error=0.5, bound=0.25, index=(2,),
        candidate=2.5, golden=2.0, outside=0.25,
    )  # fmt: skip


def test_numbers_out_of_bounds_in_words() -> None:
    v = np.array([[0.0, 1.23456789], [2.0, 3.0]])
    c = np.add(v, [[0.75, 0.0], [-2.0, 0.0]]).astype(F32)
    got = compare(c, v, v - 1.0, v + 0.5, "float32")
    assert got == Comparison(
        "fail", "2 of 4 elements out of bounds; at [1, 0] 0, golden 2", ratio=2.0, error=2.0, bound=1.0, index=(1, 0),
        candidate=0.0, golden=2.0, outside=0.5,
    )  # fmt: skip


# ---- Arrays that are clearly inside ----

V = array(0.0, 10.0, -4.0)
LO, HI = V - array(1.0, 2.0, 4.0), V + array(0.5, 1.0, 2.0)


def test_a_clear_pass_is_told_by_its_worst_element() -> None:
    c = V + array(0.25, -1.5, 0.0)
    assert _clearly_inside(c, V, LO, HI) == Comparison(
        "pass", ratio=0.75, error=1.5, bound=2.0, index=(1,), candidate=8.5, golden=10.0
    )
    c = V + array(0.375, -1.0, 0.0)
    assert _clearly_inside(c, V, LO, HI) == Comparison(
        "pass", ratio=0.75, error=0.375, bound=0.5, index=(0,), candidate=0.375, golden=0.0
    )
    matrix = V.reshape(1, 3)
    got = _clearly_inside(np.add(matrix, [[0.0, 0.0, 1.0]]), matrix, LO.reshape(1, 3), HI.reshape(1, 3))
    assert got == Comparison("pass", ratio=0.5, error=1.0, bound=2.0, index=(0, 2), candidate=-3.0, golden=-4.0)


def test_a_copy_passes_with_its_bound_below() -> None:
    v = array(3.0, 5.0)
    assert _clearly_inside(v, v, v - 0.25, v + 0.5) == Comparison(
        "pass", ratio=0.0, error=0.0, bound=0.25, index=(0,), candidate=3.0, golden=3.0
    )


def test_opposite_numbers_are_no_copies() -> None:
    v = array(1.0, -2.0)
    assert compare(-v.astype(F32), v, v - 0.5, v + 0.5, "float32").outcome == "fail"


@pytest.mark.parametrize(
    ("c", "value", "lo", "hi"),
    [
        (array(0.999), array(0.0), array(-1.0), array(1.0)),  # near its bound
        (array(0.5, NAN), array(0.0, 0.0), array(-1.0, -1.0), array(1.0, 1.0)),
        (array(0.5, INF), array(0.0, 0.0), array(-1.0, -1.0), array(1.0, 1.0)),
        (array(0.5, 0.5), array(0.0, 0.5), array(-1.0, 0.75), array(1.0, 1.0)),  # the golden lies below its bound
        (array(0.5, 0.5), array(0.0, 0.5), array(-1.0, 0.0), array(1.0, 0.25)),  # above it
        (array(0.5, 0.25), array(0.0, 0.0), array(-1.0, -1.0), array(1.0, -0.5)),  # its end is on the other side
        (array(0.0, 0.25), array(0.0, 0.0), array(0.0, 0.0), array(0.0, 1.0)),  # a bound of zero
    ],
)
def test_what_is_not_clearly_inside_gets_a_closer_look(c: Array, value: Array, lo: Array, hi: Array) -> None:
    assert _clearly_inside(c, value, lo, hi) is None


@pytest.mark.parametrize(
    ("c", "lo", "hi"),
    [
        (array(0.5, 0.25), array(0.0, 0.0), array(1.0, 1.0)),  # bounds that begin at the golden
        (array(-0.5, -0.25), array(-1.0, -1.0), array(0.0, 0.0)),  # that end there
        (array(0.0, 0.25), array(-1.0, -1.0), array(0.0, 1.0)),  # met exactly, with room below only
        (array(0.998, 0.0), array(-1.0, -1.0), array(1.0, 1.0)),
    ],
)
def test_what_is_clearly_inside_needs_no_closer_look(c: Array, lo: Array, hi: Array) -> None:
    found = _clearly_inside(c, array(0.0, 0.0), lo, hi)
    assert found is not None
    assert found.outcome == "pass"


# ---- The closer look ----


def test_each_side_has_its_own_room() -> None:
    v, lo, hi = array(0.0, 0.0), array(-2.0, -2.0), array(0.5, 0.5)
    assert _numbers(array(0.75, 0.0), v, lo, hi) == Comparison(
        "fail", "1 of 2 elements out of bounds; at [0] 0.75, golden 0", ratio=1.5, error=0.75, bound=0.5, index=(0,),
        candidate=0.75, golden=0.0, outside=0.5,
    )  # fmt: skip
    assert _numbers(array(0.0, -1.0), v, lo, hi) == Comparison(
        "pass", ratio=0.5, error=1.0, bound=2.0, index=(1,), candidate=-1.0, golden=0.0
    )


def test_a_copy_has_the_ratio_zero_and_the_room_below() -> None:
    assert _numbers(array(3.0), array(3.0), array(2.0), array(5.0)) == Comparison(
        "pass", ratio=0.0, error=0.0, bound=1.0, index=(0,), candidate=3.0, golden=3.0
    )


def test_a_room_without_end_is_no_ratio() -> None:
    got = _numbers(array(9.0, 0.25), array(0.0, 0.0), array(-1.0, -1.0), array(INF, 1.0))
    assert got == Comparison("pass", ratio=0.25, error=0.25, bound=1.0, index=(1,), candidate=0.25, golden=0.0)


def test_a_bound_that_is_not_a_number_has_an_infinite_ratio_and_admits_nothing() -> None:
    got = _numbers(array(0.5, 0.5), array(0.0, 0.0), array(-1.0, NAN), array(1.0, NAN))
    assert (got.outcome, got.ratio, got.index, got.outside) == ("fail", INF, (1,), 0.5)


def test_what_is_not_a_number_is_in_no_bounds_unless_the_golden_is_none_either() -> None:
    one = array(1.0)
    assert _numbers(array(NAN), array(0.0), -one, one).outcome == "fail"
    assert _numbers(array(0.0), array(NAN), one * NAN, one * NAN).outcome == "fail"
    assert _numbers(array(NAN), array(NAN), one * NAN, one * NAN).outcome == "pass"


def test_equal_infinities_have_no_error() -> None:
    got = _numbers(array(INF), array(INF), array(INF), array(INF))
    assert (got.outcome, got.ratio, got.error) == ("pass", 0.0, 0.0)


# ---- Decisions ----


def test_logits_are_counted_in_double() -> None:
    logits = np.array([0.1, 0.3], F32)
    choice = decide(logits, ("no", "yes"))
    assert choice == Choice("yes", 1, float(logits[1]) - float(logits[0]))
    assert choice.margin != float(logits[1] - logits[0])
    assert decide([[1, 3]], ("no", "yes")) == Choice("yes", 1, 2.0)  # type: ignore[arg-type]


YES, NO = Choice("yes", 1, 0.5), Choice("no", 0, 0.5)
LOGITS, HALF = array(0.25, 0.75), array(0.25, 0.25)


def test_decisions_in_words() -> None:
    assert compare_label(None, YES, LOGITS, HALF) == (
        Comparison("fail", "the logits don't fit the labels, or aren't finite"), False,
    )  # fmt: skip
    assert compare_label(Choice("yes", 1, 9.0), YES, LOGITS, HALF) == (Comparison("pass", "yes"), False)
    assert compare_label(NO, YES, LOGITS, HALF) == (
        Comparison("pass", "near tie: 'no' where the golden says 'yes' by 0.5, less than the bound 0.5"), True,
    )  # fmt: skip
    flipped = Comparison("fail", "label flipped: 'no' where the golden says 'yes' by 0.5", flipped=True)
    assert compare_label(NO, YES, LOGITS, HALF * 0.9) == (flipped, False)
    assert compare_label(NO, YES, array(0.25, 1.25), HALF, margin=1.125) == (
        Comparison("pass", "near tie: 'no' where the golden says 'yes' by 1, less than the declared margin 1.12"), True,
    )  # fmt: skip
    # A margin stands in the place of the bounds also where it is less.
    assert compare_label(NO, YES, LOGITS, HALF * 9.0, margin=0.25) == (flipped, False)
    assert compare_label(NO, YES, LOGITS, HALF, margin=0.5)[1]


def test_each_of_the_two_logits_brings_its_own_bound() -> None:
    logits, third = array(0.25, 0.75, -9.0), Choice("no", 0, 0.5)
    assert compare_label(third, YES, logits, array(0.375, 0.125, 0.0))[1]
    assert not compare_label(third, YES, logits, array(0.25, 0.125, 9.0))[1]


def test_another_name_for_the_same_logit_is_a_flip() -> None:
    other = Choice("no", 1, 0.5)
    assert compare_label(other, YES, LOGITS, HALF) == (
        Comparison("fail", "label flipped: 'no' where the golden says 'yes' by 0", flipped=True), False,
    )  # fmt: skip


def test_an_error_beyond_all_numbers_is_no_warning() -> None:
    value, room = np.zeros(1), np.full(1, 1e-300)
    found = compare(np.array([1e300]), value, -room, room, "float64")
    assert (found.outcome, found.ratio) == ("fail", np.inf)
