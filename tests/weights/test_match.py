"""Which constant is which trained tensor, and what is said of one that isn't what it should be."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from parity.protocols import Array
from parity.weights.match import match
from parity.weights.pieces import Constant, Layer, Piece, Reading, Role, half_spacing

RNG = np.random.default_rng(5)
W1, W2, B = RNG.normal(size=(4, 3, 3, 3)), RNG.normal(size=(4, 3, 3, 3)), RNG.normal(size=4)


def piece(name: str, value: Array, role: Role = "convolution") -> Piece:
    return Piece(name=name, how="as trained", role=role, value=value)


def constant(
    name: str, value: Array, role: Role = "convolution", half: float = 0.0, stored: str = "float32"
) -> Constant:
    return Constant(name=name, role=role, value=value, half_step=np.full(value.shape, half), stored=stored)


LAYERS = [
    Layer(name="a", ways=[[piece("a.weight", W1), piece("a.bias", B, "vector")]]),
    Layer(name="b", ways=[[piece("b.weight", W2)]]),
]
THERE = [constant("x", W1), constant("y", W2), constant("z", B, "vector")]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_in_the_file_is_of_no_matter(order: tuple[int, ...]) -> None:
    found = match(LAYERS, Reading(constants=[THERE[i] for i in order]))
    assert [(f.ok, f.trained, f.constant) for f in found] == [
        (True, "a.weight", "x"), (True, "a.bias", "z"), (True, "b.weight", "y")
    ]  # fmt: skip


def test_one_changed_element_is_named_with_its_place() -> None:
    changed = W2.copy()
    changed[3, 1, 0, 2] *= 1.01
    found = match(LAYERS, Reading(constants=[THERE[0], THERE[2], constant("y", changed)]))
    (wrong,) = [f for f in found if not f.ok]
    assert (wrong.trained, wrong.constant) == ("b.weight", "y")
    assert "b.weight[3, 1, 0, 2]" in wrong.how
    assert "1 of 108 elements" in wrong.how


def test_a_transposed_kernel_is_called_that() -> None:
    found = match(LAYERS, Reading(constants=[*THERE[::2], constant("y", W2.transpose(0, 1, 3, 2))]))
    (wrong,) = [f for f in found if not f.ok]
    assert wrong.trained == "b.weight"
    assert "axes in the order 0, 1, 3, 2: transposed" in wrong.how


def test_a_lost_tensor_is_missing_and_a_foreign_one_unexplained() -> None:
    found = match(LAYERS, Reading(constants=[*THERE[:2], constant("odd", np.ones(7), "vector")]))
    wrong = [f for f in found if not f.ok]
    assert [(f.trained, f.constant) for f in wrong] == [("a.bias", ""), ("", "odd")]
    assert "no vector of shape 4 is left" in wrong[0].how
    assert "no trained tensor explains" in wrong[1].how


def test_zeros_need_no_explanation_unless_they_stand_for_a_trained_bias() -> None:
    extra = [*THERE, constant("state", np.zeros(4), "vector"), constant("pad", np.zeros(9), "vector")]
    assert all(f.ok for f in match(LAYERS, Reading(constants=extra)))
    lost = [*THERE[:2], constant("z", np.zeros(4), "vector")]
    (wrong,) = [f for f in match(LAYERS, Reading(constants=lost)) if not f.ok]
    assert wrong.trained == "a.bias"


def test_each_copy_is_held_to_what_it_copies() -> None:
    again, changed = constant("y2", W2), W2.copy()
    assert all(f.ok for f in match(LAYERS, Reading(constants=[*THERE, again])))
    changed[0, 0, 0, 0] += 1e-6
    (wrong,) = [f for f in match(LAYERS, Reading(constants=[*THERE, constant("y2", changed)])) if not f.ok]
    assert (wrong.trained, wrong.constant) == ("b.weight", "y2")


def test_a_quantized_weight_may_be_half_a_step_off_and_no_more() -> None:
    scale = np.abs(W1).max() / 127
    q = np.rint(W1 / scale)
    layer = LAYERS[0].ways[0][:1]

    def findings(integers: Array) -> list[bool]:
        c = constant("x", integers * scale, half=scale / 2, stored="int8")
        return [f.ok for f in match([Layer(name="a", ways=[layer])], Reading(constants=[c]))]

    assert findings(q) == [True]
    q[0, 0, 0, 0] += 1
    assert findings(q) == [False]


def test_half_precision_is_held_to_half_of_its_spacing() -> None:
    value = W1.astype(np.float16).astype(np.float64)
    layer = Layer(name="a", ways=[LAYERS[0].ways[0][:1]])
    c = Constant(name="x", role="convolution", value=value, half_step=half_spacing(value), stored="float16")
    assert [f.ok for f in match([layer], Reading(constants=[c]))] == [True]
    as_float32 = constant("x", value)
    assert [f.ok for f in match([layer], Reading(constants=[as_float32]))] == [False]


def test_a_number_that_is_none_is_wrong() -> None:
    broken = W1.copy()
    broken[1, 1, 1, 1] = np.nan
    found = match(LAYERS, Reading(constants=[constant("x", broken), *THERE[1:]]))
    assert [f.trained for f in found if not f.ok] == ["a.weight"]


def on_a_grid(value: Array, steps: float) -> Constant:
    """Rounded to int8 with a grid on which the largest of each channel is `steps` steps."""
    scale = np.abs(value).max(axis=(1, 2, 3), keepdims=True) / steps
    half = np.broadcast_to(scale / 2, value.shape)
    return Constant(name="x", role="convolution", value=np.rint(value / scale) * scale, half_step=half, stored="int8")


@pytest.mark.parametrize(("steps", "ok"), [(127, True), (64, True), (40, False), (0.4, False)])
def test_a_grid_too_coarse_for_its_weights_is_wrong(steps: float, ok: bool) -> None:
    """However far from them, all are within half a step."""
    layer = Layer(name="a", ways=[LAYERS[0].ways[0][:1]])
    (found,) = match([layer], Reading(constants=[on_a_grid(W1, steps)]))
    assert found.ok is ok
    assert ok or "the grid is too coarse: a.weight[" in found.how


def test_one_channel_on_a_coarse_grid_is_enough_and_one_of_zeros_is_not() -> None:
    scale = np.abs(W1).max(axis=(1, 2, 3), keepdims=True) / 127

    def found(value: Array, scale: Array) -> bool:
        half = np.broadcast_to(scale / 2, value.shape)
        c = Constant(name="x", role="convolution", value=np.rint(value / scale) * scale, half_step=half, stored="int8")
        (one,) = match([Layer(name="a", ways=[[piece("a.weight", value)]])], Reading(constants=[c]))
        return one.ok

    assert found(W1, scale)
    coarse = scale.copy()
    coarse[2] *= 300
    assert not found(W1, coarse)
    empty = W1.copy()
    empty[2] = 0
    assert found(empty, coarse)


def test_layers_of_one_shape_stand_in_the_order_of_training() -> None:
    """x feeds operator 0, which feeds 1: the file's own edges tell."""

    def found(first: Array, second: Array, flow: dict[int, list[int]], once: bool = True) -> list[str]:
        constants = [dataclasses.replace(constant(f"op{i}", w), uses=(i,)) for i, w in enumerate((first, second))]
        layers = [
            Layer(name="a", ways=[[piece("a.weight", W1)]], once=once),
            Layer(name="b", ways=[[piece("b.weight", W2)]], once=once),
        ]
        return [f"{f.trained}: {f.how}" for f in match(layers, Reading(constants=constants, flow=flow)) if not f.ok]

    chain: dict[int, list[int]] = {0: [1], 1: []}
    assert found(W1, W2, chain) == []
    assert found(W2, W1, chain) == [
        "a.weight: it comes after b.weight (op0) in the file, before it in training: exchanged"
    ]
    assert found(W2, W1, {0: [], 1: []}) == [], "side by side: the file may list them as it likes"
    assert found(W2, W1, chain, once=False) == [], "a layer that is run twice has no one place"


def test_equal_layers_have_no_order() -> None:
    constants = [dataclasses.replace(constant(f"op{i}", W1), uses=(i,)) for i in (0, 1)]
    layers = [Layer(name=n, ways=[[piece(f"{n}.weight", W1)]]) for n in ("a", "b")]
    assert all(f.ok for f in match(layers, Reading(constants=constants[::-1], flow={0: [1]})))


def test_one_number_needs_no_explanation_where_it_is_not_trained() -> None:
    half = dataclasses.replace(constant("half", np.array([0.5]), "vector"), optional=True)
    assert all(f.ok for f in match(LAYERS, Reading(constants=[*THERE, half])))
