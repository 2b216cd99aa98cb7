"""The published uint8 keyword spotter for microcontrollers, run as it is: known answers on published features."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

from parity import golden, system
from parity.protocols import Array
from parity.records import Verdict, read_verdicts
from tests.plugins_for_tests import rig

pytestmark = [pytest.mark.data, pytest.mark.slow]

HERE = Path(__file__).parent / "micro_speech_uint8"
MODEL = "micro_speech_simple_uint8.tflite"
WORDS = ("yes", "no", "noise", "silence")
ANSWERS = {"yes_1000ms.wav": [0, 5, 250, 1], "no_1000ms.wav": [26, 26, 26, 178]}
"""Published with the model, on the features published with it: silence, unknown, yes, no."""
RESOLVERS = ("tflite", "tflite:resolver=builtin", "tflite:resolver=reference")


def assemble(folder: Path, data: Path, *more: Path) -> Path:
    """A user's folder: the description, the published files, and the published clips with a few of real speech."""
    shutil.copytree(HERE, folder)
    published = data / "micro_speech"
    (folder / "clips").mkdir()
    for word in WORDS:
        shutil.copyfile(published / f"{word}_1000ms.wav", folder / "clips" / f"{word}_1000ms.wav")
    for path in more:
        shutil.copyfile(path, folder / "clips" / path.name)
    for name in (MODEL, "golden_simple_yes_49x43_uint8.npy", "golden_simple_no_49x43_uint8.npy"):
        shutil.copyfile(published / name, folder / name)
    return folder


def recorded(folder: Path) -> None:
    done = rig.parity("golden", "record", "--system", folder, "--audio", folder / "clips", "--layers", "9")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 published vectors reproduced" in done.stdout
    assert "activations by tflite:resolver=reference" in done.stdout


def run(folder: Path, *runtimes: str) -> tuple[int, str, list[Verdict]]:
    named = [word for runtime in runtimes for word in ("--runtime", runtime)]
    done = rig.parity("run", "--system", folder, "--backend", "numpy", *named, "--report", folder / "reports")
    (report,) = (folder / "reports").iterdir()
    return done.returncode, done.stdout + done.stderr, list(read_verdicts(report))


def answers(folder: Path) -> dict[str, tuple[Array, Array]]:
    """Clip -> features and probabilities of the golden, as the file's own integers."""
    opened = golden.load(folder / "golden", system.load(folder))
    found = {}
    for entry in opened.clips:
        expected = opened.read(entry)
        found[entry["name"]] = expected.reference, expected.model["model/probabilities"] * 256.0
    return found


@pytest.fixture
def apart(data: Path) -> list[Path]:
    """Clips of real speech on which the kernels part."""
    speech = data / "speech_commands"
    return [speech / "_unknown_" / "one_8769c34c_nohash_0.wav.flac", speech / "right" / "44715c1c_nohash_0.flac"]


def test_the_known_answers_on_the_published_features_and_every_kernel(
    data: Path, apart: list[Path], tmp_path: Path
) -> None:
    mine = assemble(tmp_path / "kws", data, *apart)
    recorded(mine)
    found = answers(mine)
    for clip, right in ANSWERS.items():
        features, probabilities = found[clip]
        word = clip.partition("_")[0]
        published = np.load(data / "micro_speech" / f"golden_simple_{word}_49x43_uint8.npy", allow_pickle=False)
        np.testing.assert_array_equal(features, published)
        assert probabilities.tolist() == right

    code, said, verdicts = run(mine, *RESOLVERS)
    assert code == 0, said
    assert "2 known gaps" in said
    ours = [
        v for v in verdicts if v.runtime in RESOLVERS and v.tap in ("model/relu", "model/logits", "model/probabilities")
    ]
    assert {v.path for v in ours} == {"isolated", "cumulative", "deployment"}
    assert len(ours) == (3 + 3 + 2) * 3 * 6  # taps and clips; the reference kernels aren't held to themselves
    # The built-in kernels are the reference's to the last bit; XNNPACK's too, on the published clips.
    apart_names = {p.name for p in apart}
    assert {v.error for v in ours if v.runtime != "tflite" or v.clip not in apart_names} == {0.0}
    moved = {v.tap: v for v in ours if v.outcome == "gap"}
    assert set(moved) == {"model/probabilities"}
    assert {v.clip for v in ours if v.outcome == "gap"} == apart_names
    assert max(v.error or 0.0 for v in ours if v.tap == "model/logits") == pytest.approx(1.9187, abs=1e-3)


def change(path: Path, operator: int, by: int) -> None:
    """Move the zero point of the n-th operator's weights."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    graph = model.subgraphs[0]
    weights = graph.tensors[int(graph.operators[operator].inputs[1])]
    weights.quantization.zeroPoint = np.asarray(weights.quantization.zeroPoint, np.int64) + by
    builder = Builder(path.stat().st_size)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


# A logit's step is so coarse that the linear layer's zero point off by one stays within it: the probabilities tell.
@pytest.mark.parametrize(
    ("operator", "by", "tap"), [(0, 1, "model/relu"), (1, 4, "model/logits"), (1, 1, "model/probabilities")]
)
def test_a_zero_point_that_is_off_fails_at_its_layer(
    operator: int, by: int, tap: str, data: Path, tmp_path: Path
) -> None:
    mine = assemble(tmp_path / "kws", data)
    (mine / "known_gaps.toml").unlink()
    recorded(mine)
    change(mine / MODEL, operator, by)
    code, said, verdicts = run(mine, "tflite:resolver=reference")
    assert code == 1, said
    failed = {v.tap for v in verdicts if v.outcome == "fail" and v.path == "isolated"}
    taps = ["model/relu", "model/logits", "model/probabilities"]
    assert min(taps.index(t) for t in failed if t in taps) == taps.index(tap)


def test_a_recipe_that_is_not_the_published_one_is_not_recorded(data: Path, tmp_path: Path) -> None:
    mine = assemble(tmp_path / "kws", data)
    text = (mine / "system.toml").read_text(encoding="utf-8")
    (mine / "system.toml").write_text(text.replace("scale = 0.5", "scale = 1.0"), encoding="utf-8")
    done = rig.parity("golden", "record", "--system", mine, "--audio", mine / "clips")
    rig.refused(done, 1, "doesn't reproduce golden_simple_yes_49x43_uint8.npy at features/quantized")
    assert not (mine / "golden").exists()
