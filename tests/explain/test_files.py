"""What a model file itself says: weights that aren't the trained ones are named, and so is where NaN starts."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from parity import layout
from parity import system as systems
from parity.evidence import Evidence
from parity.explain import files, wording
from parity.explain.networks import explain
from parity.protocols import Array
from parity.runtimes.onnxrt import OnnxRuntime
from parity.targets.agent import from_output
from tests.explain.wrong_networks import candidate, fed, layer, named, onnx_candidate, weights

CNN = "commands-cnn"


def _copy(folder: Path) -> systems.System:
    """commands-cnn with files of its own."""
    shutil.copytree(
        named(CNN).folder, folder, ignore=shutil.ignore_patterns("*.tflite", "*.pt", "*.pt2", "__pycache__")
    )
    return systems.load(folder)


def _changed(folder: Path, name: str, change: Callable[[Array], Array]) -> systems.System:
    """The system with one initializer of its int8 ONNX file changed."""
    path = Path(_file(_copy(folder)).path)
    model = onnx.load(path)
    held = next(w for w in model.graph.initializer if w.name == name)
    now = onnx.numpy_helper.to_array(held)
    held.CopyFrom(onnx.numpy_helper.from_array(change(now).astype(now.dtype), name))
    onnx.save(model, path)
    return systems.load(folder)


def _file(of: systems.System) -> Any:
    return next(a for a in of.artifacts if (a.format, a.precision) == ("onnx", "int8"))


def _evidence(of: systems.System) -> list[Evidence]:
    """What ONNX Runtime computes with the int8 file."""
    artifact, found = _file(of), []
    with OnnxRuntime().open(artifact) as session:
        for clip, x in fed(CNN):
            inputs = {artifact.input.name: layout.native(x.astype(np.float32), artifact.input.layout)}
            out = session.run(inputs, frozenset(artifact.taps))
            taps = {t: from_output(out[t], port, session.tensors.get(t)) for t, port in artifact.taps.items()}
            found.append(Evidence(CNN, clip, {}, taps, x, "", "onnxrt", "int8", path="isolated"))
    return found


def test_a_wrong_scale_in_a_file_of_integers_is_named_by_its_layer(tmp_path: Path) -> None:
    of = _changed(tmp_path / "system", "onnx::Conv_66_scale", lambda s: s * np.linspace(1.0, 1.6, len(s)))
    e = explain(of, _evidence(of)[:1])
    told = "\n".join(wording.lines(e))
    assert e.findings[0].tap == "model/relu3", told
    assert "conv3" in told
    assert "commands-cnn.int8.onnx" in told, told
    assert e.complete, told


def test_a_file_is_read_where_it_is_the_runs(tmp_path: Path) -> None:
    of = _changed(tmp_path / "system", "onnx::Conv_66_scale", lambda s: 1.01 * s)
    (one, _) = _evidence(of)
    told = files.held(of, one, {}).words
    assert told.startswith("the weights in commands-cnn.int8.onnx aren't the trained ones: conv3.weight[")
    moved = files.held(of, one, {"commands-cnn.int8.onnx": "0" * 64})
    assert moved.words == "commands-cnn.int8.onnx isn't the file any more that the run was made with"
    assert moved.wrong == ()
    right = files.held(named(CNN), one, {})
    assert right.words == "the weights in commands-cnn.int8.onnx are the trained ones"
    assert files.held(of, dataclasses.replace(one, runtime="tflite", precision="int4"), {}).words == ""


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_where_nan_starts_is_named(value: float, tmp_path: Path) -> None:
    def spoil(model: Any) -> None:
        def change(w: Array) -> None:
            w[5, 0, 1, 1] = value

        weights(model, layer(model, "conv3").input[1], change)

    e = explain(named(CNN), onnx_candidate(tmp_path, CNN, spoil))
    assert not e.complete
    told = wording.lines(e)[1]
    assert "100 %" not in told
    assert "conv3: a weight or the bias of channel 5 isn't finite" in told, told
    assert "NaN or infinite, all of channel 5" in told


def test_a_file_with_a_nan_says_which_weight_it_is(tmp_path: Path) -> None:
    of = _copy(tmp_path / "system")
    artifact = next(a for a in of.artifacts if (a.format, a.precision) == ("onnx", "float32"))
    model = onnx.load(artifact.path)

    def change(w: Array) -> None:
        w[5, 0, 1, 1] = np.nan

    weights(model, layer(model, "conv3").input[1], change)
    onnx.save(model, artifact.path)
    of = systems.load(of.folder)
    wrong = next(a for a in of.artifacts if (a.format, a.precision) == ("onnx", "float32"))
    e = explain(of, [dataclasses.replace(one, runtime="onnxrt") for one in candidate(OnnxRuntime(), wrong, CNN)])
    assert "conv3.weight[5, 0, 1, 1] is nan" in e.note, e.note
