"""The bare loop that `parity run --backend librosa --runtime onnxrt` is measured against: no golden, no judgement."""

from __future__ import annotations

import sys
from pathlib import Path

import librosa
import numpy as np
import onnxruntime as ort
import soundfile


def main() -> None:
    """`bare.py MODEL CLIPS...`: features and logits of every clip, one after the other."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    for path in sorted(Path(sys.argv[2]).rglob("*.flac")):
        y, rate = soundfile.read(path, dtype="float32")
        mel = librosa.feature.melspectrogram(
            y=librosa.util.fix_length(y, size=16_032), sr=rate, n_fft=512, hop_length=160, window="hann", center=False,
            power=2.0, n_mels=50, fmin=0.0, fmax=8000.0, htk=True, norm="slaney",
        )  # fmt: skip
        features = np.ascontiguousarray(np.log10(mel + np.float32(1e-6)).T)[None, None]
        session.run(["logits"], {"features": features})


if __name__ == "__main__":
    main()
