"""Post-training static quantization with PyTorch's FX mode, for the engines that mobile and server builds have.

Activations quint8 by the smallest and largest value seen, weights qint8: as `torch.ao.quantization` documents for each
engine. Fuse, prepare, calibrate on real clips, convert; the trace of what comes out is what is deployed.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.split_module import split_module

from parity.protocols import Array, Tap


def qconfig(engine: str) -> Any:
    """How an engine quantizes. x86 keeps activations to 7 bits: without VNNI its 16-bit sums of 8-bit products clip."""
    from torch.ao import quantization as q

    activation = q.MinMaxObserver.with_args(dtype=torch.quint8, reduce_range=engine == "x86")
    if engine == "x86":
        weight = q.PerChannelMinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_channel_symmetric)
    else:
        weight = q.MinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric)
    return q.QConfig(activation=activation, weight=weight)


def quantized(network: nn.Module, engine: str, inputs: Sequence[torch.Tensor]) -> fx.GraphModule:
    """The int8 network: nothing of `network` is changed."""
    from torch.ao.quantization import QConfigMapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    torch.backends.quantized.engine = engine
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # torch.ao.quantization is to move to torchao
        prepared = prepare_fx(network, QConfigMapping().set_global(qconfig(engine)), (inputs[0],))
        for x in inputs:
            prepared(x)
        return convert_fx(prepared)


class _Tracer(fx.Tracer):  # type: ignore[misc]
    """Follows calls, and keeps which node is what each submodule gives."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, fx.Node] = {}

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        value = super().call_module(m, forward, args, kwargs)
        if isinstance(value, fx.Proxy):
            self.given[self.path_of_module(m)] = value.node
        return value


def _positions(network: nn.Module, converted: fx.GraphModule, taps: Mapping[Tap, str]) -> dict[Tap, int]:
    """Where in the int8 graph each tap's value is made. SystemExit for one that has gone."""
    tracer = _Tracer()
    before, after = list(tracer.trace(network).nodes), list(converted.graph.nodes)
    at = {node.name: i for i, node in enumerate(after)}

    def alike(nodes: Sequence[fx.Node], node: fx.Node) -> list[fx.Node]:
        base = re.sub(r"_\d+$", "", node.name)
        return [n for n in nodes if n.op == "call_function" and re.sub(r"_\d+$", "", n.name) == base]

    found = {}
    for tap, module in taps.items():
        node = tracer.given[module]
        while node.op == "call_module" and node.name not in at:
            node = node.args[0]  # a convolution has taken it in
        if node.name not in at:  # a sum became another operator with another number, in the same order
            old, new = alike(before, node), alike(after, node)
            if len(old) != len(new):
                raise SystemExit(f"the quantized network has no {module!r} for {tap}")
            node = new[old.index(node)]
        found[tap] = at[node.name]
    return found


def in_parts(converted: fx.GraphModule, network: nn.Module, taps: Mapping[Tap, str]) -> nn.Module:
    """The same graph as one submodule a tap, named as the tap: of a graph's names a trace keeps those of modules."""
    ends = {tap.rpartition("/")[2]: at for tap, at in _positions(network, converted, taps).items()}
    if list(ends.values()) != sorted(set(ends.values())):
        raise SystemExit(f"taps of the quantized network aren't in flow order: {ends}")
    order = {node: i for i, node in enumerate(converted.graph.nodes)}

    def part(node: fx.Node) -> str:
        return next((name for name, end in ends.items() if order[node] <= end), "rest")

    whole = split_module(converted, converted, part)
    for node in whole.graph.nodes:
        if node.op == "call_module":
            name = str(node.target).removeprefix("submod_")
            whole.add_module(name, whole.get_submodule(node.target))
            delattr(whole, node.target)
            node.target = name
    whole.recompile()
    return whole.eval()


def prepared_for(network: nn.Module, engine: str) -> nn.Module:
    """A copy that an engine can take whole: without dropout, and for qnnpack without ReLU6.

    Dropout does nothing in a trained network, but would be computed in floats between integers. The qnnpack kernel of a
    clamp gives its output in another order than it says (PyTorch 2.13, channels-last memory, which its convolutions
    give): there ReLU6 becomes part of the convolution, as ReLU with the ceiling that calibration sees. Integers can't
    exceed it, so nothing else is computed.
    """
    lean = copy.deepcopy(network)
    for path, module in list(lean.named_modules()):
        if isinstance(module, nn.modules.dropout._DropoutNd):
            lean.set_submodule(path, nn.Identity())
        elif isinstance(module, nn.ReLU6) and engine == "qnnpack":
            relu = nn.ReLU()
            relu.register_forward_hook(lambda _module, _given, y: y.clamp(max=6.0))
            lean.set_submodule(path, relu)
    return lean.eval()


def to_int8(network: nn.Module, engine: str, inputs: Sequence[Array], taps: Mapping[Tap, str]) -> nn.Module:
    """The int8 network for an engine, ready to be traced: calibrated on `inputs`, in the network's own layout.

    `taps` maps each tap, in flow order, to the submodule of `network` that gives it; it is the name of a submodule of
    what is returned.
    """
    lean = prepared_for(network, engine)
    return in_parts(quantized(lean, engine, [torch.from_numpy(x) for x in inputs]), lean, taps)
