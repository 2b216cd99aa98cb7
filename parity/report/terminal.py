"""What the user sees after `parity run`: one sentence, a row a tap, what failed first, what wasn't compared.

Every outcome is a word; colour only adds to it. Fits 100 columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from parity.localize import (
    FAILED,
    NOT_COMPARED,
    Pair,
    Row,
    badness,
    first_failures,
    follows_from,
    number,
    pairs,
    place,
    several,
)
from parity.records import LOCAL, Run, TapSummary, targets
from parity.report import device, places
from parity.report.rows import rows
from parity.report.streaming import show_times
from parity.report.wording import (
    WORDS,
    against,
    by_label,
    clean,
    columns_of,
    count,
    counts,
    failure,
    found_by_gate,
    judged_by,
    judgement,
    made,
    near_ties,
    not_compared,
    one_line,
    outcome_of,
    own,
    pair_of,
    published,
    same_confusion,
    saturated,
    shorten,
)  # fmt: skip
from parity.taps import MODEL_INPUT

FEW = 3
"""Up to so many pairs, every tap is shown without being asked for."""
WIDE = 24
"""A target's name at the head of a column is no longer than that."""
MOST = 10
"""Lines of one kind of the gate's findings."""
STYLES = {
    "pass": "green", "fail": "bold red", "missing": "bold red", "error": "bold red", "gap": "yellow",
    "unavailable": "dim", "unsupported": "dim",
}  # fmt: skip


class _Screen:
    """A console that takes any text as it is, in the characters that it has."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def text(self, words: object, style: str = "") -> Text:
        encoding = self.console.encoding or "utf-8"
        words = clean(words)
        if not encoding.lower().startswith("utf"):
            words = words.translate({ord("→"): "->", ord("·"): "|", ord("…"): "~", ord("–"): "-"})
            words = words.encode(encoding, "backslashreplace").decode(encoding)
        return Text(words, style=style)

    def line(self, words: object = "", style: str = "", indent: int = 0) -> None:
        width = max(20, self.console.width - indent)
        for part in self.text(words, style).wrap(self.console, width):
            self.console.print(Text(" " * indent) + part, soft_wrap=True)

    def heading(self, words: str) -> None:
        self.line()
        self.line(words, "bold")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[Text | str]], right: bool = False) -> None:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for i, name in enumerate(header):
            table.add_column(self.text(name), justify="right" if right and i else "left", overflow="fold")
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else self.text(one_line(cell)) for cell in row))
        self.console.print(table)

    def outcome(self, outcome: str) -> Text:
        return self.text(WORDS.get(outcome, outcome), STYLES.get(outcome, ""))


def show(run: Run, console: Console, verbose: bool) -> None:
    """Print a run. Many pairs are summed up unless `verbose`: each one's worst tap, and every failing one."""
    screen = _Screen(console)
    word, why = judgement(run)
    style = {"PASS": "bold green", "FAIL": "bold red"}.get(word, "bold yellow")
    line = screen.text(one_line(f"{word}: {why}; {', '.join(counts(run))}."))
    line.stylize(style, 0, len(word))
    console.print(line)
    for words in run.changed:
        screen.line(one_line(words), "bold yellow")
    for words in judged_by(run):
        screen.line(one_line(words))
    _gate(screen, run, verbose)
    found = pairs(run)
    if beside := several(run):
        _side_by_side(screen, run, found)
    if verbose or (len(found) <= FEW and not beside):
        for pair in found:
            _taps(screen, pair)
    elif not beside:
        _summed_up(screen, found)
    _failures(screen, run)
    _notes(screen, run)
    _labels(screen, run, verbose)
    _examples(screen, run)
    show_times(run, console)
    _devices(screen, run, verbose)


def _gate(screen: _Screen, run: Run, verbose: bool) -> None:
    """What the gate found, before what was compared; a few lines of each kind unless `verbose`."""
    for head, lines in found_by_gate(run):
        screen.heading(head)
        for words in lines if verbose else lines[:MOST]:
            screen.line(one_line(words), indent=2)
        if len(lines) > MOST and not verbose:
            screen.line(f"and {len(lines) - MOST} more (--verbose)", indent=2)


def _taps(screen: _Screen, pair: Pair) -> None:
    screen.heading(f"{pair.system} · {pair.name}")
    kernels = any(row.deployment for row in pair.rows)
    alone = any(row.cumulative and row.cumulative.own for row in pair.rows)
    stages = ["error/bound", "by itself"] if alone else ["error/bound"]
    paths = ["cumulative", "isolated", *["kernels"] * kernels] if pair.runtime else stages
    header = ["tap", "outcome", *paths, "worst at"]
    outside = any(row.worst.outside > 0 for row in pair.rows)
    rows: list[list[Text | str]] = []
    for row in pair.rows:
        shown = [row.cumulative, row.isolated, *[row.deployment] * kernels] if pair.runtime else [row.cumulative]
        numbers = [against(s) for s in shown] + [own(row.cumulative)] * (alone and not pair.runtime)
        share = [f"{number(100 * row.worst.outside)} %" if row.worst.outside > 0 else ""] if outside else []
        rows.append([row.tap, screen.outcome(row.outcome), *numbers, _at(row), *share])
    screen.table(header + ["outside"] * outside, rows)


