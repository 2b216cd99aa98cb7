"""A run as GitHub's Markdown, for a pull request or a job's summary: the verdict first, what failed, the rest folded.

Nothing from outside is Markdown: a character that could be is written as its number (to CommonMark such a reference is
text, never structure), so that a clip may be called what it likes, makes no link and mentions nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from parity.localize import FAILED, first_failures, follows_from, number, pairs, place, several, title_of
from parity.records import LOCAL, Run, targets
from parity.report import causes, compared, places
from parity.report.causes import Told
from parity.report.compared import Change, Changes
from parity.report.rows import rows as rows_of
from parity.report.wording import (
    WORDS,
    counts,
    judgement,
    made,
    near_ties,
    not_compared,
    one_line,
    pair_of,
    shorten,
)

LIMIT = 60_000
"""Bytes that a comment (65,536 characters) has room for; a job's summary takes 16 times that."""
ROWS = 50
"""Rows of a table, before the rest is counted only."""
_ICONS = {"PASS": "✅", "FAIL": "❌", "INCOMPLETE": "⚠️", "NOTHING COMPARED": "⚠️"}
_ACTIVE = re.compile(r"[\\`*_\[\]<>#|~&$]|:(?=\S)|(?<=www)\.|^[-+=]|^\d(?=\d*[.)](?:\s|$))")


def write(folder: Path, run: Run, out: Path) -> None:
    """Write the Markdown of a run to `out`."""
    out.write_text(render(run), encoding="utf-8")


def render(run: Run, limit: int = LIMIT, told: Sequence[Told] = ()) -> str:
    """The Markdown, of at most `limit` bytes: what doesn't fit is left out from its end, and that is said.

    `told` is what `parity explain` found.
    """
    word, why = judgement(run)
    head = [
        f"### {_ICONS.get(word, '')} parity: {word}: {text(why)}".replace("  ", " "), "",
        f"{text(', '.join(counts(run)))}.", *(f"- {text(c)}" for c in run.changed), "",
    ]  # fmt: skip
    blocks = [
        "\n".join(head),
        *filter(None, (_failures(run, told), _gate(run), _targets(run), _pairs(run), _neutral(run), _provenance(run))),
    ]
    return _cut(blocks, limit)


def changed(found: Changes, limit: int = LIMIT) -> str:
    """What changed between two runs: outcomes, growth, what only one has, where they ran."""
    head = [f"### parity: {text(found.was[0])} → {text(found.now[0])}: {text(found.now[1])}", "",
            f"From {code(found.a)} to {code(found.b)}: {text(', '.join(compared.counts(found)))}.", ""]  # fmt: skip
    blocks = ["\n".join(head)]
    titles = ("what", "tap", "was", "now", "error over bound")
    if found.outcomes:
        rows = [[*_whom(c), text(c.was), text(c.now), _growth(c)] for c in found.outcomes]
        blocks.append("\n".join(["**Other outcomes**", "", *_table(titles, rows), ""]))
    for title, changes in (("grew", found.grew), ("shrank", found.shrank)):
        if changes:
            rows = [[*_whom(c), _growth(c)] for c in changes]
            blocks.append(_folded(f"Error over bound {title}: {len(rows)}", _table(("what", "tap", "how"), rows)))
    for run, names in ((found.a, found.only_a), (found.b, found.only_b)):
        if names:
            blocks.append(_folded(f"Only in {text(run)}: {len(names)}", [f"- {text(n)}" for n in names]))
    if found.environment:
        rows = [[text(name), code(was), code(now)] for name, was, now in found.environment]
        blocks.append(_folded(f"Where they ran: {len(rows)} differ", _table(("", text(found.a), text(found.b)), rows)))
    return _cut(blocks, limit)


def _whom(c: Change) -> list[str]:
    return [text(f"{c.name}, {c.path}"), code(c.tap)]


def _growth(c: Change) -> str:
    return f"{number(c.ratio_was)} → {number(c.ratio_now)}"


def text(words: object) -> str:
    """Any text as Markdown that shows it, in one line."""
    shown = _ACTIVE.sub(lambda m: f"&#{ord(m[0])};", one_line(words))
    return shown.replace("@", "@<!-- -->")  # a mention needs its name next to it


def code(words: object) -> str:
    """The same in the type of code."""
    return f"<code>{text(words)}</code>"


def _cut(blocks: Sequence[str], limit: int) -> str:
    kept: list[str] = []
    note = "_The rest is in the report: this is as long as it may be._\n"
    room = limit - len(note.encode())
    for block in blocks:
        size = len(block.encode()) + 1
        if size > room:
            return "\n".join([*kept, note])
        room -= size
        kept.append(block)
    return "\n".join(kept)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows[:ROWS]]
    return lines + ([f"\n… and {len(rows) - ROWS} more."] if len(rows) > ROWS else [])


def _folded(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"<details><summary>{title}</summary>", "", *lines, "", "</details>", ""])


def _gate(run: Run) -> str:
    # What is said of baselines stands below; one that is required and absent holds the run back.
    found = [f for f in run.gate.get("findings", []) if f["fails"] or f["kind"] != "baseline"]
    lines = []
    for failing in (True, False):
        if rows := [[code(_whose(f)), text(f["kind"]), text(f["text"])] for f in found if f["fails"] is failing]:
            title = "What the gate holds back" if failing else "What the gate noticed"
            table = _table(["of", "what", "how"], rows)
            lines += ["**" + title + "**", "", *table, ""] if failing else [_folded(f"{title}: {len(rows)}", table)]
    for b in run.gate.get("baselines", []):
        if b["state"] != "held":
            why = (
                "no baseline yet" if b["state"] == "none" else "another environment: " + "; ".join(b.get("differs", []))
            )
            lines.append(f"- {code(b['system'])} is judged by bounds alone: {text(why)}")
    return "\n".join([*lines, ""]) if lines else ""


