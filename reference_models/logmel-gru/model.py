"""logmel-gru: two GRU layers over the frames of a clip, and one linear layer on what they say at each frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BANDS = 40
UNITS = 128

# The position is the class number.
LABELS = ("unknown", "silence", "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


class Recurrent(nn.GRU):
    """One GRU layer that gives its output sequence alone, so that a forward hook can read it by the layer's name.

    Input ``[N, T, features]``, output ``[N, T, units]``; the state is zero before the first frame. PyTorch's form:
    n = tanh(Wx + b + r·(Uh + b')), gates stacked as r, z, n.
    """

    def __init__(self, features: int, units: int) -> None:
        super().__init__(features, units, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Map a sequence to the sequence of hidden states."""
        sequence: Tensor = super().forward(x)[0]
        return sequence


class Last(nn.Module):
    """The last frame of a sequence: a module, so that it can be read like a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, T, classes]`` to ``[N, classes]``."""
        return x[:, -1, :]


class LogmelGRU(nn.Module):
    """Two GRU layers 40 -> 128 -> 128; one linear layer on each frame's output; the last frame's counts.

    Input:  log-mel features ``[N, T, 40]``: batch, time (frame), band; any number of frames.
    Output: logits ``[N, classes]``, float32, no softmax.
    """

    def __init__(self, classes: int = len(LABELS)) -> None:
        super().__init__()
        self.gru1 = Recurrent(BANDS, UNITS)
        self.gru2 = Recurrent(UNITS, UNITS)
        self.fc = nn.Linear(UNITS, classes)
        self.last = Last()

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``[N, T, 40]`` to logits ``[N, classes]``."""
        # At frame t, `fc` has answered as if the clip had ended there: what a stream is held to.
        logits: Tensor = self.last(self.fc(self.gru2(self.gru1(features))))
        return logits


class Stream(LogmelGRU):
    """The same network for a few frames at a time: its state is an input, and an output.

    Input:  features ``[1, T, 40]`` and the state ``[layers, 1, 128]`` that earlier frames left (zeros at first).
    Output: logits of each frame ``[1, T, classes]``, and the state for the frames to come.
    """

    def __init__(self) -> None:
        super().__init__()
        self.state = nn.Identity()  # modules can be read by their name

    def forward(self, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Map some frames and a state to logits and the next state."""
        x, first = nn.GRU.forward(self.gru1, features, state[:1])
        x, second = nn.GRU.forward(self.gru2, x, state[1:])
        return self.fc(x), self.state(torch.cat([first, second]))


def build() -> LogmelGRU:
    """Return the network with its default settings and fresh (untrained) weights."""
    return LogmelGRU()


def stream() -> Stream:
    """Return the network that takes and gives its state, with fresh (untrained) weights."""
    return Stream()
