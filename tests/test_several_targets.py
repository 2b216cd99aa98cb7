"""A run on two targets, one of them wrong: explained, judged again and compared from its records alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity import records
from parity.explain import runs
from parity.recheck import recheck
from parity.report import compared
from tests.report import places

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
