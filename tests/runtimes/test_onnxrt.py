"""ONNX Runtime: the conformance suite, its options, and the model with more outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from parity import registry
from parity.errors import CONFIG, ConfigError, ModelError
from parity.protocols import Artifact, Port
from parity.runtimes.onnxrt import with_outputs
from parity.testing import RuntimeConformance
from tests.plugins_for_tests import rig
from tests.runtimes.models import commands_cnn


class TestOnnxConformance(RuntimeConformance):
    spec = "onnxrt"

    def artifact(self) -> Artifact:
        return commands_cnn("onnx")


class TestOnnxUnoptimizedConformance(TestOnnxConformance):
    spec = "onnxrt:opt=off"


def test_more_outputs_are_added_and_nothing_else_changes() -> None:
    model = Path(commands_cnn("onnx").path).read_bytes()
    inner = [f"{'long' * 40}{i}" for i in range(3)]  # lengths that take more than one byte
    before, after = onnx.load_from_string(model), onnx.load_from_string(with_outputs(model, inner))
    assert [o.name for o in after.graph.output] == [o.name for o in before.graph.output] + inner
    del after.graph.output[len(before.graph.output) :]
    assert after == before


def test_asking_for_layers_runs_the_deployed_bytes_for_the_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[bytes] = []
    real = onnxruntime.InferenceSession

    def spy(model: bytes, *rest: object, **more: object) -> object:
        loaded.append(model)
        return real(model, *rest, **more)

    monkeypatch.setattr("parity.runtimes.onnxrt.ort.InferenceSession", spy)
    artifact = commands_cnn("onnx")
    x = np.zeros((1, 1, 98, 50), np.float32)
    with registry.create("runtime", "onnxrt").open(artifact) as session:
        session.run({"features": x}, frozenset({"model/logits"}))
        assert loaded == [Path(artifact.path).read_bytes()]
        session.run({"features": x}, frozenset(artifact.taps))
    assert len(loaded) == 2


X = np.zeros((1, 1, 98, 50), np.float32)


def with_taps(**names: str) -> Artifact:
    """commands-cnn with these tensors at more taps."""
    a = commands_cnn("onnx")
    more = {f"model/{tap}": Port(name=name, layout="NCTF") for tap, name in names.items()}
    return Artifact(**{**vars(a), "taps": {**a.taps, **more}})


def test_layers_that_arent_there_are_named_with_their_taps_and_the_files_own_outputs() -> None:
    wrong = with_taps(relu9="/relu9/Relu_output_0", deeper="/deeper")
    with registry.create("runtime", "onnxrt").open(wrong) as session, pytest.raises(ModelError) as e:
        session.run({"features": X}, frozenset({"model/relu9"}))
    found = "has no tensor '/relu9/Relu_output_0' for model/relu9, '/deeper' for model/deeper"
    assert e.value.message == f"{wrong.path} {found}"  # and none of those that are there
    assert e.value.hint == "its own outputs are 'logits'; name an inner tensor as Netron shows it"
    assert e.value.exit_code == CONFIG


def test_a_layer_that_isnt_there_is_in_nobodys_way_until_a_layer_is_wanted() -> None:
    wrong = with_taps(relu9="/relu9")
    with registry.create("runtime", "onnxrt").open(wrong) as session:
        assert session.run({"features": X}, frozenset({"model/logits"}))["model/logits"].shape == (1, 11)
        with pytest.raises(ModelError, match="no tensor '/relu9' for model/relu9"):
            session.run({"features": X}, frozenset({"model/relu1"}))


def test_a_file_that_loads_without_layers_but_not_with_them_says_what_the_runtime_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, loads = onnxruntime.InferenceSession, []

    def out_of_memory(model: bytes, *rest: object, **more: object) -> object:
        loads.append(model)
        if len(loads) == 2:
            raise RuntimeError("out of memory")
        return real(model, *rest, **more)

    monkeypatch.setattr("parity.runtimes.onnxrt.ort.InferenceSession", out_of_memory)
    with (
        registry.create("runtime", "onnxrt").open(commands_cnn("onnx")) as session,
        pytest.raises(ModelError, match=r"can't load .*: out of memory"),
    ):
        session.run({"features": X}, frozenset({"model/relu1"}))


@pytest.mark.slow
def test_a_layer_that_isnt_there_ends_a_run_in_3_and_leaves_no_report(tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system", ('"/relu3/Relu_output_0"', '"/relu3/Relu_output_7"'))
    golden, reports = rig.goldens(tmp_path / "golden"), tmp_path / "reports"
    done = rig.parity("run", "--system", folder, "--golden", golden, "--backend", "numpy", "--runtime", "onnxrt",
                      "--report", reports)  # fmt: skip
    rig.refused(done, CONFIG, "commands-cnn.onnx has no tensor '/relu3/Relu_output_7' for model/relu3", "'logits'")
    assert rig.left_over(reports) == []


def test_an_input_that_isnt_there_is_a_model_error_that_names_those_that_are() -> None:
    a = commands_cnn("onnx")
    wrong = Artifact(**{**vars(a), "input": Port(name="sound", layout="N1TF")})
    with pytest.raises(ModelError, match="no input 'sound'") as e, registry.create("runtime", "onnxrt").open(wrong):
        pass
    assert "'features'" in (e.value.hint or "")


def test_an_unknown_optimization_level_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="no optimization level 'wild'"):
        registry.create("runtime", "onnxrt:opt=wild")
