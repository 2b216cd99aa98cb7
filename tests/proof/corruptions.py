"""The corruption panel, counted: must-fail cases that pass, must-pass cases that fail, and what differs otherwise."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.faults import panel, scenes
from tests.faults.panel import PASS, Case, RunCase
from tests.plugins_for_tests import rig
from tests.proof.tables import Line


def lines() -> Iterator[Line]:
    """Play every case."""
    found: list[tuple[Case | RunCase, bool, str]] = []  # whether it passed, and how it isn't what was declared
    with tempfile.TemporaryDirectory() as name:
        for scene in scenes.SCENES:
            cases = [c for c in panel.ARRAYS if c.scene == scene]
            for case, seen in scenes.play(scene, cases, Path(name) / scene):
                found.append((case, seen.outcome == PASS, seen.wrong(case)))
        with rig.target() as local:
            for run in panel.RUNS:
                wrong = scenes.wrong_run(run, local, Path(name) / "runs" / run.name)
                found.append((run, wrong.startswith("exit 0"), wrong))
    fail = [(passed, wrong) for case, passed, wrong in found if case.must == "must-fail"]
    right = [(passed, wrong) for case, passed, wrong in found if case.must == "must-pass"]
    through, alarms = sum(p for p, _ in fail), sum(not p for p, _ in right)
    yield Line(f"0 of {len(fail)} must-fail cases pass", str(through), through == 0)
    yield Line(f"0 of {len(right)} must-pass cases fail", str(alarms), alarms == 0)
    others = [f"{case.name}: {wrong}" for case, _, wrong in found if wrong]
    yield Line("each at its first tap, in its words and exit code", "; ".join(others) or "all", not others)
