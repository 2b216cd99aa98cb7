"""A run on two targets, one of them wrong: explained, judged again and compared from its records alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from parity import records
from parity.explain import runs
from parity.localize import first_failures
from parity.recheck import recheck
from parity.report import compared
from tests.plugins_for_tests import rig
from tests.report import places
from tests.report.test_schema import strict

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("several-targets")]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backend that is right here and wrong on a Pi; every array was kept."""
    folder = tmp_path_factory.mktemp("both")
    return places.joined(
        places.made(folder, ["local", "pi"], wrong=["pi"], keep="all"), folder / "reports", pi=places.PI
    )


def test_what_was_computed_elsewhere_is_explained_here(both: Path) -> None:
    (found,) = list(runs.explained(both, targets=["pi"]))
    assert (found.target, found.backend, found.complete) == ("pi", places.THERE, True)
    assert found.findings[0].tap == "features/windowed"
    assert "window symmetric, not periodic" in found.findings[0].alternatives[0][0].words


def test_a_fault_on_one_side_only_is_caught_placed_and_named(tmp_path: Path) -> None:
    """The same backend, in another Python whose environment makes its window symmetric."""
    there = tmp_path / "there"
    there.write_text(f'#!/bin/sh\nWRONG_THERE=1 PYTHONPATH={rig.PLUGINS} exec {sys.executable} "$@"\n')
    there.chmod(0o755)
    golden, reports = rig.goldens(tmp_path / "golden"), tmp_path / "reports"
    done = rig.parity(
        "run", "--target", "local", "--target", f"python:{there}", "--system", rig.SYSTEM, "--backend", places.THERE,
        "--runtime", "onnxrt", "--precision", "float32", "--golden", golden, "--report", reports,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    said = " ".join(done.stdout.split())
    assert said.startswith(f"FAIL: 1 backend and 1 pair on python:{there} fail")
    assert f"Fails only on python:{there}: commands-cnn · {places.THERE}, and 1 pair fed by it" in said
    (folder,) = reports.iterdir()
    run = records.read_run(folder)
    assert {s.target for s in run.summaries if s.worst.outcome == "fail"} == {f"python:{there}"}
    assert first_failures(run)[0].tap == "features/windowed"
    (found,) = runs.explained(folder)
    assert (found.target, found.complete) == (f"python:{there}", True)
    assert "window symmetric, not periodic" in found.findings[0].alternatives[0][0].words
    strict("run").validate(json.loads((folder / "run.json").read_bytes()))


def test_each_targets_arrays_are_judged_again_as_they_were(both: Path, tmp_path: Path) -> None:
    old = records.read_run(both)
    again, _ = recheck(both, tmp_path)
    assert again.recheck["open"] == 0
    assert again.recheck["judged"] > 0
    assert again.exit_code == old.exit_code == 1

    def outcomes(run: records.Run) -> dict[tuple[str, ...], dict[str, int]]:
        return {(s.target, s.backend, s.runtime, s.path, s.tap): s.counts for s in run.summaries}

    assert outcomes(again) == outcomes(old)
    assert {s.target for s in again.summaries if s.worst.outcome == "fail"} == {"pi"}


def test_what_changed_on_a_target_is_told_of_it(both: Path) -> None:
    was = records.read_run(both)
    now = records.read_run(both)
    environment = now.environment["targets"]["pi"]
    environment |= {"python": "3.13.0", "temperature_c": [70.0, 80.0], "link": {"sent": 1}}
    now.summaries = [s for s in now.summaries if s.target == "local"]
    found = compared.changes(was, now)
    assert found.environment == [("targets.pi.python", "3.11.2", "3.13.0")]
    assert found.outcomes == []
    assert found.only_a
    assert all(" on pi " in name for name in found.only_a)
