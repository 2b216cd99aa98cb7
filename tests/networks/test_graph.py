"""A whole graph in float64: every system's ONNX file gives what its PyTorch network gives in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from parity import golden, layout, system
from parity.bounds import networks
from parity.errors import ModelError
from parity.networks.arithmetic import PRECISIONS, Noise
from parity.networks.graph import Graph, load

ROOT = Path(__file__).resolve().parents[2]
NAMES = [s.name for s in system.find(()) if networks.source(s) is not None]


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_is_the_network_that_was_recorded(name: str) -> None:
    of = system.load(ROOT / "reference_models" / name)
    artifact = networks.source(of)
    assert artifact is not None
    goldens = golden.load(ROOT / "golden", of)
    entry = next(e for e in goldens.clips if len(e["model"]["arrays"]) > 8)
    expected = goldens.read(entry)
    x = layout.native(expected.reference.astype(np.float64), artifact.input.layout)
    found = Graph(load(artifact.path)).run({artifact.input.name: x}, {p.name for p in artifact.taps.values()})
    assert expected.model.keys() == artifact.taps.keys()
    for tap, value in expected.model.items():
        port = artifact.taps[tap]
        given = layout.time_major(found[port.name], port.layout)
        # Batch normalization is folded into weights that are float32 again.
        np.testing.assert_allclose(given, value, rtol=0.0, atol=2e-6 * np.abs(value).max())


def small(*nodes: onnx.NodeProto, output: str = "y", **weights: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes), "small", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, name) for name, w in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


X = np.array([[1.0, -2.0, 1.0 / 3.0, 0.1]])


def test_constants_and_casts_are_widened_and_integers_are_not() -> None:
    third = np.float32(1.0) / np.float32(3.0)
    model = small(
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32([third] * 4))),
        helper.make_node("Mul", ["x", "c"], ["m"]), helper.make_node("Cast", ["m"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Shape", ["f"], ["s"]), helper.make_node("Reshape", ["f", "s"], ["y"]),
    )  # fmt: skip
    y = Graph(model).run({"x": X}, ["y"])["y"]
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, X * np.float64(third))


def test_what_only_moves_numbers_is_not_rounded() -> None:
    model = small(helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Add", ["r", "r"], ["y"]))
    got = Graph(model).run({"x": np.repeat(X, 5, 0)}, ["r", "y"], Noise(PRECISIONS["float32"], 5, 0))
    assert np.array_equal(got["r"], np.repeat(np.maximum(X, 0), 5, 0))
    assert np.array_equal(got["y"][0], 2 * np.maximum(X[0], 0))
    assert (got["y"][1:] != got["y"][0]).any()


def test_what_is_constant_is_not_moved() -> None:
    model = small(
        helper.make_node("Add", ["w", "w"], ["c"]), helper.make_node("Sub", ["c", "x"], ["y"]), w=np.float32([1] * 4)
    )
    got = Graph(model).run({"x": np.repeat(X, 5, 0)}, ["c"], Noise(PRECISIONS["float32"], 5, 0))
    np.testing.assert_array_equal(got["c"], [2.0] * 4)


def test_what_has_no_bound_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="can't be read"):
        load(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(ModelError, match="not an ONNX model"):
        load(tmp_path / "text.onnx")
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "b", [],
                               [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)])  # fmt: skip
    with pytest.raises(ModelError, match="isn't derived through If"):
        Graph(small(helper.make_node("If", ["k"], ["y"], then_branch=branch, else_branch=branch), k=np.array(True)))
    with pytest.raises(ModelError, match="isn't derived"):
        Graph(small(helper.make_node("Unheard", ["x"], ["y"])))
    misfit = Graph(small(helper.make_node("Add", ["x", "w"], ["y"]), w=np.zeros(3, np.float32)))
    with pytest.raises(ModelError, match="Add can't be run"):
        misfit.run({"x": X}, ["y"])
