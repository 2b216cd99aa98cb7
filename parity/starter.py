"""`parity init`: a commented system.toml for the user's own model, and a tolerances.toml without a rule yet."""

from __future__ import annotations

from pathlib import Path

from parity.errors import ConfigError
from parity.golden import write_atomic
from parity.system import FILE

SYSTEM = """\
# Your keyword spotter, as parity sees it. Every key is checked: a typo is refused, with its place.
name = "my-kws"                       # TODO: letters, digits, '.', '_' and '-'
description = ""
# TODO: in the order of the network's outputs. The order is part of the recipe.
labels = ["silence", "unknown", "yes", "no"]

# ---- The recipe of feature extraction, stage by stage. TODO: what your training really ran. ----
[frontend.input]
rate = 16000                          # Hz; clips of another rate are refused ...
# resample = "soxr-hq"                # ... unless you say how they are converted
length = 16000                        # samples: shorter clips get zeros on the right, longer ones are cut
# peak_normalize = true               # divide by the largest sample
# pre_emphasis = 0.97

[frontend.frame]
length = 512                          # samples; librosa's n_fft
hop = 160                             # samples
center = false                        # librosa and torch.stft: true by default
# pad_mode = "zero"                   # of centering: zero (librosa since 0.9), reflect (torch, older librosa), edge

[frontend.window]
name = "hann"                         # hann, hamming, rectangular
periodic = true                       # false: symmetric (MATLAB's and SciPy's other one)
# length = 400                        # a window shorter than its frame ...
# position = "center"                 # ... sits in its center (librosa, torch) or on its left (TensorFlow)

[frontend.spectrum]
n_fft = 512
exponent = 2                          # 1: magnitude, 2: power

[frontend.filterbank]
kind = "mel"                          # or "pool" with size = 6
bands = 40
scale = "htk"                         # htk, slaney (librosa's default), 1127ln
norm = "none"                         # none, slaney (librosa's default)
fmin = 20.0
fmax = 4000.0
# triangles = "mel"                   # TensorFlow's own bank

[frontend.compress]
kind = "log"                          # or "db" with ref, amin and top_db
base = "e"                            # e, 10
offset = 1e-6                         # log(x + offset)

# [frontend.cepstrum]                 # MFCC
# count = 10
# norm = "ortho"

# ---- The network ----
[model]
shape = ["any", 40]                   # TODO: [frames, bands] that it takes; "any" where any number will do
taps = ["model/logits"]               # in flow order; add layers that exist in every file: "model/relu1", ...

[decision]
rule = "argmax"
source = "model/logits"

# One table a file. A layout names the axes: N batch, T time, F band, C channel, 1 an axis of size one.
[[artifacts]]
format = "onnx"
precision = "float32"
file = "model.onnx"                   # TODO
input = { name = "input", layout = "N1TF" }
[artifacts.taps]
"model/logits" = { name = "logits", layout = "NC" }

[[artifacts]]
format = "tflite"
precision = "float32"
file = "model.tflite"                 # TODO
input = { name = "input", layout = "NTF1" }
[artifacts.taps]
"model/logits" = { name = "logits", layout = "NC" }
"""

TOLERANCES = """\
# Bounds of features are derived from arithmetic. So are those of activations, where system.toml has a float32 ONNX file
# and the extra `onnx` is installed: then nothing need stand here, and a rule could only widen what is derived.
# `parity golden record` says which it is. In a system without such a file take the marks off, and put in what you
# measured: a rule without a why is refused. The first rule that matches counts.
# half-width = absolute + relative * |golden| + of_rms * (root mean square of the golden's tap in the clip)

# [[tolerance]]
# tap = "model/*"
# path = "isolated"                     # on the golden's features
# precision = "float32"
# of_rms = 5e-5                         # TODO: some times the largest error that you saw
# why = ""                              # TODO: what you measured, on which clips

# [[tolerance]]
# tap = "model/*"
# path = "cumulative"                   # on a backend's features
# precision = "float32"
# of_rms = 1.5e-3
# why = ""
"""


def write(folder: Path) -> list[Path]:
    """Write `system.toml` and `tolerances.toml` into `folder`; ConfigError where one is there already."""
    wanted = {folder / FILE: SYSTEM, folder / "tolerances.toml": TOLERANCES}
    for path in wanted:
        if path.exists():
            raise ConfigError(f"{path} is there already", "name another folder, or take it away first")
    try:
        for path, text in wanted.items():
            write_atomic(path, text.encode())
    except OSError as e:
        raise ConfigError(f"{folder} can't be written: {e.strerror}", "name another folder") from None
    return list(wanted)
