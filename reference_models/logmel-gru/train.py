"""Train logmel-gru on a folder like Speech Commands: ``DIR/<word>/<speaker>_nohash_<n>.wav`` (or .flac).

python train.py --data DIR                          trains; writes weights.safetensors and training.json
python train.py --data DIR --held-out-folder OUT    only lays out the clips of speakers never trained on
"""

from __future__ import annotations

from pathlib import Path

import model
import numpy as np
from torch import nn

from parity import augment
from parity.signals import Signal, render
from parity.training import Float32, Training, main

RATE = 16000
# A stand-in for recorded background noise, which a folder of words need not have.
NOISE = render(Signal(kind="pink", length=10 * RATE, rate=RATE, level_dbfs=-20.0))


def started() -> nn.Module:
    """Return the network with orthogonal recurrences and update gates half open: a word's start reaches its end."""
    network = model.build()
    for gru in (network.gru1, network.gru2):
        for gate in gru.weight_hh_l0.detach().split(model.UNITS):
            nn.init.orthogonal_(gate)
        nn.init.ones_(gru.bias_ih_l0.detach()[model.UNITS : 2 * model.UNITS])  # gates are r, z, n
    return network


def augmented(samples: Float32, rng: np.random.Generator) -> Float32:
    """Return the clip shifted, played faster or slower, louder or softer, with noise; each with even odds."""
    if rng.random() < 0.5:
        samples = augment.time_shift(samples, rng.uniform(-0.15, 0.15))
    if rng.random() < 0.5:
        samples = augment.gain(samples, rng.uniform(0.3, 1.5))
    if rng.random() < 0.5:
        samples = augment.add_noise(samples, NOISE, rng.uniform(0.0, 0.5), int(rng.integers(len(NOISE))))
    return samples


if __name__ == "__main__":
    main(
        Training(
            folder=Path(__file__).resolve().parent,
            build=started,
            augment=augmented,
            layout="NTF",
            backend="numpy",
            epochs=60,
            copies=12,
            batch=48,
        )
    )
