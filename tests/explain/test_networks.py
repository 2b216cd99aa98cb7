"""Networks that are wrong in one known way, run by ONNX Runtime and PyTorch: the cause is named, nothing else is."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from parity import evidence, layout, records
from parity import frontend as fe
from parity.cli import cli
from parity.evidence import Evidence
from parity.explain import batches, edits, norms
from parity.explain.explanation import Explanation
from parity.explain.networks import Search, explain
from parity.explain.study import Study
from parity.explain.surgery import Network
from parity.networks.graph import load
from parity.protocols import Array
from parity.runtimes.onnxrt import OnnxRuntime
from parity.runtimes.torch_ import TorchRuntime, _TorchSession, build
from parity.targets.agent import from_output
from tests.explain.wrong_networks import (
    attributes,
    candidate,
    fed,
    layer,
    named,
    node,
    onnx_candidate,
    onnx_of,
    weights,
)
from tests.mutants.networks import NETWORKS, artifact_of, run

CNN, GRU, LSTM, TINY, MOBILE = "commands-cnn", "logmel-gru", "mfcc-lstm", "tiny-conv", "mel40-mobilenetv2"


def first(found: Explanation) -> list[str]:
    """Keys of what each finding names first."""
    return [c.key for f in found.findings for c in f.alternatives[0]]


def others(found: Explanation) -> set[str]:
    """Every key that is named with 100 %."""
    return {c.key for f in found.findings if f.complete for causes in f.alternatives for c in causes}


def set_to(value: float, *at: int) -> Callable[[Array], None]:
    def change(w: Array) -> None:
        w[at] = value

    return change


def times(factor: float, *at: int) -> Callable[[Array], None]:
    def change(w: Array) -> None:
        w[at] *= factor

    return change


def gates(count: int, order: list[int]) -> Callable[[Array], Array]:
    def change(w: Array) -> Array:
        split = w.reshape(w.shape[0], -1, count, 128 if count == 3 else 64, *w.shape[2:])
        return split[:, :, order].reshape(w.shape)

    return change


def identity(of: Any) -> None:
    attributes(of, drop=["axis"])
    of.op_type = "Identity"


def both(model: Any, path: str, change: Callable[[Array], Array | None]) -> None:
    for name in layer(model, path).input[1:4]:
        weights(model, name, change)


ONE = {
    "bias missing": (CNN, "network.bias-missing", "model/relu3", "conv3",
                     lambda m: weights(m, layer(m, "conv3").input[2], np.zeros_like)),
    "one weight off by 1 %": (CNN, "network.one-weight", "model/relu3", "weight[12, 4, 1, 1]",
                              lambda m: weights(m, layer(m, "conv3").input[1], times(1.01, 12, 4, 1, 1))),
    "one bias": (CNN, "network.one-bias", "model/logits", "bias[3]", lambda m: weights(m, "fc.bias", times(1.1, 3))),
    "a channel scaled": (CNN, "network.channel", "model/relu4", "channel 7",
                         lambda m: weights(m, layer(m, "conv4").input[1], times(1.05, 7))),
    "a layer in float16": (CNN, "network.weights-float16", "model/relu4", "conv4",
                           lambda m: weights(m, layer(m, "conv4").input[1], lambda w: w.astype(np.float16))),
    "padding SAME": (MOBILE, "network.padding", "model/stem", "SAME",
                     lambda m: attributes(layer(m, "stem/conv"), pads=[0, 0, 1, 1])),
    "ReLU missing": (CNN, "network.activation", "model/relu4", "ReLU missing",
                     lambda m: setattr(node(m, "/relu4/Relu_output_0"), "op_type", "Identity")),
    "flatten": (CNN, "network.flatten-order", "model/logits", "channel last", lambda m: weights(
        m, "fc.weight", lambda w: w.reshape(11, 48, 7).transpose(0, 2, 1).reshape(11, -1))),
    "kernels flipped": (CNN, "network.kernel-flipped", "model/relu2", "conv2",
                        lambda m: weights(m, layer(m, "conv2").input[1], lambda w: w[..., ::-1, ::-1])),
    "softmax missing": (TINY, "network.softmax-missing", "model/probabilities", "softmax",
                        lambda m: identity(node(m, "probabilities"))),
    "gates of the other framework": (LSTM, "network.gate-order", "model/lstm2", "i, o, f, g stand as i, f, g, o",
                                     lambda m: both(m, "lstm2", gates(4, [0, 2, 3, 1]))),
    "linear_before_reset": (GRU, "network.linear-before-reset", "model/gru2", "linear_before_reset 0",
                            lambda m: attributes(layer(m, "gru2"), linear_before_reset=0)),
    "recurrent bias": (GRU, "network.rnn-bias", "model/gru1", "recurrent bias missing",
                       lambda m: weights(m, layer(m, "gru1").input[3], lambda b: b * (np.arange(768) < 384))),
    "one recurrent weight": (GRU, "network.one-weight", "model/gru1", "recurrent weight [r 5, 7]",
                             lambda m: weights(m, layer(m, "gru1").input[2], set_to(0.5, 0, 133, 7))),
    "recurrent weights scaled": (LSTM, "network.weights-scaled", "model/lstm3", "recurrent weights times 1.01",
                                 lambda m: weights(m, layer(m, "lstm3").input[2], lambda w: w * 1.01)),
    "a depthwise weight between taps": (MOBILE, "network.one-weight", "model/block3", "block3/depthwise",
                                        lambda m: weights(m, layer(m, "block3/depthwise/conv").input[1],
                                                          times(1.5, 4, 0, 1, 1))),
    "weights of a layer": (CNN, "network.weights-changed", "model/relu2", "conv2", lambda m: weights(
        m, layer(m, "conv2").input[1], lambda w: w + np.random.default_rng(0).normal(0.0, 0.01, w.shape))),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", ONE)
def test_one_mistake_in_a_file_is_named_first_at_its_layer(case: str, tmp_path: Path) -> None:
    name, key, tap, words, wrong = ONE[case]
    found = explain(named(name), onnx_candidate(tmp_path, name, wrong))
    assert first(found) == [key], found.findings
    assert found.complete
    assert found.findings[0].tap == tap
    assert words in found.findings[0].alternatives[0][0].words
    assert others(found) == {key}
    assert found.findings[0].inside == 1.0 > found.findings[0].inside_before


STORED = {
    "conv2 in float16": "conv2: weights in float16, before BatchNorm was folded in",
    "every weight in float16": "weights and bias in float16, before BatchNorm was folded in, in all 6 layers",
    "conv4 in 4 bits": "conv4: weights in 4 bits, a step a tensor, before BatchNorm was folded in",
    "block5 in 4 bits": "block5/project/conv: weights in 4 bits, a step a tensor, before BatchNorm was folded in",
    "lstm2 remembers in float16": "lstm2: recurrent weights in float16",
    "gru1 listens in bfloat16": "gru1: input's weights in bfloat16",
    "fc times 1.00001": "fc: weights times 1.00001",
}


@pytest.mark.slow
@pytest.mark.parametrize("case", STORED)
def test_trained_weights_stored_in_fewer_bits(case: str) -> None:
    """By PyTorch, which normalizes by itself; what is held to it is a file that has that folded in."""
    mutant = next(m for m in NETWORKS if m.name == case)
    session = _TorchSession(mutant.network(), artifact_of(mutant.of, "torch"), torch.float32)
    given = [
        Evidence(mutant.of, c, {}, run(session, artifact_of(mutant.of, "torch"), x), x, "", "torch", "float32")
        for c, x in fed(mutant.of)
    ]
    found = explain(named(mutant.of), given)
    assert found.complete
    assert [found.findings[0].tap, *first(found)] == [mutant.tap, *(key for keys in mutant.causes for key in keys)]
    assert found.findings[0].alternatives[0][0].words.startswith(STORED[case])
    assert others(found) <= frozenset().union(*mutant.causes)


def test_what_is_rounded_at_all_layers_takes_those_in_that_have_nothing_folded_in() -> None:
    network = Network(load(onnx_of(CNN).path))
    found = {
        e.phrase: e for e in edits.everywhere([*edits.catalogue(network, {}), *norms.catalogue(named(CNN), network)])
    }
    every = found["weights, bias and BatchNorm's statistics in float16, before BatchNorm was folded in, "
                  "in all 6 layers that have it"]  # fmt: skip
    assert set(every.patch.weights) >= {"fc.weight", "fc.bias"}
    assert len(every.patch.weights) == 12


FED = {
    "divided by 255": (TINY, "network.input-scale", "divided by 255", lambda x: x / 255),
    "less 128": (TINY, "network.input-scale", "128 taken off", lambda x: x - 128),
    "an affine nobody knows": (CNN, "network.input-scale", "times 0.37 plus 2", lambda x: 0.37 * x + 2),
    "own mean and spread": (CNN, "network.input-normalized", "own mean and spread", lambda x: (x - x.mean()) / x.std()),
    "axes exchanged": (CNN, "network.input-order", "exchanged", lambda x: x.T.reshape(x.shape)),
    "a frame late": (GRU, "network.input-shift", "a frame late, rolled", lambda x: np.roll(x, 1, axis=0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", FED)
def test_a_network_that_is_fed_wrongly(case: str, tmp_path: Path) -> None:
    name, key, words, feed = FED[case]
    found = explain(named(name), onnx_candidate(tmp_path, name, feed=feed))
    assert first(found) == [key], found.findings
    assert found.complete
    assert words in found.findings[0].alternatives[0][0].words


@pytest.mark.slow
def test_labels_in_another_order(tmp_path: Path) -> None:
    def wrong(m: Any) -> None:
        for name in ("fc.weight", "fc.bias"):
            weights(m, name, lambda w: w[[1, 0, *range(2, len(w))]])

    found = explain(named(GRU), onnx_candidate(tmp_path, GRU, lambda m: None))
    assert found.complete
    assert "within the bounds" in found.note
    found = explain(named(CNN), onnx_candidate(tmp_path, CNN, wrong))
    assert first(found) == ["network.labels"]
    assert "0 gives 1, 1 gives 0" in found.findings[0].alternatives[0][0].words


@pytest.mark.slow
def test_two_mistakes_at_different_layers_are_two_findings(tmp_path: Path) -> None:
    def wrong(m: Any) -> None:
        weights(m, layer(m, "conv2").input[2], np.zeros_like)
        weights(m, layer(m, "conv4").input[1], lambda w: w.astype(np.float16))

    found = explain(named(CNN), onnx_candidate(tmp_path, CNN, wrong))
    assert first(found) == ["network.bias-missing", "network.weights-float16"]
    assert [f.tap for f in found.findings] == ["model/relu2", "model/relu4"]
    assert found.complete


@pytest.mark.slow
def test_two_mistakes_before_one_tap_are_a_pair(tmp_path: Path) -> None:
    def wrong(m: Any) -> None:
        weights(m, layer(m, "conv2").input[2], np.zeros_like)
        attributes(node(m, "/pool1/MaxPool_output_0"), pads=[0, 0, 1, 1])

    found = explain(named(CNN), onnx_candidate(tmp_path, CNN, wrong))
    assert sorted(first(found)) == ["network.bias-missing", "network.padding"]
    assert found.complete


@pytest.mark.slow
def test_what_nobody_knows_is_not_named_with_certainty(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    right = onnx_candidate(tmp_path, GRU)
    moved = [
        dataclasses.replace(
            e, model={t: a + rng.normal(0.0, 0.01, a.shape).astype(np.float32) for t, a in e.model.items()}
        )
        for e in right
    ]
    found = explain(named(GRU), moved)
    assert not found.complete
    assert not any(f.complete for f in found.findings)


def test_arrays_of_another_shape_and_not_finite(tmp_path: Path) -> None:
    right = onnx_candidate(tmp_path, TINY)
    turned = [dataclasses.replace(e, model={t: a.T if a.ndim == 3 else a for t, a in e.model.items()}) for e in right]
    found = explain(named(TINY), turned)
    assert first(found) == ["network.layout"]
    bad = [dataclasses.replace(e, model={t: np.full_like(a, np.nan) for t, a in e.model.items()}) for e in right]
    found = explain(named(TINY), bad)
    assert not found.complete
    assert not any(f.complete for f in found.findings)


def test_a_system_without_a_graph_says_so(tmp_path: Path) -> None:
    whole = named(TINY)
    bare = dataclasses.replace(whole, artifacts=tuple(a for a in whole.artifacts if a.format != "onnx"))
    found = explain(bare, onnx_candidate(tmp_path, TINY))
    assert not found.complete
    assert not found.findings
    assert "no float32 ONNX file" in found.note


@pytest.mark.slow
def test_batch_normalization_left_in_training_mode_by_pytorch() -> None:
    """And eps that another framework has, in every layer: by PyTorch itself."""
    artifact = next(a for a in named(CNN).artifacts if a.format == "torch")

    class Changed(TorchRuntime):
        def __init__(self, change: Callable[[Any], object]) -> None:
            super().__init__()
            self.change = change

        def open(self, artifact: Any, threads: int = 1) -> Any:
            import contextlib

            @contextlib.contextmanager
            def opened() -> Any:
                net = build(artifact.network, Path(artifact.path))
                for m in net.modules():
                    if isinstance(m, torch.nn.BatchNorm2d):
                        self.change(m)
                yield _TorchSession(net, artifact, torch.float32)

            return opened()

    def statistics_lost(m: Any) -> None:
        m.running_mean.zero_()
        m.running_var.fill_(1.0)

    for change, key in (
        (lambda m: setattr(m, "eps", 1e-3), "network.bn-eps"),
        (lambda m: m.train(), "network.bn-training"),
        (statistics_lost, "network.bn-statistics"),
    ):
        found = explain(named(CNN), candidate(Changed(change), artifact, CNN))
        assert first(found) == [key], found.findings
        assert found.complete
        assert "in all 5 layers" in found.findings[0].alternatives[0][0].words


@pytest.mark.slow
def test_the_command_tells_a_file_that_went_wrong_from_the_trained_network(tmp_path: Path) -> None:
    """The system's own ONNX file is the wrong one: what it is held to is exported again from the trained weights."""
    folder = tmp_path / "wrong-export"
    shutil.copytree(named(CNN).folder, folder, ignore=shutil.ignore_patterns("*.tflite", "*.pt", "*.pt2"))
    model = load(onnx_of(CNN).path)
    weights(model, layer(model, "conv3").input[2], np.zeros_like)
    onnx.save(model, folder / "commands-cnn.onnx")
    run = records.Run(name="run", started="")
    run.systems[CNN] = {"frontend": fe.to_plain(named(CNN).frontend), "folder": str(folder)}
    report = tmp_path / "run"
    (report / evidence.FOLDER).mkdir(parents=True)
    (report / "run.json").write_bytes(msgspec.json.encode(run))
    wrong = dataclasses.replace(onnx_of(CNN), path=str(folder / "commands-cnn.onnx"))
    for i, e in enumerate(candidate(OnnxRuntime(), wrong, CNN)):
        evidence.write(report / evidence.FOLDER / f"{i:04d}.npz", e)
    said = CliRunner().invoke(cli, ["explain", str(report)])
    assert said.exit_code == 0, said.output
    assert "model/relu3: conv3: bias missing: 100 % of the error explained (" in said.output
    assert "exported again from weights.safetensors" in said.output


