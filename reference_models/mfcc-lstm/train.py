"""Train mfcc-lstm on a folder like Speech Commands: ``DIR/<word>/<speaker>_nohash_<n>.wav`` (or .flac).

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


# Mean and standard deviation of each MFCC over the frames of the training clips as recorded, rounded.
MEAN = (-397, 82, -1, 12, -8, 2, -5, -1, -4, 1, -5, 0)
SPREAD = (171, 65, 38, 29, 27, 20, 18, 16, 14, 13, 13, 11)


class Standardized(nn.Module):
    """mfcc-lstm on coefficients of mean 0 and spread 1, as it is trained.

    An optimizer's step is as large for the weights of coefficient 0, which is about -400, as for those of the others:
    on the MFCCs themselves it moves every gate from one end to the other, and hardly anything is learnt.
    """

    def __init__(self) -> None:
        super().__init__()
        self.inner = model.build()
        for lstm in (self.inner.lstm1, self.inner.lstm2, self.inner.lstm3):
            # Forget gates start open, and recurrences orthogonal: what a word began with reaches the last frame.
            # 52 % of the validation clips after 12 epochs, against 34 % with PyTorch's own start for the matrices.
            nn.init.xavier_uniform_(lstm.weight_ih_l0)
            for gate in lstm.weight_hh_l0.detach().split(model.UNITS):
                nn.init.orthogonal_(gate)
            nn.init.ones_(lstm.bias_ih_l0.detach()[model.UNITS : 2 * model.UNITS])  # gates are i, f, g, o

    def forward(self, features: Tensor) -> Tensor:
        """Map MFCCs ``[N, T, 12]`` to logits ``[N, classes]``."""
        logits: Tensor = self.inner((features - torch.tensor(MEAN)) / torch.tensor(SPREAD))
        return logits


def folded(trained: nn.Module) -> nn.Module:
    """Return the network for the MFCCs as they are: W(x - mean)/spread + b is (W/spread)x + (b - (W/spread)mean)."""
    network = trained.inner
    assert isinstance(network, model.MfccLSTM)
    with torch.no_grad():
        weight, bias = network.lstm1.weight_ih_l0, network.lstm1.bias_ih_l0
        scaled = weight.double() / torch.tensor(SPREAD)
        bias.copy_(bias.double() - scaled @ torch.tensor(MEAN, dtype=torch.float64))
        weight.copy_(scaled)
    return network


def augmented(samples: Float32, rng: np.random.Generator) -> Float32:
    """Return the clip changed in the published ways, each with even odds: another length, another loudness, noise."""
    if rng.random() < 0.5:
        samples = augment.time_shift(samples, rng.uniform(-0.2, 0.2))
    if rng.random() < 0.5:
        samples = augment.play_speed(samples, rng.uniform(0.7, 1.3))
    if rng.random() < 0.5:
        zeros = int(rng.integers(0, int(0.3 * RATE) + 1))
        samples = augment.zero_pad(samples, *((zeros, 0) if rng.random() < 0.5 else (0, zeros)))
    if rng.random() < 0.5:
        samples = augment.gain(samples, rng.uniform(0.2, 1.5))
    if rng.random() < 0.5:
        samples = augment.add_noise(samples, NOISE, rng.uniform(0.0, 0.7), int(rng.integers(len(NOISE))))
    return samples


if __name__ == "__main__":
    main(
        Training(
            folder=Path(__file__).resolve().parent,
            build=Standardized,
            finish=folded,
            augment=augmented,
            layout="NTF",
            copies=10,
            batch=24,
        )
    )
