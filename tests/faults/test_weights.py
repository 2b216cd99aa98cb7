"""Faults planted in weights that no activation may show: each is named, with its tensor, by the static check."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder
from onnx import numpy_helper

from parity import system as systems
from parity.errors import CONFIG, MISMATCH, NOTHING, ModelError
from parity.protocols import Array
from parity.targets.local import LocalTarget
from parity.weights import check, onnx_, tflite
from parity.weights.match import Finding
from tests.plugins_for_tests import rig

NAMES = sorted(p.parent.name for p in rig.MODELS.glob("*/system.toml"))
Change = Callable[[Array], Array]


def copy(tmp_path: Path, name: str) -> Path:
    return Path(shutil.copytree(rig.MODELS / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")))


def wrong(folder: Path, form: str, precision: str = "float32") -> list[Finding]:
    """What the check says of one file of a copy of a system."""
    whole = systems.load(folder)
    told, trained = (form, precision), ("torch", "float32")
    found = check.of(
        dataclasses.replace(
            whole, artifacts=tuple(a for a in whole.artifacts if (a.format, a.precision) in (told, trained))
        )
    )
    (one,) = [c for c in found if (c.artifact.format, c.artifact.precision) == told]
    assert one.findings
    return [f for f in one.findings if not f.ok]


def change_onnx(path: Path, op: str, place: int, how: Change, nth: int = 0) -> None:
    """Change the constant that the `nth` operator of a kind has as its `place`-th input."""
    model = onnx.load(path)
    node = [n for n in model.graph.node if n.op_type == op][nth]
    (tensor,) = (t for t in model.graph.initializer if t.name == node.input[place])
    w = np.ascontiguousarray(how(numpy_helper.to_array(tensor).copy()))
    tensor.CopyFrom(numpy_helper.from_array(w, tensor.name))
    onnx.save(model, path)


def change_tflite(path: Path, name: str, how: Change) -> None:
    """Change the constant of a name: float32, or the integers of a quantized one."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    (tensor,) = (t for t in model.subgraphs[0].tensors if t.name.decode() == name)
    buffer = model.buffers[tensor.buffer]
    stored = np.int8 if tensor.type == schema.TensorType.INT8 else np.float32
    w = np.frombuffer(bytes(buffer.data), stored).reshape(tensor.shape).copy()
    buffer.data = np.frombuffer(np.ascontiguousarray(how(w)).tobytes(), np.uint8)
    builder = Builder(path.stat().st_size)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def one_percent(w: Array) -> Array:
    """One weight off by 1 %: the largest, so that 1 % of it is much."""
    at = np.unravel_index(int(np.abs(w).argmax()), w.shape)
    w[at] *= 1.01
    return w


def transposed(w: Array) -> Array:
    return w.transpose(0, 1, 3, 2)


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_of_every_committed_file_is_explained(name: str) -> None:
    for one in check.of(systems.load(rig.MODELS / name)):
        assert one.ok, [one.why, *(f.how for f in one.findings if not f.ok)]


def test_one_recurrent_weight_off_by_one_percent(tmp_path: Path) -> None:
    folder = copy(tmp_path, "mfcc-lstm")
    change_onnx(folder / "mfcc-lstm.onnx", "LSTM", 2, one_percent, nth=1)
    (found,) = wrong(folder, "onnx")
    assert found.trained == "lstm2.weight_hh_l0"
    assert "1 of 16384 elements" in found.how
    assert wrong(folder, "tflite") == []


def test_one_recurrent_weight_off_in_tflite(tmp_path: Path) -> None:
    folder = copy(tmp_path, "mfcc-lstm")
    change_tflite(folder / "mfcc-lstm.tflite", "arith.constant3", one_percent)
    (found,) = wrong(folder, "tflite")
    assert found.trained == "lstm2.weight_hh_l0"


def test_one_weight_off_in_a_streams_file(tmp_path: Path) -> None:
    folder = copy(tmp_path, "logmel-gru")
    file = "logmel-gru-stream.onnx"
    change_onnx(folder / file, "GRU", 1, one_percent)
    s = systems.load(folder)
    wrong_files = [Path(c.artifact.path).name for c in check.of(s) if not c.ok]
    assert wrong_files == [file]
    assert [words.partition(" ")[0] for words in s.changed] == [file]


