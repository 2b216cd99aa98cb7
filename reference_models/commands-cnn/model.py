"""commands-cnn: a small convolutional network that tells ten spoken commands from other words."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FRAMES = 98
BANDS = 50

# The position is the class number. The published system carries a second list in another order:
# the order is part of the recipe.
LABELS = ("unknown", "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


class CommandsCNN(nn.Module):
    """Five blocks of convolution, batch normalization and ReLU, then one linear layer.

    Every step is a submodule of its own, so that a forward hook can read it by name.

    Input:  log-mel spectrogram ``[N, 1, 98, 50]``: batch, channel, time (frame), mel band; log10 of power.
    Output: logits ``[N, classes]``, float32, no softmax.
    """

    def __init__(self, classes: int = len(LABELS), dropout: float = 0.2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, kernel_size=3, padding=1)
        self.bn1 = nn.BatchNorm2d(12)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

        self.conv2 = nn.Conv2d(12, 24, kernel_size=3, padding=1)
        self.bn2 = nn.BatchNorm2d(24)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

        self.conv3 = nn.Conv2d(24, 48, kernel_size=3, padding=1)
        self.bn3 = nn.BatchNorm2d(48)
        self.relu3 = nn.ReLU()
        self.pool3 = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

        self.conv4 = nn.Conv2d(48, 48, kernel_size=3, padding=1)
        self.bn4 = nn.BatchNorm2d(48)
        self.relu4 = nn.ReLU()

        self.conv5 = nn.Conv2d(48, 48, kernel_size=3, padding=1)
        self.bn5 = nn.BatchNorm2d(48)
        self.relu5 = nn.ReLU()
        self.pool5 = nn.MaxPool2d(kernel_size=(13, 1))  # all of time, each band group for itself

        self.dropout = nn.Dropout2d(dropout)
        self.fc = nn.Linear(48 * 1 * 7, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map log-mel features ``[N, 1, 98, 50]`` to logits ``[N, classes]``."""
        x = self.pool1(self.relu1(self.bn1(self.conv1(features))))  # [N, 12, 49, 25]
        x = self.pool2(self.relu2(self.bn2(self.conv2(x))))  # [N, 24, 25, 13]
        x = self.pool3(self.relu3(self.bn3(self.conv3(x))))  # [N, 48, 13, 7]
        x = self.relu4(self.bn4(self.conv4(x)))  # [N, 48, 13, 7]
        x = self.pool5(self.relu5(self.bn5(self.conv5(x))))  # [N, 48, 1, 7]
        x = self.dropout(x)
        logits: Tensor = self.fc(torch.flatten(x, start_dim=1))  # 336 = channel, time, band; channel slowest
        return logits


def build() -> CommandsCNN:
    """Return the network with its default settings and fresh (untrained) weights."""
    return CommandsCNN()
