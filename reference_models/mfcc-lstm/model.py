"""mfcc-lstm: three LSTM layers over the frames of a clip, and one linear layer on what they say at its end."""

from __future__ import annotations

from torch import Tensor, nn

COEFFICIENTS = 12
UNITS = 64

# The position is the class number: the published order, which is the alphabet's.
LABELS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")


class Recurrent(nn.LSTM):
    """One LSTM layer that gives its output sequence alone, so that a forward hook can read it by the layer's name.

    Input ``[N, T, features]``, output ``[N, T, units]``; the state is zero before the first frame.
    """

    def __init__(self, features: int, units: int) -> None:
        super().__init__(features, units, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Map a sequence to the sequence of hidden states."""
        sequence: Tensor = super().forward(x)[0]
        return sequence


class MfccLSTM(nn.Module):
    """Three LSTM layers 12 -> 64 -> 64 -> 64; the last frame's output goes through one linear layer.

    Each layer is a module of its own: `nn.LSTM(num_layers=3)` computes the same and shows the last layer only.

    Input:  MFCCs ``[N, T, 12]``: batch, time (frame), coefficient; any number of frames, not scaled.
    Output: logits ``[N, classes]``, float32, no softmax.
    """

    def __init__(self, classes: int = len(LABELS)) -> None:
        super().__init__()
        self.lstm1 = Recurrent(COEFFICIENTS, UNITS)
        self.lstm2 = Recurrent(UNITS, UNITS)
        self.lstm3 = Recurrent(UNITS, UNITS)
        self.fc = nn.Linear(UNITS, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map MFCCs ``[N, T, 12]`` to logits ``[N, classes]``."""
        x = self.lstm3(self.lstm2(self.lstm1(features)))  # [N, T, 64]
        logits: Tensor = self.fc(x[:, -1, :])  # the last frame only: what follows the word counts
        return logits


def build() -> MfccLSTM:
    """Return the network with its default settings and fresh (untrained) weights."""
    return MfccLSTM()