def _at(row: Row) -> str:
    v = row.worst
    if v.outcome in NOT_COMPARED:
        return v.message
    alone = " (isolated)" if v.path == "isolated" and row.cumulative is not None else ""
    alone = " (kernels)" if v.path == "deployment" else alone
    return f"{shorten(v.clip, 15 if alone else 18)} {', '.join(place(v))}".rstrip() + alone


def _side_by_side(screen: _Screen, run: Run, found: Sequence[Pair]) -> None:
    """A column a target: what became of each pair there; and in what the targets differ."""
    lines, names = places.lines(rows(run, list(found))), targets(run)
    heads = [shorten(name, WIDE) for name in names]
    screen.heading("Targets")
    for name in names:
        screen.line(one_line(f"{name}: {places.about(run, name) or 'nothing is known of it'}"), indent=2)
    for words in places.alone(run, lines):
        screen.line(one_line(words), "bold red")
    for system in dict.fromkeys(line.system for line in lines):
        screen.heading(f"{system}: error over bound of each pair, and the first tap that fails (--verbose shows all)")
        shown: list[list[Text | str]] = []
        for line in (line for line in lines if line.system == system):
            shown.append([line.name, *(_cell(screen, line.cells.get(t)) for t in names)])
        screen.table(["pair", *heads], shown)
    differing, _ = places.differing(run)
    if differing:
        screen.heading("In what the targets differ")
        screen.table(["", *heads], [[what, *values] for what, values in differing])


def _cell(screen: _Screen, cell: places.Cell | None) -> Text:
    if cell is None or not cell.compared:
        return screen.text("–" if cell is None else cell.outcome, STYLES["unsupported"])
    number_of = "" if cell.ratio is None else " exact" if cell.ratio == 0.0 else f" {number(cell.ratio)}"
    said = screen.outcome(cell.outcome)
    return said + screen.text(number_of + (f" {cell.first}" if cell.first else ""))


def _devices(screen: _Screen, run: Run, verbose: bool) -> None:
    """What targets elsewhere tell of themselves: the slowest of each plugin, unless `verbose`."""
    if targets(run) == [LOCAL]:
        return
    costs, loads = device.costs(run), {(p["target"], p["plugin"]): p for p in device.plugins(run)}
    if not costs and not device.places(run):
        return
    screen.heading("What the devices tell (measurements, never a verdict)")
    for told in device.places(run):
        screen.line(one_line(f"{told['target']}: {'; '.join(told['words'])}"), indent=2)
    head = ["target", "by", *["system"] * verbose, "ms a clip", "95 %", "real-time factor", "s to load", "peak memory"]
    shown: list[list[Text | str]] = []
    pairs_of = dict.fromkeys((c["target"], c["plugin"]) for c in costs)
    for target, plugin in sorted(pairs_of, key=lambda pair: targets(run).index(pair[0])):
        of = [c for c in costs if (c["target"], c["plugin"]) == (target, plugin)]
        load = loads.get((target, plugin), {})
        for c in of if verbose else [max(of, key=lambda c: c["rtf"] or c["ms"])]:
            name = f"{plugin} {c['precision']}".strip() if verbose else plugin
            times = [number(c["ms"]), number(c["p95"]), number(c["rtf"])]
            shown.append([shorten(target, WIDE), name, *[c["system"]] * verbose, *times, number(load.get("load")),
                          device.size(load.get("peak"))])  # fmt: skip
    screen.table(head, shown)
    if names := [t for t in targets(run) if places.emulated(run, t)]:
        screen.line(f"  {', '.join(map(one_line, names))}: {device.EMULATED}")


def _summed_up(screen: _Screen, found: Sequence[Pair]) -> None:
    for system in dict.fromkeys(p.system for p in found):
        screen.heading(f"{system}: the worst tap of each pair, and every failing one (--verbose shows all)")
        rows: list[list[Text | str]] = []
        kernels = any(row.deployment for p in found if p.system == system for row in p.rows)
        for p in (p for p in found if p.system == system):
            failing = [row for row in p.rows if row.outcome in FAILED]
            for i, row in enumerate(failing or [_shown(p)]):
                name = "" if i else p.name
                numbers = [against(s) for s in (row.cumulative, row.isolated, *[_held(p, row)] * kernels)]
                if not p.runtime:
                    numbers[1] = own(row.cumulative)
                rows.append([name, screen.outcome(row.outcome), row.tap, *numbers])
        screen.table(["pair", "outcome", "worst tap", "cumulative", "isolated", *["kernels"] * kernels], rows)


def _shown(p: Pair) -> Row:
    """The worst row of a pair that passes; what the network was fed with only where there is nothing else.

    Features that are quantized at its input use up their half step by nature.
    """
    return max([row for row in p.rows if row.tap != MODEL_INPUT] or p.rows, key=lambda row: badness(row.worst))


