"""`index.html` of a run: one file that asks for nothing else, made from the records alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from parity.localize import FAILED, NOT_COMPARED, Pair, badness, first_failures, follows_from, number, pairs, place
from parity.localize import title_of as name_of
from parity.records import Run, TapSummary
from parity.report import wording
from parity.report.wording import WORDS, by_label, clean, columns_of, same_confusion

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
        "outcome_of": wording.outcome_of, "own": wording.own,
    }  # fmt: skip
    found = pairs(run)
    word, why = wording.judgement(run)
    page = environment.get_template("run.html.j2").render(
        run=run, word=word, why=why, counts=[*wording.counts(run), *run.changed, *wording.judged_by(run)],
        pairs=found, failures=failures(run),
        matrices=[matrix(run, system, found) for system in dict.fromkeys(p.system for p in found)],
        skipped=wording.not_compared(run),
        near_ties=wording.near_ties(run), saturated=wording.saturated(run),
        confusions=[(names, columns_of(c), c) for names, c in same_confusion(run.labels.get("pairs", []))],
        differ=[(d, by_label(d["labels"])) for d in run.labels.get("differ", [])],
        failed=FAILED, neutral=NOT_COMPARED,
    )  # fmt: skip
    return page + "\n"


def _printable(value: object) -> object:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def matrix(run: Run, system: str, found: list[Pair]) -> dict[str, Any]:
    """A system's pairs as a table: a row a backend, a column for its features and one a runtime and precision.

    A cell is (outcome, the summary that it shows), None where there is no such pair.
    """
    of = [p for p in found if p.system == system]
    columns = list(dict.fromkeys((p.runtime, p.precision, p.target) for p in of if p.runtime))
    summaries = [s for s in run.summaries if s.system == system]

    def cell(backend: str, path: str, column: tuple[str, str, str] | None) -> tuple[str, TapSummary] | None:
        inside = [s for s in summaries if s.backend == backend and s.path == path]
        return _cell([s for s in inside if column in (None, (s.runtime, s.precision, s.target))])

    rows: dict[str, list[Any]] = {}
    if any(s.path == "isolated" for s in summaries):
        rows["golden features"] = [None, *(cell("", "isolated", c) for c in columns)]
    if any(s.path == "deployment" for s in summaries):
        rows["reference kernels"] = [None, *(cell("", "deployment", c) for c in columns)]
    for backend in dict.fromkeys(p.backend for p in of if p.backend):
        rows[backend] = [cell(backend, "features", None), *(cell(backend, "cumulative", c) for c in columns)]
    absent = [s for s in run.skipped if s.system == system and s.backend and not s.runtime and s.backend not in rows]
    heads = [" ".join(c[:2]) + (f" on {c[2]}" if c[2] not in ("", "local") else "") for c in columns]
    return {"system": system, "columns": heads, "rows": rows, "absent": absent}


def _cell(summaries: list[TapSummary]) -> tuple[str, TapSummary] | None:
    """The worst outcome, and its summary: of failing numbers the largest, before what has none (a flipped label)."""
    if not summaries:
        return None
    worst = max(summaries, key=lambda s: badness(s.worst))
    same = [s for s in summaries if s.worst.outcome == worst.worst.outcome]
    shown = max(same, key=lambda s: (s.worst.error is not None, badness(s.worst)))
    return worst.worst.outcome, shown


def failures(run: Run) -> list[dict[str, Any]]:
    """The first failing tap of each pair, worst first; `cause` where it follows from another failure."""
    return [
        {"verdict": v, "title": name_of(v), "cause": follows_from(run, v), "text": wording.failure(run, v)[0],
         "made": wording.made(run, v)}
        for v in first_failures(run)
    ]  # fmt: skip


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
