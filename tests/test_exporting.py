"""The committed files are what the export writes today, and an export that isn't the network is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from parity import registry, system
from parity.protocols import Artifact
from parity.taps import MODEL_INPUT
from parity.targets.agent import from_output, to_input
from parity.weights import check
from tests.plugins_for_tests import rig

pytest.importorskip("tensorflow")
pytest.importorskip("torch")
pytestmark = pytest.mark.slow


NEAR = 1e-6
"""Of the largest number of a tensor. Batch normalization folded in is rounded otherwise on another CPU: 2.1e-7 was
measured between a Xeon and an EPYC."""
RUNTIMES = {
    "onnx": "onnxrt:opt=off", "tflite": "tflite:resolver=reference", "torchscript": "torchscript",
    "torchscript-int8": "torch-int8:kernels=reference", "torch-export": "torch-export",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_the_committed_files_are_what_is_exported_today(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(rig.SYSTEM / "export.py"), "--out", str(tmp_path)], env=rig.environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    committed = json.loads((rig.SYSTEM / "artifacts.json").read_text())
    assert {p.name for p in tmp_path.iterdir() if p.suffix != ".json"} == set(committed)
    digest = hashlib.sha256((tmp_path / "weights.safetensors").read_bytes()).hexdigest()
    assert digest == committed["weights.safetensors"]["sha256"]
    compared = 0
    for artifact in system.load(rig.SYSTEM).artifacts:
        there, here = Path(artifact.path), tmp_path / Path(artifact.path).name
        if artifact.format in check.READERS:
            alike(artifact, there, here)
            compared += 1
    assert compared == len(committed) - 1
    if not (tmp_path / "ranges.json").is_file():
        return  # it is made of speech that isn't here
    ranges = [json.loads((folder / "ranges.json").read_text())["tensors"] for folder in (rig.SYSTEM, tmp_path)]
    assert ranges[0].keys() == ranges[1].keys()
    for name, of in ranges[0].items():
        assert ranges[1][name] == pytest.approx(of, rel=1e-5, abs=1e-6), name


def alike(artifact: Artifact, there: Path, here: Path) -> None:
    """Two files hold the same constants, and answer the same."""
    read, why = check._read(artifact.format)
    assert read is not None, why
    for one, other in zip(read(there).constants, read(here).constants, strict=True):
        assert (one.name, one.stored, one.value.shape) == (other.name, other.stored, other.value.shape), there.name
        off = float(np.max(np.abs(one.value - other.value), initial=0.0))
        assert off <= NEAR * float(np.max(np.abs(one.value), initial=0.0)), f"{there.name}: {one.name} is off by {off}"
    features = np.random.default_rng(0).uniform(-6.0, 1.0, (98, 50)).astype(np.float32)
    runtime = registry.create("runtime", RUNTIMES[artifact.format])
    answers = []
    for path in (there, here):
        with runtime.open(dataclasses.replace(artifact, path=str(path))) as session:
            x = to_input(features, artifact, session.tensors.get(MODEL_INPUT))
            got = session.run({artifact.input.name: x}, frozenset({"model/logits"}))["model/logits"]
            answers.append(from_output(got, artifact.taps["model/logits"], session.tensors.get("model/logits")))
    np.testing.assert_allclose(answers[0], answers[1], rtol=0, atol=1e-4, err_msg=there.name)


def test_another_constant_is_another_file(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    artifact = next(a for a in system.load(rig.SYSTEM).artifacts if (a.format, a.precision) == ("onnx", "float32"))
    model = onnx.load(artifact.path)
    weights = next(i for i in model.graph.initializer if len(i.dims) == 4)
    values = onnx.numpy_helper.to_array(weights).copy()
    values.flat[np.argmax(np.abs(values))] *= 1.00001
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    onnx.save(model, tmp_path / "moved.onnx")
    with pytest.raises(AssertionError, match="is off by"):
        alike(artifact, Path(artifact.path), tmp_path / "moved.onnx")


def test_what_leaves_pytorch_is_refused_and_named() -> None:
    from parity import exporting

    x = {"model/relu1": np.ones((2, 3), np.float32), "model/logits": np.ones(3, np.float32)}
    off = x | {"model/logits": np.array([1, 1, 1.01], np.float32)}
    exporting.hold("it", iter([x]), [x], 1e-5)
    with pytest.raises(SystemExit, match=r"it is not the PyTorch network: model/logits differs by 1\.0e-02"):
        exporting.hold("it", iter([off]), [x], 1e-5)
    with pytest.raises(SystemExit, match=r"model/relu1 has shape \(3, 2\)"):
        exporting.hold("it", iter([x | {"model/relu1": np.ones((3, 2), np.float32)}]), [x], 1e-5)
    with pytest.raises(SystemExit, match="differs by nan"):
        exporting.hold("it", iter([x | {"model/logits": np.full(3, np.nan, np.float32)}]), [x], 1e-5)
