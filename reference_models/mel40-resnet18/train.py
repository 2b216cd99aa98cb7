"""Train mel40-resnet18 on a folder like Speech Commands: ``DIR/<word>/<speaker>_nohash_<n>.wav`` (or .flac).

python train.py --data DIR                          trains; writes weights.safetensors and training.json
python train.py --data DIR --held-out-folder OUT    only lays out the clips of speakers never trained on
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from model import build

from parity.training import Float32, Training, main


def augmented(samples: Float32, rng: np.random.Generator) -> Float32:
    """Return the clip shifted by up to ±1600 samples, with a little white noise.

    No gain: the features are dB below the clip's maximum, which don't know how loud it was.
    """
    shift = int(rng.integers(-1600, 1601))
    shifted = np.zeros_like(samples)
    if shift >= 0:
        shifted[shift:] = samples[: len(samples) - shift]
    else:
        shifted[:shift] = samples[-shift:]
    noise = rng.standard_normal(len(samples), dtype=np.float32) * np.float32(10 ** rng.uniform(-5, -2.3))
    return np.clip(shifted + noise, -1.0, 1.0)


if __name__ == "__main__":
    main(
        Training(
            # Few epochs: it is trained wherever it is wanted, on two cores in minutes.
            folder=Path(__file__).resolve().parent,
            build=build,
            augment=augmented,
            layout="N1FT",
            epochs=10,
            copies=3,
        )
    )
