"""silero_vad as published, raw audio in: TorchScript that remembers by itself, ONNX that is handed its memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from parity import pipeline
from parity.errors import CONFIG
from parity.plan import Selection
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

pytestmark = [pytest.mark.data, pytest.mark.slow]

HERE = Path(__file__).parent / "silero_vad"
WORDS = ("bed", "cat", "five", "happy", "marvin", "sheila", "tree", "zero")


@pytest.fixture
def mine(data: Path, tmp_path: Path) -> Path:
    """A user's folder: the description, and the two files beside it."""
    folder = Path(shutil.copytree(HERE, tmp_path / "vad"))
    for file in ("silero_vad.jit", "silero_vad_16k_op15.onnx"):
        shutil.copyfile(data / "silero_vad" / file, folder / file)
    return folder


@pytest.fixture
def clips(data: Path, tmp_path: Path) -> Path:
    """A recording of each of a few words, of varying length, and one of noise a minute long."""
    for word in WORDS:
        (tmp_path / "clips" / word).mkdir(parents=True)
        path = sorted((data / "speech_commands_30words" / word).glob("*.flac"))[0]
        (tmp_path / "clips" / word / path.name).symlink_to(path)
    (noise, *_) = sorted((data / "speech_commands_30words" / "_background_noise_").glob("*.flac"))
    (tmp_path / "clips" / noise.name).symlink_to(noise)
    return tmp_path / "clips"


def test_torchscript_and_onnx_agree_chunk_by_chunk(mine: Path, clips: Path, tmp_path: Path) -> None:
    done = rig.parity("run", "--system", mine, "--audio", clips, "--backend", "numpy", "--runtime", "onnxrt",
                      "--runtime", "torchscript", "--report", tmp_path / "reports", "--format", "json")  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    (tap,) = [s for s in json.loads(done.stdout)["summaries"]
              if (s["tap"], s["path"], s["runtime"]) == ("model/probability", "isolated", "onnxrt")]  # fmt: skip
    assert tap["counts"] == {"pass": len(WORDS) + 1}
    assert 0 < tap["worst"]["error"] < 5e-5


def test_goldens_of_one_file_hold_the_other(mine: Path, clips: Path, tmp_path: Path) -> None:
    made = rig.parity(
        "golden", "record", "--system", mine, "--audio", clips, "--unanchored", "--runtime", "torchscript"
    )
    assert made.returncode == 0, made.stderr
    assert "9 clips recorded" in made.stdout
    verified = rig.parity("golden", "verify", "--system", mine, "--golden", mine / "golden")
    assert verified.returncode == 0, verified.stderr
    done = rig.parity("run", "--system", mine, "--backend", "numpy", "--runtime", "onnxrt",
                      "--report", tmp_path / "reports")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads((mine / "golden" / "silero-vad" / "manifest.json").read_text(encoding="utf-8"))
    said = {e["name"].rpartition("/")[0]: e["decision"]["label"] for e in manifest["clips"]}
    assert {said[word] for word in WORDS} == {"speech"}


@pytest.mark.parametrize("fault", ["Forgets", "SwapsStates", "NoContext", "NeverResets"])
def test_a_memory_that_is_wrong_fails_at_the_probability(
    fault: str, mine: Path, clips: Path, local: LocalTarget, tmp_path: Path
) -> None:
    for clip in clips.glob("*.flac"):
        clip.unlink()  # the minute of noise
    selection = Selection(systems=(str(mine),), backends=("numpy",), runtimes=(f"faulty.memory:{fault}",), audio=clips)
    done, _ = pipeline.run(selection, local, tmp_path / "reports")
    assert done.exit_code == 1
    assert rig.failing(done)[0] == ("model/probability", "fail")
    assert rig.failing(done, path="features") == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('state = [{ name = "state"', 'state = [{ name = "memory"', "has no input 'memory'"),
        ('reset = "reset_states"', 'reset = "forget"', "has no method 'forget'"),
        ("constants = { sr = 16000 }\ninput = { name = \"x\"", "constants = { rate = 16000 }\ninput = { name = \"x\"",
         "takes no 'rate'"),
        ("frames = 1\ncontext = 64\n", "context = 64\n", "takes so many frames at a time"),
    ],
)  # fmt: skip
def test_a_wrong_description_says_what_is_there(
    old: str, new: str, said: str, mine: Path, clips: Path, tmp_path: Path
) -> None:
    for clip in clips.glob("*.flac"):
        clip.unlink()  # the minute of noise
    text = (mine / "system.toml").read_text(encoding="utf-8")
    assert text.count(old) == 1
    (mine / "system.toml").write_text(text.replace(old, new), encoding="utf-8")
    done = rig.parity("run", "--system", mine, "--audio", clips, "--backend", "numpy", "--report", tmp_path / "r")
    assert said in done.stdout + done.stderr
    assert done.returncode in (1, CONFIG), done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
