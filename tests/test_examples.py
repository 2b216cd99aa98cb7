"""`parity run --examples`: what is judged on drawn clips, and by what."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from parity import examples, pipeline, plan, system
from parity.plan import Selection
from parity.policy import Policy, Rule
from parity.report import terminal
from parity.testing import SOUNDS
from tests.plugins_for_tests import rig


@pytest.mark.slow
def test_the_runtime_that_judges_drawn_clips_is_not_judged_by_itself(tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system", formats=("onnx", "tflite"))
    rules = Policy([Rule(tap="*", why="wide", of_rms=1e-2)])
    with rig.target() as local:
        chosen = Selection(systems=(str(folder),), backends=("numpy",), runtimes=("onnxrt", "tflite"), examples=1)
        ((one,), _, _) = plan.make(chosen, local)
        found = examples._Examples(one, local, rules).verdicts(SOUNDS[0])
        (onnxrt, tflite) = examples.search_plan(one, local, rules, chosen, lambda *_: None)
    alone = {(v.runtime, v.tap): v.outcome for v in found if v.path == "isolated" and v.tap != "model/input"}
    assert {o for (runtime, _), o in alone.items() if runtime == "onnxrt"} == {"unavailable"}
    assert ("onnxrt", "decision/label") not in alone
    assert {o for (runtime, _), o in alone.items() if runtime == "tflite"} == {"pass"}
    assert {v.outcome for v in found if v.path == "cumulative" and v.runtime == "onnxrt"} == {"pass"}
    assert not onnxrt["failed"]
    assert not tflite["failed"]


@pytest.mark.slow
def test_a_system_without_a_float32_file_is_named_as_not_searched(tmp_path: Path) -> None:
    mean = rig.ROOT / "tests" / "gaps" / "int8-mean"
    wanted: dict[str, Any] = {"systems": (str(mean),), "backends": ("numpy",), "runtimes": ("tflite",)}
    with rig.target() as local:
        done, _ = pipeline.run(Selection(**wanted, examples=3), local, tmp_path)
        whole, _ = pipeline.run(Selection(**wanted), local, tmp_path)
        named, _ = pipeline.run(Selection(**wanted, precisions=("int8",), examples=25), local, tmp_path)
    assert whole.exit_code == 0
    assert done.exit_code == 2
    assert done.examples == []
    assert ("int8-mean", "no generated example: no float32 file to search; name a precision", True) in [
        (s.system, s.reason, s.asked) for s in done.skipped
    ]
    # And where it was named, what a known gap covers isn't said to pass.
    (row,) = named.examples
    assert named.exit_code == 0
    assert row["worst_ratio"] > 1
    assert (row["outcome"], row["failed"]) == ("gap", False)
    with (console := Console(file=io.StringIO(), width=100)).capture() as said:
        terminal.show(named, console, verbose=False)
    (line,) = [x for x in said.get().partition("Generated examples")[2].splitlines() if x.startswith("int8-mean")]
    assert "known gap" in line
    assert "pass" not in line


def test_runtimes_without_a_float32_file_are_left_out_by_name() -> None:
    found = system.load(rig.SYSTEM)
    whole, few = (next(a for a in found.artifacts if a.precision == p) for p in ("float32", "int8"))
    one = plan.Plan(found, models=[("onnxrt", whole), ("onnxrt", few), ("torch-int8", few)])
    (told,) = examples.left_out(one, Selection(systems=("commands-cnn",)))
    assert (told.runtime, told.asked) == ("torch-int8", False)
    (told,) = examples.left_out(one, Selection(systems=("commands-cnn",), runtimes=("onnxrt", "torch-int8")))
    assert (told.runtime, told.asked) == ("torch-int8", True)
    assert examples.left_out(one, Selection(precisions=("int8",))) == []
    (told,) = examples.left_out(plan.Plan(found, models=[("torch-int8", few)]), Selection())
    assert (told.system, told.runtime, told.asked) == ("commands-cnn", "", False)
