from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parity.compare import Choice, compare, compare_label, decide
from parity.protocols import Array

F32 = np.float32
INF, NAN = float("inf"), float("nan")


def judge(candidate: object, value: object, room: float = 0.5, dtype: str = "float32") -> object:
    v = np.array(value, np.float64)
    c = None if candidate is None else np.array(candidate, F32) if not isinstance(candidate, np.ndarray) else candidate
    return compare(c, v, v - room, v + room, dtype)


def test_checks_come_in_the_order_of_the_contract() -> None:
    value = np.zeros((0, 3))
    wrong_all = np.full((2, 3), NAN)  # float64, another shape, not finite
    assert compare(None, value, value, value, "float32").outcome == "missing"
    assert "dtype" in compare(wrong_all, value, value, value, "float32").message
    assert "shape" in compare(wrong_all.astype(F32), value, value, value, "float32").message
    assert "empty" in compare(np.zeros((0, 3), F32), value, value, value, "float32").message
    v = np.array([0.0, 0.0])
    both = compare(np.array([9.0, NAN], F32), v, v, v, "float32")
    assert "nan at [1]" in both.message, "what isn't finite is told before what is out of bounds"


def test_the_declared_dtype_counts_not_the_stored_one() -> None:
    v = np.array([1.0])
    assert compare(v, v, v, v, "float32").message == "dtype is float64, declared is float32"
    assert compare(v, v, v, v, "float64").outcome == "pass"
    assert compare(np.array([1], np.int8), v, v, v, "int8").outcome == "pass"


@pytest.mark.parametrize(
    ("shape", "text"),
    [((1, 3), "1 frames fewer"), ((3, 3), "1 frames more"), ((3, 2), "transposed?"), ((2,), "shape is [2]"),
     ((1, 2, 3), "shape is [1, 2, 3]"), ((2, 1), "shape is [2, 1]"), ((), "shape is []")],
)  # fmt: skip
def test_another_shape_fails_even_where_it_would_broadcast(shape: tuple[int, ...], text: str) -> None:
    v = np.zeros((2, 3))
    got = compare(np.zeros(shape, F32), v, v - 1, v + 1, "float32")
    assert got.outcome == "fail"
    assert text in got.message
    assert (got.ratio, got.error) == (None, None), "nothing was compared"


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_what_isnt_finite_fails_at_its_place(bad: float) -> None:
    got = judge([[0.0, 0.0], [0.0, bad]], [[0.0, 0.0], [0.0, 0.0]], 1e30)
    assert got.outcome == "fail"
    assert got.index == (1, 1)
    assert got.outside == 0.25


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_finite_number_where_the_golden_isnt_fails(bad: float) -> None:
    assert judge([0.0], [bad]).outcome == "fail"
    assert judge([bad], [bad]).outcome == "pass"
    assert judge([INF], [NAN]).outcome == judge([NAN], [INF]).outcome == judge([INF], [-INF]).outcome == "fail"


def test_an_infinite_end_admits_what_the_golden_says_it_may() -> None:
    v = np.array([-INF, 0.0])
    lo, hi = np.array([-INF, -INF]), np.array([-20.0, 1.0])
    for good in ([-INF, 0.0], [-25.0, -INF], [-20.0, 1.0]):
        assert compare(np.array(good, F32), v, lo, hi, "float32").outcome == "pass", good
    for bad in ([-19.0, 0.0], [INF, 0.0], [-INF, 1.5], [-INF, NAN]):
        assert compare(np.array(bad, F32), v, lo, hi, "float32").outcome == "fail", bad


def test_a_bound_that_is_nan_admits_nothing() -> None:
    v, bad = np.zeros(2), np.array([NAN, NAN])
    for c in ([0.0, 0.0], [1.0, -1.0]):
        assert compare(np.array(c, F32), v, bad, bad, "float32").outcome == "fail"


def test_bounds_are_inclusive_and_each_element_has_its_own() -> None:
    v = np.array([0.0, 10.0])
    lo, hi = np.array([-1.0, 10.0]), np.array([2.0, 10.5])
    assert compare(np.array([-1.0, 10.5], F32), v, lo, hi, "float32").outcome == "pass"
    assert compare(np.array([2.0, 10.0], F32), v, lo, hi, "float32").outcome == "pass"
    got = compare(np.array([-1.5, 10.0], F32), v, lo, hi, "float32")
    assert (got.outcome, got.ratio, got.error, got.bound, got.index) == ("fail", 1.5, 1.5, 1.0, (0,))
    assert (got.candidate, got.golden, got.outside) == (-1.5, 0.0, 0.5)
    assert "1 of 2 elements out of bounds; at [0] -1.5, golden 0" in got.message


def test_a_bound_of_zero_wants_the_same_number_and_negative_zero_is_zero() -> None:
    assert judge([-0.0, 1.0], [0.0, 1.0], 0.0).outcome == "pass"
    assert judge([0.0], [-0.0], 0.0).outcome == "pass"
    got = judge([np.nextafter(F32(1), F32(2))], [1.0], 0.0)
    assert (got.outcome, got.ratio) == ("fail", INF)


