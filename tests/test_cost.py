"""What networks cost: counted by hand beside the counter, and what the command prints."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
import torch

from parity import cost
from parity import system as systems
from parity.errors import CONFIG
from tests.plugins_for_tests import rig


def test_commands_cnn_is_what_its_shapes_say() -> None:
    found = cost.of(systems.load(rig.SYSTEM))
    # A convolution of 3x3 with padding 1 is as large as its input; a pool of 3, stride 2, padding 1 halves, upwards.
    times, bands, before = 98, 50, 1
    products = parameters = 0
    for block, channels in enumerate((12, 24, 48, 48, 48)):
        products += times * bands * channels * before * 9
        parameters += channels * before * 9 + channels + 2 * channels  # weights, bias, scale and shift
        if block < 3:
            times, bands = (times + 1) // 2, (bands + 1) // 2
        before = channels
    assert (times, bands) == (13, 7)
    products += 48 * 7 * 11  # all of time is pooled
    parameters += 48 * 7 * 11 + 11
    assert found == cost.Cost(shape=(1, 1, 98, 50), parameters=parameters, multiply_adds=products)
    assert (parameters, products) == (58_787, 10_851_648)


def test_recurrent_layers_are_counted_as_their_matrix_products() -> None:
    steps = 32
    lstm = cost.count(torch.nn.LSTM(12, 64, 3, batch_first=True).eval(), (1, steps, 12))
    assert lstm.multiply_adds == steps * 4 * 64 * ((12 + 64) + 2 * (64 + 64))
    gru = cost.count(torch.nn.GRU(40, 128, 2, batch_first=True).eval(), (1, steps, 40))
    assert gru.multiply_adds == steps * 3 * 128 * ((40 + 128) + (128 + 128))


def test_depthwise_convolutions_cost_one_channel_each() -> None:
    conv = torch.nn.Conv2d(8, 8, 3, padding=1, stride=2, groups=8, bias=False)
    assert cost.count(conv, (1, 8, 10, 10)).multiply_adds == 8 * 5 * 5 * 9


def test_a_network_of_any_length_is_counted_with_one_second(tmp_path: Path) -> None:
    any_length = ("length = 16032", "# any length"), ("shape = [98, 50]", 'shape = ["any", 50]')
    folder = rig.system(tmp_path / "s", *any_length, formats=("torch",))
    found = cost.of(systems.load(folder))
    assert found is not None
    assert found.shape == (1, 1, 97, 50)


@pytest.mark.parametrize("name", ["mel40-resnet18", "mel40-mobilenetv2", "mel40-shufflenetv2"])
def test_what_was_published_is_counted_with_or_without_weights(name: str) -> None:
    system = systems.load(rig.MODELS / name)
    found, said = cost.of(system), system.published
    assert found is not None
    assert said is not None
    assert said.input == (32, 1, 40, 32)
    assert f"{found.parameters / 1e6:.2f} M" == said.parameters
    # The published counter adds parameters of batch normalization and biases once a clip, which one digit shows.
    network = cost.build(str(rig.MODELS / name / "model.py") + ":build", None)
    once = sum(p.numel() for p in network.parameters() if p.ndim == 1)
    assert f"{(found.multiply_adds + once) * 32 / 1e9:.2f} G" == said.multiply_adds
    words = cost.beside(system, found)
    assert f"published {said.parameters} parameters, {said.multiply_adds} multiply-adds" in words
    assert f"counted {found.parameters / 1e6:.4f} M" in words


def test_nothing_is_said_beside_a_network_of_which_nothing_was_published() -> None:
    system = systems.load(rig.SYSTEM)
    assert cost.beside(system, cost.of(system)) == ""


def test_a_system_without_weights_has_files_but_no_network(tmp_path: Path) -> None:
    assert cost.of(systems.load(rig.system(tmp_path / "s"))) is None


@pytest.mark.slow
def test_the_command_prints_figures_files_and_the_rule(tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "s", ('name = "commands-cnn"', 'name = "untrained"'))
    done = rig.parity("models", "cost", "commands-cnn", folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    ours, *_ = [line.split() for line in done.stdout.splitlines() if line.startswith("commands-cnn")]
    assert ours[1:4] == ["1x1x98x50", "58,787", "10,851,648"]
    for a in systems.load(rig.SYSTEM).artifacts:
        assert f"{Path(a.path).stat().st_size:,}" in done.stdout
        assert Path(a.path).name in done.stdout
    assert "no PyTorch network" in next(line for line in done.stdout.splitlines() if line.startswith("untrained"))
    assert "2 for each multiply-add" in " ".join(done.stdout.split())
    rig.refused(rig.parity("models", "cost", "commands-cn"), CONFIG, "unknown system", "did you mean 'commands-cnn'?")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tflite_micro") is None, reason="tflite-micro isn't installed")
def test_the_arena_of_an_int8_file_is_measured(tmp_path: Path) -> None:
    done = rig.parity("models", "cost", "micro-speech")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if ".tflite" in line]
    assert [line[-1] for line in lines if "int8" in line] == ["9,648"], (
        "bytes: the published system works in about 10 KB"
    )
    assert "Arena:" in done.stdout
    broken = rig.system(tmp_path / "s", formats=("tflite",), name="micro-speech")
    (broken / "micro-speech.int8.tflite").write_bytes(b"not a model")
    assert cost.arenas(systems.load(broken)) == {}, "what can't be run has none, and ends nothing"


@pytest.mark.slow
def test_the_command_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'torch' else find(name, package)\n"
    )
    path = os.pathsep.join([str(tmp_path), rig.environment()["PYTHONPATH"]])
    rig.refused(rig.process("models", "cost", PYTHONPATH=path), CONFIG, "torch", "pip install 'parity[torch]'")
