"""Ranges of a float network: what files of integers hold follows from them, class by class."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper, numpy_helper

from parity import system
from parity.cli import cli
from parity.errors import ConfigError
from parity.networks import ranges
from parity.networks.arithmetic import PRECISIONS
from parity.networks.graph import load
from parity.speech import split_of
from tests.networks.test_arithmetic import X, model, network

MODELS = Path(__file__).parents[2] / "reference_models"
SYSTEMS = ("commands-cnn", "mel40-mobilenetv2", "mel40-shufflenetv2", "micro-speech", "tiny-conv")


def test_a_range_is_the_least_and_the_largest_of_all_clips() -> None:
    found = ranges.measured(network(), [X, 2.0 * X, X[:, :, :, :4].repeat(2, axis=3)], "abc")
    assert found.clips == 3
    assert found.tensors["x"] == (2.0 * X.min(), 2.0 * X.max())
    assert found.tensors["r"][0] == 0.0
    assert found.tensors["r"][1] == found.tensors["p"][1] > 0.0
    assert "x" not in ranges.measured(network(), [X], "abc", exact_input=True).tensors


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    found = ranges.measured(network(), [X], "abc")
    path = tmp_path / "ranges.json"
    path.write_bytes(ranges.written(found))
    again = ranges.read(path)
    assert (again.clips, again.sha256, list(again.tensors)) == (1, "abc", sorted(found.tensors))
    for name, ends in found.tensors.items():
        np.testing.assert_allclose(again.tensors[name], ends, rtol=1e-6)
    assert ranges.written(again) == path.read_bytes()


@pytest.mark.parametrize("text", ["{", "{}", '{"clips": 1, "model_sha256": "a", "tensors": {"x": [2, 1]}}',
                                  '{"clips": 1, "model_sha256": "a", "tensors": {"x": [NaN, 1]}}', "[]"])  # fmt: skip
def test_a_damaged_file_says_how_to_make_it_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ranges.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"ranges\.json") as e:
        ranges.read(path)
    assert "parity models ranges" in str(e.value.hint)


def test_no_clips_no_ranges() -> None:
    with pytest.raises(ConfigError, match="need clips"):
        ranges.measured(network(), [], "")


def test_ranges_of_another_file_are_refused() -> None:
    (artifact,) = [
        a for a in system.load(MODELS / "tiny-conv").artifacts if (a.format, a.precision) == ("onnx", "float32")
    ]
    assert ranges.of(artifact).clips == 320
    with pytest.raises(ConfigError, match="of another file than"):
        ranges.of(dataclasses.replace(artifact, sha256="0" * 64))
    with pytest.raises(ConfigError, match="has no ranges"):
        ranges.of(dataclasses.replace(artifact, ranges=None))
    with pytest.raises(ConfigError, match="can't be read"):
        ranges.of(dataclasses.replace(artifact, ranges=str(MODELS / "nowhere.json")))


def of(precision: str, graph: onnx.ModelProto, x: np.ndarray = X) -> dict[str, ranges.Held]:
    return ranges.held(graph, ranges.measured(graph, [x], ""), PRECISIONS[precision])


def test_floats_hold_everything() -> None:
    floats = [name for name, p in PRECISIONS.items() if not p.levels]
    assert {"float32", "float16"} <= set(floats)
    for name in floats:
        assert of(name, network()) == {}


@pytest.mark.parametrize("name", ["int8", "uint8", "qnnpack-int8"])
def test_a_relu_is_part_of_its_convolution_and_moves_share_its_scale(name: str) -> None:
    held = of(name, network())
    known = ranges.measured(network(), [X], "").tensors
    assert set(held) == {"x", "c", "r", "y"}  # neither the pool nor what is flattened is rounded again
    assert held["c"].half == held["r"].half == 0.5 * known["r"][1] / 255
    assert (held["c"].rounds, held["c"].cuts, held["r"].rounds, held["r"].cuts) == (True, False, False, True)
    assert held["x"].half == pytest.approx(0.5 * (X.max() - X.min()) / 255)
    assert held["y"].low[0] == known["y"][0]


def test_x86_has_steps_as_of_7_bits_in_integers_of_8() -> None:
    eight, seven = of("qnnpack-int8", network()), of("x86-int8", network())
    assert seven["r"].half == pytest.approx(eight["r"].half * 255 / 127)
    assert eight["r"].high[0] * 2 < seven["r"].high[0] < eight["r"].high[0] * 2.02


def clipped() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Clip", ["c", "low", "high"], ["k"]),
        helper.make_node("Softmax", ["k"], ["s"]),
    ]
    return model(nodes, {"w": np.full((1, 1, 1, 1), 4.0), "low": np.array(0.0), "high": np.array(2.0)}, [1, 8, 8])


def test_only_what_an_engine_fuses_goes_unstored() -> None:
    fused, stored = of("int8", clipped()), of("x86-int8", clipped())
    assert fused["k"].half == 1.0 / 255
    assert not fused["c"].cuts
    assert stored["c"].half == pytest.approx(2.0 * (X.max() - X.min()) / 127)
    assert (stored["k"].half, stored["k"].rounds) == (stored["c"].half, False)
    assert fused["s"] == (((0.0, 0.0), (255 / 256, 255 / 256), 1 / 512, True, True))


def test_what_is_put_together_shares_the_widest_scale_and_may_be_cut_off_at_its_own() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Conv", ["x", "v"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["both"], axis=1),
        helper.make_node("Slice", ["both", "start", "end", "axis"], ["part"]),
    ]  # fmt: skip
    graph = model(nodes, {"w": np.full((1, 1, 1, 1), 1.0), "v": np.full((1, 1, 1, 1), 3.0)}, [1, 8, 8])
    graph.graph.initializer.extend(
        numpy_helper.from_array(np.array([n]), name) for name, n in (("start", 0), ("end", 1), ("axis", 1))
    )
    held = of("int8", graph)
    assert held["a"].half == held["b"].half == pytest.approx(1.5 * (X.max() - X.min()) / 255)
    assert held["a"].high == (X.max(), 3.0 * X.max())
    assert "part" not in held
    torch = of("qnnpack-int8", graph)  # quantizes what is split off by its own range
    assert torch["part"].half == pytest.approx(0.5 * (X.max() - X.min()) / 255)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_scales_of_an_onnx_file_are_those_of_the_ranges(name: str) -> None:
    """The file was calibrated on the same clips: at its taps, its steps are what the ranges say."""
    of = system.load(MODELS / name)
    files = {a.precision: a for a in of.artifacts if a.format == "onnx"}
    source = files["float32"]
    graph = load(source.path)
    held = ranges.held(graph, ranges.of(source), PRECISIONS["int8"])
    if name == "mel40-shufflenetv2":  # ONNX Runtime gives what is put together a scale of its own
        held = {t: h for t, h in held.items() if h.high[0] == h.high[1]}
    scales = {i.name: numpy_helper.to_array(i) for i in load(files["int8"].path).graph.initializer}
    compared = 0
    for tap, port in files["int8"].taps.items():
        if (h := held.get(source.taps[tap].name)) is None or port.scale is None:
            continue
        step = 1.0 / 255 if tap == "model/probabilities" else 2.0 * h.half
        np.testing.assert_allclose(float(scales[port.scale]), step, rtol=1e-4, err_msg=tap)
        compared += 1
    assert compared >= 2


def test_a_file_of_ranges_lies_beside_system_toml() -> None:
    text = (MODELS / "tiny-conv" / "system.toml").read_text()
    folder = MODELS / "tiny-conv"
    for wrong in ("../ranges.json", "a/ranges.json"):
        path = folder / "system-of-a-test.toml"
        path.write_text(text.replace('ranges = "ranges.json"', f'ranges = "{wrong}"'))
        try:
            with pytest.raises(ConfigError, match="is not a file beside"):
                system.load(path)
        finally:
            path.unlink()


@pytest.mark.slow
def test_the_command_writes_what_is_committed(tmp_path: Path) -> None:
    """On the speech that the committed file was made from, it writes the same bytes."""
    speech = Path(os.environ.get("PARITY_DATA", "")) / "speech_commands"
    if not os.environ.get("PARITY_DATA") or not speech.is_dir():
        pytest.skip("needs PARITY_DATA with speech_commands/")
    folder = tmp_path / "tiny-conv"
    shutil.copytree(MODELS / "tiny-conv", folder)
    (folder / "ranges.json").unlink()
    run = CliRunner().invoke(cli, ["models", "ranges", str(folder), "--audio", str(speech)])
    assert run.exit_code == 0, run.output
    assert (folder / "ranges.json").read_bytes() == (MODELS / "tiny-conv" / "ranges.json").read_bytes()


CLIPS = Path(__file__).parents[2] / "golden" / "clips"


def take(tmp_path: Path, *names: str, name: str = "{name}") -> Result:
    """`parity models ranges` of tiny-conv on clips in a folder, under the names that `name` makes of theirs."""
    folder, speech = tmp_path / "tiny-conv", tmp_path / "speech"
    shutil.copytree(MODELS / "tiny-conv", folder)
    (folder / "ranges.json").unlink()
    for n in names:
        path = speech / name.format(name=n)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CLIPS / n, path)
    return CliRunner().invoke(cli, ["models", "ranges", str(folder), "--audio", str(speech)])


def test_the_command_takes_any_folder_of_clips(tmp_path: Path) -> None:
    run = take(tmp_path, "yes-en-us-f2.flac", "no-en-gb-m3.flac")
    assert run.exit_code == 0, run.output
    assert "from 2 clips" in run.output
    assert ranges.read(tmp_path / "tiny-conv" / "ranges.json").clips == 2


@pytest.mark.parametrize(
    ("names", "name", "message"),
    [
        ((), "{name}", "no audio at .*speech: there is no such folder"),
        (("yes-en-us-f2.flac",), "{name}.txt", "no audio in .*speech"),
        (("yes-en-us-f2.flac",), "yes/{held_out}_nohash_0.flac", "no clip of a training speaker"),
        (("../micro-speech/manifest.json",), "x.wav", "can't be read as audio"),
    ],
)
def test_bad_speech_is_a_line_and_leaves_nothing(
    tmp_path: Path, names: tuple[str, ...], name: str, message: str
) -> None:
    speaker = next(f"{i:08x}" for i in range(99) if split_of(f"{i:08x}") == "held_out")
    run = take(tmp_path, *names, name=name.replace("{held_out}", speaker))
    assert isinstance(run.exception, ConfigError)
    assert run.exception.exit_code == 3
    assert re.search(message, run.exception.message)
    assert run.exception.hint
    assert not (tmp_path / "tiny-conv" / "ranges.json").exists()
