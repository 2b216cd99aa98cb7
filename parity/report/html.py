"""`index.html` of a run: one file that asks for nothing else, made from the run folder's records alone."""

from __future__ import annotations

import functools
import html
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from markupsafe import Markup

from parity.errors import ParityError
from parity.localize import (
    FAILED,
    NOT_COMPARED,
    Pair,
    badness,
    first_failures,
    follows_from,
    number,
    on,
    pairs,
    place,
    several,
)
from parity.localize import title_of as name_of
from parity.records import LOCAL, Run, Verdict, targets
from parity.report import causes, device, figures, inline, places, tallies, wording
from parity.report.heatmap import heat, matrices
from parity.report.rows import Row, row_id, rows
from parity.report.tallies import BOUND, EDGES, Spread, Tallies
from parity.report.wording import WORDS, by_label, clean, columns_of, same_confusion

_SHADES = {"pass": "pass", "gap": "gap", "fail": "fail", "missing": "fail", "error": "fail"}
FLIPS = 12
"""Flipped labels whose posteriors are shown."""
HISTORIES = 40
"""Pairs whose history is drawn: those that came nearest to their bounds."""


def write(folder: Path, run: Run, out: Path | None = None) -> None:
    """Write the page of a run folder to `out`: `folder/index.html` unless told otherwise."""
    text = render(run, folder)
    path = out or folder / "index.html"
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def render(run: Run, folder: Path | None = None) -> str:
    """The page. Every text of the run is escaped, and what can't be printed is written as `\\x1b`.

    Without a folder it says what `run.json` says: no pictures, and nothing of single clips.
    """
    found = pairs(run)
    read = _read(run, folder)
    failed, drawn = failures(run, found, folder, read)
    lined = rows(run, found)
    word, why = wording.judgement(run)
    gate = run.gate
    histories = sorted(gate.get("history", []), key=lambda h: -_last(h))[:HISTORIES]
    drawn |= {f"history-{i}": _history(h) for i, h in enumerate(histories)}
    page = environment().get_template("run.html.j2").render(
        run=run, word=word, why=why, counts=[*wording.counts(run), *run.changed, *wording.judged_by(run)],
        rows=lined, choices=_choices(found), failures=failed, flips=_flips(run, folder, read), flipped=read.flipped,
        matrices=matrices(run, found),
        skipped=wording.not_compared(run), overall=read.all, edges=_edges(), bound=BOUND,
        near_ties=wording.near_ties(run), saturated=wording.saturated(run),
        confusions=[(names, columns_of(c), c) for names, c in same_confusion(run)],
        accuracies=[(wording.pair_of(p, run), p) for p in run.labels.get("pairs", [])],
        differ=[(d, by_label(d["labels"])) for d in run.labels.get("differ", [])],
        failed=FAILED, neutral=NOT_COMPARED, gate=gate,
        on=functools.partial(on, several=several(run)), **_measured(run), **_places(run, lined),
        found_by_gate=[(h, lines, _fails(run, h)) for h, lines in wording.found_by_gate(run)],
        of_gate=[(f, _row_at(found, f)) for f in gate.get("findings", ())],
        acceptable=wording.acceptable(run), histories=histories,
        figures=inline.pack(drawn), **inline.parts(),
    )  # fmt: skip
    return page + "\n"


@functools.cache
def environment() -> Any:
    """The templates, with what they write numbers and outcomes with."""
    made = inline.environment(
        number=number, word=lambda o: WORDS.get(o, o), shade=lambda o: _SHADES.get(o, "none"), meter=meter,
        place=lambda v: ", ".join(place(v)), percent=lambda x: f"{100 * x:.3g} %", flat=flat, heat=heat, over=over,
        outcome_of=wording.outcome_of, own=wording.own, size=device.size, spread=spread_words,
        at=lambda values, i: values[i], unescaped=html.unescape,
    )  # fmt: skip
    made.finalize = _printable
    return made


def _printable(value: object) -> object:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _read(run: Run, folder: Path | None) -> Tallies:
    """What the page says of single clips; nothing where there are none."""
    if folder is None or not (folder / "verdicts.jsonl").is_file():
        return Tallies({}, {}, {}, [])
    wanted = {
        (*tallies.key(v)[:-1], tap)
        for v in first_failures(run)
        if follows_from(run, v) is None
        for tap in figures.taps(run, v)
    }
    return tallies.read(folder, wanted)


