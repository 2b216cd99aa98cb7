"""Constants of a TorchScript file by the names that they were trained under; of a quantized one, its packed weights.

A trace's `state_dict()` leaves out what batch normalization learned of its inputs; the modules' attributes have it.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parity.errors import ModelError
from parity.protocols import Array
from parity.runtimes import torch_export
from parity.weights.pieces import Constant, Reading, Role

_NORM = ("weight", "bias", "running_mean", "running_var")


def _role(value: Array) -> Role:
    return "vector" if value.ndim == 1 else "matrix" if value.ndim == 2 else "convolution"


def _constant(name: str, tensor: Any, named: bool = True) -> Constant:
    """A tensor; `named` where the file's names are the trained ones."""
    if tensor.is_quantized:
        value = tensor.dequantize().double().numpy()
        scale = np.asarray(tensor.q_scale() if tensor.qscheme() == torch.per_tensor_affine else 0.0)
        if tensor.qscheme() == torch.per_channel_affine:
            axis = tensor.q_per_channel_axis()
            shape = [-1 if i == axis else 1 for i in range(value.ndim)]
            scale = tensor.q_per_channel_scales().double().numpy().reshape(shape)
        half, stored = np.broadcast_to(scale / 2.0, value.shape), "int8"
    else:
        value = tensor.detach().double().numpy()
        half, stored = np.zeros_like(value), "float32"
    trained = name if named else None
    return Constant(name=name, role=_role(value), value=value, half_step=half, stored=stored, trained=trained)


def _packed(name: str, module: Any) -> Iterator[Constant]:
    """Weight and bias of a quantized layer, which its operator keeps packed."""
    packed = getattr(module, "_packed_params", None)
    if not isinstance(packed, torch.ScriptObject):
        return  # a Linear's are in a module of their own below it
    unpack = (
        torch.ops.quantized.linear_unpack if "Linear" in module.original_name else torch.ops.quantized.conv2d_unpack
    )
    weight, bias = unpack(packed)
    yield _constant(f"{name}.weight", weight, named=False)
    if bias is not None:
        yield _constant(f"{name}.bias", bias, named=False)


def _load(path: Path) -> Any:
    if not path.is_file():
        raise ModelError(f"{path} can't be read: no such file", "export it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript
            return torch.jit.load(str(path), map_location="cpu")
    except Exception as e:  # torch raises many types for a damaged or foreign file
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise ModelError(f"torch.jit can't load {path}: {reason}", "export it again") from None


def read(path: Path) -> Reading:
    """What a TorchScript file holds. ModelError where it can't be read."""
    model = _load(path)
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    found = {n: _constant(n, t) for n, t in tensors.items() if t.is_floating_point() or t.is_quantized}
    for name, module in model.named_modules():
        for part in _NORM:
            value = getattr(module, part, None)
            full = f"{name}.{part}" if name else part
            if full not in found and isinstance(value, torch.Tensor) and value.is_floating_point():
                found[full] = _constant(full, value)
    return Reading(constants=_with_eps(found, _eps_traced(model)))


def read_int8(path: Path) -> Reading:
    """What a file of PyTorch's static quantization holds. Packing is the engine's: the one that can load it is set."""
    usual, problem = torch.backends.quantized.engine, None
    try:
        for engine in (e for e in torch.backends.quantized.supported_engines if e != "none"):
            torch.backends.quantized.engine = engine
            try:
                model = _load(path)
                return Reading(constants=[c for name, m in model.named_modules() for c in _packed(name, m)])
            except (ModelError, RuntimeError) as e:
                problem = e
    finally:
        torch.backends.quantized.engine = usual
    reason = str(problem).strip().splitlines()[0] if problem is not None else "PyTorch has no engine for int8 here"
    raise ModelError(f"{path} can't be read: {reason}", "export it again")


def read_exported(path: Path) -> Reading:
    """What a file of torch.export (.pt2) holds. ModelError where it can't be read."""
    program = torch_export.load(path)
    found = {n: _constant(n, t) for n, t in program.state_dict.items() if t.is_floating_point()}
    return Reading(constants=_with_eps(found, _eps_exported(program)))


def _with_eps(found: Mapping[str, Constant], eps: Mapping[str, float]) -> list[Constant]:
    """The constants; those of a batch normalization with its eps, which is code, not a tensor."""
    return [
        dataclasses.replace(c, eps=eps.get(name.removesuffix(".running_var"))) if name.endswith(".running_var") else c
        for name, c in found.items()
    ]


def _eps_traced(model: Any) -> dict[str, float]:
    """The eps of each batch normalization, by the path of its module."""
    found = {}
    for node in model.inlined_graph.nodes():
        if node.kind() == "aten::batch_norm":
            where = re.sub(r"\([^)]*\)", "", node.getModuleHierarchy())
            value = list(node.inputs())[7].toIValue()
            if value is not None:
                found[where] = float(value)
    return found


def _eps_exported(program: Any) -> dict[str, float]:
    """The same, by the name under which the file keeps its variance."""
    names = program.graph_signature.inputs_to_buffers
    found = {}
    for node in program.graph.nodes:
        arguments = getattr(getattr(node.target, "_schema", None), "arguments", ())
        if node.op == "call_function" and "batch_norm" in str(node.target):
            given = dict(zip([a.name for a in arguments], node.args, strict=False)) | dict(node.kwargs)
            name = names.get(getattr(given.get("running_var"), "name", ""))
            if name is not None and isinstance(given.get("eps"), float):
                found[name.removesuffix(".running_var")] = given["eps"]
    return found
