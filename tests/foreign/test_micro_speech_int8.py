"""The published int8 micro-speech model, run as it is: its features from the wavs, its answers, and tflite-micro."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from parity import golden, system
from parity.records import read_verdicts
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

pytestmark = [pytest.mark.data, pytest.mark.slow]

HERE = Path(__file__).parent / "micro_speech_int8"
MODEL = "micro_speech_quantized.tflite"
ANSWERS = {"yes": [-128, -128, 127, -128], "no": [-128, -114, -128, 114]}
has_tflm = importlib.util.find_spec("tflite_micro") is not None


@pytest.fixture(scope="module")
def mine(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: the description, the model file beside it, and the goldens that were recorded there."""
    folder = tmp_path_factory.mktemp("published") / "micro-speech-int8"
    shutil.copytree(HERE, folder)
    shutil.copyfile(data / "micro_speech" / MODEL, folder / MODEL)
    wavs = folder / "wavs"
    wavs.mkdir()
    for word in ANSWERS:
        shutil.copyfile(data / "micro_speech" / f"{word}_1000ms.wav", wavs / f"{word}.wav")
    done = rig.parity("golden", "record", "--system", folder, "--audio", wavs, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "2 published vectors reproduced" in done.stdout
    return folder


def test_published_features_and_answers_are_recorded_bit_for_bit(mine: Path, data: Path) -> None:
    found = golden.load(mine / "golden", system.load(mine))
    for entry in found.clips:
        expected, word = found.read(entry), entry["name"].removesuffix(".wav")
        published = np.load(data / "micro_speech" / f"golden_micro_{word}_49x40_int8.npy")
        np.testing.assert_array_equal(expected.reference, published)
        assert expected.reference.dtype == published.dtype
        # Probabilities in steps of 1/256 from -128.
        assert (expected.model["model/probabilities"] * 256 - 128).tolist() == ANSWERS[word]
        assert entry["decision"]["label"] == word


def runtimes() -> list[str]:
    return ["tflite", "tflite:resolver=builtin", "tflite:resolver=reference", *["tflm"] * has_tflm]


@pytest.mark.parametrize("runtime", runtimes())
def test_every_runtime_gives_the_published_answers(
    runtime: str, mine: Path, local: LocalTarget, tmp_path: Path
) -> None:
    """Not a step off: the tolerances, which real speech needs, are taken away."""
    root = tmp_path / "golden"
    shutil.copytree(mine / "golden", root)
    exact = '[[tolerance]]\ntap = "model/*"\nprecision = "int8"\nsteps = 0\nwhy = "published answers"\n'
    (root / "tolerances.toml").write_text(exact)
    done = rig.run(
        local, root, tmp_path, systems=(str(mine),), backends=("reference",), runtimes=(runtime,), precisions=()
    )
    assert done.exit_code == 0, rig.messages(done, "fail")
    judged = [v for v in read_verdicts(tmp_path / done.name) if v.tap == "model/probabilities"]
    assert {(v.outcome, v.clip) for v in judged} == {("pass", "yes.wav"), ("pass", "no.wav")}
    paths = {"isolated", "cumulative"} | ({"deployment"} if runtime != "tflite:resolver=reference" else set())
    assert {v.path for v in judged} == paths


def test_real_speech_stays_within_the_declared_steps(mine: Path, data: Path, tmp_path: Path) -> None:
    clips = tmp_path / "speech"
    for path in sorted((data / "speech_commands").glob("*/*.flac"))[5::97]:
        (clips / path.parent.name).mkdir(parents=True, exist_ok=True)
        (clips / path.parent.name / path.name).symlink_to(path)
    wanted = [x for runtime in runtimes() for x in ("--runtime", runtime)]
    done = rig.parity("run", "--system", mine, "--audio", clips, "--backend", "reference", *wanted,
                      "--report", tmp_path / "reports", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (tmp_path / "reports").iterdir()
    held = {v.runtime for v in read_verdicts(run) if v.path == "deployment" and v.outcome == "pass"}
    assert held == set(runtimes()) - {"tflite:resolver=reference"}


def test_a_zero_point_that_is_off_by_one_is_seen_before_anything_is_recorded(mine: Path, tmp_path: Path) -> None:
    text = (mine / "system.toml").read_text()
    wrong = tmp_path / "wrong"
    shutil.copytree(mine, wrong)
    (wrong / "system.toml").write_text(text.replace("zero_point = -128", "zero_point = -127"))
    refused = rig.parity("run", "--system", wrong, "--backend", "reference", "--runtime", "tflite", cwd=wrong)
    rig.refused(refused, 5, "frontend.quantize.zero_point was -128, is -127")
    again = rig.parity("golden", "record", "--system", wrong, "--audio", wrong / "wavs", "--unanchored", cwd=wrong)
    rig.refused(again, 1, "doesn't reproduce", "golden_micro_yes_49x40_int8.npy", "off by 1")