def test_the_same_everywhere_but_one_still_fails() -> None:
    v = np.ones((100, 100))
    c = v.astype(F32)
    c[37, 5] = 1.01  # cosine 0.9999999995, mean error 1e-6
    got = compare(c, v, v - 1e-3, v + 1e-3, "float32")
    assert (got.outcome, got.index, got.outside) == ("fail", (37, 5), 1e-4)


FINITE = st.floats(-1e6, 1e6, width=32)
ANY = st.floats(width=32)


@st.composite
def cases(draw: st.DrawFn, elements: st.SearchStrategy[float]) -> tuple[Array, Array, Array, Array]:
    shape = draw(hnp.array_shapes(max_dims=3, max_side=5))
    value = draw(hnp.arrays(np.float64, shape, elements=elements))
    below, above = (draw(hnp.arrays(np.float64, shape, elements=st.floats(0.0, 10.0))) for _ in range(2))
    near = value + draw(hnp.arrays(np.float64, shape, elements=st.floats(-11.0, 11.0)))
    other = draw(hnp.arrays(np.float64, shape, elements=elements))
    with np.errstate(over="ignore"):
        candidate = draw(st.sampled_from((near, other, value))).astype(F32)
    return candidate, value, value - below, value + above


@given(cases(ANY))
def test_inputs_are_never_changed(case: tuple[Array, Array, Array, Array]) -> None:
    before = [a.tobytes() for a in case]
    for a in case:
        a.setflags(write=False)
    compare(*case, "float32")
    assert [a.tobytes() for a in case] == before


@given(cases(ANY))
def test_a_pass_is_what_the_contract_says_element_by_element(case: tuple[Array, Array, Array, Array]) -> None:
    candidate, value, lo, hi = case
    c = candidate.astype(np.float64)
    right = bool(np.all(((lo <= c) & (c <= hi)) | (np.isnan(c) & np.isnan(value))))
    got = compare(candidate, value, lo, hi, "float32")
    assert (got.outcome == "pass") == right
    assert got.outcome in ("pass", "fail")


@given(cases(FINITE))
def test_the_ratio_is_above_one_just_where_it_fails(case: tuple[Array, Array, Array, Array]) -> None:
    got = compare(*case, "float32")
    assert got.ratio is not None
    assert (got.ratio > 1.0) == (got.outcome == "fail")
    assert (got.outside > 0.0) == (got.outcome == "fail")
    candidate, value = case[:2]
    assert got.index is not None
    assert got.error == abs(float(candidate[got.index]) - value[got.index])


LABELS = ("no", "yes", "up")


def test_the_largest_logit_decides_the_first_among_equals() -> None:
    assert decide(np.array([[0.0, 3.0, 1.0]]), LABELS) == Choice("yes", 1, 2.0)
    assert decide(np.array([1.0, 1.0, 0.0]), LABELS) == Choice("no", 0, 0.0)
    assert decide(np.array([4.0]), ("one",)) == Choice("one", 0, INF)
    assert decide(np.array([-128, 127, 0], np.int8), LABELS) == Choice("yes", 1, 127.0)


@pytest.mark.parametrize("logits", [[1.0, 2.0], [], [1.0, NAN, 0.0], [INF, 0.0, 0.0]])
def test_logits_that_dont_fit_the_labels_or_arent_finite_decide_nothing(logits: list[float]) -> None:
    assert decide(np.array(logits), LABELS) is None
    golden = Choice("yes", 1, 2.0)
    judged, tie = compare_label(decide(np.array(logits), LABELS), golden, np.zeros(3), np.full(3, 99.0))
    assert (judged.outcome, tie) == ("fail", False)


@pytest.mark.parametrize(
    ("margin", "outcome", "tie"), [(0.31, "fail", False), (0.30, "pass", True), (0.0, "pass", True)]
)
def test_a_flip_fails_where_the_margin_exceeds_both_bounds_and_is_a_near_tie_otherwise(
    margin: float, outcome: str, tie: bool
) -> None:
    half = np.array([0.1, 0.2, 50.0])
    judged, near = compare_label(Choice("no", 0, 1.0), Choice("yes", 1, margin), np.array([0.0, margin, -1.0]), half)
    assert (judged.outcome, near) == (outcome, tie)
    assert "'no' where the golden says 'yes'" in judged.message


def test_the_same_label_passes_however_small_the_margin() -> None:
    judged, tie = compare_label(Choice("yes", 1, 0.0), Choice("yes", 1, 5.0), np.array([0.0, 5.0, 0.0]), np.zeros(3))
    assert (judged.outcome, tie) == ("pass", False)


def test_an_unknown_bound_makes_no_near_tie() -> None:
    judged, tie = compare_label(Choice("no", 0, 1.0), Choice("yes", 1, 0.0), np.zeros(3), np.full(3, NAN))
    assert (judged.outcome, tie) == ("fail", False)


def test_a_flip_to_a_third_label_is_no_near_tie_because_the_second_was_near() -> None:
    golden, half = np.array([-3.0, 1.0, 0.9]), np.full(3, 0.1)
    judged, tie = compare_label(Choice("no", 0, 1.0), Choice("yes", 1, 0.1), golden, half)
    assert (judged.outcome, tie) == ("fail", False)
    assert "by 4" in judged.message
