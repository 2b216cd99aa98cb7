"""Your own model in five minutes: from a model file or two and a few recordings to a verdict, as the README says."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from parity import load_run
from parity import system as systems
from tests.plugins_for_tests import rig

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

    recorded = rig.parity("golden", "record", "--system", mine, "--audio", wavs, "--out", mine / "golden",
                          "--runtime", "onnxrt", cwd=tmp_path)  # fmt: skip
    assert recorded.returncode == 0, recorded.stderr
    assert "4 clips recorded" in recorded.stdout
    assert "librosa agrees with the oracle" in recorded.stdout
    assert "activations by onnxrt" in recorded.stdout

    def run(*more: str | Path) -> int:
        done = rig.parity("run", "--system", mine, "--backend", "numpy", "--runtime", "tflite", "--report", reports,
                          *more, cwd=tmp_path)  # fmt: skip
        assert "Traceback" not in done.stderr
        print(done.stdout, done.stderr)
        return done.returncode

    assert run() == 0
    assert run("--audio", wavs) == 0
    (first, *_) = sorted(reports.iterdir())
    table = load_run(first)
    assert set(table[table.tap == "model/logits"].outcome) == {"pass"}
    assert set(table.clip) == {f"{w}.wav" for w in WORDS}

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
                      "--runtime", "onnxrt", "--audio", wavs, "--report", tmp_path / "reports", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    edit(mine / "system.toml", [("periodic = false", "periodic = true")])
    done = rig.parity("run", "--system", mine, "--backend", "faulty.backends:SymmetricHann", "--backend", "numpy",
                      "--runtime", "onnxrt", "--audio", wavs, "--report", tmp_path / "reports", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 1
    assert "features/windowed" in done.stdout


def test_what_init_writes_is_a_system(tmp_path: Path) -> None:
    assert rig.parity("init", tmp_path / "mine").returncode == 0
    fresh = systems.load(tmp_path / "mine")
    assert fresh.artifacts == ()
    assert len(fresh.not_built) == 2
    done = rig.parity("run", "--system", tmp_path / "mine", "--report", tmp_path / "reports")
    rig.refused(done, 2, "model.onnx is not built", "model.tflite is not built")


MLPERF = '''\
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
'''
ARTIFACT = '''
[[artifacts]]
format = "tflite"
precision = "{precision}"
file = "{file}"
input = {{ name = "{input}", layout = "NTF1" }}
[artifacts.taps]
"model/softmax" = {{ name = "{output}", layout = "NC" }}
'''
RULES = '''
[[tolerance]]
tap = "features/cepstrum"
path = "features"
relative = 0.0
why = "nothing is widened: bounds are derived"

[[tolerance]]
tap = "model/softmax"
precision = "float32"
absolute = {float32}
why = "float32 features of NumPy moved a probability by at most {float32_seen:.2g} on {clips} clips"

[[tolerance]]
tap = "model/*"
path = "*"
precision = "int8"
absolute = {int8}
why = "post-training int8 moved a probability by at most {int8_seen:.2g} on {clips} clips"
'''


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