def test_gates_in_the_wrong_order(tmp_path: Path) -> None:
    def swapped(w: Array) -> Array:
        i, o, f, c = np.split(w, 4, axis=1)
        return np.concatenate([i, o, c, f], axis=1)

    folder = copy(tmp_path, "mfcc-lstm")
    change_onnx(folder / "mfcc-lstm.onnx", "LSTM", 1, swapped)
    (found,) = wrong(folder, "onnx")
    assert found.trained == "lstm1.weight_ih_l0"


@pytest.mark.parametrize("nth", [0, 2, 4])
def test_one_folded_convolution_weight_off(nth: int, tmp_path: Path) -> None:
    folder = copy(tmp_path, "commands-cnn")
    change_onnx(folder / "commands-cnn.onnx", "Conv", 1, one_percent, nth)
    (found,) = wrong(folder, "onnx")
    assert found.trained == f"conv{nth + 1}.weight"
    assert f"bn{nth + 1} folded in" in found.how


@pytest.mark.parametrize("nth", [1, 4])
def test_a_transposed_kernel(nth: int, tmp_path: Path) -> None:
    folder = copy(tmp_path, "commands-cnn")
    change_onnx(folder / "commands-cnn.onnx", "Conv", 1, transposed, nth)
    (found,) = wrong(folder, "onnx")
    assert found.trained == f"conv{nth + 1}.weight"
    assert "0, 1, 3, 2: transposed" in found.how


def test_a_transposed_kernel_in_tflite(tmp_path: Path) -> None:
    folder = copy(tmp_path, "commands-cnn")
    change_tflite(
        folder / "commands-cnn.tflite", "commands_cnn_1/conv3_1/convolution", lambda w: w.transpose(0, 2, 1, 3)
    )
    (found,) = wrong(folder, "tflite")
    assert found.trained == "conv3.weight"
    assert "transposed" in found.how


def one_step(w: Array) -> Array:
    """One integer off by one."""
    w[(1,) * w.ndim] += 1 if w[(1,) * w.ndim] < 127 else -1
    return w


def test_one_integer_off_by_one_step_in_onnx(tmp_path: Path) -> None:
    folder = copy(tmp_path, "commands-cnn")
    path = folder / "commands-cnn.int8.onnx"
    model = onnx.load(path)
    dequantized = [n for n in model.graph.node if n.op_type == "Conv"][2].input[1]
    place = [n for n in model.graph.node if n.op_type == "DequantizeLinear"].index(
        next(n for n in model.graph.node if dequantized in n.output)
    )
    change_onnx(path, "DequantizeLinear", 0, one_step, place)
    (found,) = wrong(folder, "onnx", "int8")
    assert found.trained == "conv3.weight"
    assert "1 of 10368 elements" in found.how
    assert wrong(folder, "onnx") == []


def test_one_integer_off_by_one_step_in_tflite(tmp_path: Path) -> None:
    folder = copy(tmp_path, "commands-cnn")
    path = folder / "commands-cnn.int8.tflite"
    reading = [c for c in tflite.read(path).constants if c.role == "convolution" and c.value.shape == (24, 12, 3, 3)]
    change_tflite(path, reading[0].name, one_step)
    (found,) = wrong(folder, "tflite", "int8")
    assert found.trained == "conv2.weight"


