"""The published keyword spotter of MLPerf Tiny, run as it is: a system.toml of ours, its two files of one network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

from parity.records import read_verdicts
from parity.weights import tflite
from tests.plugins_for_tests import rig

pytestmark = [pytest.mark.data, pytest.mark.slow]

HERE = Path(__file__).parent / "mlperf_tiny_kws"
FILES = ("kws_ref_model_float32.tflite", "kws_ref_model.tflite")


def assemble(folder: Path, data: Path) -> Path:
    """A user's folder: the description, and the model files beside it."""
    shutil.copytree(HERE, folder)
    for name in FILES:
        shutil.copyfile(data / "mlperf_tiny_kws" / name, folder / name)
    return folder


def speech(folder: Path, data: Path, every: int) -> Path:
    """Clips of real speech by word; none of them among those that the tolerances were measured on."""
    for path in sorted((data / "speech_commands").glob("*/*.flac"))[3::every]:
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / path.parent.name / path.name).symlink_to(path)
    return folder


def test_the_two_files_agree_on_real_speech(data: Path, tmp_path: Path) -> None:
    mine, clips = assemble(tmp_path / "kws", data), speech(tmp_path / "speech", data, 30)
    done = rig.parity(
        "run", "--system", mine, "--audio", clips, "--labels-from", "folders", "--layers", "96",
        "--backend", "tf_signal", "--backend", "numpy", "--runtime", "tflite", "--runtime", "tflite:resolver=reference",
        "--report", tmp_path / "reports", "--format", "json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    record = json.loads(done.stdout)
    tallies = {o: sum(s["counts"].get(o, 0) for s in record["summaries"]) for o in ("pass", "fail", "missing", "error")}
    assert tallies["pass"] > 10_000
    assert tallies["fail"] + tallies["missing"] + tallies["error"] == 0
    (gap,) = record["gaps"]["met"]
    assert "dynamic range" in gap
    assert not record["gaps"]["unmet"]
    # Every pair labels most words as their folders do: the labels stand in the right order.
    assert {p["clips"] for p in record["labels"]["pairs"]} == {96}
    assert min(p["accuracy"] for p in record["labels"]["pairs"]) > 0.85
    # Another label only where the lead is small: at most two of the 96 clips.
    flips = {s["near_ties"] for s in record["summaries"] if s["tap"] == "decision/label"}
    assert max(flips) <= 2


def change_scale(path: Path, operator: int, factor: float) -> None:
    """Write another scale for the weights of the n-th operator: what a quantizer gone wrong does."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    graph = model.subgraphs[0]
    weights = graph.tensors[int(graph.operators[operator].inputs[1])]
    weights.quantization.scale = np.asarray(weights.quantization.scale, np.float32) * np.float32(factor)
    builder = Builder(path.stat().st_size)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def test_a_wrong_scale_fails_first_in_its_layer(data: Path, tmp_path: Path) -> None:
    mine, clips = assemble(tmp_path / "kws", data), speech(tmp_path / "speech", data, 300)
    change_scale(mine / FILES[1], 4, 2.0)  # the pointwise convolution of block2
    done = rig.parity("run", "--system", mine, "--audio", clips, "--layers", "10", "--backend", "numpy",
                      "--runtime", "tflite", "--report", tmp_path / "reports", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    (run,) = (tmp_path / "reports").iterdir()
    failed = [v for v in read_verdicts(run) if v.outcome == "fail" and v.path == "isolated"]
    taps = ["model/stem", "model/depthwise1", "model/block1", "model/block2", "model/block3"]
    assert {v.precision for v in failed} == {"int8"}
    assert min(taps.index(v.tap) for v in failed if v.tap in taps) == taps.index("model/block2")


def test_weights_of_the_two_files_are_within_half_a_step_of_each_other(data: Path) -> None:
    first, second = (tflite.read(data / "mlperf_tiny_kws" / name).constants for name in FILES)
    assert [c.name for c in first] == [c.name for c in second]
    assert len(first) == 20
    # Published as float32: the full convolutions hold eight bits, with one scale for all channels.
    assert [c.stored for c in first if c.role == "convolution"] == ["int8", "float32"] * 4 + ["int8"]
    for a, b in zip(first, second, strict=True):
        steps = np.abs(a.value - b.value) / (a.half_step + b.half_step)
        assert steps.max() < 1.001, a.name
