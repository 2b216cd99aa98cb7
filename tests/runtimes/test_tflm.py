from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tflite_micro", reason="tflite-micro isn't installed: pip install 'parity[tflm]'")

from parity import registry, system
from parity.errors import ConfigError, ModelError
from parity.protocols import Artifact, Port, Unsupported
from parity.testing import RuntimeConformance
from tests.runtimes.models import commands_cnn, resource_variable

MODELS = Path(__file__).parents[2] / "reference_models"


class TestTflmConformance(RuntimeConformance):
    spec = "tflm"

    def artifact(self) -> Artifact:
        return commands_cnn("tflite")


def micro_speech(precision: str = "float32") -> Artifact:
    found = system.load(MODELS / "micro-speech")
    return next(a for a in found.artifacts if a.format == "tflite" and a.precision == precision)


def published(path: Path, tensor: str, output: str, axes: str, dtype: str) -> Artifact:
    return Artifact(
        system="published", format="tflite", precision=dtype, path=str(path), shape=(49, 40),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(), input=Port(name=tensor, layout=axes, dtype=dtype),
        taps={"model/probabilities": Port(name=output, layout="NC", dtype=dtype)},
    )  # fmt: skip


def reason(artifact: Artifact, spec: str = "tflm") -> str:
    found = registry.create("runtime", spec).supports(artifact)
    assert isinstance(found, Unsupported), found
    return found.reason


def test_an_lstm_that_was_unrolled_gives_its_logits_and_no_layers() -> None:
    found = system.load(MODELS / "mfcc-lstm")
    artifact = next(a for a in found.artifacts if a.format == "tflite")
    assert "keeps 1024 tensors apart" in reason(artifact)
    logits = dataclasses.replace(artifact, taps={"model/logits": artifact.taps["model/logits"]})
    assert registry.create("runtime", "tflm").supports(logits) is None


@pytest.mark.data
def test_a_uint8_model_is_refused(data: Path) -> None:
    path = data / "micro_speech" / "micro_speech_simple_uint8.tflite"
    assert "no kernels for uint8 models" in reason(published(path, "Reshape_1", "labels_softmax", "N(TF)", "uint8"))


@pytest.mark.data
def test_dynamic_range_weights_are_refused(data: Path) -> None:
    path = data / "mlperf_tiny_kws" / "kws_ref_model_float32.tflite"
    assert "no kernels for dynamic-range weights (CONV_2D" in reason(published(path, "x", "y", "NTF1", "float32"))


def test_weights_that_only_a_phone_unpacks_are_refused() -> None:
    assert "no kernels for float16 weights" in reason(micro_speech("float16"))
    assert "no kernels for dynamic-range weights (FULLY_CONNECTED" in reason(micro_speech("dynamic"))


def test_its_integers_are_those_of_the_built_in_kernels() -> None:
    artifact, rng = micro_speech("int8"), np.random.default_rng(0)
    with (
        registry.create("runtime", "tflm").open(artifact) as tflm,
        registry.create("runtime", "tflite:resolver=builtin").open(artifact) as builtin,
    ):
        for _ in range(50):
            x = {"features": rng.integers(-128, 128, (1, 49, 40, 1)).astype(np.int8)}
            here, there = tflm.run(x, frozenset(artifact.taps)), builtin.run(x, frozenset(artifact.taps))
            for tap in artifact.taps:
                np.testing.assert_array_equal(here[tap], there[tap], err_msg=tap)


def test_a_loop_is_refused_before_it_can_hang(tmp_path: Path) -> None:
    code = f"""
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, tensorflow as tf
x = keras.Input(batch_shape=(1, 5, 4))
model = keras.Model(x, keras.layers.LSTM(3)(x))
data = tf.lite.TFLiteConverter.from_keras_model(model)
data.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
data._experimental_lower_tensor_list_ops = True
open({str(tmp_path / "loop.tflite")!r}, "wb").write(data.convert())
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=os.environ, timeout=120)
    artifact = published(tmp_path / "loop.tflite", "x", "y", "NTF", "float32")
    assert "hangs in loops (WHILE)" in reason(artifact)


@pytest.mark.data
def test_the_arena_that_the_published_model_needs_is_measured(data: Path) -> None:
    from parity.runtimes import tflm

    path = data / "micro_speech" / "micro_speech_quantized.tflite"
    artifact = published(path, "Reshape_1", "labels_softmax", "N(TF)", "int8")
    assert tflm.arena_bytes(path) == 7584, "below the 10 KB that were published"
    assert registry.create("runtime", "tflm:arena=7584").supports(artifact) is None
    assert reason(artifact, "tflm:arena=7583") == "it needs an arena of 7584 bytes, and has 7583"
    features = np.load(data / "micro_speech" / "golden_micro_no_49x40_int8.npy")
    with registry.create("runtime", "tflm:arena=7584").open(artifact) as session:
        got = session.run({"Reshape_1": features.reshape(1, 1960)}, frozenset(artifact.taps))
    assert got["model/probabilities"].tolist() == [[-128, -114, -128, 114]]


def test_an_arena_that_is_too_small_is_told_when_opening() -> None:
    with (
        pytest.raises(ModelError, match="into an arena of 1500 bytes"),
        registry.create("runtime", "tflm:arena=1500").open(micro_speech()),
    ):
        pass


@pytest.mark.parametrize("arena", ["0", "-1", "1023", "20k", str(2**31)])
def test_an_arena_that_is_no_size_is_refused(arena: str) -> None:
    with pytest.raises(ConfigError, match="not a number of bytes"):
        registry.create("runtime", f"tflm:arena={arena}")


def test_a_tensor_that_isnt_there_is_a_model_error_that_names_those_that_are() -> None:
    a = micro_speech()
    wrong = dataclasses.replace(a, taps={**a.taps, "model/relu": Port(name="relu9", layout="NTFC")})
    with pytest.raises(ModelError, match="no tensor 'relu9'") as e, registry.create("runtime", "tflm").open(wrong):
        pass
    assert "probabilities" in (e.value.hint or "")


@pytest.mark.slow
def test_a_resource_variable_is_forgotten_between_clips(tmp_path: Path) -> None:
    artifact = resource_variable(tmp_path / "model.tflite")
    x = {artifact.input.name: np.ones((1, 5, 9), np.float32)}
    with registry.create("runtime", "tflm").open(artifact) as session:
        first, second = (session.run(x, frozenset({"model/logits"}))["model/logits"] for _ in range(2))
    np.testing.assert_array_equal(first, np.ones((1, 9), np.float32))
    np.testing.assert_array_equal(second, first)