def test_the_features_are_real() -> None:
    assert [x.shape for _, x in fed(CNN)] == [(98, 50)] * 2
    assert onnx_of(CNN).format == "onnx"


def _int8(folder: Path, change: Callable[[Array], Array]) -> list[Evidence]:
    """What ONNX Runtime computes with the int8 file after a change of the integers that are conv3's weights."""
    artifact = next(a for a in named(CNN).artifacts if (a.format, a.precision) == ("onnx", "int8"))
    model = onnx.load(artifact.path)
    held = next(w for w in model.graph.initializer if w.name == "onnx::Conv_66_quantized")
    held.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(held)).astype(np.int8), held.name))
    onnx.save(model, folder / "int8.onnx")
    wrong = dataclasses.replace(artifact, path=str(folder / "int8.onnx"))
    found = []
    with OnnxRuntime().open(wrong) as session:
        for clip, x in fed(CNN):
            inputs = {wrong.input.name: layout.native(x.astype(np.float32), wrong.input.layout)}
            out = session.run(inputs, frozenset(wrong.taps))
            taps = {t: from_output(out[t], port, session.tensors.get(t)) for t, port in wrong.taps.items()}
            found.append(Evidence(CNN, clip, {}, taps, x, "", "wrong", "int8", path="isolated"))
    return found


