"""mel40-mobilenetv2: a very narrow MobileNetV2 that tells ten commands, other words and silence apart."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

# The position is the class number: the published order.
LABELS = ("unknown", "silence", "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")

STEM = 8
HEAD = 1280
# A row a block: expansion, channels in, channels out, stride. MobileNetV2's table at width 0.03125, where channels are
# rounded to the next multiple of 8 and never fall below it: 320 / 32 = 10 becomes 16, everything else 8.
BLOCKS = (
    (1, 8, 8, 1),
    (6, 8, 8, 2), (6, 8, 8, 1),
    (6, 8, 8, 2), (6, 8, 8, 1), (6, 8, 8, 1),
    (6, 8, 8, 2), (6, 8, 8, 1), (6, 8, 8, 1), (6, 8, 8, 1),
    (6, 8, 8, 1), (6, 8, 8, 1), (6, 8, 8, 1),
    (6, 8, 8, 2), (6, 8, 8, 1), (6, 8, 8, 1),
    (6, 8, 16, 1),
)  # fmt: skip


def conv_bn(
    before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1, clip: bool = True
) -> nn.Sequential:
    """Convolution without bias and batch normalization, then ReLU6 where `clip`."""
    conv = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    steps = [("conv", conv), ("bn", nn.BatchNorm2d(after)), ("relu", nn.ReLU6())]
    return nn.Sequential(OrderedDict(steps if clip else steps[:2]))


class Block(nn.Module):
    """Inverted residual: widen 1x1, filter each channel 3x3, narrow 1x1 without ReLU; add the input where it fits."""

    def __init__(self, expansion: int, before: int, after: int, stride: int) -> None:
        super().__init__()
        wide = before * expansion
        self.expand = conv_bn(before, wide) if expansion > 1 else nn.Identity()
        self.depthwise = conv_bn(wide, wide, kernel=3, stride=stride, groups=wide)
        self.project = conv_bn(wide, after, clip=False)
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """A strided convolution, 17 blocks, a 1x1 convolution, the mean over the image, one linear layer.

    Blocks are submodules `block1` to `block17`, so that a forward hook can read each one's output by name.

    Input:  log-mel spectrogram ``[N, 1, 40, 32]``: batch, channel, mel band, time (frame); dB below the clip's maximum.
    Output: logits ``[N, classes]``, float32, no softmax.
    """

    def __init__(self, classes: int = len(LABELS), dropout: float = 0.2) -> None:
        super().__init__()
        self.stem = conv_bn(1, STEM, kernel=3, stride=2)  # [N, 8, 20, 16]
        for number, row in enumerate(BLOCKS, start=1):
            setattr(self, f"block{number}", Block(*row))
        self.head = conv_bn(BLOCKS[-1][2], HEAD)  # [N, 1280, 2, 1]
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(HEAD, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map log-mel features ``[N, 1, 40, 32]`` to logits ``[N, classes]``."""
        x = self.stem(features)
        for number in range(1, len(BLOCKS) + 1):
            x = getattr(self, f"block{number}")(x)
        logits: Tensor = self.fc(self.dropout(self.head(x).mean(dim=(2, 3))))
        return logits


def build() -> MobileNetV2:
    """Return the network with its default settings and fresh (untrained) weights."""
    return MobileNetV2()
