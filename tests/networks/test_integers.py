"""Bounds of files of integers on a real network: the file as exported is within them, and planted faults aren't."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from parity import golden, layout, registry, system
from parity.bounds import networks
from parity.networks.graph import load
from parity.protocols import Array, Artifact, Tap

ort = pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parents[2]
CLIPS = ("left-en-us-nyc-m7.flac", "yes-en-us-f2.flac", "chirp.flac", "silence.flac", "white-noise.flac")
"""Spoken, and designed: the chirp leaves the range that the file was calibrated for."""
Weights = dict[str, Array]
Expected = list[tuple[Array, Mapping[Tap, Array]]]


def _files(name: str) -> tuple[system.System, Artifact, Artifact]:
    found = system.load(ROOT / "reference_models" / name)
    source = networks.source(found)
    assert source is not None
    return found, source, next(a for a in found.artifacts if (a.format, a.precision) == ("onnx", "int8"))


@pytest.fixture(scope="module", params=["commands-cnn", "mel40-mobilenetv2"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def expected(name: str) -> Expected:
    """Of each clip the features, and the activations with their half-widths."""
    found, source, file = _files(name)
    goldens = golden.load(ROOT / "golden", found)
    bounded = networks.bounded(source, ["int8"])
    taps = frozenset(t for t in bounded.taps if not t.endswith(":cumulative") and t.partition(":")[0] in file.taps)
    out: Expected = []
    with registry.create("runtime", "monte-carlo").open(bounded) as session:
        for entry in (e for e in goldens.clips if e["name"] in CLIPS):
            x = goldens.read(entry).reference
            given = {source.input.name: layout.native(x, source.input.layout)}
            got = session.run(given, taps)
            out.append((x, {t: layout.time_major(np.asarray(a), bounded.taps[t].layout) for t, a in got.items()}))
    assert len(out) == len(CLIPS)
    return out


def ratios(file: Artifact, model: onnx.ModelProto, expected: Expected) -> dict[Tap, float]:
    """The largest error over its bound at each tap."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    scales = {i.name: numpy_helper.to_array(i) for i in whole.graph.initializer}
    own = {o.name for o in whole.graph.output}
    inner = [p.name for p in file.taps.values() if p.name not in own]
    whole.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.INT8, None) for n in inner)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(whole.SerializeToString(), options, providers=["CPUExecutionProvider"])
    worst: dict[Tap, float] = {}
    for x, right in expected:
        names = [p.name for p in file.taps.values()]
        got = session.run(names, {file.input.name: layout.native(x, file.input.layout).astype(np.float32)})
        for (tap, port), value in zip(file.taps.items(), got, strict=True):
            v: Any = value
            if port.name in inner:
                v = (v.astype(np.float64) - scales[port.zero_point]) * scales[port.scale]
            error = np.abs(layout.time_major(v, port.layout) - right[tap])
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.where(error > 0, error / right[f"{tap}:int8:isolated"], 0.0)
            worst[tap] = max(worst.get(tap, 0.0), float(ratio.max()))
    return worst


def edited(model: onnx.ModelProto, change: Callable[[Weights], None]) -> onnx.ModelProto:
    """The model with other initializers."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    arrays = {i.name: numpy_helper.to_array(i).copy() for i in out.graph.initializer}
    change(arrays)
    for tensor in out.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    return out


def _convolutions(model: onnx.ModelProto, arrays: Weights) -> list[str]:
    """Quantized weights of convolutions with channels to mix, in flow order."""
    made = {n.output[0]: n.input for n in model.graph.node if n.op_type == "DequantizeLinear"}
    found = [made[n.input[1]][0] for n in model.graph.node if n.op_type == "Conv"]
    return [w for w in found if arrays[w].shape[1] > 1]


def test_the_file_is_within_its_bounds_also_on_clips_that_leave_its_range(name: str, expected: Expected) -> None:
    _, _, file = _files(name)
    found = ratios(file, load(file.path), expected)
    assert found.keys() == file.taps.keys()
    assert max(found.values()) < 1.0
    assert min(found.values()) > 0.05  # and they aren't so wide that anything is


FAULTS: dict[str, Callable[[onnx.ModelProto, Weights], None]] = {}


def fault(f: Callable[[onnx.ModelProto, Weights], None]) -> Callable[[onnx.ModelProto, Weights], None]:
    FAULTS[f.__name__.strip("_")] = f
    return f


@fault
def _two_channels_swapped(model: onnx.ModelProto, arrays: Weights) -> None:
    w = arrays[_convolutions(model, arrays)[1]]
    w[[0, 1]] = w[[1, 0]]


@fault
def _a_layer_at_four_bits(model: onnx.ModelProto, arrays: Weights) -> None:
    w = arrays[_convolutions(model, arrays)[1]]
    w[:] = (np.round(w / 16.0) * 16.0).clip(-128, 112).astype(np.int8)


@fault
def _a_bias_lost(model: onnx.ModelProto, arrays: Weights) -> None:
    bias = next(n.input[2] for n in model.graph.node if n.op_type == "Conv")
    made = {n.output[0]: n.input for n in model.graph.node if n.op_type == "DequantizeLinear"}
    arrays[made[bias][0] if bias in made else bias][:] = 0


@fault
def _a_scale_off_by_a_tenth(model: onnx.ModelProto, arrays: Weights) -> None:
    w = _convolutions(model, arrays)[1]
    made = next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == w)
    arrays[made.input[1]] *= np.float32(1.1)


@pytest.mark.parametrize("what", FAULTS)
def test_a_planted_fault_is_outside(name: str, expected: Expected, what: str) -> None:
    _, _, file = _files(name)
    model = load(file.path)
    found = ratios(file, edited(model, lambda arrays: FAULTS[what](model, arrays)), expected)
    assert max(found.values()) > 1.0, found


def test_a_badly_quantized_file_does_not_widen_its_bound(name: str, expected: Expected) -> None:
    """A step eight times too coarse at the first layer: its own scale would allow what the ranges don't."""
    _, _, file = _files(name)
    model = load(file.path)
    (tap, port), *_ = file.taps.items()

    def coarser(arrays: Weights) -> None:
        arrays[port.scale or ""] *= np.float32(32.0)

    assert ratios(file, edited(model, coarser), expected)[tap] > 1.0
