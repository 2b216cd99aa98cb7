"""A convolution and a ReLU6, the mean and a linear layer: the smallest network that qnnpack's clamp gets wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Clamped(nn.Module):
    """Input ``[N, 1, 40, 32]``: batch, channel, mel band, time (frame). Output: logits ``[N, 2]``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, kernel_size=3, stride=4)
        self.relu6 = nn.ReLU6()
        self.fc = nn.Linear(3, 2)

    def forward(self, features: Tensor) -> Tensor:
        """Map log-mel features to logits."""
        logits: Tensor = self.fc(self.relu6(self.conv(features)).mean(dim=(2, 3)))
        return logits


def build() -> Clamped:
    """Return the network with untrained weights, always the same."""
    torch.manual_seed(0)
    return Clamped()
