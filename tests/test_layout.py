from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity import layout


@st.composite
def layouts(draw: st.DrawFn) -> str:
    kept = draw(st.lists(st.sampled_from("TFC"), unique=True, min_size=1))
    return "".join(draw(st.permutations(["N", *kept, *"1" * draw(st.integers(0, 2))])))


@given(layouts(), st.data())
def test_there_and_back(order: str, data: st.DataObject) -> None:
    shape = [1 if a in "N1" else data.draw(st.integers(1, 4)) for a in order]
    tensor = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    at_tap = layout.time_major(tensor, order)
    assert layout.problem(order) is None
    assert at_tap.flags.c_contiguous
    assert at_tap.shape == tuple(shape[order.index(a)] for a in "TFC" if a in order)
    again = layout.native(at_tap, order)
    np.testing.assert_array_equal(again, tensor)
    assert again.flags.c_contiguous
    assert again.dtype == tensor.dtype


def test_what_pytorch_and_tensorflow_call_an_image_is_the_same_at_a_tap() -> None:
    image = np.arange(24).reshape(1, 2, 3, 4)  # channel, time, band
    a, b = layout.time_major(image, "NCTF"), layout.time_major(image.transpose(0, 2, 3, 1), "NTFC")
    assert a.shape == (3, 4, 2)
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ("NXT", "unknown axis 'X'"),
        ("NTT", "'T' stands twice"),
        ("TF", "no batch axis"),
        ("", "no batch axis"),
        ("N(T", "brackets in"),
        ("N(T)F", "brackets in"),
        ("(NT)F", "brackets in"),
        ("(TF)", "no batch axis"),
        ("N(TT)", "'T' stands twice"),
    ],
)
def test_a_layout_that_is_none_is_explained(order: str, text: str) -> None:
    assert text in (layout.problem(order) or "")


def test_a_tensor_that_doesnt_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2 axes \[3, 4\] where the layout 'NTF' has 3"):
        layout.time_major(np.zeros((3, 4)), "NTF")
    with pytest.raises(ValueError, match=r"axis 'N' of layout 'NTF' has size 2"):
        layout.time_major(np.zeros((2, 3, 4)), "NTF")
    with pytest.raises(ValueError, match="axis '1'"):
        layout.time_major(np.zeros((1, 3, 4)), "N1F")
    with pytest.raises(ValueError, match=r"layout 'NTF' keeps"):
        layout.native(np.zeros(3), "NTF")


def test_an_input_may_be_flattened() -> None:
    features = np.arange(6).reshape(2, 3)  # [time, band]
    assert layout.problem("N(TF)") is None
    assert layout.native(features, "N(TF)").tolist() == [[0, 1, 2, 3, 4, 5]]
    assert layout.native(features, "N(FT)").tolist() == [[0, 3, 1, 4, 2, 5]]
    assert layout.native(features, "N1(TF)1").shape == (1, 1, 6, 1)
    assert layout.plain("N1(TF)1") == "N1TF1"
