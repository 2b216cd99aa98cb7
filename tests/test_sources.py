"""Where goldens and rules are looked for, and items that are worked out a step ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from parity import golden, sources
from parity import system as systems
from parity.errors import GoldenError
from parity.plan import Selection
from parity.system import System
from tests.plugins_for_tests import rig

RULE = '[[tolerance]]\ntap = "{}"\nwhy = "says where it stands"\n'


@pytest.fixture
def of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    """A system of a project of our own, which has no rules yet."""
    monkeypatch.chdir(tmp_path)
    return systems.load(rig.system(tmp_path / "reference_models" / "one"))


def test_rules_are_looked_for_from_what_was_named_to_the_projects(of: System, tmp_path: Path) -> None:
    named, project = tmp_path / "named", tmp_path / "golden"
    asked = Selection(golden=named)
    for folder, name in ((project, "project"), (of.folder, "system"), (of.folder / "golden", "own"), (named, "named")):
        folder.mkdir(exist_ok=True)
        (folder / "tolerances.toml").write_text(RULE.format(name), encoding="utf-8")
        found = sources.rules_for(asked, of)
        assert [r.tap for r in found.rules] == [name], "each of them comes before those that were there"
        assert found.path is not None
        assert found.path.resolve() == folder / "tolerances.toml"
    assert [r.tap for r in sources.rules_for(Selection(), of).rules] == ["own"], "named by nobody"


def test_gaps_are_looked_for_where_rules_are(of: System, tmp_path: Path) -> None:
    text = '[[gap]]\nkind = "kernel"\nreason = "r"\noutcome = "fail"\nsystem = "s"\ntap = "{}"\n'
    for folder, name in ((tmp_path / "golden", "project"), (of.folder, "system"), (of.folder / "golden", "own")):
        folder.mkdir(exist_ok=True)
        (folder / "known_gaps.toml").write_text(text.format(name), encoding="utf-8")
        assert [g.tap for g in sources.rules_for(Selection(), of).gaps] == [name]


def test_goldens_are_looked_for_from_what_was_named_to_the_projects(of: System, tmp_path: Path) -> None:
    assert sources.golden_root(Selection(), of).resolve() == tmp_path / "golden"
    own = of.folder / "golden"
    (own / of.name).mkdir(parents=True)
    assert sources.golden_root(Selection(), of).resolve() == tmp_path / "golden", "an empty folder is no set"
    (own / of.name / golden.MANIFEST).write_text("{}", encoding="utf-8")
    assert sources.golden_root(Selection(), of) == own
    assert sources.golden_root(Selection(golden=tmp_path / "named"), of) == tmp_path / "named"


def test_a_system_outside_the_project_has_its_goldens_beside_it_or_in_the_project(tmp_path: Path, of: System) -> None:
    mine = systems.load(rig.system(tmp_path / "mine"))
    assert sources.golden_root(Selection(), mine) == tmp_path / "mine" / "golden", "where they would be recorded"
    (tmp_path / "golden" / mine.name).mkdir(parents=True)
    (tmp_path / "golden" / mine.name / golden.MANIFEST).write_text("{}", encoding="utf-8")
    assert sources.golden_root(Selection(), mine) == tmp_path / "golden"


# ---- A step ahead ----


def running() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("parity-ahead")]


def test_items_come_in_their_order_and_no_thread_stays() -> None:
    assert list(sources.ahead(iter(range(1, 6)))) == [1, 2, 3, 4, 5]
    assert list(sources.ahead(iter([]))) == []
    assert running() == []


def test_the_next_item_is_worked_out_while_one_is_used() -> None:
    begun = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        begun.set()
        yield 2

    following = sources.ahead(items())
    assert next(following) == 1
    assert begun.wait(10), "nobody asked for the second yet"
    assert list(following) == [2]


def test_an_error_on_the_way_reaches_who_asks_after_what_came_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise GoldenError("the third was altered")

    following = sources.ahead(items())
    assert [next(following), next(following)] == [1, 2]
    with pytest.raises(GoldenError, match="the third was altered"):
        next(following)
    assert running() == []


def test_who_stops_asking_leaves_no_thread_behind() -> None:
    def items() -> Iterator[int]:
        yield 1
        time.sleep(0.3)
        yield 2

    following = sources.ahead(items())
    next(following)
    assert len(running()) == 1
    following.close()
    assert running() == []
