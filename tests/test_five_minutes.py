"""Your own model in five minutes: from a model file or two and a few recordings to a verdict, as the README says."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from parity import load_run, policy
from parity import system as systems
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole commands and worker processes

WORDS = ("yes-en-us-f2", "no-en-gb-m3", "up-en-gb-scotland-f3", "silence")
LABELS = 'labels = ["unknown", "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]'
MINE = [
    ('labels = ["silence", "unknown", "yes", "no"]', LABELS),
    ("length = 16000                        # samples", "length = 16032                        # samples"),
    ("bands = 40", "bands = 50"),
    ('norm = "none"                         # none, slaney', 'norm = "slaney"                       # none, slaney'),
    ("fmin = 20.0", "fmin = 0.0"),
    ("fmax = 4000.0", "fmax = 8000.0"),
    ('base = "e"', 'base = "10"'),
    ('shape = ["any", 40]', "shape = [98, 50]"),
    ('input = { name = "input", layout = "N1TF" }', 'input = { name = "features", layout = "N1TF" }'),
    ('input = { name = "input", layout = "NTF1" }', 'input = { name = "features", layout = "NTF1" }'),
]


def edit(path: Path, changes: Sequence[tuple[str, str]]) -> None:
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path.name}"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def recordings(folder: Path, words: Sequence[str] = WORDS) -> Path:
    for word in words:
        rig.wav(folder / f"{word}.wav", rig.clip(word))
    return folder


def test_two_model_files_and_a_few_recordings(tmp_path: Path) -> None:
    mine, wavs, reports = tmp_path / "mine", recordings(tmp_path / "wavs"), tmp_path / "reports"
    written = rig.parity("init", mine, cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    shutil.copyfile(rig.SYSTEM / "commands-cnn.onnx", mine / "model.onnx")
    shutil.copyfile(rig.SYSTEM / "commands-cnn.tflite", mine / "model.tflite")
    edit(mine / "system.toml", MINE)

    recorded = rig.parity("golden", "record", "--system", mine, "--audio", wavs, "--runtime", "onnxrt", cwd=tmp_path)
    assert recorded.returncode == 0, recorded.stderr
    assert "4 clips recorded" in recorded.stdout
    assert "librosa, given this recipe, agrees with the oracle" in recorded.stdout
    assert "activations by onnxrt, their bounds derived" in recorded.stdout

    def run(*more: str | Path) -> int:
        done = rig.parity("run", "--system", mine, "--backend", "numpy", "--runtime", "tflite", "--report", reports,
                          *more, cwd=tmp_path)  # fmt: skip
        assert "Traceback" not in done.stderr
        return done.returncode

    assert run() == 0
    assert run("--audio", wavs) == 0
    (first, *_) = sorted(reports.iterdir())
    table = load_run(first)
    assert set(table[table.tap == "model/logits"].outcome) == {"pass"}
    assert set(table["clip"]) == {f"{w}.wav" for w in WORDS}

    verified = rig.parity("golden", "verify", "--system", mine, "--golden", mine / "golden", cwd=tmp_path)
    assert verified.returncode == 0, verified.stderr

    # The window is changed after the goldens were recorded: another recipe, and said so.
    edit(mine / "system.toml", [("periodic = true", "periodic = false")])
    refused = rig.parity("run", "--system", mine, "--backend", "numpy", "--runtime", "tflite", "--report", reports,
                         cwd=tmp_path)  # fmt: skip
    rig.refused(refused, 5, "frontend.window.periodic was True, is False")
    assert len(rig.left_over(reports)) == 2


def test_a_window_that_training_never_ran_is_found_by_what_it_ran(tmp_path: Path) -> None:
    """The recipe says symmetric; the features that are shipped are those of the periodic one."""
    mine, wavs = tmp_path / "mine", recordings(tmp_path / "wavs", WORDS[:2])
    assert rig.parity("init", mine, cwd=tmp_path).returncode == 0
    shutil.copyfile(rig.SYSTEM / "commands-cnn.onnx", mine / "model.onnx")
    edit(mine / "system.toml", [*MINE, ("periodic = true", "periodic = false")])
    done = rig.parity("run", "--system", mine, "--backend", "faulty.backends:SymmetricHann", "--backend", "numpy",
                      "--runtime", "onnxrt", "--audio", wavs, "--report", tmp_path / "reports")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    edit(mine / "system.toml", [("periodic = false", "periodic = true")])
    done = rig.parity("run", "--system", mine, "--backend", "faulty.backends:SymmetricHann", "--backend", "numpy",
                      "--runtime", "onnxrt", "--audio", wavs, "--report", tmp_path / "reports")  # fmt: skip
    assert done.returncode == 1
    assert "features/windowed" in done.stdout


def test_what_init_writes_is_a_system(tmp_path: Path) -> None:
    assert rig.parity("init", tmp_path / "mine").returncode == 0
    fresh = systems.load(tmp_path / "mine")
    assert policy.load([tmp_path / "mine"]).rules == []  # what is derived needs none
    assert fresh.artifacts == ()
    assert len(fresh.not_built) == 2
    done = rig.parity("run", "--system", tmp_path / "mine", "--backend", "numpy", "--report", tmp_path / "reports")
    rig.refused(done, 2, f"{tmp_path}/mine/model.onnx isn't there", "model.tflite isn't there")


MLPERF = """\
name = "mlperf-tiny-kws"
description = "DS-CNN of MLPerf Tiny on ten MFCCs"
labels = ["down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "silence", "unknown"]

[frontend.input]
rate = 16000
length = 16000
peak_normalize = true                 # x / max(x)

[frontend.frame]
length = 480                          # 30 ms
hop = 320                             # 20 ms

[frontend.window]
name = "hann"
periodic = true

[frontend.spectrum]
n_fft = 512                           # frames of 480, zeros on the right
exponent = 1

[frontend.filterbank]
kind = "mel"
bands = 40
scale = "htk"
norm = "none"
triangles = "mel"                     # tf.signal's own bank
fmin = 20.0
fmax = 4000.0

[frontend.compress]
kind = "log"
base = "e"
offset = 1e-6

[frontend.cepstrum]
count = 10
norm = "ortho-c0-sqrt2"               # tf.signal's MFCC

[model]
shape = [49, 10]
taps = ["model/softmax"]

[decision]
source = "model/softmax"
"""
ARTIFACT = """
[[artifacts]]
format = "tflite"
precision = "{precision}"
file = "{file}"
input = {{ name = "{input}", layout = "NTF1" }}
[artifacts.taps]
"model/softmax" = {{ name = "{output}", layout = "NC" }}
"""
RULES = """
# The first rule that matches counts.
[[tolerance]]
tap = "model/softmax"
precision = "float32"
absolute = 1e-6
why = "float32 features of NumPy moved a probability by at most 1.2e-7 on 12 clips"

[[tolerance]]
tap = "model/input"
precision = "int8"
absolute = 0.2925
why = "half a step of the input's scale 0.5847: what rounding to int8 may take; measured 0.2923"

[[tolerance]]
tap = "model/softmax"
precision = "int8"
absolute = 0.15
why = "post-training int8 moved a probability by at most 0.072 on 12 clips; twice that"
"""


def mlperf_tiny(data: Path, folder: Path) -> Path:
    """A system of the published pair of files, its tensor names as the files have them."""
    from ai_edge_litert.interpreter import Interpreter

    folder.mkdir()
    text = MLPERF
    for precision, file in (("float32", "kws_ref_model_float32.tflite"), ("int8", "kws_ref_model.tflite")):
        shutil.copyfile(data / "mlperf_tiny_kws" / file, folder / file)
        net = Interpreter(str(folder / file))
        ((given,), (gives,)) = net.get_input_details(), net.get_output_details()
        assert list(given["shape"]) == [1, 49, 10, 1]
        text += ARTIFACT.format(precision=precision, file=file, input=given["name"], output=gives["name"])
    (folder / "system.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.data
def test_the_published_pair_of_mlperf_tiny_float32_to_int8(data: Path, tmp_path: Path) -> None:
    """No anchor: librosa and tf.signal both refuse a recipe that divides by the largest sample, and say so."""
    mine, wavs, reports = mlperf_tiny(data, tmp_path / "mine"), tmp_path / "wavs", tmp_path / "reports"
    for label in ("yes", "no", "up", "_silence_"):
        (wavs / label).mkdir(parents=True)
        for path in sorted((data / "speech_commands" / label).iterdir())[:3]:
            shutil.copyfile(path, wavs / label / path.name)

    def record(*more: str) -> subprocess.CompletedProcess[str]:
        return rig.parity("golden", "record", "--system", mine, "--audio", wavs, "--out", mine / "golden",
                          "--runtime", "tflite", *more, cwd=tmp_path)  # fmt: skip

    rig.refused(record("--anchor", "librosa"), 3, "peak normalization", "--unanchored")
    assert not (mine / "golden").exists()
    recorded = record("--unanchored")
    assert recorded.returncode == 0, recorded.stderr
    assert "12 clips recorded" in recorded.stdout
    assert "no anchor" in recorded.stdout

    def run(*more: str | Path) -> subprocess.CompletedProcess[str]:
        return rig.parity("run", "--system", mine, "--backend", "numpy", "--runtime", "tflite", "--report", reports,
                          *more, cwd=tmp_path)  # fmt: skip

    rig.refused(run(), 3, "no rule says how far model/softmax of mlperf-tiny-kws (float32", "tolerances.toml")
    (mine / "tolerances.toml").write_text(RULES, encoding="utf-8")
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "numpy → tflite int8" in done.stdout
    assert "no anchor" in done.stdout

    # The recipe is the one that the network was trained on: the words are understood.
    heard = run("--audio", wavs, "--labels-from", "folders")
    assert heard.returncode == 0, heard.stdout + heard.stderr
    rates = [float(found) for found in re.findall(r"tflite (?:float32|int8) +12 +([\d.]+) %", heard.stdout)]
    assert len(rates) == 2
    assert min(rates) > 80

    edit(mine / "tolerances.toml", [("absolute = 0.15", "absolute = 0.01")])
    tighter = run()
    assert tighter.returncode == 1
    assert "model/softmax" in tighter.stdout
