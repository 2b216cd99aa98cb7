"""Monte Carlo arithmetic: the first copy is exact, the others spread as theory says of what each precision rounds."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from parity.networks import ranges, spread
from parity.networks.arithmetic import PRECISIONS, Exact, Held, Noise, Precision
from parity.networks.graph import Graph
from parity.protocols import Array

FLOAT = TensorProto.FLOAT


def model(nodes: list[onnx.NodeProto], weights: dict[str, Array], shape: list[int]) -> onnx.ModelProto:
    """A graph from `x` to the last node's output."""
    return helper.make_model(
        helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("x", FLOAT, ["n", *shape])],
            [helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)],
            [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )  # fmt: skip


def network() -> onnx.ModelProto:
    """A convolution with its ReLU, a pool, and a linear layer."""
    draws = np.random.default_rng(1)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "v", "d"], ["y"], transB=1),
    ]
    weights = {
        "w": draws.normal(size=(4, 1, 3, 3)), "b": draws.normal(size=4),
        "v": draws.normal(size=(5, 64)), "d": draws.normal(size=5),
    }  # fmt: skip
    return model(nodes, weights, [1, 8, 8])


def dense(w: Array) -> Graph:
    return Graph(model([helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)], {"w": w}, [w.shape[1]]))


X = np.random.default_rng(0).normal(size=(1, 1, 8, 8))


def held_of(graph: onnx.ModelProto, precision: Precision, inputs: Array = X) -> dict[str, Held]:
    return ranges.held(graph, ranges.measured(graph, [inputs], ""), precision)


@pytest.mark.parametrize("name", PRECISIONS)
def test_the_first_copy_is_exact_and_the_others_are_not(name: str) -> None:
    graph = network()
    of = Graph(graph)
    names = {"c", "r", "p", "y", *of.before.values()}
    exact = of.run({"x": X}, names)
    noise = Noise(PRECISIONS[name], 6, 0, held_of(graph, PRECISIONS[name]))
    seen = of.run({"x": np.repeat(X, 6, axis=0)}, names, noise)
    for tensor, value in exact.items():
        np.testing.assert_allclose(seen[tensor][:1], value, rtol=1e-12, atol=1e-12)
        assert (np.abs(seen[tensor][1:] - value).max(axis=tuple(range(1, value.ndim))) > 0).all(), tensor


def spread_of(graph: Graph, x: Array, noise: Noise, copies: int) -> Array:
    y = graph.run({"x": np.repeat(x, copies, axis=0)}, ["y"], noise)["y"]
    return np.asarray(np.sqrt(np.square(y[1:] - y[:1]).mean(axis=0)))


@pytest.mark.parametrize("per_tensor", [False, True])
def test_weights_of_integers_spread_by_half_a_step_of_their_scale(per_tensor: bool) -> None:
    draws = np.random.default_rng(2)
    w, x = draws.normal(size=(3, 40)) * [[1.0], [0.1], [5.0]], draws.normal(size=(1, 40))
    # Each weight is off evenly within half a step: variance half²/3, and the sum's is that times the sum of x².
    largest = np.abs(w).max() if per_tensor else np.abs(w).max(axis=1)
    theory = 0.5 * largest / 127.0 / np.sqrt(3.0) * np.sqrt(np.square(x).sum())
    of = Precision(operations=0.0, weight_levels=127.0, per_tensor=per_tensor)
    np.testing.assert_allclose(spread_of(dense(w), x, Noise(of, 4001, 0), 4001), theory * np.ones(3), rtol=0.05)


def test_stored_float16_weights_spread_by_their_roundoff_and_by_the_spacing_of_the_smallest() -> None:
    x = np.ones((1, 1))
    for w, room in ((0.7, 0.7 * 2.0**-11), (1e-7, 2.0**-25)):
        seen = spread_of(dense(np.array([[w]])), x, Noise(Precision(operations=0.0, stored=2.0**-11), 4001, 0), 4001)
        np.testing.assert_allclose(seen, room / np.sqrt(3.0), rtol=0.05)


def test_a_quantized_tensor_is_off_by_half_a_step_and_equal_numbers_alike() -> None:
    noise = Noise(Precision(operations=0.0, levels=255), 4001, 0, {"x": Held((-9.0, -9.0), (9.0, 9.0), 0.25)})
    x = np.repeat(np.array([[0.3, 0.3, -4.1, 2.0]]), 4001, axis=0)
    moved = noise.tensor("x", x) - x
    assert np.abs(moved).max() <= 0.25 + 1e-12
    np.testing.assert_allclose(moved[1:].std(axis=0), 0.25 / np.sqrt(3.0), rtol=0.05)
    np.testing.assert_array_equal(moved[:, 0], moved[:, 1])  # and so a sum of n of them is off by n times as much
    assert np.abs(moved[:, 0] - moved[:, 2]).max() > 0.1
    assert noise.tensor("another", x) is x


