"""Node data for Model Explorer: each tap on its node, with the number of the records."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from parity.records import Run, TapSummary, read_run
from parity.report import model_explorer
from tests.plugins_for_tests import rig

from .made import hostile, run, verdict

TENSORS = {"model/input": "features", "model/relu1": "Relu_1", "model/logits": "logits"}


def described(of: Run, kind: str = "tflite", **about: Any) -> Run:
    models = [{"runtime": "onnxrt", "precision": "float32", "format": kind, "file": f"net.{kind}", "tensors": TENSORS}]
    for system in {s.system for s in of.summaries}:
        of.systems[system] = {"models": models, "artifacts": [], "folder": "nowhere", "taps": []} | about
    return of


def written(of: Run, folder: Path) -> dict[str, Any]:
    return {str(p.relative_to(folder)): json.loads(p.read_text(encoding="utf-8"))
            for p in model_explorer.write(of, folder)}  # fmt: skip


def test_a_file_a_pair_and_path_in_the_documented_form(tmp_path: Path) -> None:
    taps = ("model/input", "model/relu1", "model/logits")
    of = run(*(verdict("pass", t, path=p, ratio=0.25) for t in taps for p in ("cumulative", "isolated")))
    found = written(described(of), tmp_path)
    assert sorted(found) == ["commands-cnn/net-tflite.onnxrt.isolated.json",
                             "commands-cnn/net-tflite.onnxrt.librosa.cumulative.json"]  # fmt: skip
    data = found["commands-cnn/net-tflite.onnxrt.librosa.cumulative.json"]
    assert data["name"] == "error over bound: librosa → onnxrt float32"
    assert data["results"] == {name: {"value": 0.25} for name in TENSORS.values()}
    assert set(data) == {"name", "results", "thresholds", "hideAggregatedStats", "hideInChildrenStatsTable"}
    values = [t["value"] for t in data["thresholds"]]
    assert values == sorted(values)  # a node has the first colour whose value isn't below its own
    assert values[-2:] == [1.0, sys.float_info.max]


@pytest.mark.parametrize(
    ("outcome", "more", "node"),
    [
        ("pass", {"ratio": None, "bound": 0.0, "error": 0.0}, {"value": 0.0}),
        ("fail", {"ratio": 7.5}, {"value": 7.5}),
        ("fail", {"ratio": None, "bound": 0.0}, {"value": "fail", "bgColor": model_explorer._OUT}),
        ("fail", {"ratio": float("inf")}, {"value": "fail", "bgColor": model_explorer._OUT}),
        ("fail", {"ratio": float("nan")}, {"value": "fail", "bgColor": model_explorer._OUT}),
        ("missing", {}, {"value": "missing", "bgColor": model_explorer._OUT}),
        ("error", {}, {"value": "error", "bgColor": model_explorer._OUT}),
        ("gap", {"ratio": 3.0}, {"value": 3.0, "bgColor": model_explorer._GAP}),
        ("unavailable", {}, None),
    ],
)
def test_what_has_no_number_has_a_word(
    tmp_path: Path, outcome: str, more: dict[str, Any], node: dict[str, Any] | None
) -> None:
    (data,) = written(described(run(verdict(outcome, "model/relu1", **more))), tmp_path).values()
    assert data["results"] == ({} if node is None else {"Relu_1": node})


def test_other_formats_have_no_graph(tmp_path: Path) -> None:
    assert written(described(run(verdict("pass", "model/relu1")), "torchscript"), tmp_path) == {}
    assert written(run(), tmp_path) == {}
    older = described(run(verdict("pass", "model/relu1")))
    del older.systems["commands-cnn"]["models"][0]["tensors"]
    assert written(older, tmp_path) == {}
    assert written(run(verdict("pass", "model/relu1")), tmp_path) == {}


def test_an_onnx_file_that_isnt_the_one_that_ran_gives_no_names(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes((rig.SYSTEM / "commands-cnn.onnx").read_bytes())
    artifacts = [{"file": "net.onnx", "sha256": "of another"}]
    of = described(run(verdict("pass", "model/relu1")), "onnx", folder=str(tmp_path), artifacts=artifacts)
    assert [list(data["results"]) for data in written(of, tmp_path).values()] == [["Relu_1"]]


def test_hostile_names_stay_in_the_folder(tmp_path: Path) -> None:
    of = hostile()
    of.summaries = [s for s in of.summaries if s.runtime]
    of.systems["../../up"] = of.systems["commands-cnn"]
    for s in of.summaries:
        s.system = "../../up"
    for path in model_explorer.write(described(of), tmp_path):
        assert path.resolve().is_relative_to(tmp_path)


@pytest.mark.slow
@pytest.mark.xdist_group("real-run")
def test_a_real_run_names_nodes_that_the_graphs_have(real: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    of = read_run(real)
    found = written(of, tmp_path)
    assert len(found) == 14  # of four files two cumulative and one isolated, and of two int8 against its kernels
    graph = onnx.load(rig.SYSTEM / "commands-cnn.onnx").graph
    nodes = {node.name for node in graph.node} | {"[value] features"}
    tensors = {t["name"] for t in litert.Interpreter(str(rig.SYSTEM / "commands-cnn.tflite")).get_tensor_details()}
    for name, known in (("commands-cnn-onnx.onnxrt", nodes), ("commands-cnn-tflite.tflite", tensors)):
        data = found[f"commands-cnn/{name}.numpy.cumulative.json"]
        assert len(data["results"]) == 8
        assert set(data["results"]) <= known
    relu1 = worst(of, "numpy", "onnxrt", "float32", "model/relu1")
    assert found["commands-cnn/commands-cnn-onnx.onnxrt.numpy.cumulative.json"]["results"]["/relu1/Relu"] == {
        "value": relu1.worst.ratio
    }


def worst(of: Run, backend: str, runtime: str, precision: str, tap: str) -> TapSummary:
    key = (backend, runtime, precision, tap, "cumulative")
    (found,) = (s for s in of.summaries if (s.backend, s.runtime, s.precision, s.tap, s.path) == key)
    return found
