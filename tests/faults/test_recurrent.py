"""Faults of mfcc-lstm: its decibel floor, cepstrum and clips of any length, and layers that have a memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from parity import localize
from parity.protocols import Array
from parity.records import read_verdicts
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole commands and worker processes

NAME = "mfcc-lstm"
SYSTEM = rig.SYSTEM.parent / NAME
# Two of one second with inner layers among the committed goldens, one that is shorter and one that is longer.
CLIPS = ("chirp.flac", "up-en-gb-scotland-f3.flac", "seven-en-us-m2.flac", "yes-en-us-f2.flac")
TAPS = ["model/lstm1", "model/lstm2", "model/lstm3", "model/logits"]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed goldens of a few clips; not to be changed."""
    return rig.goldens(tmp_path_factory.mktemp("recurrent"), CLIPS, NAME)


@pytest.mark.parametrize(
    ("backend", "tap"),
    [
        ("faulty.backends:ReflectPadded", "features/frames"),
        ("faulty.with_librosa:ReflectPadded", "features/spectrum"),
        ("faulty.backends:NoTopDb", "features/compressed"),
        ("faulty.backends:TopDbOfEachFrame", "features/compressed"),
        ("faulty.backends:RawDct", "features/cepstrum"),
    ],
)
def test_the_first_failing_tap_is_where_the_fault_was_planted(
    backend: str, tap: str, local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    done = rig.run(local, golden, tmp_path, systems=(str(SYSTEM),), backends=(backend,))
    assert done.exit_code == 1
    assert rig.failing(done)[0] == (tap, "fail")
    assert localize.first_failures(done)[0].tap == tap
    assert rig.failing(done, path="isolated") == []


def gates_swapped(w: Array) -> Array:
    """Forget and cell gate in each other's place (ONNX: i, o, f, c)."""
    i, o, f, c = np.split(w, 4, axis=1)
    return np.concatenate([i, o, c, f], axis=1)


def in_half_precision(w: Array) -> Array:
    return w.astype(np.float16).astype(np.float32)


def change(path: Path, layer: int, place: int, how: Callable[[Array], Array]) -> None:
    """Change one tensor of an LSTM node, its `place`-th input: 1 W, 2 R, 3 B."""
    model = onnx.load(path)
    node = [n for n in model.graph.node if n.op_type == "LSTM"][layer]
    (tensor,) = (t for t in model.graph.initializer if t.name == node.input[place])
    w = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(how(w)), tensor.name))
    onnx.save(model, path)


@pytest.mark.parametrize("how", [gates_swapped, in_half_precision])
@pytest.mark.parametrize("layer", range(3), ids=TAPS[:3])
def test_a_wrong_layer_fails_at_its_own_tap(
    layer: int, how: Callable[[Array], Array], local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = rig.system(tmp_path / "system", name=NAME)
    change(folder / f"{NAME}.onnx", layer, 1, how)
    done = rig.run(local, golden, tmp_path, systems=(str(folder),))
    assert done.exit_code == 1
    assert rig.failing(done, path="isolated")[0] == (TAPS[layer], "fail")
    before = {s.tap: set(s.counts) for s in done.summaries if s.path == "isolated" and s.tap in TAPS[:layer]}
    assert before == {tap: {"pass"} for tap in TAPS[:layer]}
    assert rig.failing(done, path="features") == []


def test_layers_saved_again_unchanged_pass(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system", name=NAME)
    change(folder / f"{NAME}.onnx", 1, 2, lambda w: w)
    assert rig.run(local, golden, tmp_path, systems=(str(folder),)).exit_code == 0


def test_labels_in_another_order_fail_at_the_label(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system", ('"down", "go",', '"go", "down",'), name=NAME)
    done = rig.run(local, golden, tmp_path, systems=(str(folder),))
    assert done.exit_code == 1
    assert rig.failing(done) == [("decision/label", "fail")]
    assert "labels are in another order" in rig.messages(done, "fail")


def test_clips_of_another_length_are_unsupported_by_the_file_that_is_tied_to_one(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    done = rig.run(local, golden, tmp_path, systems=(str(SYSTEM),), runtimes=("onnxrt", "tflite"))
    assert done.exit_code == 0
    assert [(s.runtime, s.asked, s.reason) for s in done.skipped] == [
        ("tflite", False, "2 of 4 clips don't have the 32 frames that mfcc-lstm.tflite takes")
    ]
    refused = [v for v in read_verdicts(tmp_path / done.name) if v.outcome == "unsupported"]
    assert {(v.runtime, v.tap) for v in refused} == {("tflite", "model/input")}
    assert {(v.clip, v.message) for v in refused} == {
        ("up-en-gb-scotland-f3.flac", "takes 32 frames only; this clip gives 25"),
        ("seven-en-us-m2.flac", "takes 32 frames only; this clip gives 35"),
    }


def test_a_file_that_could_take_no_clip_is_no_success(local: LocalTarget, tmp_path: Path) -> None:
    root = rig.goldens(tmp_path / "golden", ("up-en-gb-scotland-f3.flac",), NAME)
    done = rig.run(local, root, tmp_path, systems=(str(SYSTEM),), runtimes=("tflite",))
    assert done.exit_code == 2
    assert rig.failing(done) == []


def test_a_file_that_is_not_said_to_be_tied_to_a_length_is_an_error(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = rig.system(tmp_path / "system", ("frames = 32 ", "# "), formats=("tflite",), name=NAME)
    done = rig.parity("run", "--system", folder, "--backend", "numpy", "--runtime", "tflite", "--golden", golden)
    rig.refused(done, 3, "takes 32 frames; this clip gives")


def test_what_cannot_take_every_clip_neither_judges_nor_records(golden: Path, tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system", formats=("tflite",), name=NAME)
    short = rig.wav(tmp_path / "wavs" / "short.wav", rig.clip("up-en-gb-scotland-f3"))
    judged = rig.parity("run", "--system", folder, "--backend", "numpy", "--audio", short.parent)
    rig.refused(judged, 3, "can't judge every clip", "takes 32 frames only; this clip gives 25")
    where = ("--audio", short.parent, "--out", tmp_path / "out")
    recorded = rig.parity("golden", "record", "--system", folder, *where, "--runtime", "tflite")
    rig.refused(recorded, 3, "can't record short.wav", "takes 32 frames only; this clip gives 25")