def _whose(found: dict[str, str]) -> str:
    keys = ("system", "backend", "runtime", "precision", "target", "path", "tap")
    return " ".join(part for k in keys if (part := found.get(k)) not in (None, "", "local"))


def _failures(run: Run, told: Sequence[Told]) -> str:
    rows, following = [], []
    for v in first_failures(run):
        if (source := follows_from(run, v)) is not None:
            of = text(title_of(source, run))
            following.append(f"- {text(title_of(v, run))}: follows from {code(source.tap)} of {of}")
            continue
        numbers = "–" if v.error is None else f"{number(v.error)} / {number(v.bound)}" + _times(v.ratio)
        where = ", ".join([shorten(v.clip, 40), *place(v)])
        cause = causes.of(told, v)
        found = "; ".join(cause.lines[:1]) if cause is not None else ""
        why = "; ".join(
            filter(None, (found, made(run, v), v.message if v.outcome != "fail" or v.error is None else ""))
        )
        rows.append([text(title_of(v, run)), f"{code(v.tap)} {'' if v.outcome == 'fail' else v.outcome}".strip(),
                     numbers, text(where), text(why or v.message)])  # fmt: skip
    lines = [*_table(["what", "first at", "error / bound", "where", "why"], rows), ""] if rows else []
    lines += [f"- known gap that matched no failure: {text(gap)}" for gap in run.gaps.get("unmet", [])]
    lines += [f"- generated examples of {text(pair_of(e, run))} out of bounds" for e in run.examples if e.get("failed")]
    if following:
        lines.append("\n" + _folded(f"Following from these: {len(following)}", following[:ROWS]))
    return "\n".join([*lines, ""]) if lines else ""


def _targets(run: Run) -> str:
    """A column a target, where there are several: what fails on one alone, every pair, and in what they differ."""
    if not several(run):
        return ""
    names, lines = targets(run), places.lines(rows_of(run, pairs(run)))
    told = [f"**{text(words)}.**" for words in places.alone(run, lines)]
    told += [f"- {code(name)}: {text(places.about(run, name))}" for name in names]
    table = [
        [text(f"{line.system} · {line.name}"), *(_cell(line.cells.get(t)) for t in names)]
        for line in sorted(lines, key=lambda line: (not line.apart, line.system, line.name))
    ]
    blocks = ["\n".join(["", *told, ""]), _folded(f"Every pair on every target: {len(table)}",
                                                  _table(["what", *map(code, names)], table))]  # fmt: skip
    differing, _ = places.differing(run)
    if differing:
        facts = [[text(what), *map(text, values)] for what, values in differing]
        blocks.append(_folded(f"In what the targets differ: {len(facts)}", _table(["", *map(code, names)], facts)))
    return "\n".join(blocks)


def _cell(cell: places.Cell | None) -> str:
    if cell is None or not cell.compared:
        return "–" if cell is None else cell.outcome
    first = f" {code(cell.first)}" if cell.first else ""
    ratio = "" if cell.ratio is None else f" {number(cell.ratio)}"
    return WORDS.get(cell.outcome, cell.outcome) + ratio + first


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f" = {number(ratio)} ×"


def _pairs(run: Run) -> str:
    """Those that pass, with what came closest to its bound."""
    rows = []
    for p in pairs(run):
        v = p.worst.worst
        if p.outcome not in FAILED and v.error is not None:
            gap = " (known gap)" if p.outcome == "gap" else ""
            rows.append([text(f"{p.system} · {p.name}") + gap, code(p.worst.tap), number(v.ratio)])
    return _folded(f"What passed: {len(rows)}, with what came closest to its bound",
                   _table(["what", "closest at", "error over bound"], rows)) if rows else ""  # fmt: skip


def _neutral(run: Run) -> str:
    blocks = []
    if skipped := not_compared(run):
        lines = [f"- {text(why)} ({text('; '.join(names[:5]))}{f' and {len(names) - 5} more' * (len(names) > 5)})"
                 for why, names in skipped]  # fmt: skip
        blocks.append(_folded(f"Not compared: {sum(len(names) for _, names in skipped)}", lines))
    if ties := near_ties(run):
        blocks.append(_folded(f"Near ties: {len(ties)}", [f"- {text(line)}" for line in ties]))
    if measured := run.labels.get("pairs"):
        rows = [[text(pair_of(p, run)), str(p["clips"]), f"{100 * p['accuracy']:.3g} %"] for p in measured]
        blocks.append(_folded(f"Accuracy: {len(rows)} pairs", _table(["pair", "clips", "accuracy"], rows)))
    return "\n".join(blocks)


def _provenance(run: Run) -> str:
    commit = run.commit.get("commit")
    at = (
        "not in a git checkout"
        if not commit
        else str(commit) + ", with uncommitted changes" * bool(run.commit.get("dirty"))
    )
    rows = [["command", code(run.command)], ["commit", code(at)], ["exit code", str(run.exit_code)]]
    for key in ("fingerprint", "python"):
        if key in run.environment:
            rows.append([key, code(run.environment[key])])
    if targets(run) != [LOCAL] and not several(run):
        (target,) = targets(run)
        rows.append(["target", code(f"{target}: {places.about(run, target)}")])
    return _folded(f"Run {text(run.name)}", _table(["", ""], rows))
