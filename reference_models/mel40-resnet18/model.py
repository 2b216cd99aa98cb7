"""mel40-resnet18: ResNet-18 that tells ten commands, other words and silence apart."""

from __future__ import annotations

from torch import Tensor, nn

# The position is the class number: the published order.
LABELS = ("unknown", "silence", "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")

# Channels in, channels out, stride: two blocks a stage.
BLOCKS = (
    (64, 64, 1), (64, 64, 1),
    (64, 128, 2), (128, 128, 1),
    (128, 256, 2), (256, 256, 1),
    (256, 512, 2), (512, 512, 1),
)  # fmt: skip


class Block(nn.Module):
    """Two 3x3 convolutions beside a short cut; where the size changes, the short cut is a 1x1 convolution."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.short = nn.Identity() if before == after and stride == 1 else nn.Sequential(
            nn.Conv2d(before, after, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(after)
        )  # fmt: skip
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu2(y + self.short(x))
        return out


class ResNet18(nn.Module):
    """A strided 7x7 convolution, a max-pool, eight blocks, the mean over the image, one linear layer.

    Blocks are submodules `block1` to `block8`, so that a forward hook can read each one's output by name.

    Input:  log-mel spectrogram ``[N, 1, 40, 32]``: batch, channel, mel band, time (frame); dB below the clip's maximum.
    Output: logits ``[N, classes]``, float32, no softmax.
    """

    def __init__(self, classes: int = len(LABELS)) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)  # [N, 64, 20, 16]
        self.bn = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)  # [N, 64, 10, 8]
        for number, row in enumerate(BLOCKS, start=1):
            setattr(self, f"block{number}", Block(*row))
        self.fc = nn.Linear(BLOCKS[-1][1], classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map log-mel features ``[N, 1, 40, 32]`` to logits ``[N, classes]``."""
        x = self.pool(self.relu(self.bn(self.conv(features))))
        for number in range(1, len(BLOCKS) + 1):
            x = getattr(self, f"block{number}")(x)
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def build() -> ResNet18:
    """Return the network with its default settings and fresh (untrained) weights."""
    return ResNet18()
