"""The history of gate runs: appended whole, read back in order, shared by several gates, refused when damaged."""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from parity import history
from parity.errors import ConfigError
from parity.history import Pair, Point

NUMPY: Pair = ("commands-cnn", "numpy", "", "", "local")
ONNXRT: Pair = ("commands-cnn", "numpy", "onnxrt", "float32", "local")


def point(n: int, ratio: float | None = 0.5) -> Point:
    return Point(
        when=f"2026-01-01T00:{n // 60:02}:{n % 60:02}Z", run=f"run{n}", fingerprint="ab", ratio=ratio, outcome="pass"
    )


def test_points_come_back_in_order(tmp_path: Path) -> None:
    history.check(tmp_path)
    assert history.before(tmp_path, [NUMPY]) == {NUMPY: []}
    assert list(tmp_path.iterdir()) == []  # looking makes no file
    for n in (2, 0, 1):
        history.append(tmp_path, {NUMPY: point(n), ONNXRT: point(n, None)})
    found = history.before(tmp_path, [NUMPY, ONNXRT])
    assert [p.run for p in found[NUMPY]] == ["run0", "run1", "run2"]
    assert found[ONNXRT] == [point(n, None) for n in range(3)]


def test_the_last_are_shown_and_one_is_left_for_the_run_that_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "LAST", 4)
    for n in range(6):
        history.append(tmp_path, {NUMPY: point(n)})
    found = history.before(tmp_path, [NUMPY])[NUMPY]
    assert [p.run for p in found] == ["run3", "run4", "run5"]


def _append(folder: Path, start: int) -> None:
    for n in range(start, start + 5):
        history.append(folder, {NUMPY: point(n), ONNXRT: point(n)})


def test_two_gates_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_append, args=(tmp_path, start)) for start in (0, 5)]
    for process in both:
        process.start()
    for process in both:
        process.join(30)
    assert [process.exitcode for process in both] == [0, 0]
    found = history.before(tmp_path, [NUMPY, ONNXRT])
    assert [p.run for p in found[NUMPY]] == [p.run for p in found[ONNXRT]] == [f"run{n}" for n in range(10)]


def test_what_is_no_history_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / history.FILE).write_text("a page of notes, long enough to be no database header at all")
    with pytest.raises(ConfigError, match="can't be used") as e:
        history.check(tmp_path)
    assert e.value.hint is not None
    assert "move it away" in e.value.hint


def test_a_history_of_a_newer_parity_is_refused(tmp_path: Path) -> None:
    history.append(tmp_path, {})
    with sqlite3.connect(tmp_path / history.FILE) as db:
        db.execute("pragma user_version = 99")
    db.close()
    with pytest.raises(ConfigError, match="of a newer parity"):
        history.check(tmp_path)


def test_a_point_that_holds_what_it_should_not_is_refused(tmp_path: Path) -> None:
    history.append(tmp_path, {ONNXRT: history.Point(when="1", run="r", fingerprint="f", ratio=0.5, outcome="pass")})
    with sqlite3.connect(tmp_path / history.FILE) as db:
        db.execute("update points set ratio = 'much'")
    db.close()
    with pytest.raises(ConfigError, match="can't be used"):
        history.before(tmp_path, [ONNXRT])


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't be used"):
        history.append(tmp_path / "file", {})
