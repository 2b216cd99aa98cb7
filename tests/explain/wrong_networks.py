"""Candidates for `explain`: networks that are wrong in one known way, run by a real runtime on spoken clips."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from parity import audio, layout
from parity import system as systems
from parity.bounds import networks as derived
from parity.evidence import Evidence
from parity.expected import features_of
from parity.networks.graph import load
from parity.protocols import Array, Artifact, Runtime, Tap
from parity.runtimes.onnxrt import OnnxRuntime
from parity.system import System

PROJECT = Path(__file__).parents[2]
WORDS = ("yes-en-us-f2", "stop-en-us-m4")
Wrong = Callable[[Any], object]


@functools.cache
def named(name: str) -> System:
    """A bundled system."""
    return systems.load(PROJECT / "reference_models" / name)


@functools.cache
def fed(name: str) -> tuple[tuple[Any, Array], ...]:
    """Spoken clips with the features that the network is due."""
    frontend = named(name).frontend
    clips = [audio.read(PROJECT / "golden" / "clips" / f"{w}.flac", w, frontend) for w in WORDS]
    return tuple((c, features_of(c, frontend)[1]) for c in clips)


def onnx_of(name: str) -> Artifact:
    """The float32 ONNX file."""
    found = derived.source(named(name))
    assert found is not None
    return found


def weights(model: Any, name: str, change: Callable[[Array], Array | None]) -> None:
    """Change an initializer: in place, or by what `change` returns."""
    held = next(w for w in model.graph.initializer if w.name == name)
    now = numpy_helper.to_array(held).copy()
    new = change(now)
    made = np.ascontiguousarray(now if new is None else new, np.float32)
    held.CopyFrom(numpy_helper.from_array(made, name))


def node(model: Any, output: str) -> Any:
    """The node that gives a tensor."""
    return next(n for n in model.graph.node if n.output[0] == output)


def attributes(of: Any, drop: Sequence[str] = (), **new: Any) -> None:
    """Set attributes of a node."""
    kept = [a for a in of.attribute if a.name not in (*drop, *new)]
    del of.attribute[:]
    of.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in new.items())])


def layer(model: Any, path: str) -> Any:
    """The node with weights of a layer, by the beginning of its output's name."""
    kinds = ("Conv", "Gemm", "MatMul", "LSTM", "GRU")
    return next(n for n in model.graph.node if n.op_type in kinds and n.output[0].startswith(f"/{path}/"))


def onnx_candidate(
    folder: Path, name: str, wrong: Wrong = lambda m: None, feed: Callable[[Array], Array] = lambda x: x,
    taps: Sequence[Tap] = (),
) -> list[Evidence]:  # fmt: skip
    """What ONNX Runtime computes with a file that was made wrong, or that is fed wrongly."""
    artifact = onnx_of(name)
    model = load(artifact.path)
    wrong(model)
    onnx.save(model, folder / "wrong.onnx")
    return candidate(OnnxRuntime(), dataclasses.replace(artifact, path=str(folder / "wrong.onnx")), name, feed, taps)


def candidate(
    runtime: Runtime, artifact: Artifact, name: str, feed: Callable[[Array], Array] = lambda x: x,
    taps: Sequence[Tap] = (),
) -> list[Evidence]:  # fmt: skip
    """Evidence of a runtime that is given a wrong artifact."""
    found = []
    with runtime.open(artifact) as session:
        for clip, x in fed(name):
            given = np.ascontiguousarray(feed(x.astype(np.float64)), np.float32)
            inputs = {artifact.input.name: layout.native(given, artifact.input.layout)}
            out: Mapping[Tap, Array] = session.run(inputs, frozenset(artifact.taps))
            model = {
                t: layout.time_major(out[t], artifact.taps[t].layout) for t in artifact.taps if not taps or t in taps
            }
            found.append(Evidence(name, clip, {}, model, x, "", "wrong", artifact.precision, path="isolated"))
    return found
