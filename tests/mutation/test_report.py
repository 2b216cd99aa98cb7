"""What `make mutants` says of mutants that live."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation import __main__ as mutation
from tests.mutation.__main__ import Mutant, report

ALIVE = Mutant("parity/a.py", "f", "x + 1", "x - 1", "survived")
DEAD = [Mutant("parity/a.py", "f", "", "")] * 99
ENTRY = '[[survivor]]\nfile = "parity/a.py"\nfunction = "f"\nwas = "x + 1"\nnow = "x - 1"\nwhy = "{}"\n'


@pytest.fixture
def survivors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "survivors.toml"
    path.write_text(ENTRY.format("the same"), encoding="utf-8")
    monkeypatch.setattr(mutation, "LISTED", path)
    return path


def test_a_survivor_that_is_listed_is_no_failure(survivors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report([*DEAD, ALIVE]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["parity/a.py", "all"]
    assert lines[1].endswith("100 mutants,    1 survive, 99.0% killed")


def test_one_that_is_not_listed_or_has_no_test_or_no_reason_is(
    survivors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Mutant("parity/a.py", "f", "x + 1", "x * 1", "survived")
    assert report([*DEAD, ALIVE, other]) == 1
    assert "survived, not listed: parity/a.py f\n  - x + 1\n  + x * 1" in capsys.readouterr().out
    untested = Mutant("parity/a.py", "f", "x + 1", "x - 1", "no tests")
    assert report([*DEAD, untested]) == 1
    survivors.write_text(ENTRY.format(" "), encoding="utf-8")
    assert report([*DEAD, ALIVE]) == 1
    assert "listed without a reason" in capsys.readouterr().out


def test_what_is_listed_must_live(survivors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(DEAD) == 1
    assert "listed, but it dies: parity/a.py f" in capsys.readouterr().out


def test_nothing_made_and_too_few_killed(survivors: Path) -> None:
    assert report([ALIVE] * 6 + DEAD) == 1
    assert report([ALIVE] * 5 + DEAD[:95]) == 0
    survivors.unlink()
    assert report([]) == 1


def test_what_is_committed_has_reasons() -> None:
    assert mutation.listed()
    assert all(why.strip() for why in mutation.listed().values())
