"""Lines and tables as `make proof` prints them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

CONSOLE = Console(width=140)


@dataclass(frozen=True)
class Line:
    """One figure: what is asked for, what was measured, whether it is met (None: not measured here)."""

    requirement: str
    figure: str
    met: bool | None


def show(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table."""
    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    CONSOLE.print(table, markup=False)


def show_lines(lines: Iterable[Line]) -> int:
    """Print lines when all are there; how many aren't met."""
    found = list(lines)
    words = {True: "yes", False: "NO", None: "not measured"}
    show(("requirement", "figure", "met"), ((x.requirement, x.figure, words[x.met]) for x in found))
    return sum(x.met is False for x in found)


def percent(part: float, whole: float) -> str:
    """A share of something: `99.3 %`; a dash of nothing."""
    return f"{100.0 * part / whole:.1f} %" if whole else "–"