def test_more_bits_never_widen() -> None:
    graph = network()
    of = Graph(graph)
    widths = []
    for levels in (15, 127, 255, 65535):
        precision = Precision(operations=0.0, weight_levels=levels / 2, levels=levels)
        noise = Noise(precision, 17, 0, held_of(graph, precision))
        widths.append(float(spread_of(of, X, noise, 17).mean()))
    assert widths == sorted(widths, reverse=True)
    np.testing.assert_allclose(widths[1] / widths[2], 255 / 127, rtol=0.3)


def test_what_leaves_the_range_is_cut_off_in_the_copies_only() -> None:
    noise = Noise(Precision(operations=0.0, levels=255), 9, 0, {"x": Held((0.0, 0.0), (6.0, 6.0), 0.01)})
    y = noise.tensor("x", np.repeat(np.array([[-3.0, 0.0, 5.0, 8.0]]), 9, axis=0))
    np.testing.assert_array_equal(y[0], [-3.0, 0.0, 5.0, 8.0])
    assert (y[1:, :2] >= 0.0).all()
    assert (np.abs(y[1:, 3] - 6.0) <= 0.01).all()  # zero lies on a step, so the end may lie half a step off
    assert y[1:, 3].std() > 0


def test_dynamic_range_leaves_a_small_layer_alone() -> None:
    draws = np.random.default_rng(3)
    of = PRECISIONS["dynamic"]
    small, large = draws.normal(size=(2, 100)), draws.normal(size=(16, 100))
    x = draws.normal(size=(1, 100))
    assert spread_of(dense(small), x, Noise(of, 17, 0), 17).max() < 1e-4  # float32's own
    assert spread_of(dense(large), x, Noise(of, 17, 0), 17).min() > 1e-3


def test_integers_are_summed_exactly() -> None:
    x = np.random.default_rng(4).normal(size=(5, 3))
    assert Noise(PRECISIONS["int8"], 5, 0).rounded(x, 100) is x
    assert Exact().operand(x, x) is x


def parts(of: Graph, tap: str, noise: Noise, copies: int) -> list[spread.Moved]:
    names = {tap, *([of.before[tap]] if tap in of.before else [])}
    exact, seen = of.run({"x": X}, names), of.run({"x": np.repeat(X, copies, axis=0)}, names, noise)
    at = of.before.get(tap)
    fed = (exact[at], seen[at]) if at else None
    axes = "NCTF" if exact[tap].ndim == 4 else "NC"
    return spread.moved(exact[tap], seen[tap], axes, of.operators[tap], "int8", fed)


@pytest.mark.parametrize("tap", ["r", "p"])
def test_what_a_relu_cut_off_may_come_back_as_far_as_its_spread_before_reaches(tap: str) -> None:
    graph = network()
    of = Graph(graph)
    found = parts(of, tap, Noise(PRECISIONS["int8"], 17, 0, held_of(graph, PRECISIONS["int8"])), 17)
    exact = of.run({"x": X}, [tap, of.before[tap]])
    before, shown = exact[of.before[tap]], exact[tap]
    np.testing.assert_allclose(np.maximum(before, 0.0), shown)
    half = spread.half_width(found, "NCTF", "int8")
    off = shown == 0.0
    assert (half[off & (before < -1.0)] < 1e-30).all()  # far from the edge: it must be zero
    assert (half[off & (before > -0.02)] > 1e-3).all()  # at the edge: it may come through
    assert (half[shown > 0.1] > 0.0).all()


def test_a_clamp_widens_by_what_it_cuts_off_not_by_a_multiple_of_it() -> None:
    graph = network()
    of = Graph(graph)
    quiet = held_of(graph, PRECISIONS["int8"], 0.3 * X)  # calibrated on less than what comes
    only = {name: quiet[name] for name in ("c", "r")}
    before, after = parts(of, "r", Noise(Precision(operations=0.0, levels=255), 17, 0, only), 17)
    exact = of.run({"x": X}, ["r"])["r"]
    (high, _), half = quiet["r"].high, quiet["r"].half
    cut = exact > high + 4.0 * half
    assert cut.any()
    np.testing.assert_allclose(after.by[cut], exact[cut] - high, atol=half)
    allowed = spread.half_width([before, after], "NCTF", "int8")[cut]
    factor = spread.SPREADS["int8"][0]
    assert (allowed > exact[cut] - high).all()  # a file that clamps is no fault
    assert (allowed < exact[cut] - high + 2.0 * factor * half).all()
