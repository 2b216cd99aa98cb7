"""The trained side: what PyTorch's layers become in a file, held to PyTorch's own folding and to its own gates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

from parity.weights import trained


class Net(torch.nn.Module):
    """Two convolutions, one with batch normalization, flattened into a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv1 = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.bn = torch.nn.BatchNorm2d(6, eps=1e-4)
        self.fc = torch.nn.Linear(6 * 5 * 7, 3)
        with torch.no_grad():
            for p in (self.bn.weight, self.bn.bias, self.bn.running_mean, self.bn.running_var):
                p.uniform_(0.5, 1.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.bn(self.conv2(self.conv1(x))).flatten(1))


def test_batch_normalization_is_folded_as_pytorch_folds_it() -> None:
    net = Net().eval()
    first, second, last = trained.layers(net, (1, 1, 5, 7), "onnx")
    assert [len(x.ways) for x in (first, second, last)] == [1, 3, 1], "only what has a norm after it can be folded"
    fused = fuse_conv_bn_eval(net.conv2, net.bn)
    for piece, right in zip(second.ways[0], (fused.weight, fused.bias), strict=True):
        assert np.abs(piece.value - right.detach().double().numpy()).max() < 1e-6
        assert "bn folded in (eps 0.0001)" in piece.how
    assert [p.name for p in second.ways[1]] == [
        "conv2.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"
    ]  # fmt: skip


def test_columns_after_a_flatten_stand_otherwise_where_the_channel_is_last() -> None:
    net = Net().eval()
    plain = trained.layers(net, (1, 1, 5, 7), "onnx")[-1].ways[0][0]
    turned = trained.layers(net, (1, 1, 5, 7), "tflite")[-1].ways[0][0]
    x = torch.rand(1, 6, 5, 7, dtype=torch.float64)
    right = plain.value @ x.flatten().numpy()
    np.testing.assert_allclose(turned.value @ x.permute(0, 2, 3, 1).flatten().numpy(), right, rtol=1e-12)
    assert not np.array_equal(plain.value, turned.value)


def test_every_direction_and_layer_of_a_recurrent_network_has_its_pieces() -> None:
    class Gru(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = torch.nn.GRU(4, 8, 2, batch_first=True, bidirectional=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.gru(x)[0]

    found = trained.layers(Gru().eval(), (1, 5, 4), "onnx")
    assert [x.name for x in found] == ["gru_l0", "gru_l0_reverse", "gru_l1", "gru_l1_reverse"]
    (w, *_), (same, *_) = found[0].ways[0], trained.layers(Gru().eval(), (1, 5, 4), "torchscript")[0].ways[0]
    assert w.how == "gates r, z, n stand as z, r, n"
    assert same.how == "as trained"


def test_a_layer_of_another_kind_is_refused_by_its_name() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.PReLU())
    with pytest.raises(NotImplementedError, match=r"^1, a PReLU$"):
        trained.layers(net, (1, 4), "onnx")