@pytest.mark.slow
def test_integers_are_held_to_the_bounds_of_integers(tmp_path: Path) -> None:
    right = explain(named(CNN), _int8(tmp_path, lambda w: w))
    assert right.complete
    assert right.findings == ()
    wrong = explain(named(CNN), _int8(tmp_path, lambda w: np.clip(32.0 * np.round(w / 32.0), -127, 127)))
    assert wrong.findings[0].tap == "model/relu3"
    assert "float32's" not in wrong.note
    assert all("conv1" not in c.words and "conv2" not in c.words for a in wrong.findings[0].alternatives for c in a)


def test_logits_that_were_written_with_few_digits(tmp_path: Path) -> None:
    given = onnx_candidate(tmp_path, CNN, taps=["model/logits"])
    for one in given:
        one.model["model/logits"][:] = np.round(one.model["model/logits"], 3)  # type: ignore[index]
    found = explain(named(CNN), given)
    assert found.complete
    assert first(found) == ["dump.digits"]
    assert found.findings[0].alternatives[0][0].words == "numbers written with 3 decimals"
    given[0].model["model/logits"][0] += 1.0  # type: ignore[index]
    study = Study(Network(load(onnx_of(CNN).path)), onnx_of(CNN), given)
    assert Search(named(CNN), study).written(study) is None


