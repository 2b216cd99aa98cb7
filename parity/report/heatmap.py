"""The map at the head of a page: error over bound of every pair of a system on a target, in words and shades.

Shades go from white to blue within the bound and from light to deep orange beyond it, which every kind of colour
blindness tells apart; each cell says its outcome and numbers besides.
"""

from __future__ import annotations

import math
from typing import Any

from parity.localize import FAILED, NOT_COMPARED, Pair, badness, on, several
from parity.records import Run, TapSummary
from parity.report.rows import flips, row_id

_HEATS = (0.01, 0.1, 0.5, 1.0, 10.0, 1000.0)
"""Upper ends of the map's shades but the last, as error over bound."""


def matrix(run: Run, system: str, target: str, found: list[Pair]) -> dict[str, Any]:
    """A system's pairs on a target as a table: a row a backend, a column for its features and one a runtime and
    precision.

    A cell is (outcome, the summary that it shows, the row that it links to, whether labels fail), None where there is
    no such pair.
    """
    of = [p for p in found if (p.system, p.target) == (system, target)]
    columns = list(dict.fromkeys((p.runtime, p.precision) for p in of if p.runtime))
    summaries = [s for s in run.summaries if (s.system, s.target) == (system, target)]
    links = {(p.backend, p.runtime, p.precision): p for p in of}

    def cell(backend: str, path: str, column: tuple[str, str] | None) -> tuple[str, TapSummary, str, bool] | None:
        inside = [s for s in summaries if s.backend == backend and s.path == path]
        inside = [s for s in inside if column in (None, (s.runtime, s.precision))]
        shown = _cell(inside)
        if shown is None:
            return None
        s = shown[1]
        pair = links.get((backend, s.runtime, s.precision)) or next(
            p for p in of if (p.runtime, p.precision) == (s.runtime, s.precision)
        )
        link = row_id(pair.system, pair.backend, pair.runtime, pair.precision, pair.target)
        return *shown, link, flips(inside)

    table: dict[str, list[Any]] = {}
    if any(s.path == "isolated" for s in summaries):
        table["golden features"] = [None, *(cell("", "isolated", c) for c in columns)]
    if any(s.path == "deployment" for s in summaries):
        table["reference kernels"] = [None, *(cell("", "deployment", c) for c in columns)]
    for backend in dict.fromkeys(p.backend for p in of if p.backend):
        table[backend] = [cell(backend, "features", None), *(cell(backend, "cumulative", c) for c in columns)]
    absent = [s for s in run.skipped if s.system == system and s.target in ("", target)
              and s.backend and not s.runtime and s.backend not in table]  # fmt: skip
    name = f"{system}{on(target, several(run))}"
    return {"system": name, "columns": [" ".join(c) for c in columns], "rows": table, "absent": absent}


def matrices(run: Run, found: list[Pair]) -> list[dict[str, Any]]:
    """A table a system and target."""
    return [matrix(run, system, target, found) for system, target in dict.fromkeys((p.system, p.target) for p in found)]


def _cell(summaries: list[TapSummary]) -> tuple[str, TapSummary] | None:
    """The worst outcome, and its summary: of failing numbers the largest, before what has none (a flipped label)."""
    if not summaries:
        return None
    worst = max(summaries, key=lambda s: badness(s.worst))
    same = [s for s in summaries if s.worst.outcome == worst.worst.outcome]
    shown = max(same, key=lambda s: (s.worst.error is not None, badness(s.worst)))
    return worst.worst.outcome, shown


def heat(ratio: float | None, outcome: str) -> str:
    """The map's shade: `h1` to `h4` within the bound, `h5` to `h7` beyond; `h0` for what has no number."""
    if outcome in NOT_COMPARED:
        return "none"
    if ratio is None or math.isnan(ratio):
        return "h7" if outcome in FAILED else "h0"
    beyond = outcome in FAILED and ratio <= 1.0  # another shape, say, with numbers that are near
    return "h5" if beyond else f"h{1 + sum(ratio > end for end in _HEATS)}"
