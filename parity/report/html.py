"""`index.html` of a run: one file that asks for nothing else, made from the records alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from parity.localize import (
    FAILED,
    NOT_COMPARED,
    Pair,
    Row,
    first_failures,
    follows_from,
    number,
    pairs,
    place,
    title_of,
)
from parity.report.records import Run, TapSummary
from parity.report.terminal import (
    WORDS,
    by_label,
    clean,
    columns_of,
    counts,
    failure,
    judgement,
    not_compared,
    same_confusion,
)

_SHADES = {"pass": "pass", "gap": "gap", "fail": "fail", "missing": "fail", "error": "fail"}


def write(folder: Path, run: Run) -> None:
    """Write `folder/index.html`."""
    (folder / "index.html").write_text(render(run), encoding="utf-8", errors="backslashreplace")


def render(run: Run) -> str:
    """The page. Every text of the run is escaped, and what can't be printed is written as `\\x1b`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("parity.report"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_printable,
    )  # fmt: skip
    environment.filters |= {
        "number": number, "word": lambda o: WORDS.get(o, o), "shade": lambda o: _SHADES.get(o, "none"), "meter": meter,
        "place": lambda v: ", ".join(place(v)), "percent": lambda x: f"{100 * x:.3g} %", "flat": flat,
    }  # fmt: skip
    found = pairs(run)
    word, why = judgement(run)
    page = environment.get_template("run.html.j2").render(
        run=run, word=word, why=why, counts=counts(run), pairs=found, matrices=[matrix(run, s, found) for s in _systems(found)],
        failures=failures(run), skipped=not_compared(run), near_ties=[(title_of(s.worst), s) for s in run.summaries if s.near_ties],
        confusions=[(names, columns_of(c), c) for names, c in same_confusion(run.labels.get("pairs", []))],
        differ=[(d, by_label(d["labels"])) for d in run.labels.get("differ", [])], failed=FAILED, neutral=NOT_COMPARED,
    )  # fmt: skip
    return page + "\n"


def _printable(value: object) -> object:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _systems(found: list[Pair]) -> list[str]:
    return list(dict.fromkeys(p.system for p in found))


def matrix(run: Run, system: str, found: list[Pair]) -> dict[str, Any]:
    """A system's pairs as a table: a row a backend, a column for its features and one a runtime and precision.

    A cell is (outcome, what stands at its worst tap), None where there is no such pair.
    """
    of = [p for p in found if p.system == system]
    columns = list(dict.fromkeys((p.runtime, p.precision, p.target) for p in of if p.runtime))
    isolated = {
        column: [
            row.isolated for p in of if (p.runtime, p.precision, p.target) == column for row in p.rows if row.isolated
        ]
        for column in columns
    }
    rows: dict[str, list[Any]] = {}
    if any(isolated.values()):
        rows["golden features"] = [None, *(_cell([Row(s.tap, s, None) for s in isolated[c]]) for c in columns)]
    for backend in dict.fromkeys(p.backend for p in of if p.backend):
        at = {(p.runtime, p.precision, p.target): p for p in of if p.backend == backend}
        stages = [p for p in of if p.backend == backend and not p.runtime]
        cells = [_cell([row for p in stages for row in p.rows])]
        for c in columns:
            mine = [Row(row.tap, row.cumulative, None) for row in at[c].rows if row.cumulative] if c in at else []
            cells.append(_cell(mine))
        rows[backend] = cells
    absent = [s for s in run.skipped if s.system == system and s.backend and not s.runtime and s.backend not in rows]
    heads = [" ".join(c[:2]) + (f" on {c[2]}" if c[2] not in ("", "local") else "") for c in columns]
    return {"system": system, "columns": heads, "rows": rows, "absent": absent}


def _cell(rows: list[Row]) -> tuple[str, TapSummary] | None:
    """The outcome and the worst summary of what stands in a cell."""
    if not rows:
        return None
    worst = Pair("", "", "", "", "", tuple(rows)).worst
    summary = worst.cumulative or worst.isolated
    return (worst.outcome, summary) if summary is not None else None


def failures(run: Run) -> list[dict[str, Any]]:
    """The first failing tap of each pair, worst first; `cause` where it follows from another failure."""
    return [
        {"verdict": v, "title": title_of(v), "cause": follows_from(run, v), "text": failure(run, v)[0]}
        for v in first_failures(run)
    ]


def meter(ratio: float | None) -> int | None:
    """Error over bound as a percentage of a bar whose middle is the bound and whose ends are a factor of 1,000 away."""
    if ratio is None or math.isnan(ratio):
        return None
    return round(100 * min(1.0, max(0.0, (math.log10(max(ratio, 1e-9)) + 3) / 6)))


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names and texts, in their order."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{key}.")
        else:
            rows.append(
                (f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
            )
    return rows
