"""micro-speech: one convolution, one linear layer and a softmax, on the microcontrollers' own audio front end."""

from __future__ import annotations

from torch import Tensor, nn

FRAMES, BANDS = 49, 40
CHANNELS = 8
KERNEL = (10, 8)  # frames, bands

# The position is the class number.
LABELS = ("silence", "unknown", "yes", "no")


class MicroSpeech(nn.Module):
    """Convolution 10x8 stride 2, ReLU, linear layer, softmax.

    Input:  whole numbers -128 to 127 as float32, ``[N, 1, 49, 40]``: batch, channel, time (frame), band. Not scaled:
    the int8 features as they are, so that a network quantized with a step of 1 takes them without loss.
    Output: probabilities ``[N, classes]``, float32.
    """

    def __init__(self, classes: int = len(LABELS)) -> None:
        super().__init__()
        # TensorFlow's SAME with a stride: what is missing for 25 by 20 steps, the odd zero after the last frame.
        # PyTorch's own padding is the same on both sides, and would look at other elements.
        self.pad = nn.ZeroPad2d((3, 3, 4, 5))  # bands before and after, frames before and after
        self.conv = nn.Conv2d(1, CHANNELS, KERNEL, stride=2)
        self.relu = nn.ReLU()  # [N, 8, 25, 20]
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(CHANNELS * 25 * 20, classes)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``[N, 1, 49, 40]`` to probabilities ``[N, classes]``."""
        x = self.relu(self.conv(self.pad(features)))
        probabilities: Tensor = self.softmax(self.fc(self.flatten(x)))
        return probabilities


def build() -> MicroSpeech:
    """Return the network with its default settings and fresh (untrained) weights."""
    return MicroSpeech()