def test_a_gru_of_the_other_form(tmp_path: Path) -> None:
    """linear_before_reset 0, ONNX's default: the same weights make another network."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shapes = {"w": (1, 24, 4), "r": (1, 24, 8), "b": (1, 48)}
    tensors = [numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in shapes.items()]
    for form, said in (({}, ["linear_before_reset is 0; a GRU of PyTorch's form needs 1"]),
                       ({"linear_before_reset": 1}, [])):  # fmt: skip
        node = helper.make_node("GRU", ["x", "w", "r", "b"], ["y"], name="gru", hidden_size=8, **form)
        graph = helper.make_graph(
            [node], "g", [helper.make_tensor_value_info("x", kind, (5, 1, 4))],
            [helper.make_tensor_value_info("y", kind, (5, 1, 1, 8))], tensors,
        )  # fmt: skip
        onnx.save(helper.make_model(graph), tmp_path / "gru.onnx")
        assert [what for _, what in onnx_.read(tmp_path / "gru.onnx").problems] == said


def test_batch_normalization_folded_with_another_eps(tmp_path: Path) -> None:
    """Keras' default of 1e-3 for PyTorch's 1e-5, in one layer."""
    folder = copy(tmp_path, "commands-cnn")
    found = systems.load(folder)
    parent = check.parent(found)
    assert parent is not None
    assert parent.network is not None
    net = check.build(parent.network, Path(parent.path))
    right = torch.sqrt(net.bn2.running_var + 1e-5).detach().numpy()
    other = torch.sqrt(net.bn2.running_var + 1e-3).detach().numpy()
    ratio = (right / other)[:, None, None, None]
    change_onnx(folder / "commands-cnn.onnx", "Conv", 1, lambda w: (w * ratio).astype(np.float32), nth=1)
    (found_wrong,) = wrong(folder, "onnx")
    assert found_wrong.trained == "conv2.weight"
    assert "fits bn2 folded in (eps 0.001)" in found_wrong.how


def test_a_trace_of_other_weights_statistics_and_eps(tmp_path: Path) -> None:
    folder = copy(tmp_path, "commands-cnn")
    parent = check.parent(systems.load(folder))
    assert parent is not None
    assert parent.network is not None
    net = check.build(parent.network, Path(parent.path))
    with torch.no_grad():
        net.conv3.weight[1, 2, 0, 1] *= 1.01
        net.bn4.running_mean.zero_()
    net.bn5.eps = 1e-3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of TorchScript
        trace = torch.jit.trace(net, (torch.zeros(1, 1, 98, 50),))
        torch.jit.save(trace, folder / "commands-cnn.pt")
    assert [f.trained for f in wrong(folder, "torchscript")] == ["conv3.weight", "bn4.running_mean", "bn5.eps"]


def test_a_program_that_holds_a_pickle_of_its_own_is_refused_and_not_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "harm",)

    folder = copy(tmp_path, "commands-cnn")
    path = folder / "commands-cnn.pt2"
    planted = io.BytesIO()
    torch.save({"harm": Harm()}, planted)
    with zipfile.ZipFile(path) as source:
        content = {n: source.read(n) for n in source.namelist()}
    (sample,) = (n for n in content if "sample_inputs" in n and n.endswith(".pt"))
    with zipfile.ZipFile(path, "w") as made:
        for name, data in content.items():
            made.writestr(name, planted.getvalue() if name == sample else data)
    with pytest.raises(ModelError, match=r"torch\.export can't load .*commands-cnn\.pt2"):
        check.of(systems.load(folder))
    assert not (tmp_path / "harm").exists()


def test_the_two_weights_of_a_recurrent_layer_exchanged(tmp_path: Path) -> None:
    folder = copy(tmp_path, "mfcc-lstm")
    model = onnx.load(folder / "mfcc-lstm.onnx")
    node = [n for n in model.graph.node if n.op_type == "LSTM"][1]
    node.input[1], node.input[2] = node.input[2], node.input[1]
    onnx.save(model, folder / "mfcc-lstm.onnx")
    found = wrong(folder, "onnx")
    assert [f.trained for f in found] == ["lstm2.weight_ih_l0", "lstm2.weight_hh_l0"]
    assert [f.how.rpartition("; ")[2] for f in found] == ["fits lstm2.weight_hh_l0", "fits lstm2.weight_ih_l0"]


def test_two_recurrent_layers_exchanged(tmp_path: Path) -> None:
    folder = copy(tmp_path, "mfcc-lstm")
    model = onnx.load(folder / "mfcc-lstm.onnx")
    _, a, b = (n for n in model.graph.node if n.op_type == "LSTM")
    for place in (1, 2, 3):
        a.input[place], b.input[place] = b.input[place], a.input[place]
    onnx.save(model, folder / "mfcc-lstm.onnx")
    found = wrong(folder, "onnx")
    assert {f.trained for f in found} == {f"lstm2.{n}_l0" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    assert "lstm2.weight_ih_l0: it comes after lstm3.weight_ih_l0" in f"{found[0].trained}: {found[0].how}"


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [("lstm2.weight_ih_l0", "lstm2.weight_hh_l0", "lstm2.weight_ih_l0"),
     ("lstm2.weight_hh_l0", "lstm3.weight_hh_l0", "lstm2.weight_hh_l0")],
)  # fmt: skip
def test_two_constants_exchanged_in_tflite(first: str, second: str, name: str, tmp_path: Path) -> None:
    """Unrolled: only the operators' order tells a layer's two weights apart."""
    folder = copy(tmp_path, "mfcc-lstm")
    path = folder / "mfcc-lstm.tflite"
    (one,) = (c for c in check.of(systems.load(folder)) if c.artifact.path == str(path))
    named = {f.trained: f.constant for f in one.findings}
    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    a, b = (next(t for t in model.subgraphs[0].tensors if t.name.decode() == named[n]) for n in (first, second))
    a.buffer, b.buffer = b.buffer, a.buffer
    builder = Builder(path.stat().st_size)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    found = wrong(folder, "tflite")
    assert name in [f.trained for f in found]
    assert all("exchanged" in f.how for f in found)


def test_a_grid_300_times_too_coarse(tmp_path: Path) -> None:
    """Every weight is rounded to zero, and within half a step."""
    folder = copy(tmp_path, "commands-cnn")
    path = folder / "commands-cnn.int8.tflite"
    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    (kernel,) = (t for t in model.subgraphs[0].tensors if t.name.decode() == "commands_cnn_1/conv3_1/convolution")
    kernel.quantization.scale = np.asarray(kernel.quantization.scale, np.float32) * np.float32(300)
    buffer = model.buffers[kernel.buffer]
    buffer.data = np.zeros(len(buffer.data), np.uint8)
    builder = Builder(path.stat().st_size)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    (found,) = wrong(folder, "tflite", "int8")
    assert found.trained == "conv3.weight"
    assert "the grid is too coarse" in found.how


def test_a_scale_that_is_shared_through_an_identity_is_read(tmp_path: Path) -> None:
    folder = copy(tmp_path, "commands-cnn")
    path = folder / "commands-cnn.int8.onnx"
    model = onnx.load(path)
    held = {i.name for i in model.graph.initializer}
    node = next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in held)
    shared = onnx.helper.make_node("Identity", [node.input[1]], ["shared_scale"])
    node.input[1] = "shared_scale"
    model.graph.node.insert(0, shared)
    onnx.save(model, path)
    assert wrong(folder, "onnx", "int8") == []


def test_a_tflite_buffer_shorter_than_its_shape_is_refused(tmp_path: Path) -> None:
    folder = copy(tmp_path, "mfcc-lstm")
    path = folder / "mfcc-lstm.tflite"
    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    largest = max(model.buffers, key=lambda b: 0 if b.data is None else len(b.data))
    largest.data = largest.data[:-5]
    builder = Builder(path.stat().st_size)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    with pytest.raises(ModelError, match="a tensor in it is damaged"):
        tflite.read(path)


@pytest.mark.parametrize(
    ("file", "right", "left", "said"),
    [("model.py", "def build()", "def build(:", "SyntaxError: "),
     ("model.py", "return MfccLSTM()", "return 1 / 0", "can't be called: ZeroDivisionError")],
)  # fmt: skip
def test_code_that_cannot_be_run_is_refused(file: str, right: str, left: str, said: str, tmp_path: Path) -> None:
    folder = copy(tmp_path, "mfcc-lstm")
    text = (folder / file).read_text(encoding="utf-8")
    assert right in text
    (folder / file).write_text(text.replace(right, left), encoding="utf-8")
    with pytest.raises(ModelError, match=said):
        check.of(systems.load(folder))


def test_a_layout_that_the_network_does_not_take_is_refused(tmp_path: Path) -> None:
    folder = copy(tmp_path, "commands-cnn")
    found = systems.load(folder)
    artifacts = tuple(
        dataclasses.replace(a, input=dataclasses.replace(a.input, layout="NTF")) if a.format == "torch" else a
        for a in found.artifacts
    )
    with pytest.raises(ModelError, match="doesn't take the layout 'NTF'"):
        check.of(dataclasses.replace(found, artifacts=artifacts))


@pytest.mark.parametrize("file", ["mfcc-lstm.onnx", "mfcc-lstm.tflite"])
def test_a_file_that_is_not_there_is_told(file: str, tmp_path: Path) -> None:
    folder = copy(tmp_path, "mfcc-lstm")
    (folder / file).unlink()
    told = [(Path(c.artifact.path).name, c.why) for c in check.of(systems.load(folder)) if not c.ok]
    assert told == [(file, "the file isn't there: parity models export mfcc-lstm")]


def test_a_streams_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    folder = copy(tmp_path, "logmel-gru")
    (folder / "logmel-gru-stream.onnx").unlink()
    told = [Path(c.artifact.path).name for c in check.of(systems.load(folder)) if not c.ok]
    assert told == ["logmel-gru-stream.onnx"]


@pytest.mark.slow
def test_a_named_system_with_a_file_missing_is_no_success(tmp_path: Path) -> None:
    folder = copy(tmp_path, "mfcc-lstm")
    (folder / "mfcc-lstm.onnx").unlink()
    done = rig.parity("models", "check", folder)
    assert done.returncode == NOTHING
    assert "the file isn't there" in done.stdout


@pytest.mark.slow
def test_the_command_names_the_weight_and_the_changed_file(tmp_path: Path) -> None:
    folder = copy(tmp_path, "mfcc-lstm")
    change_onnx(folder / "mfcc-lstm.onnx", "LSTM", 2, one_percent)
    done = rig.parity("models", "check", folder)
    assert done.returncode == MISMATCH
    assert "WRONG mfcc-lstm.onnx: lstm1.weight_hh_l0" in done.stdout
    assert "mfcc-lstm.onnx was changed: its sha256 is" in done.stdout
    assert "mfcc-lstm.tflite tflite float32 11 tensors: all explained" in " ".join(done.stdout.split())
    found = systems.load(folder)
    plain = json.loads(json.dumps(check.records(found, check.of(found))))
    assert [r["trained"] for r in plain if r["ok"] is False] == ["", "lstm1.weight_hh_l0"]


def test_a_file_saved_again_is_changed_though_its_weights_are_not(tmp_path: Path) -> None:
    folder = copy(tmp_path, "mfcc-lstm")
    model = onnx.load(folder / "mfcc-lstm.onnx")
    model.producer_name = "someone else"
    onnx.save(model, folder / "mfcc-lstm.onnx")
    assert wrong(folder, "onnx") == []
    (said,) = systems.load(folder).changed
    assert said.startswith("mfcc-lstm.onnx was changed: ")


@pytest.mark.slow
def test_what_cannot_be_checked_is_no_success(tmp_path: Path) -> None:
    no_parent = rig.system(tmp_path / "s", formats=("onnx",))
    done = rig.parity("models", "check", no_parent)
    assert done.returncode == NOTHING
    assert "no trained weights to hold it to" in done.stdout
    damaged = copy(tmp_path, "commands-cnn")
    (damaged / "commands-cnn.tflite").write_bytes(b"no model")
    rig.refused(rig.parity("models", "check", damaged), CONFIG, "commands-cnn.tflite", "can't be read")


@pytest.mark.slow
def test_a_run_says_first_that_a_file_was_changed(local: LocalTarget, tmp_path: Path) -> None:
    """1 % of one recurrent weight: on these clips no activation leaves its bound, the digest does."""
    golden = rig.goldens(tmp_path / "golden", ("yes-en-us-f2.flac",), "mfcc-lstm")
    folder = copy(tmp_path, "mfcc-lstm")
    change_onnx(folder / "mfcc-lstm.onnx", "LSTM", 2, lambda w: w * np.float32(1 + 1e-7))
    done = rig.run(local, golden, tmp_path / "reports", systems=(str(folder),))
    (said,) = done.changed
    assert said.startswith("mfcc-lstm: mfcc-lstm.onnx was changed: its sha256 is ")
    assert "was changed" in (tmp_path / "reports" / done.name / "index.html").read_text(encoding="utf-8")
    shown = rig.parity("run", "--system", folder, "--golden", golden, "--backend", "numpy", "--runtime", "onnxrt",
                       "--report", tmp_path / "r2")  # fmt: skip
    assert "was changed" in "".join(shown.stdout.splitlines()[:4])
