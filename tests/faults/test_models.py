"""A fault planted in a model file, or in what system.toml says of it, starts at its own layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from parity.runtimes.torch_ import build
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole commands and worker processes

LAYERS = ("relu1", "relu2", "relu3", "relu4", "relu5", "logits")
TAPS = ["model/relu1", "model/relu2", "model/relu3", "model/relu4", "model/relu5", "model/pool5", "model/logits"]


def change_weight(path: Path, layer: int, factor: float) -> None:
    """Multiply the largest weight of the layer's convolution or matrix, the only change to the file."""
    model = onnx.load(path)
    weights = [n.input[1] for n in model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    assert len(weights) == len(LAYERS)
    (tensor,) = (t for t in model.graph.initializer if t.name == weights[layer])
    w = numpy_helper.to_array(tensor).copy()
    w.reshape(-1)[np.abs(w).argmax()] *= factor
    tensor.CopyFrom(numpy_helper.from_array(w, tensor.name))
    onnx.save(model, path)


@pytest.mark.parametrize("layer", range(len(LAYERS)), ids=LAYERS)
def test_one_weight_five_percent_off_fails_at_its_own_layer(
    layer: int, local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = rig.system(tmp_path / "system")
    change_weight(folder / "commands-cnn.onnx", layer, 1.05)
    done = rig.run(local, golden, tmp_path, systems=(str(folder),))
    tap = f"model/{LAYERS[layer]}"
    assert done.exit_code == 1
    assert rig.failing(done, path="isolated")[0] == (tap, "fail")
    before = {s.tap: s.counts for s in done.summaries if s.path == "isolated" and s.tap in TAPS[: TAPS.index(tap)]}
    assert list(before) == TAPS[: TAPS.index(tap)]
    assert all(set(counts) == {"pass"} for counts in before.values())
    assert rig.failing(done, path="features") == []


def test_a_weight_saved_again_unchanged_passes(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system")
    change_weight(folder / "commands-cnn.onnx", 2, 1.0)
    assert rig.run(local, golden, tmp_path, systems=(str(folder),)).exit_code == 0


SCRIPTED = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore::torch.jit.TracerWarning")


@SCRIPTED
def test_one_weight_of_a_torchscript_file_fails_at_its_own_layer(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = rig.system(tmp_path / "system", formats=("torchscript",))
    model = torch.jit.load(folder / "commands-cnn.pt")
    with torch.no_grad():
        weight = model.conv3.weight.view(-1)
        weight[weight.abs().argmax()] *= 1.05
    torch.jit.save(model, folder / "commands-cnn.pt")
    done = rig.run(local, golden, tmp_path, systems=(str(folder),), runtimes=("torchscript",))
    assert done.exit_code == 1
    assert rig.failing(done, path="isolated")[0] == ("model/relu3", "fail")
    assert rig.failing(done, path="features") == []


@SCRIPTED
def test_a_trace_of_a_network_in_training_mode_fails_at_its_first_batch_normalization(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = rig.system(tmp_path / "system", formats=("torchscript", "torch"))
    network = build(f"{folder / 'model.py'}:build", folder / "weights.safetensors").train()
    traced = torch.jit.trace(network, (torch.zeros(1, 1, 98, 50),), check_trace=False)
    torch.jit.save(traced, folder / "commands-cnn.pt")
    done = rig.run(local, golden, tmp_path, systems=(str(folder),), runtimes=("torchscript",))
    assert done.exit_code == 1
    assert rig.failing(done, path="isolated")[0] == ("model/relu1", "fail")


def test_weights_in_half_precision_are_no_float32_model(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system")
    model = onnx.load(folder / "commands-cnn.onnx")
    for tensor in model.graph.initializer:
        w = numpy_helper.to_array(tensor)
        if w.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(w.astype(np.float16).astype(np.float32), tensor.name))
    onnx.save(model, folder / "commands-cnn.onnx")
    done = rig.run(local, golden, tmp_path, systems=(str(folder),))
    assert rig.failing(done, path="isolated")[0] == ("model/relu1", "fail")


def test_labels_in_another_order_fail_at_the_label(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system", ('"yes", "no",', '"no", "yes",'))
    done = rig.run(local, golden, tmp_path, systems=(str(folder),))
    assert done.exit_code == 1
    assert rig.failing(done) == [("decision/label", "fail")]
    assert {s.worst.outcome for s in done.summaries if s.tap == "model/logits"} == {"pass"}
    assert "labels are in another order" in rig.messages(done, "fail")


def test_a_label_less_is_told_apart_from_another_order(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system", ('"stop", "go"', '"stop"'))
    done = rig.run(local, golden, tmp_path, systems=(str(folder),))
    assert done.exit_code == 1
    assert "labels are others" in rig.messages(done, "fail", tap="decision/label")


def test_taps_swapped_in_the_map_fail_at_the_first(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    folder = rig.system(
        tmp_path / "system",
        ('"model/relu1" = { name = "/relu1/Relu_output_0"', '"model/relu1" = { name = "/relu2/Relu_output_0"'),
        ('"model/relu2" = { name = "/relu2/Relu_output_0"', '"model/relu2" = { name = "/relu1/Relu_output_0"'),
    )
    done = rig.run(local, golden, tmp_path, systems=(str(folder),))
    assert done.exit_code == 1
    assert rig.failing(done, path="isolated") == [("model/relu1", "fail"), ("model/relu2", "fail")]


def test_a_runtime_that_loses_or_widens_its_logits(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    lost = rig.run(local, golden, tmp_path, runtimes=("faulty.runtimes:LosesLogits",))
    assert lost.exit_code == 1
    assert rig.failing(lost)[0] == ("model/logits", "missing")
    wide = rig.run(local, golden, tmp_path, runtimes=("faulty.runtimes:Doubles",))
    assert wide.exit_code == 1
    assert rig.failing(wide) == [("model/logits", "fail")]
    assert "dtype is float64" in rig.messages(wide, "fail")