def _held(p: Pair, row: Row) -> TapSummary | None:
    """How a pair stands to the reference kernels: at a failing tap, else where it is worst."""
    if row.outcome in FAILED:
        return row.deployment
    found = [r.deployment for r in p.rows if r.deployment is not None]
    return max(found, key=lambda s: (s.worst.error is not None, badness(s.worst)), default=None)


def _failures(screen: _Screen, run: Run) -> None:
    found = first_failures(run)
    if found:
        screen.heading("First failing tap of each pair, worst first")
    for v in found:
        where, what = failure(run, v)
        screen.line(where, indent=2)
        if follows_from(run, v) is None and (words := made(run, v)):
            screen.line(words, indent=4)
        if what:
            screen.line(what, "dim", indent=4)


def _notes(screen: _Screen, run: Run) -> None:
    skipped = not_compared(run)
    if skipped:
        screen.heading("Not compared")
    for reason, names in skipped:
        some = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        screen.line(f"{one_line(reason)}: {one_line(some)}", indent=2)
    if ties := near_ties(run):
        screen.heading("Near ties (another label, where the golden's lead is within the bound; passed)")
        for words in ties:
            screen.line(one_line(words), indent=2)
    if lines := saturated(run):
        screen.heading("Saturated (right values beyond what a file's integers hold: louder than it was calibrated on)")
        for words in lines:
            screen.line(one_line(words), indent=2)
    for kind, words in (("met", "Known gaps"), ("unmet", "Known gaps that matched no failure: mend or remove them")):
        if gaps := run.gaps.get(kind):
            screen.heading(words)
            for gap in gaps:
                screen.line(one_line(gap), indent=2)
    for name, about in run.systems.items():
        anchor = about.get("anchor")
        if isinstance(anchor, Mapping) and anchor.get("backend") == "none":
            screen.heading(f"{name}: the goldens have no anchor (recorded with --unanchored)")
        elif isinstance(anchor, Mapping) and anchor.get("backend") == "published vectors":
            screen.heading(f"{name}: no implementation anchors the goldens, but published vectors of their stages")
            screen.line(one_line(published(anchor)), indent=2)
    if run.unlike_golden:
        screen.heading("Unlike where the goldens were recorded")
    for words in run.unlike_golden:
        screen.line(one_line(words), indent=2)


def _labels(screen: _Screen, run: Run, verbose: bool) -> None:
    of = run.labels.get("pairs", [])
    if of:
        screen.heading("Labels")
        screen.table(
            ["pair", "clips", "accuracy"],
            [[pair_of(p, run), str(p["clips"]), f"{100 * p['accuracy']:.3g} %"] for p in of],
        )
    for names, confusion in same_confusion(run):
        screen.heading(f"Truth (rows) and label of {names}")
        columns = columns_of(confusion)
        if 12 + sum(max(len(c), 3) + 2 for c in columns) <= screen.console.width:
            rows = [[truth, *(str(row.get(c) or "·") for c in columns)] for truth, row in confusion.items()]
            screen.table(["", *columns], rows, right=True)
        else:
            wrong = sorted((-n, t, x) for t, row in confusion.items() for x, n in row.items() if x != t and n)
            screen.line(", ".join(f"{t} → {x} {-n}" for n, t, x in wrong) or "no other label than the truth", indent=2)
    differ = run.labels.get("differ", [])
    if differ:
        screen.heading(f"{count(len(differ), 'clip')} with another label in another pair")
    for d in differ if verbose else differ[:20]:
        truth = f" (truth {d['truth']})" if d.get("truth") is not None else ""
        answers = "; ".join(f"{label}: {', '.join(who)}" for label, who in by_label(d["labels"]).items())
        screen.line(f"{shorten(d['clip'], 40)}{one_line(truth)}: {one_line(answers)}", indent=2)
    if len(differ) > 20 and not verbose:
        screen.line(f"and {len(differ) - 20} more (--verbose)", indent=2)
    if ignored := run.labels.get("ignored"):
        screen.line()
        screen.line("Folders that name no label: " + ", ".join(f"{one_line(f)} ({n})" for f, n in ignored.items()))


def _examples(screen: _Screen, run: Run) -> None:
    if not run.examples:
        return
    screen.heading("Generated examples")
    rows: list[list[Text | str]] = []
    for e in run.examples:
        outcome = screen.outcome(outcome_of(e))
        worst = f"{e.get('worst_tap', '')} {e.get('worst', '')}".strip()
        rows.append([pair_of(e, run), outcome, str(e["count"]), number(e.get("worst_ratio")), worst])
    screen.table(["pair", "outcome", "count", "error/bound", "worst at"], rows)
    for e in run.examples:
        if e.get("message"):
            screen.line(f"{pair_of(e, run)}: {one_line(e['message'])}", indent=2)
        if e.get("counterexample"):
            screen.line(f"{pair_of(e, run)}: counter-example {one_line(e['counterexample'])}", indent=2)