def failures(
    run: Run, found: Sequence[Pair], folder: Path | None, read: Tallies
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The first failing tap of each pair, worst first, and the figures by their names.

    `cause` where it follows from another failure; else `figures`, `spread` over the clips, and `told`, what `parity
    explain` found.
    """
    first = [(v, follows_from(run, v)) for v in first_failures(run)]
    own = [v for v, cause in first if cause is None]
    told = causes.read(folder) if folder is not None else []
    drawing = figures.Drawing(run, folder, read) if folder is not None else None
    made: list[dict[str, Any]] = []
    drawn: dict[str, Any] = {}
    for i, (v, cause) in enumerate(first):
        link = row_id(v.system, v.backend, v.runtime, v.precision, v.target)
        shown: dict[str, Any] = {}
        if cause is None and drawing is not None:
            shown = drawing.of(v, len(own) - i - 1)
            drawn |= {f"{kind}-{i}": f for kind, f in shown.items() if kind != "lost"}
        made.append({
            "verdict": v, "title": name_of(v, run), "cause": cause, "text": wording.failure(run, v)[0], "number": i,
            "made": wording.made(run, v), "id": f"failed-{link[4:]}~{v.path}", "row": _row_of(found, v),
            "figures": shown,
            "described": figures.described(shown["picture"]) if "picture" in shown else "",
            "spread": read.taps.get(tallies.key(v)), "told": causes.of(told, v),
        })  # fmt: skip
    return made, drawn


def _row_of(found: Sequence[Pair], v: Verdict) -> str:
    """The row that has the taps of a failure: of a network on the golden's features the best backend's."""
    return _row_at(found, msgspec.structs.asdict(v))


def _row_at(found: Sequence[Pair], of: Mapping[str, Any]) -> str:
    """The row of what has a system, backend, runtime, precision and target; '' where there is none."""
    model = ("system", "runtime", "precision", "target")
    held = [p for p in found if all(getattr(p, k) == of.get(k, "") for k in model)]
    if of.get("backend"):
        held = [p for p in held if p.backend == of["backend"]]
    if not held or not (of.get("backend") or of.get("runtime")):
        return ""
    p = held[0] if of.get("backend") else min(held, key=_cumulative)
    return row_id(p.system, p.backend, p.runtime, p.precision, p.target)


def _cumulative(pair: Pair) -> tuple[int, tuple[int, float]]:
    found = [row.cumulative.worst for row in pair.rows if row.cumulative is not None]
    return sum(v.outcome in FAILED for v in found), max(map(badness, found), default=(0, 0.0))


def _flips(run: Run, folder: Path | None, read: Tallies) -> list[dict[str, Any]]:
    """Flipped labels, of every pair one before any has two; `posteriors` of the first of them."""
    seen: dict[tuple[str, ...], int] = {}
    ranked = []
    for v in read.flips:
        of = tallies.key(v)
        seen[of] = seen.get(of, 0) + 1
        ranked.append((seen[of], v))
    found = []
    for i, (_, v) in enumerate(sorted(ranked, key=lambda r: r[0])[: tallies.FLIPS]):
        shown = None
        if folder is not None and i < FLIPS:
            try:
                shown = figures.flip(run, folder, v)
            except ParityError:
                shown = None  # said where its failure is drawn
        found.append({"verdict": v, "title": name_of(v, run), "posteriors": shown})
    return found


def _choices(found: Sequence[Pair]) -> dict[str, list[str]]:
    """What rows can be filtered by, where there is a choice."""
    values = {k: sorted({getattr(p, k) for p in found} - {""})
              for k in ("system", "backend", "runtime", "precision", "target", "outcome")}  # fmt: skip
    return {k: v for k, v in values.items() if len(v) > 1}


def _measured(run: Run) -> dict[str, Any]:
    """What the places tell of themselves; `remote` where it isn't this machine alone that does."""
    return {"costs": device.costs(run), "plugins": device.plugins(run), "states": device.places(run),
            "remote": targets(run) != [LOCAL], "apart": several(run)}  # fmt: skip


def _places(run: Run, lined: Sequence[Row]) -> dict[str, Any]:
    """The targets side by side, where there are several; else nothing of them."""
    if not several(run):
        return {"targets": [], "lines": [], "alone": [], "differing": [], "same": []}
    found, (differing, same) = places.lines(lined), places.differing(run)
    named = [(t, places.about(run, t), places.emulated(run, t)) for t in targets(run)]
    return {"targets": named, "lines": found, "alone": places.alone(run, found), "differing": differing, "same": same}


def _fails(run: Run, heading: str) -> bool:
    """Whether a finding under a heading fails the gate."""
    return any(f["fails"] and wording.HEADINGS[f["kind"]] == heading for f in wording.findings(run))


def _last(h: Mapping[str, Any]) -> float:
    """How near its bound a pair came last."""
    ratio = h["points"][-1]["ratio"] if h["points"] else None
    return -1.0 if ratio is None else float(ratio)


def _history(h: Mapping[str, Any]) -> figures.Figure:
    points = h["points"]
    prints = [p.get("fingerprint") for p in points]
    return {
        "kind": "history", "x": [p["when"] for p in points], "y": [p["ratio"] for p in points],
        "runs": [figures.plain(str(p.get("run", ""))) for p in points], "outcomes": [p["outcome"] for p in points],
        "changes": [i for i in range(1, len(points)) if prints[i] != prints[i - 1]],
    }  # fmt: skip


def _edges() -> list[str]:
    """Upper ends of the bins of error over bound, those that are powers of ten."""
    return [number(e) if i % 2 == 0 else "" for i, e in enumerate(EDGES)]


def meter(ratio: float | None) -> int | None:
    """Error over bound as a percentage of a bar whose middle is the bound and whose ends are a factor of 1,000 away."""
    if ratio is None or math.isnan(ratio):
        return None
    return round(100 * min(1.0, max(0.0, (math.log10(max(ratio, 1e-9)) + 3) / 6)))


def over(ratio: float | None, outcome: str) -> str:
    """Error over bound in words: `0.67 of the bound`, `14900 times the bound`, `exact`."""
    if ratio is None:
        return "no number" if outcome in FAILED or outcome == "gap" else ""
    if ratio == 0.0:
        return "exact"
    return f"{number(ratio)} of the bound" if ratio <= 1.0 else f"{number(ratio)} times the bound"


def spread_words(spread: Spread, of: str = "clip") -> str:
    """How error over bound is spread over the clips of a tap, or over comparisons: `of` is what is counted."""
    words = f"{wording.count(spread.count, of)}, {spread.beyond - spread.unmeasured} beyond the bound"
    if spread.ratios:
        words += f"; smallest {number(min(spread.ratios))}, median {number(spread.median)}, largest "
        words += number(max(spread.ratios))
    return words + (f"; {spread.unmeasured} failed without a number" if spread.unmeasured else "")


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names and texts, in their order."""
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{prefix}{key}.")
        else:
            found.append(
                (f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
            )
    return found
