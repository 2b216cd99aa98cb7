"""mel40-shufflenetv2: ShuffleNetV2 x0.5 that tells ten commands, other words and silence apart."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

# The position is the class number: the published order.
LABELS = ("unknown", "silence", "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")

STEM = 24
HEAD = 1024
# Channels in, channels out: the first unit of a stage halves the image (stride 2), the others keep it. Width x0.5.
STAGES = ((24, 48, 4), (48, 96, 8), (96, 192, 4))
UNITS = tuple((before if i == 0 else after, after) for before, after, count in STAGES for i in range(count))


def conv_bn(
    before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1, clip: bool = True
) -> nn.Sequential:
    """Convolution without bias and batch normalization, then ReLU where `clip`."""
    conv = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    steps = [("conv", conv), ("bn", nn.BatchNorm2d(after)), ("relu", nn.ReLU())]
    return nn.Sequential(OrderedDict(steps if clip else steps[:2]))


def shuffled(x: Tensor) -> Tensor:
    """Interleave the two halves of the channels: 0, c/2, 1, c/2 + 1, ..."""
    channels, bands, frames = (x.size(axis) for axis in (1, 2, 3))
    if torch.jit.is_tracing():
        channels, bands, frames = int(channels), int(bands), int(frames)  # plain numbers in what is exported
    return x.reshape(-1, 2, channels // 2, bands, frames).transpose(1, 2).reshape(-1, channels, bands, frames)


class Unit(nn.Module):
    """Two branches, concatenated and shuffled; where the image is kept, the left branch is the left half as it is."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.halves = before == after
        stride, each = (1, after // 2) if self.halves else (2, after // 2)
        into = before // 2 if self.halves else before
        self.left = nn.Identity() if self.halves else nn.Sequential(OrderedDict([
            ("depthwise", conv_bn(into, into, kernel=3, stride=stride, groups=into, clip=False)),
            ("point", conv_bn(into, each)),
        ]))  # fmt: skip
        self.right = nn.Sequential(OrderedDict([
            ("first", conv_bn(into, each)),
            ("depthwise", conv_bn(each, each, kernel=3, stride=stride, groups=each, clip=False)),
            ("second", conv_bn(each, each)),
        ]))  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1) if self.halves else (x, x)
        return shuffled(torch.cat((self.left(left), self.right(right)), dim=1))


class ShuffleNetV2(nn.Module):
    """A strided convolution, a max-pool, 16 units, a 1x1 convolution, the mean over the image, one linear layer.

    Units are submodules `unit1` to `unit16`, so that a forward hook can read each one's output by name.

    Input:  log-mel spectrogram ``[N, 1, 40, 32]``: batch, channel, mel band, time (frame); dB below the clip's maximum.
    Output: logits ``[N, classes]``, float32, no softmax.
    """

    def __init__(self, classes: int = len(LABELS)) -> None:
        super().__init__()
        self.stem = conv_bn(1, STEM, kernel=3, stride=2)  # [N, 24, 20, 16]
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)  # [N, 24, 10, 8]
        for number, row in enumerate(UNITS, start=1):
            setattr(self, f"unit{number}", Unit(*row))
        self.head = conv_bn(UNITS[-1][1], HEAD)  # [N, 1024, 2, 1]
        self.fc = nn.Linear(HEAD, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map log-mel features ``[N, 1, 40, 32]`` to logits ``[N, classes]``."""
        x = self.pool(self.stem(features))
        for number in range(1, len(UNITS) + 1):
            x = getattr(self, f"unit{number}")(x)
        logits: Tensor = self.fc(self.head(x).mean(dim=(2, 3)))
        return logits


def build() -> ShuffleNetV2:
    """Return the network with its default settings and fresh (untrained) weights."""
    return ShuffleNetV2()
