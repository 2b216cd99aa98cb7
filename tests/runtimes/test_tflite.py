"""TensorFlow Lite: the conformance suite with every resolver, and quantized models of others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from parity import registry
from parity.errors import ConfigError, ModelError
from parity.protocols import Array, Artifact, Port
from parity.taps import MODEL_INPUT
from parity.testing import RuntimeConformance
from tests.runtimes.models import commands_cnn, names_of, resource_variable, variable_tensor


class TestTfliteConformance(RuntimeConformance):
    spec = "tflite"

    def artifact(self) -> Artifact:
        return commands_cnn("tflite")


class TestTfliteBuiltinConformance(TestTfliteConformance):
    spec = "tflite:resolver=builtin"


class TestTfliteReferenceConformance(TestTfliteConformance):
    spec = "tflite:resolver=reference"


def published(path: Path, tensor: str, output: str, layout: str, dtype: str, shape: tuple[int, int]) -> Artifact:
    return Artifact(
        system="published", format="tflite", precision=dtype, path=str(path), shape=shape,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(), input=Port(name=tensor, layout=layout, dtype=dtype),
        taps={"model/softmax": Port(name=output, layout="NC", dtype=dtype)},
    )  # fmt: skip


@pytest.mark.data
@pytest.mark.parametrize("resolver", ["xnnpack", "builtin", "reference"])
@pytest.mark.parametrize(("word", "right"), [("yes", [0, 5, 250, 1]), ("no", [26, 26, 26, 178])])
def test_the_published_uint8_model_gives_its_published_answers(
    data: Path, word: str, right: list[int], resolver: str
) -> None:
    folder = data / "micro_speech"
    features = np.load(folder / f"golden_simple_{word}_49x43_uint8.npy", allow_pickle=False)
    model = folder / "micro_speech_simple_uint8.tflite"
    artifact = published(model, *names_of(model), "NTF1", "uint8", (49, 43))
    with registry.create("runtime", f"tflite:resolver={resolver}").open(artifact) as session:
        got = session.run({artifact.input.name: features.reshape(1, 49, 43, 1)}, frozenset({"model/softmax"}))
        assert session.tensors[MODEL_INPUT].dtype == "uint8"
    assert got["model/softmax"].reshape(-1).tolist() == right


def test_a_tensor_that_isnt_there_is_a_model_error_that_names_those_that_are() -> None:
    a = commands_cnn("tflite")
    wrong = Artifact(**{**vars(a), "taps": {**a.taps, "model/relu9": Port(name="relu9", layout="NTFC")}})
    with pytest.raises(ModelError, match="no tensor 'relu9'") as e, registry.create("runtime", "tflite").open(wrong):
        pass
    assert "logits" in (e.value.hint or "")


def test_a_file_of_a_newer_operation_than_the_package_knows_is_unsupported_and_says_which(tmp_path: Path) -> None:
    """tflite-runtime 2.14, the newest for 32-bit boards, meets this in files of today's converter."""
    a = commands_cnn("tflite")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(Path(a.path).read_bytes(), 0))
    (code,) = [c for c in model.operatorCodes if c.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED]
    code.version = 99
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    newer = tmp_path / "newer.tflite"
    newer.write_bytes(bytes(builder.Output()))
    runtime = registry.create("runtime", "tflite")
    refused = runtime.supports(Artifact(**{**vars(a), "path": str(newer)}))
    assert refused is not None
    assert "lacks FULLY_CONNECTED of version 99" in refused.reason
    assert refused.reason.startswith("ai-edge-litert 2.")
    assert runtime.supports(a) is None
    (tmp_path / "broken.tflite").write_bytes(b"TFL3")  # what `open` has to say
    assert runtime.supports(Artifact(**{**vars(a), "path": str(tmp_path / "broken.tflite")})) is None
    assert runtime.supports(Artifact(**{**vars(a), "path": str(tmp_path / "none.tflite")})) is None


def test_an_unknown_resolver_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="no resolver 'wild'"):
        registry.create("runtime", "tflite:resolver=wild")


# ---- Files with a memory of their own ----


@pytest.mark.slow
@pytest.mark.parametrize("resolver", ["xnnpack", "builtin", "reference"])
@pytest.mark.parametrize("make", [resource_variable, variable_tensor])
def test_each_clip_starts_from_nothing(make: Callable[[Path], Artifact], resolver: str, tmp_path: Path) -> None:
    artifact = make(tmp_path / "model.tflite")
    shape = (1, 5, 9) if artifact.input.layout == "NTF" else (1, 45)
    clips = [np.random.default_rng(i).normal(size=shape).astype(np.float32) for i in (1, 2)]
    taps = frozenset({"model/logits"})

    def answers(order: Sequence[int]) -> list[Array]:
        with registry.create("runtime", f"tflite:resolver={resolver}").open(artifact) as session:
            return [session.run({artifact.input.name: clips[i]}, taps)["model/logits"] for i in order]

    first, second, again = answers([0, 1, 0])
    (alone,) = answers([1])
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(second, alone)
    assert np.abs(first - second).max() > 0.01
    # Without that, it does remember: the first clip changes what the second gives.
    from ai_edge_litert.interpreter import Interpreter

    bare = Interpreter(model_path=artifact.path)
    bare.allocate_tensors()
    got = []
    for x in clips:
        bare.set_tensor(bare.get_input_details()[0]["index"], x)
        bare.invoke()
        got.append(np.array(bare.get_tensor(bare.get_output_details()[0]["index"])))
    assert np.abs(got[1] - alone).max() > 0.01
