"""Small networks exported by PyTorch itself: what is right is explained, what was left out or changed is not."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from parity.errors import ModelError
from parity.weights import onnx_, torchscript, trained
from parity.weights.match import Finding, match

SHAPE = (1, 1, 5, 9)


def fresh(net: torch.nn.Module) -> torch.nn.Module:
    """With batch normalization as if it had been trained."""
    torch.manual_seed(1)
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            with torch.no_grad():
                for t in (m.weight, m.bias, m.running_mean, m.running_var):
                    t.uniform_(0.5, 2.0)
    return net.eval()


class After(torch.nn.Module):
    """Convolution, ReLU, then batch normalization: nothing can be folded."""

    def __init__(self, in_place: bool = False) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3)
        self.relu = torch.nn.ReLU(inplace=in_place)
        self.bn = torch.nn.BatchNorm2d(4)
        self.fc = torch.nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.bn(self.relu(self.conv(x))).mean((2, 3)))


class Lost(After):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.relu(self.conv(x)).mean((2, 3)))


class Own(torch.nn.Module):
    """A tensor of the network itself, and a layer that is never run."""

    def __init__(self, size: tuple[int, ...] = (9,)) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(9, 2)
        self.gain = torch.nn.Parameter(torch.rand(size) + 0.5)
        self.idle = torch.nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.mean((1, 2)) * self.gain.reshape(-1)[:9])


class OwnLost(Own):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.mean((1, 2)))


def export(net: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of the exporter
        torch.onnx.export(net, (torch.zeros(SHAPE),), path, dynamo=False, opset_version=17)
    return path


def findings(net: torch.nn.Module, path: Path) -> list[Finding]:
    return match(trained.layers(net, SHAPE, "onnx"), onnx_.read(path))


def wrong(net: torch.nn.Module, path: Path) -> list[tuple[str, str]]:
    return [(f.trained, f.how) for f in findings(net, path) if not f.ok]


def set_attribute(path: Path, op: str, name: str, value: float) -> None:
    model = onnx.load(path)
    for node in model.graph.node:
        for a in node.attribute:
            if (node.op_type, a.name) == (op, name):
                a.f = value
    onnx.save(model, path)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_norm_after_an_activation_is_explained_and_missed_where_it_was_dropped(
    in_place: bool, tmp_path: Path
) -> None:
    net = fresh(After(in_place))
    assert [len(x.ways) for x in trained.layers(net, SHAPE, "onnx")] == [1, 2, 1]
    found = findings(net, export(net, tmp_path / "right.onnx"))
    assert all(f.ok for f in found), found
    assert "fc.bias" in [f.trained for f in found], "a head of one output has a bias of one number"
    other = fresh(Lost(in_place))
    other.load_state_dict(net.state_dict())
    lost = [name for name, _ in wrong(net, export(other, tmp_path / "lost.onnx"))]
    assert lost == ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]


def test_a_norm_as_factor_and_addend_is_explained() -> None:
    net = fresh(After())
    layer = trained.layers(net, SHAPE, "tflite")[1]
    factor, addend = layer.ways[1]
    x = torch.rand(1, 4, 2, 2)
    right = net.bn(x).detach().numpy()[0]
    made = x.numpy()[0] * factor.value[:, None, None] + addend.value[:, None, None]
    np.testing.assert_allclose(made, right, rtol=1e-5)


def test_the_eps_of_a_norm_is_read(tmp_path: Path) -> None:
    net = fresh(After())
    path = export(net, tmp_path / "m.onnx")
    set_attribute(path, "BatchNormalization", "epsilon", 1e-3)
    assert wrong(net, path) == [("bn.eps", "eps is 0.001, trained 1e-05")]


def test_the_eps_of_an_exported_program_is_read(tmp_path: Path) -> None:
    net = fresh(After())
    layers = trained.layers(net, SHAPE, "torch-export")
    for eps, said in ((1e-5, []), (1e-3, ["eps is 0.001, trained 1e-05"])):
        net.bn.eps = eps
        torch.export.save(torch.export.export(net, (torch.zeros(SHAPE),)), tmp_path / "m.pt2")
        found = match(layers, torchscript.read_exported(tmp_path / "m.pt2"))
        assert [f.how for f in found if not f.ok] == said


@pytest.mark.parametrize(("name", "trained_as"), [("alpha", "fc.weight"), ("beta", "fc.bias")])
def test_what_a_gemm_multiplies_with_is_part_of_its_weights(name: str, trained_as: str, tmp_path: Path) -> None:
    net = fresh(After())
    path = export(net, tmp_path / "m.onnx")
    set_attribute(path, "Gemm", name, 1.5)
    assert [x for x, _ in wrong(net, path)] == [trained_as]


def test_a_tensor_of_the_network_itself_must_be_there(tmp_path: Path) -> None:
    net = Own().eval()
    path = export(net, tmp_path / "right.onnx")
    assert wrong(net, path) == [], "what isn't run isn't missed"
    other = OwnLost().eval()
    other.load_state_dict(net.state_dict())
    lost = export(other, tmp_path / "lost.onnx")
    assert wrong(net, lost) == [("gain", "no vector of shape 9 is left in the file for it")]


def test_a_tensor_that_cannot_be_looked_for_is_refused_by_its_name() -> None:
    with pytest.raises(NotImplementedError, match=r"^gain, a tensor \[9, 2\] that no layer"):
        trained.layers(Own((9, 2)).eval(), SHAPE, "onnx")
    assert trained.layers(Own((9, 2)).eval(), SHAPE, "torchscript")[1].name == "gain"


def test_a_constant_shorter_than_its_shape_is_refused(tmp_path: Path) -> None:
    path = export(fresh(After()), tmp_path / "m.onnx")
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        tensor.raw_data = tensor.raw_data[:-3]
    onnx.save(model, path)
    with pytest.raises(ModelError, match="a constant in it is damaged"):
        onnx_.read(path)


@pytest.mark.parametrize("turned", [False, True])
def test_a_matrix_may_stand_first_in_a_gemm(turned: bool, tmp_path: Path) -> None:
    """W x, as x W' elsewhere: its axes are told by its place."""
    w = np.arange(6, dtype=np.float32).reshape(2, 3)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    node = helper.make_node("Gemm", ["w", "x"], ["y"], transA=int(turned))
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", kind, (3, 1))],
        [helper.make_tensor_value_info("y", kind, (2, 1))],
        [numpy_helper.from_array(np.ascontiguousarray(w.T if turned else w), "w")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    (found,) = onnx_.read(tmp_path / "m.onnx").constants
    np.testing.assert_array_equal(found.value, w)
