"""Train micro-speech on a folder like Speech Commands: ``DIR/<word>/<speaker>_nohash_<n>.wav`` (or .flac).

python train.py --data DIR                          trains; writes weights.safetensors and training.json
python train.py --data DIR --held-out-folder OUT    only lays out the clips of speakers never trained on
"""

from __future__ import annotations

from pathlib import Path

import model
import numpy as np
import torch
from torch import Tensor, nn

from parity import augment
from parity.signals import Signal, render
from parity.training import Float32, Training, main

RATE = 16000
# A stand-in for recorded background noise, which a folder of words need not have.
NOISE = render(Signal(kind="pink", length=10 * RATE, rate=RATE, level_dbfs=-20.0))
STEP = 64.0  # the features go from -128 to 127: an optimizer wants them near one


class Scaled(nn.Module):
    """micro-speech as it is trained: on features over 64, with dropout, and without its softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = model.build()
        self.dropout = nn.Dropout(0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``[N, 1, 49, 40]`` to logits ``[N, classes]``."""
        net = self.inner
        x = net.flatten(net.relu(net.conv(net.pad(features / STEP))))
        logits: Tensor = net.fc(self.dropout(x))
        return logits


def folded(trained: nn.Module) -> nn.Module:
    """Return the network for the features as they are: zeros that pad stay zeros, so the scale goes into the weights.

    64 is a power of two: not a bit of the weights is lost.
    """
    network = trained.inner
    assert isinstance(network, model.MicroSpeech)
    with torch.no_grad():
        network.conv.weight.div_(STEP)
    return network


def augmented(samples: Float32, rng: np.random.Generator) -> Float32:
    """Return the clip shifted by up to 0.1 s, louder or softer, and with noise, each with its odds."""
    samples = augment.time_shift(samples, rng.uniform(-0.1, 0.1))
    if rng.random() < 0.5:
        samples = augment.gain(samples, rng.uniform(0.5, 1.5))
    if rng.random() < 0.8:
        samples = augment.add_noise(samples, NOISE, rng.uniform(0.0, 0.1), int(rng.integers(len(NOISE))))
    return samples


if __name__ == "__main__":
    main(
        Training(
            folder=Path(__file__).resolve().parent,
            build=Scaled,
            finish=folded,
            augment=augmented,
            layout="N1TF",
            backend="microfrontend:implementation=tf",
            epochs=60,
            copies=12,
            balanced=True,
        )
    )
