"""How near each pair came to its bounds, gate run by gate run: `history.sqlite` beside the run folders.

One transaction a run: a gate that is killed leaves the history as it was, and two at once wait for each other.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from parity.errors import ConfigError

FILE = "history.sqlite"
FORMAT = 1
LAST = 100
"""Points of a pair that a report shows."""

Pair = tuple[str, str, str, str, str]
"""system, backend ('' on the golden's features), runtime ('' for features), precision, target."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A pair in a gate run."""

    when: str
    run: str
    fingerprint: str
    ratio: float | None
    """The largest error over bound of its taps."""
    outcome: str


_TABLE = """
create table if not exists points (
  system text not null, backend text not null, runtime text not null, precision text not null, target text not null,
  "when" text not null, run text not null, fingerprint text not null, ratio real, outcome text not null,
  primary key (system, backend, runtime, precision, target, "when", run)
) without rowid
"""
_LAST = """
select "when", run, fingerprint, ratio, outcome from points
where system = ? and backend = ? and runtime = ? and precision = ? and target = ?
order by "when" desc, run desc limit ?
"""


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, for writing. ConfigError where the file isn't one, or is of a newer parity."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path, timeout=60.0, isolation_level=None)) as db:
            db.execute("begin immediate")
            (found,) = db.execute("pragma user_version").fetchone()
            if found > FORMAT:
                raise ConfigError(f"{path} is of a newer parity (format {found})", "update parity, or move it away")
            db.execute(_TABLE)
            db.execute(f"pragma user_version = {FORMAT}")
            yield db
            db.execute("commit")
    except (sqlite3.Error, OSError, msgspec.ValidationError) as e:
        raise ConfigError(f"the history {path} can't be used: {e}", "move it away: the next gate makes one") from None


def check(reports: Path) -> None:
    """ConfigError, before any work, where there is a history that couldn't be appended to."""
    if (reports / FILE).exists():
        with _opened(reports / FILE):
            pass


def before(reports: Path, pairs: Sequence[Pair]) -> dict[Pair, list[Point]]:
    """The last points of each pair, oldest first; one is left for the run that asks."""
    if not (reports / FILE).exists():
        return {p: [] for p in pairs}
    with _opened(reports / FILE) as db:
        return {p: [_point(row) for row in db.execute(_LAST, (*p, LAST - 1))][::-1] for p in pairs}


def append(reports: Path, points: dict[Pair, Point]) -> None:
    """Add a run's points, all or none."""
    with _opened(reports / FILE) as db:
        db.executemany(
            "insert or replace into points values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(*pair, p.when, p.run, p.fingerprint, p.ratio, p.outcome) for pair, p in sorted(points.items())],
        )


def _point(row: tuple[object, ...]) -> Point:
    """ValidationError where a column holds what it shouldn't: SQLite's types bind nobody."""
    return msgspec.convert(dict(zip(Point.__struct_fields__, row, strict=True)), Point)
