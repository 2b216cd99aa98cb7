"""The far side: what it answers, what it makes of features and outputs, and how it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from parity import frontend as fe
from parity import system as systems
from parity.errors import ConfigError, ModelError
from parity.protocols import Array, Artifact, Port, Tensor
from parity.targets import agent, wire
from tests.plugins_for_tests import rig


@pytest.fixture(scope="module")
def onnx() -> Artifact:
    return next(a for a in systems.load(rig.SYSTEM).artifacts if a.format == "onnx")


def test_an_artifact_survives_the_way_over(onnx: Artifact) -> None:
    (sent,) = [wire.decode(io.BytesIO(b"".join(wire.encode(dataclasses.asdict(onnx)))).read)]
    assert agent.artifact_from_plain(sent) == onnx


@pytest.mark.parametrize(
    ("declared", "shape"),
    [(Tensor(shape=(None, 1, 98, 50), dtype="float32"), (98, 50)), (None, (98, 50))],
)
def test_features_that_fit(declared: Tensor | None, shape: tuple[int, int], onnx: Artifact) -> None:
    agent.check_shape(onnx, declared, np.zeros(shape, np.float32))


@pytest.mark.parametrize("shape", [(97, 50), (98, 40), (50, 98), (4900,), (1, 98, 50)])
def test_features_that_do_not_fit_are_named_in_frames_and_bands(shape: tuple[int, ...], onnx: Artifact) -> None:
    with pytest.raises(ModelError, match="takes 98 frames of 50 bands") as error:
        agent.check_shape(onnx, None, np.zeros(shape, np.float32))
    assert str(list(shape)) in error.value.message
    assert "system.toml" in str(error.value.hint)


def test_a_network_that_takes_another_tensor_is_named(onnx: Artifact) -> None:
    declared = Tensor(shape=(1, 98, 50, 1), dtype="float32")
    with pytest.raises(ModelError, match=r"input of shape \[1, 98, 50, 1\].*\[1, 1, 98, 50\] in its layout 'N1TF'"):
        agent.check_shape(onnx, declared, np.zeros((98, 50), np.float32))


@pytest.mark.parametrize(
    ("layout", "shape"),
    [("N1TF", (1, 1, 98, 50)), ("NTF1", (1, 98, 50, 1)), ("NFT", (1, 50, 98)), ("NTF", (None, 98, None))],
)
def test_a_network_of_another_number_of_frames_says_how_to_give_it_them(
    layout: str, shape: tuple[int | None, ...], onnx: Artifact
) -> None:
    any_frames = dataclasses.replace(onnx, shape=(None, 50), input=Port(name="x", layout=layout))
    declared = Tensor(shape=shape, dtype="float32")
    agent.check_shape(any_frames, declared, np.zeros((98, 50), np.float32))
    with pytest.raises(ModelError, match=r"takes 98 frames; this clip gives 97") as error:
        agent.check_shape(any_frames, declared, np.zeros((97, 50), np.float32))
    hint = str(error.value.hint)
    assert "set frontend.input.length (98 frames) in system.toml" in hint
    assert "model.shape = [98, 50]" in hint


def test_raw_audio_is_samples_of_one_value(onnx: Artifact) -> None:
    raw = dataclasses.replace(onnx, shape=(16000, 1), input=Port(name="x", layout="NT"))
    agent.check_shape(raw, Tensor(shape=(1, 16000), dtype="float32"), np.zeros(16000, np.float32))
    with pytest.raises(ModelError, match="takes 16000 frames of 1 bands"):
        agent.check_shape(raw, None, np.zeros(15999, np.float32))
    of_any = dataclasses.replace(raw, shape=(None, 1))
    with pytest.raises(ModelError, match="takes 16000 frames; this clip gives 8000"):
        agent.check_shape(of_any, Tensor(shape=(1, 16000), dtype="float32"), np.zeros(8000, np.float32))


@pytest.mark.parametrize(
    ("layout", "shape"),
    [("N1TF", (1, 1, 98, 40)), ("N1TF", (1, 2, 98, 50)), ("N1TF", (1, 98, 50)), ("NFT", (1, 98, 50))],
    ids=["bands", "an axis of one", "axes", "turned"],
)
def test_where_more_than_the_frames_differs_both_shapes_are_told(
    layout: str, shape: tuple[int, ...], onnx: Artifact
) -> None:
    other = dataclasses.replace(onnx, shape=(None, 50), input=Port(name="x", layout=layout))
    with pytest.raises(ModelError) as error:
        agent.check_shape(other, Tensor(shape=shape, dtype="float32"), np.zeros((97, 50), np.float32))
    assert f"takes an input of shape {list(shape)}" in error.value.message
    assert "[97, 50]" in error.value.message


def test_features_are_quantized_for_an_integer_input_and_outputs_turned_back(onnx: Artifact) -> None:
    whole = Tensor(shape=(1, 1, 2, 2), dtype="int8", scale=0.5, zero_point=-3)
    x = agent.to_input(np.array([[0.0, 0.6], [-70.0, 90.0]], np.float32), onnx, whole)
    assert x.dtype == np.int8
    assert x.reshape(-1).tolist() == [-3, -2, -128, 127]
    back = agent.from_output(x, onnx.input, whole)
    assert back.dtype == np.float32
    assert back.tolist() == [[0.0, 0.5], [-62.5, 65.0]]


def test_integer_features_and_float_networks_are_left_alone(onnx: Artifact) -> None:
    features = np.arange(4, dtype=np.uint8).reshape(2, 2)
    same = agent.to_input(features, onnx, Tensor(shape=(1, 1, 2, 2), dtype="uint8", scale=0.1))
    assert same.dtype == np.uint8
    assert same.reshape(-1).tolist() == [0, 1, 2, 3]
    logits = agent.from_output(np.zeros((1, 3), np.float32), Port(name="x", layout="NC"), None)
    assert logits.shape == (3,)


WHOLE = np.array([[-128, -1], [0, 127]])


@pytest.mark.parametrize(
    ("features", "declared"),
    [
        (WHOLE.astype(np.int8), Tensor(shape=(1, 1, 2, 2), dtype="int8", scale=0.5, zero_point=-3)),
        ((WHOLE + 128).astype(np.uint8), Tensor(shape=(1, 1, 2, 2), dtype="uint8", scale=0.5, zero_point=7)),
        ((WHOLE + 128).astype(np.uint8), Tensor(shape=(1, 1, 2, 2), dtype="int16", scale=0.5, zero_point=-3)),
        (WHOLE.astype(np.int8), Tensor(shape=(1, 1, 2, 2), dtype="int32")),
        (WHOLE.astype(np.int8), Tensor(shape=(1, 1, 2, 2), dtype="float32")),
        (WHOLE.astype(np.int8), Tensor(shape=(1, 1, 2, 2), dtype="float16")),
        (WHOLE.astype(np.int8), None),
    ],
)
def test_quantized_features_are_fed_unchanged_never_quantized_twice_and_come_back_equal(
    features: Array, declared: Tensor | None, onnx: Artifact
) -> None:
    x = agent.to_input(features, onnx, declared)
    assert x.dtype.name == (declared.dtype if declared is not None else features.dtype.name)
    assert x.shape == (1, 1, 2, 2)
    np.testing.assert_array_equal(x.reshape(2, 2), features)
    back = agent.from_input(x, features, onnx, declared)
    assert back.dtype == features.dtype
    np.testing.assert_array_equal(back, features)


@pytest.mark.parametrize(
    ("features", "declared"),
    [
        ((WHOLE + 128).astype(np.uint8), Tensor(shape=(1, 1, 2, 2), dtype="int8", scale=1.0, zero_point=-128)),
        (WHOLE.astype(np.int8), Tensor(shape=(1, 1, 2, 2), dtype="uint8", scale=1.0, zero_point=128)),
    ],
)
def test_whole_numbers_counted_from_elsewhere_are_moved_and_come_back_equal(
    features: Array, declared: Tensor, onnx: Artifact
) -> None:
    x = agent.to_input(features, onnx, declared)
    assert x.dtype.name == declared.dtype
    np.testing.assert_array_equal(x.reshape(2, 2).astype(int) - declared.zero_point, features)
    back = agent.from_input(x, features, onnx, declared)
    assert back.dtype == features.dtype
    np.testing.assert_array_equal(back, features)


def test_a_zero_point_that_would_lose_a_number_is_refused(onnx: Artifact) -> None:
    declared = Tensor(shape=(1, 1, 2, 2), dtype="int8", scale=1.0, zero_point=-127)
    with pytest.raises(ModelError, match="takes int8; the frontend's features are uint8"):
        agent.to_input(np.zeros((2, 2), np.uint8), onnx, declared)


@pytest.mark.parametrize(
    ("features", "takes", "scale"),
    [
        ("int16", "int8", 0.5), ("int16", "int8", None), ("uint8", "int8", 0.5), ("int8", "uint8", 0.5),
        ("int32", "uint8", None), ("float32", "int8", None),
    ],
)  # fmt: skip
def test_features_that_do_not_fit_an_integer_input_are_refused_with_what_to_do(
    features: str, takes: str, scale: float | None, onnx: Artifact
) -> None:
    declared = Tensor(shape=(1, 1, 2, 2), dtype=takes, scale=scale)
    with pytest.raises(ModelError, match=f"takes {takes}; the frontend's features are {features}") as error:
        agent.to_input(np.zeros((2, 2), features), onnx, declared)
    assert "[frontend.quantize]" in str(error.value.hint)


def test_what_a_float16_network_was_fed_with_comes_back_as_float32(onnx: Artifact) -> None:
    features = np.array([[0.1, -6.0], [1e6, 65504.0]], np.float32)
    declared = Tensor(shape=(1, 1, 2, 2), dtype="float16")
    x = agent.to_input(features, onnx, declared)
    assert x.dtype == np.float16
    back = agent.from_input(x, features, onnx, declared)
    assert back.dtype == np.float32
    assert back.tolist() == [[float(np.float16(0.1)), -6.0], [np.inf, 65504.0]]


@pytest.mark.parametrize("layout", ["N1TF", "NTF1", "NFT"])
def test_what_an_integer_network_was_fed_with_comes_back_dequantized_and_time_major(
    layout: str, onnx: Artifact
) -> None:
    artifact = dataclasses.replace(onnx, input=Port(name="x", layout=layout))
    features = np.array([[0.0, 0.6, 1.0], [-70.0, 90.0, -0.5]], np.float32)
    declared = Tensor(shape=(None,) * len(layout), dtype="int8", scale=0.5, zero_point=-3)
    back = agent.from_input(agent.to_input(features, artifact, declared), features, artifact, declared)
    assert back.dtype == np.float32
    assert back.tolist() == [[0.0, 0.5, 1.0], [-62.5, 65.0, -0.5]]


class Takes:
    """A runtime whose network takes what its options say and answers one logit."""

    def __init__(self, dtype: str, scale: str = "") -> None:
        self.tensors = {
            "model/input": Tensor(shape=(1, 1, None, 50), dtype=dtype, scale=float(scale) if scale else None)
        }
        self.fed: list[Array] = []

    def versions(self) -> dict[str, str]:
        return {}

    @contextlib.contextmanager
    def open(self, artifact: Artifact, threads: int = 1) -> Iterator[Takes]:
        yield self

    def run(self, inputs: dict[str, Array], taps: frozenset[str]) -> dict[str, Array]:
        self.fed += inputs.values()
        return {"model/logits": np.zeros((1, 1), np.float32)}


@pytest.mark.parametrize(
    ("options", "features", "back"),
    [
        ("dtype=int8,scale=0.5", np.full((98, 50), 0.6, np.float32), np.full((98, 50), 0.5, np.float32)),
        ("dtype=int8,scale=0.5", np.full((98, 50), 7, np.int8), np.full((98, 50), 7, np.int8)),
        ("dtype=float32", np.full((98, 50), 7, np.int8), np.full((98, 50), 7, np.int8)),
        ("dtype=float16", np.full((98, 50), 0.1, np.float32), np.full((98, 50), np.float16(0.1), np.float32)),
    ],
)
def test_the_tap_of_the_input_is_what_was_fed_in_the_dtype_of_the_features(
    options: str, features: Array, back: Array, onnx: Artifact
) -> None:
    far = agent.Agent()
    list(far.handle({"do": "load", "kind": "runtime", "spec": f"{__name__}:Takes:{options}"}))
    list(far.handle({"do": "open", "artifact": dataclasses.asdict(onnx), "threads": 1}))
    (reply,) = far.handle({"do": "run", "model": onnx.key, "inputs": [features], "taps": [["model/input"]]})
    assert far._plugin.fed[0].dtype.name == options.removeprefix("dtype=").split(",")[0]
    assert reply["taps"]["model/input"].dtype == back.dtype
    np.testing.assert_array_equal(reply["taps"]["model/input"], back)


def test_an_output_that_does_not_fit_its_layout_is_named(onnx: Artifact) -> None:
    far = agent.Agent()
    list(far.handle({"do": "load", "kind": "runtime", "spec": "onnxrt"}))
    crooked = dataclasses.replace(onnx, taps={"model/logits": Port(name="logits", layout="NCTF")})
    list(far.handle({"do": "open", "artifact": dataclasses.asdict(crooked), "threads": 1}))
    run = {"do": "run", "model": onnx.key, "inputs": [np.zeros((98, 50), np.float32)], "taps": [["model/logits"]]}
    with pytest.raises(ModelError, match="model/logits has 2 axes"):
        list(far.handle(run))
    list(far.handle({"do": "close"}))


def test_a_model_with_other_names_is_a_model_error(onnx: Artifact) -> None:
    far = agent.Agent()
    list(far.handle({"do": "load", "kind": "runtime", "spec": "onnxrt"}))
    other = dataclasses.replace(onnx, input=Port(name="audio", layout="N1TF"))
    with pytest.raises(ModelError, match="no input 'audio'") as error:
        list(far.handle({"do": "open", "artifact": dataclasses.asdict(other), "threads": 1}))
    assert "'features'" in str(error.value.hint)


def test_only_the_taps_that_were_asked_for_come_back(onnx: Artifact) -> None:
    far = agent.Agent()
    list(far.handle({"do": "load", "kind": "runtime", "spec": "onnxrt"}))
    list(far.handle({"do": "open", "artifact": dataclasses.asdict(onnx), "threads": 1}))
    x = np.zeros((98, 50), np.float32)
    wanted = [["model/logits"], ["model/input", "model/relu1", "model/of-another-system"]]
    first, second = far.handle({"do": "run", "model": onnx.key, "inputs": [x, x], "taps": wanted})
    assert sorted(first["taps"]) == ["model/logits"]
    assert sorted(second["taps"]) == ["model/input", "model/relu1"]
    assert second["taps"]["model/relu1"].ndim == 3
    np.testing.assert_array_equal(second["taps"]["model/input"], x)


def test_a_backend_is_asked_before_any_work() -> None:
    far = agent.Agent()
    list(far.handle({"do": "load", "kind": "backend", "spec": "librosa"}))
    recipe = fe.to_plain(systems.load(rig.SYSTEM).frontend)
    scaled = {**recipe, "input": {**recipe["input"], "scale": "int16"}}
    (reply,) = far.handle({"do": "describe", "questions": [{"frontend": recipe}, {"frontend": scaled}]})
    able, unable = reply["answers"]
    assert "features/spectrum" in able["taps"]
    assert unable == {"unsupported": "librosa has no int16 input scale"}
    assert able["arithmetic"] == "float64-rounded"


@pytest.mark.parametrize("told", ["float64", None, "Float32"])
def test_a_class_of_arithmetic_that_there_is_none_of_is_refused(told: object) -> None:
    far = agent.Agent()
    list(far.handle({"do": "load", "kind": "backend", "spec": "numpy"}))
    recipe = {"frontend": fe.to_plain(systems.load(rig.SYSTEM).frontend)}
    (reply,) = far.handle({"do": "describe", "questions": [recipe]})
    assert reply["answers"][0]["arithmetic"] == "float32"  # nothing is said
    far._plugin.arithmetic = lambda _frontend: told
    with pytest.raises(ConfigError, match=r"arithmetic\(\) gave") as e:
        list(far.handle({"do": "describe", "questions": [recipe]}))
    assert e.value.hint == "give float32 or float64-rounded"


def test_a_plugin_with_options_that_it_does_not_know() -> None:
    with pytest.raises(ConfigError, match="speed"):
        list(agent.Agent().handle({"do": "load", "kind": "runtime", "spec": "onnxrt:speed=high"}))


def talk(sent: bytes) -> tuple[int, list[dict[str, Any]], str]:
    """An agent of its own that is told `sent`, then nothing more."""
    done = subprocess.run(
        [sys.executable, "-m", "parity.targets.agent"], input=sent, capture_output=True, timeout=60, check=False,
        cwd=rig.ROOT, env=rig.environment(),
    )  # fmt: skip
    stream = io.BytesIO(done.stdout)
    replies = []
    while stream.tell() < len(done.stdout):
        replies.append(wire.decode(stream.read))
    return done.returncode, replies, done.stderr.decode()


def test_it_ends_when_nobody_is_there_any_more() -> None:
    assert talk(b"") == (0, [], "")


def test_errors_come_back_as_messages_and_it_goes_on() -> None:
    requests = [
        {"do": "load", "kind": "backend", "spec": "nunpy"},
        {"do": "load", "kind": "backend", "spec": "numpy"},
        {"do": "features", "frontend": {}, "clips": [], "taps": []},
        {"do": "describe", "questions": []},
    ]
    code, replies, _ = talk(b"".join(bytes(part) for r in requests for part in wire.encode(r)))
    assert code == 0
    unknown, loaded, failed, described = replies
    assert unknown["error"] == "ConfigError"
    assert "did you mean 'numpy'?" in unknown["hint"]
    assert set(loaded["versions"]) == {"numpy", "python"}
    assert failed["failed"].startswith("TypeError: ")
    assert described == {"answers": []}


@pytest.mark.parametrize("garbage", [b"\xff" * 64, (5).to_bytes(8, "little") + b"hello", b"\x01"])
def test_what_is_no_message_ends_it(garbage: bytes) -> None:
    _, replies, _ = talk(garbage)
    assert replies == []


@pytest.mark.slow
@pytest.mark.parametrize(("form", "runtime"), [("onnx", "onnxrt"), ("tflite", "tflite")])
def test_a_streams_file_takes_whole_clips_in_pieces_too(form: str, runtime: str) -> None:
    whole = systems.load(rig.MODELS / "logmel-gru")
    assert whole.streaming is not None
    file = next(a for a in whole.streaming.artifacts if a.format == form)
    file = dataclasses.replace(file, frames=1)
    one = next(a for a in whole.artifacts if a.format == "onnx")
    rng = np.random.default_rng(5)
    clips = [rng.normal(0.0, 1.0, (n, 40)).astype(np.float32) for n in (5, 8)]
    tap = "model/frames"

    def answers(a: Artifact, spec: str, **request: Any) -> list[Array]:
        worker = agent.Agent()
        list(worker.handle({"do": "load", "kind": "runtime", "spec": spec}))
        list(worker.handle({"do": "open", "artifact": dataclasses.asdict(a), "threads": 1}))
        asked = {"model": a.key, "inputs": clips, "taps": [[tap]] * len(clips)}
        found = [reply["taps"][tap] for reply in worker.handle(asked | request)]
        list(worker.handle({"do": "close"}))
        return found

    right = answers(one, "onnxrt", do="run")
    for got, expected in zip(answers(file, runtime, do="run"), right, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)
    # As chunks of one sound the second goes on where the first ended: its answers are others.
    first, second = answers(file, runtime, do="stream", state={})
    np.testing.assert_allclose(first, right[0], atol=1e-5)
    assert np.abs(second - right[1]).max() > 0.01
