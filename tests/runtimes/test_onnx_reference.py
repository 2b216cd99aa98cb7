"""The onnx package's own evaluator: the conformance suite, names that aren't there, and when it takes part."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from parity import registry
from parity.errors import CONFIG, ModelError
from parity.protocols import Artifact, Port
from parity.taps import MODEL_INPUT
from parity.testing import RuntimeConformance
from tests.plugins_for_tests import rig
from tests.runtimes.models import commands_cnn


class TestOnnxReferenceConformance(RuntimeConformance):
    spec = "onnx-reference"

    def artifact(self) -> Artifact:
        return commands_cnn("onnx")


def small(path: Path, kind: int = onnx.TensorProto.FLOAT) -> Artifact:
    """Relu, then a reshape of what it gave; frames may be any number."""
    tensor, number = onnx.helper.make_tensor_value_info, onnx.TensorProto.INT64
    nodes = [
        onnx.helper.make_node("Relu", ["x"], ["inner"]),
        onnx.helper.make_node("Reshape", ["inner", "shape"], ["y"]),
    ]
    shape = onnx.helper.make_tensor("shape", number, [3], [1, -1, 2])
    inputs = [tensor("x", kind, [1, "frames", 2]), tensor("shape", number, [3])]
    graph = onnx.helper.make_graph(nodes, "g", inputs, [tensor("y", kind, [1, "frames", 2])], [shape])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, path)
    return Artifact(
        system="small", format="onnx", precision="float32", path=str(path), sha256="", shape=(None, 2),
        input=Port(name="x", layout="NTF"),
        taps={"model/inner": Port(name="inner", layout="NTF"), "model/y": Port(name="y", layout="NTF")},
    )  # fmt: skip


def test_what_a_file_says_of_its_input(tmp_path: Path) -> None:
    made = small(tmp_path / "small.onnx", onnx.TensorProto.FLOAT16)
    with registry.create("runtime", "onnx-reference").open(made) as session:
        declared = session.tensors[MODEL_INPUT]
    assert (declared.shape, declared.dtype) == ((1, None, 2), "float16")


def test_no_tap_is_a_view_of_another(tmp_path: Path) -> None:
    made, x = small(tmp_path / "small.onnx"), np.array([[[-1.0, 2.0]]], np.float32)
    with registry.create("runtime", "onnx-reference").open(made) as session:
        got = session.run({"x": x}, frozenset(made.taps))
    assert got["model/inner"].tolist() == got["model/y"].tolist() == [[[0.0, 2.0]]]
    assert not np.shares_memory(got["model/inner"], got["model/y"])


def test_names_that_arent_there_are_model_errors_that_name_those_that_are(tmp_path: Path) -> None:
    made, plugin = small(tmp_path / "small.onnx"), registry.create("runtime", "onnx-reference")
    # A weight is neither an input nor a tensor at a tap.
    for name in ("sound", "shape"):
        wrong = dataclasses.replace(made, input=Port(name=name, layout="NTF"))
        with pytest.raises(ModelError, match=f"no input '{name}'") as e, plugin.open(wrong):
            pass
        assert "one of 'x' in" in (e.value.hint or "")
    wrong = dataclasses.replace(made, taps=made.taps | {"model/z": Port(name="shape", layout="NTF")})
    with pytest.raises(ModelError, match=r"no tensor 'shape' for model/z$") as e, plugin.open(wrong):
        pass
    assert "its own outputs are 'y'" in (e.value.hint or "")
    assert e.value.exit_code == CONFIG


def test_an_operator_that_nobody_knows_is_a_model_error(tmp_path: Path) -> None:
    made = small(tmp_path / "small.onnx")
    model = onnx.load(made.path)
    model.graph.node[0].op_type = "Reluctant"
    onnx.save(model, made.path)
    with pytest.raises(ModelError, match="Reluctant"), registry.create("runtime", "onnx-reference").open(made):
        pass


@pytest.mark.slow
def test_a_run_takes_it_when_it_is_named(tmp_path: Path) -> None:
    golden = rig.goldens(tmp_path / "golden", rig.CLIPS[:1])
    with rig.target() as local:
        done = rig.run(local, golden, tmp_path / "reports", runtimes=("onnx-reference",))
    assert done.exit_code == 0
    assert {s.runtime for s in done.summaries if s.path == "isolated"} == {"onnx-reference"}
