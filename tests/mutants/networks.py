"""Mutants of networks: trained networks with a layer gone wrong, as PyTorch modules and as the ONNX files made of them.

A mutant says what is wrong (`causes`), and the first tap that must be out of bounds on the golden's features. Its
float32 candidate is run by the runtime it names, ONNX Runtime or PyTorch; the float64 version by PyTorch in double.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parity import system
from parity.protocols import Array, Artifact, Session, Tap
from parity.runtimes.onnxrt import OnnxRuntime
from parity.runtimes.torch_ import _TorchSession, build
from parity.system import System
from parity.taps import MODEL_INPUT
from parity.targets.agent import from_output, to_input
from tests.plugins_for_tests import rig

COMMANDS, MFCC, MEL40, LOGMEL, TINY = "commands-cnn", "mfcc-lstm", "mel40-mobilenetv2", "logmel-gru", "tiny-conv"
OPSET = 20
Spoil = Callable[[nn.Module], nn.Module | None]
"""Changes a network in place, or gives another in its stead."""


@cache
def system_of(name: str) -> System:
    """The system of a name."""
    return system.load(rig.MODELS / name)


def artifact_of(name: str, form: str) -> Artifact:
    """Its float32 file of a format."""
    return next(a for a in system_of(name).artifacts if (a.format, a.precision) == (form, "float32"))


def run(session: Session, artifact: Artifact, features: Array) -> dict[Tap, Array]:
    """Arrays at all taps of an artifact, time-major, for features `[frames, bands]`."""
    fed = to_input(features, artifact, session.tensors.get(MODEL_INPUT))
    got = session.run({artifact.input.name: fed}, frozenset(artifact.taps))
    return {tap: from_output(np.asarray(got[tap]), port, None) for tap, port in artifact.taps.items()}


@dataclass(frozen=True)
class Mutant:
    """A network with something changed."""

    name: str
    of: str
    """Its system."""
    spoil: Spoil = field(hash=False)
    causes: tuple[frozenset[str], ...]
    tap: Tap
    """Where it must show first, fed with the golden's features."""
    runtime: Literal["onnxrt", "torch"] = "onnxrt"
    edit: Callable[[onnx.ModelProto], None] | None = field(default=None, hash=False)
    """What is done to the trained network's own ONNX file, where the mistake is one of the file."""

    @property
    def taps(self) -> tuple[Tap, ...]:
        """The same as `tap`, for each cause."""
        return (self.tap,) * len(self.causes)

    def network(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The wrong network in PyTorch."""
        trained = artifact_of(self.of, "torch")
        assert trained.network is not None
        net = build(trained.network, Path(trained.path))
        with torch.no_grad():
            changed = self.spoil(net)
        return (net if changed is None else changed).eval().to(dtype)

    @contextmanager
    def candidate(self, folder: Path) -> Iterator[Callable[[Array], dict[Tap, Array]]]:
        """What the wrong network gives for features, in float32, by its runtime. Writes its file to `folder`."""
        if self.runtime == "torch":
            trained = artifact_of(self.of, "torch")
            session: Session = _TorchSession(self.network(), trained, torch.float32)
            yield lambda features: run(session, trained, features)
            return
        file = dataclasses.replace(artifact_of(self.of, "onnx"), path=str(self.write(folder)))
        with OnnxRuntime().open(file) as opened:
            yield lambda features: run(opened, file, features)

    @contextmanager
    def exact(self) -> Iterator[Callable[[Array], dict[Tap, Array]]]:
        """What the wrong network means, in float64."""
        trained = artifact_of(self.of, "torch")
        session = _TorchSession(self.network(torch.float64), trained, torch.float64)
        yield lambda features: run(session, trained, features)

    def write(self, folder: Path) -> Path:
        """Its ONNX file."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.of}-{self.name.replace(' ', '-').replace('/', '-')}.onnx"
        if self.edit is not None:
            model = onnx.load(artifact_of(self.of, "onnx").path)
            self.edit(model)
            onnx.save(model, path)
            return path
        net, trained = self.network(), artifact_of(self.of, "torch")
        frames, bands = (97 if n is None else n for n in trained.shape)
        example = torch.from_numpy(to_input(np.zeros((frames, bands), np.float32), trained, None))
        time = {trained.input.layout.index("T"): "time"} if trained.shape[0] is None else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the older exporter, which writes the system's own files, is deprecated
            torch.onnx.export(
                net, (example,), str(path), dynamo=False, opset_version=OPSET, input_names=["features"],
                output_names=[artifact_of(self.of, "onnx").taps[list(trained.taps)[-1]].name],
                dynamic_axes={"features": time},
            )  # fmt: skip
        return path


def _weights(layer: str, change: Callable[[Tensor], Tensor], parameter: str = "weight") -> Spoil:
    def spoil(net: nn.Module) -> None:
        values = net.get_parameter(f"{layer}.{parameter}")
        values.copy_(change(values))

    return spoil


def _everywhere(change: Callable[[Tensor], Tensor]) -> Spoil:
    def spoil(net: nn.Module) -> None:
        for values in net.parameters():
            values.copy_(change(values))

    return spoil


def _half(w: Tensor) -> Tensor:
    return w.to(torch.float16).to(w.dtype)


def _brain(w: Tensor) -> Tensor:
    return w.to(torch.bfloat16).to(w.dtype)


def _one_off(factor: float) -> Callable[[Tensor], Tensor]:
    """The largest value times a factor."""

    def change(w: Tensor) -> Tensor:
        changed = w.clone()
        changed.view(-1)[w.abs().argmax()] *= factor
        return changed

    return change


def _one_moved(by: float) -> Callable[[Tensor], Tensor]:
    """The first value moved."""

    def change(w: Tensor) -> Tensor:
        changed = w.clone()
        changed.view(-1)[0] += by
        return changed

    return change


def _bits(bits: int) -> Callable[[Tensor], Tensor]:
    """Weights in so many bits, one step for the tensor."""

    def change(w: Tensor) -> Tensor:
        most = 2 ** (bits - 1) - 1
        step = w.abs().max() / most
        return torch.clamp(torch.round(w / step), -most, most) * step

    return change


def _gates(order: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """Blocks of a recurrent layer's rows in another order."""
    return lambda w: torch.cat([w.chunk(len(order))[i] for i in order])


def _rows(net: nn.Module, layer: str, change: Callable[[Tensor], Tensor]) -> None:
    """The same for all parameters of a recurrent layer."""
    for values in net.get_submodule(layer).parameters():
        values.copy_(change(values))


def _reordered(layer: str, order: tuple[int, ...]) -> Spoil:
    return lambda net: _rows(net, layer, _gates(order))


def _eps(*layers: str) -> Spoil:
    """Batch normalization as other frameworks have it by default."""

    def spoil(net: nn.Module) -> None:
        for name, module in net.named_modules():
            if isinstance(module, nn.BatchNorm2d) and (not layers or name in layers):
                module.eps = 1e-3

    return spoil


def _statistics_lost(layer: str) -> Spoil:
    def spoil(net: nn.Module) -> None:
        net.get_submodule(layer).reset_running_stats()  # type: ignore[operator]

    return spoil


def _instead(layer: str, make: Callable[[Any], nn.Module]) -> Spoil:
    """Another module in a layer's place, made from it."""

    def spoil(net: nn.Module) -> None:
        parent, _, name = layer.rpartition(".")
        setattr(net.get_submodule(parent), name, make(net.get_submodule(layer)))

    return spoil


class SamePool(nn.Module):
    """Max pooling of 3 by 3 and stride 2 as SAME pads it: what is odd comes last."""

    def forward(self, x: Tensor) -> Tensor:
        pads = [max(0, (-(-n // 2) - 1) * 2 + 3 - n) for n in (x.shape[3], x.shape[2])]
        sides = [side for p in pads for side in (p // 2, p - p // 2)]
        return F.max_pool2d(F.pad(x, sides, value=-torch.inf), 3, 2)


class SameConv(nn.Module):
    """A convolution of 3 by 3 and stride 2 with SAME's padding in the place of one on each side."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = conv.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, stride=2)


class ResetBefore(nn.Module):
    """A GRU that resets the state before it is multiplied: n = tanh(Wx + b + U(r·h) + b')."""

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.gru = gru

    def forward(self, x: Tensor) -> Tensor:
        g: Any = self.gru
        from_input = (x[0] @ g.weight_ih_l0.T + g.bias_ih_l0).chunk(3, dim=1)
        u, b = g.weight_hh_l0.chunk(3), g.bias_hh_l0.chunk(3)
        h, sequence = torch.zeros_like(from_input[0][0]), []
        for r_in, z_in, n_in in zip(*from_input, strict=True):
            r = torch.sigmoid(r_in + u[0] @ h + b[0])
            z = torch.sigmoid(z_in + u[1] @ h + b[1])
            n = torch.tanh(n_in + u[2] @ (r * h) + b[2])
            h = (1 - z) * n + z * h
            sequence.append(h)
        return torch.stack(sequence)[None]


def _reset_before(model: onnx.ModelProto) -> None:
    first = next(n for n in model.graph.node if n.op_type == "GRU")
    (attribute,) = (a for a in first.attribute if a.name == "linear_before_reset")
    attribute.i = 0


def _turned_labels(net: nn.Module) -> None:
    """`yes` and `no` in each other's place."""
    for values in (net.get_parameter("fc.weight"), net.get_parameter("fc.bias")):
        changed = values.clone()
        changed[[1, 2]] = values[[2, 1]]
        values.copy_(changed)


def _flattened_last(net: nn.Module) -> None:
    """What goes into the last layer is flattened with the channel fastest."""
    weight = net.get_parameter("fc.weight")
    weight.copy_(weight.view(-1, 7, 48).permute(0, 2, 1).reshape(weight.shape))


def _no_residual(layer: str) -> Spoil:
    def spoil(net: nn.Module) -> None:
        block: Any = net.get_submodule(layer)
        block.residual = False

    return spoil


def _forget_more(net: nn.Module) -> None:
    """One is added to the forget gate's bias, as some frameworks do."""
    bias = net.get_parameter("lstm1.bias_ih_l0")
    bias[64:128] += 1.0


def _mutant(name: str, of: str, keys: str, tap: Tap, spoil: Spoil, runtime: Any = "onnxrt", edit: Any = None) -> Mutant:
    return Mutant(name, of, spoil, (frozenset(keys.split()),), tap, runtime, edit)


SOFTMAX = _instead("fc", lambda fc: nn.Sequential(fc, nn.Softmax(dim=-1)))

NETWORKS: tuple[Mutant, ...] = (
    # Weights.
    _mutant("conv1 in bfloat16", COMMANDS, "network.weights-bfloat16", "model/relu1", _weights("conv1", _brain)),
    _mutant("conv2 in float16", COMMANDS, "network.weights-float16", "model/relu2", _weights("conv2", _half)),
    _mutant("every weight in float16", COMMANDS, "network.weights-float16", "model/relu1", _everywhere(_half), "torch"),
    _mutant("one weight of conv3 off by 1 %", COMMANDS, "network.one-weight", "model/relu3",
            _weights("conv3", _one_off(1.01))),
    _mutant("conv4 in 4 bits", COMMANDS, "network.weights-quantized", "model/relu4", _weights("conv4", _bits(4))),
    _mutant("conv3 flipped", COMMANDS, "network.kernel-flipped", "model/relu3",
            _weights("conv3", lambda w: w.flip(2, 3))),
    _mutant("fc times 1.00001", COMMANDS, "network.weights-scaled", "model/logits",
            _weights("fc", lambda w: w * 1.00001), "torch"),
    _mutant("one bias of fc off by 1e-4", COMMANDS, "network.one-bias", "model/logits",
            _weights("fc", _one_moved(1e-4), "bias")),
    _mutant("no bias in conv5", COMMANDS, "network.bias-missing", "model/relu5",
            _weights("conv5", torch.zeros_like, "bias")),
    _mutant("block5 in 4 bits", MEL40, "network.weights-quantized", "model/block5",
            _weights("block5.project.conv", _bits(4))),
    _mutant("lstm2 remembers in float16", MFCC, "network.weights-float16", "model/lstm2",
            _weights("lstm2", _half, "weight_hh_l0")),
    _mutant("gru1 listens in bfloat16", LOGMEL, "network.weights-bfloat16", "model/gru1",
            _weights("gru1", _brain, "weight_ih_l0"), "torch"),
    # Batch normalization.
    _mutant("bn2 with eps 1e-3", COMMANDS, "network.bn-eps", "model/relu2", _eps("bn2")),
    _mutant("eps 1e-3 everywhere", MEL40, "network.bn-eps", "model/stem", _eps()),
    _mutant("statistics of bn4 lost", COMMANDS, "network.bn-statistics", "model/relu4", _statistics_lost("bn4")),
    # Structure.
    _mutant("SAME in pool1", COMMANDS, "network.padding", "model/relu2", _instead("pool1", lambda _: SamePool())),
    _mutant("SAME in the stem", MEL40, "network.padding", "model/stem", _instead("stem.conv", SameConv), "torch"),
    _mutant("no residual in block3", MEL40, "network.residual-missing", "model/block3",
            _no_residual("block3"), "torch"),
    _mutant("channels flattened last", COMMANDS, "network.flatten-order", "model/logits", _flattened_last),
    _mutant("softmax added", COMMANDS, "network.softmax-added", "model/logits", SOFTMAX),
    _mutant("no softmax", TINY, "network.softmax-missing", "model/probabilities",
            _instead("softmax", lambda _: nn.Identity()), "torch"),
    _mutant("yes and no exchanged", COMMANDS, "network.labels", "model/logits", _turned_labels),
    # Recurrence.
    _mutant("gates of lstm1 as i, g, f, o", MFCC, "network.gate-order", "model/lstm1",
            _reordered("lstm1", (0, 2, 1, 3))),
    _mutant("gates of gru2 as z, r, n", LOGMEL, "network.gate-order", "model/gru2", _reordered("gru2", (1, 0, 2))),
    _mutant("no recurrent bias in lstm3", MFCC, "network.rnn-bias", "model/lstm3",
            _weights("lstm3", torch.zeros_like, "bias_hh_l0"), "torch"),
    _mutant("forget gate biased by 1", MFCC, "network.forget-bias", "model/lstm1", _forget_more),
    _mutant("gru1 resets before", LOGMEL, "network.linear-before-reset", "model/gru1", _instead("gru1", ResetBefore),
            edit=_reset_before),
)  # fmt: skip
"""Each with one thing wrong."""