@pytest.mark.parametrize("name", [CNN, LSTM])
def test_patches_tried_together_give_what_each_gives_alone(name: str, tmp_path: Path) -> None:
    """Of a network whose batch isn't the first axis everywhere, too."""
    given = onnx_candidate(tmp_path, name)
    study = Study(Network(load(onnx_of(name).path)), onnx_of(name), given)
    every = [e.patch for e in edits.catalogue(study.network, study.shapes)][::3]
    tap = study.taps[-1]
    found = dict(batches.tried(study, every, tap))
    assert sorted(found) == list(range(len(every)))
    for k in range(0, len(every), 7):
        alone, together = study.tried(every[k], tap), found[k]
        assert (alone is None) == (together is None)
        for a, b in zip(alone or (), together or (), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12)


def test_a_search_that_is_interrupted_names_the_nearest_so_far(tmp_path: Path) -> None:
    def step(what: str, done: int, total: int) -> None:
        assert what == "changes of the network tried at model/relu3"
        if done == total - 1:
            raise KeyboardInterrupt

    def spoil(model: Any) -> None:
        weights(model, layer(model, "conv3").input[1], lambda w: 1.5 * w)

    found = explain(named(CNN), onnx_candidate(tmp_path, CNN, spoil), step=step)
    assert found.interrupted
    assert not found.complete
    assert found.note == "interrupted: what was found so far"
    assert [f.tap for f in found.findings] == ["model/relu3"]
    assert not found.findings[0].complete
