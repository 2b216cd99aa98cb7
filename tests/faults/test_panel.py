"""Each case of the corruption panel comes to what was declared beforehand: outcome, first tap, words, exit code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from parity.targets.local import LocalTarget
from tests.faults import panel, scenes

pytestmark = pytest.mark.slow  # whole commands and worker processes


class Played:
    """Plays a scene when one of its cases is first asked for."""

    def __init__(self, work: Path) -> None:
        self._work, self._seen = work, dict[panel.Case, scenes.Seen]()

    def __call__(self, case: panel.Case) -> scenes.Seen:
        if case not in self._seen:
            every = [c for c in panel.ARRAYS if c.scene == case.scene]
            self._seen |= scenes.play(case.scene, every, self._work / case.scene)
        return self._seen[case]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    return Played(tmp_path_factory.mktemp("panel"))


@pytest.mark.parametrize("case", panel.ARRAYS, ids=[f"{c.scene}: {c.name}" for c in panel.ARRAYS])
def test_a_corruption_of_arrays_comes_to_what_was_declared(case: panel.Case, played: Played) -> None:
    assert played(case).wrong(case) == ""


@pytest.mark.parametrize("case", panel.RUNS, ids=[c.name for c in panel.RUNS])
def test_a_corruption_of_a_run_comes_to_what_was_declared(
    case: panel.RunCase, local: LocalTarget, tmp_path: Path
) -> None:
    assert scenes.wrong_run(case, local, tmp_path) == ""


def test_the_panel_declares_each_case_once() -> None:
    names = [(c.scene, c.name) for c in panel.ARRAYS]
    assert len(set(names)) == len(names)
    assert len([c for c in panel.ARRAYS if c.must == "must-fail"]) >= 50
    assert {c.name for c in panel.RUNS} == scenes.RUNS.keys()
