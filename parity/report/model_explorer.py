"""Node data of Google's Model Explorer: each layer's error over bound, as the colour of its node in the model's graph.

A file a pair and path, in the form of its `GraphNodeData`: `results` by node, and `thresholds` that colour them. Nodes
of TensorFlow Lite go by the name of a tensor that they put out; those of ONNX, shown with the extension
model-explorer-onnx, by their own name, which is looked up in the model file where that is still the one that ran.
Looked at in Model Explorer 0.1.34 with model-explorer-onnx 0.4.2.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from parity.golden import write_atomic
from parity.localize import FAILED, NOT_COMPARED, title_of
from parity.records import Run, TapSummary

FORMATS = ("onnx", "tflite")
_OUT, _GAP = "#b2182b", "#fddbc7"
THRESHOLDS = [
    {"value": 0.5, "bgColor": "#d1e5f0"},
    {"value": 1.0, "bgColor": "#4393c3"},
    {"value": sys.float_info.max, "bgColor": _OUT},
]
"""Up to half of the bound, within it, out of it: blues and a red that the colour-blind tell apart."""
_NO_SUMS = {"hideAggregatedStats": ["sum", "avg"], "hideInChildrenStatsTable": True}
_PATHS = {"cumulative": "", "isolated": "", "deployment": ", against the reference kernels"}


def write(run: Run, out: Path) -> dict[Path, str]:
    """Write a file a pair and path below `out`, in a folder a system. Other formats have no graph.

    Returns the files, each with the command that shows it.
    """
    written: dict[Path, str] = {}
    for (system, stem), model, data in _graphs(run):
        names = (stem if n == 1 else f"{stem}-{n}" for n in count(1))
        path = next(p for p in (out / system / f"{name}.json" for name in names) if p not in written)
        write_atomic(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())
        more = " --extensions=model_explorer_onnx" if model.suffix == ".onnx" else ""
        where = " --node_data_paths=".join(shlex.quote(str(p)) for p in (model, path))
        written[path] = f"model-explorer {where}{more}"
    return written


def _graphs(run: Run) -> Iterator[tuple[tuple[str, str], Path, dict[str, Any]]]:
    """(system, file name without suffix), the model and node data."""
    found: dict[tuple[str, ...], list[TapSummary]] = {}
    for s in run.summaries:
        if s.runtime:
            found.setdefault((s.system, s.runtime, s.precision, s.target, s.path, s.backend), []).append(s)
    for (system, runtime, precision, target, path, backend), summaries in sorted(found.items()):
        about = run.systems.get(system, {})
        models = (m for m in about.get("models", ()) if (m["runtime"], m["precision"]) == (runtime, precision))
        model = next(models, None)
        if model is None or model["format"] not in FORMATS or "tensors" not in model:
            continue  # a dump, another format, or a run of before tensors were recorded
        nodes = dict(model["tensors"])
        if model["format"] == "onnx":
            producers = _producers(about, model["file"])
            nodes = {tap: producers.get(tensor, tensor) for tap, tensor in nodes.items()}
        results = {nodes[s.tap]: node for s in summaries if s.tap in nodes if (node := _node(s)) is not None}
        name = f"error over bound: {title_of(summaries[0].worst, run).removeprefix(f'{system} · ')}{_PATHS[path]}"
        parts = (Path(model["file"]).name, runtime, target if target != "local" else "", backend, path)
        data = {"name": name, "results": dict(sorted(results.items())), "thresholds": THRESHOLDS} | _NO_SUMS
        yield (
            (_plain(system), ".".join(map(_plain, filter(None, parts)))),
            Path(about.get("folder", ""), model["file"]),
            data,
        )


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)


def _node(s: TapSummary) -> dict[str, Any] | None:
    """The worst of a tap: a number where there is one, else the outcome as a word; None where nothing was compared."""
    v = s.worst
    if v.outcome in NOT_COMPARED:
        return None
    if v.ratio is not None and v.ratio <= sys.float_info.max:
        return {"value": v.ratio} | ({"bgColor": _GAP} if v.outcome == "gap" else {})
    if v.outcome in FAILED:
        return {"value": v.outcome, "bgColor": _OUT}
    return {"value": 0.0} if v.outcome == "pass" else {"value": v.outcome, "bgColor": _GAP}


def _producers(about: Mapping[str, Any], file: str) -> dict[str, str]:
    """Of an ONNX file: tensor -> what the extension calls the node that puts it out; empty without the file or onnx."""
    path = Path(about["folder"], file)
    sha256 = next((a["sha256"] for a in about["artifacts"] if a["file"] == file), "")
    try:
        import onnx

        data = path.read_bytes()
    except (ImportError, OSError):
        return {}
    if hashlib.sha256(data).hexdigest() != sha256:
        return {}
    graph = onnx.load_model_from_string(data).graph
    inputs = {value.name: f"[value] {value.name}" for value in graph.input}
    return inputs | {tensor: node.name for node in graph.node for tensor in node.output if node.name}
