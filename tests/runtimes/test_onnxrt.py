"""ONNX Runtime: the conformance suite, its options, and the model with more outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from parity import registry
from parity.errors import ConfigError, ModelError
from parity.protocols import Artifact, Port
from parity.runtimes.onnxrt import with_outputs
from parity.testing import RuntimeConformance
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


def test_a_layer_that_isnt_there_is_a_model_error() -> None:
    a = commands_cnn("onnx")
    wrong = Artifact(**{**vars(a), "taps": {**a.taps, "model/relu9": Port(name="/relu9", layout="NC")}})
    with (
        registry.create("runtime", "onnxrt").open(wrong) as session,
        pytest.raises(ModelError, match=r"relu9|can't load"),
    ):
        session.run({"features": np.zeros((1, 1, 98, 50), np.float32)}, frozenset({"model/relu9"}))


def test_an_input_that_isnt_there_is_a_model_error_that_names_those_that_are() -> None:
    a = commands_cnn("onnx")
    wrong = Artifact(**{**vars(a), "input": Port(name="sound", layout="N1TF")})
    with pytest.raises(ModelError, match="no input 'sound'") as e, registry.create("runtime", "onnxrt").open(wrong):
        pass
    assert "'features'" in (e.value.hint or "")


def test_an_unknown_optimization_level_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="no optimization level 'wild'"):
        registry.create("runtime", "onnxrt:opt=wild")
