"""What a search found, on the terminal."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape

from parity.adversary import BEFORE, FED_BEFORE, Found, Result, Task, words_of
from parity.confirm import Confirmed
from parity.explain import wording
from parity.localize import number, place, title
from parity.records import Verdict
from parity.taps import MARGIN

CLOSE = 0.9
"""Share of the error that a setting must explain to be named where it doesn't explain all."""
_PAIR = {"error": "is out of bounds", "flip": "says another label", "crash": "crashes"}


def whose(task: Task, name: str) -> str:
    """What was searched: `commands-cnn · numpy → onnxrt float32`."""
    pair = title(name, task.backend, task.runtime, task.precision if task.runtime else "")
    pair = pair if task.backend else pair.replace("golden features", "drawn inputs")
    return f"{pair}, held to {task.against.strip('/')}" if task.against else pair


def show(console: Console, name: str, result: Result, again: Confirmed | None, seconds: float, replay: str) -> None:
    """Print what a search came to; `again` is a counter-example, `replay` the command that shows it once more."""
    task, found = result.task, result.found
    says = _PAIR["crash" if again is not None and _broke(again.found.verdict) else task.goal]
    took = f"{seconds:.0f} s" if result.replayed else f"{result.drawn:,} of {task.examples:,} examples, {seconds:.0f} s"
    cut = result.interrupted or (again is not None and again.interrupted)
    if again is not None and again.found.failed:
        more, after = " (interrupted)" if cut else "", "" if result.replayed else "found after "
        _line(console, f"FAIL: {whose(task, name)} {says}{more}; {after}{took}", "bold red")
        counterexample(console, again)
    elif found is not None and found.failed:
        once = " once, and not in fresh workers"
        if again is None:
            once = f", and wasn't seen again ({'interrupted' if cut else result.lost})"
        note = "it may need what came before it, or differ from run to run: it isn't saved beside the goldens"
        _line(console, f"FAIL: {whose(task, name)} {_PAIR[task.goal]}{once}; {took}", "bold red")
        rows = [("clip", found.words), ("then", _said(found.verdict))]
        _rows(console, rows if again is None else [*rows, ("note", note)])
    else:
        word, colour = ("STOPPED", "yellow") if cut else ("INCOMPLETE", "yellow") if result.lost else ("PASS", "green")
        nothing = {"error": "nothing out of bounds", "flip": "no label flips beyond its bound", "crash": "no crash"}
        different = "" if result.replayed else f" ({result.count:,} different)"
        _line(console, f"{word}: {nothing[task.goal]}: {whose(task, name)}; {took}{different}", f"bold {colour}")
        if found is not None:
            _rows(console, _nearest(task, found))
    if result.unheld:
        _rows(console, [("", f"{result.unheld:,} clips weren't judged: {result.lost}")])
    elif result.lost:
        _rows(console, [("", f"not every clip was judged: {result.lost}")])
    notes = [("", f"{result.refused:,} clips refused: {result.refusal}")] if result.refused else []
    _rows(console, [*notes, *([("again", replay)] if replay else [])])


def _broke(v: Verdict | None) -> bool:
    return v is not None and v.outcome == "error"


def counterexample(console: Console, again: Confirmed) -> None:
    """Print a clip that fails: where first, by how much, what follows, and why."""
    failing = again.failing
    first = again.found.verdict or failing[0]
    rows = [("clip", again.found.words)]
    if again.remembers:
        before = words_of(BEFORE if any(v.path == "features" for v in again.verdicts) else FED_BEFORE)
        rows.append(("after", f"{before}: alone it passes, so something isn't reset between clips"))
    rows.append(("first at", ", ".join([f"{first.tap} ({first.path})", *place(first)])))
    rows.append(("", _said(first)))
    rest = list(dict.fromkeys(v.tap for v in failing if v.tap != first.tap))
    if rest:
        rows.append(("then", ", ".join(rest[:6]) + (f" and {len(rest) - 6} more" if len(rest) > 6 else "")))
    if again.explanation is not None:
        rows += [("why" if not i else "", line) for i, line in enumerate(why(again))]
    _rows(console, rows)


def why(again: Confirmed) -> list[str]:
    """What explains it, in words; nothing where nothing does, or nothing comes near."""
    e = again.explanation
    if e is None:
        return []
    told = [f for f in e.findings if f.alternatives and (f.complete or f.share is None or f.share >= CLOSE)]
    lines = wording.lines(dataclasses.replace(e, findings=tuple(told), note=e.note if e.interrupted else ""))[1:]
    return [line.strip() for line in lines] if told or e.interrupted else []


def numbers(v: Verdict) -> str:
    """`error 0.31 dB, bound 2.1e-5 (14800 times)`."""
    if v.error is None:
        return ""
    unit = f" {v.unit}" if v.unit else ""
    times = "" if v.ratio is None or v.ratio >= 1e6 else f" ({number(v.ratio)} {'of it' if v.ratio < 1 else 'times'})"
    mine, right = number(v.candidate), number(v.golden)
    given = "" if v.candidate is None or mine == right else f"; {mine} where {right} is right"
    return f"error {number(v.error)}{unit}, bound {number(v.bound)}{times}{given}"


def _said(v: Verdict | None) -> str:
    if v is None:
        return ""
    return numbers(v) if v.ratio is not None and v.error is not None else v.message


def _nearest(task: Task, found: Found) -> list[tuple[str, str]]:
    """The clip that came nearest to what was looked for, and how near."""
    v = found.verdict
    rows = [("largest" if task.goal == "crash" else "nearest", found.words)]
    if v is None:
        return rows
    if task.goal == "crash":
        return [*rows, ("", f"numbers up to {number(2.0**found.score)}")]
    if v.near_tie:
        said = v.message.removeprefix("near tie: ")
        return [*rows, ("", f"flips, by less than what arithmetic allows: {said}; it fails nothing, and isn't saved")]
    if task.goal == "flip" and v.tap == MARGIN:
        return [*rows, ("", f"the right label leads by {number(v.golden)}, which may move by {number(v.bound)}")]
    return [*rows, ("", ", ".join([f"{v.tap} ({v.path})", *place(v)]) + f": {_said(v)}")]


def _line(console: Console, text: str, style: str) -> None:
    word, _, rest = text.partition(":")
    console.print(f"[{style}]{word}[/]:{escape(rest)}", soft_wrap=True)


def _rows(console: Console, rows: Sequence[tuple[str, str]]) -> None:
    for name, text in rows:
        if text:
            console.print(f"  [dim]{name:<8}[/] {escape(text)}", soft_wrap=True)


def as_json(name: str, result: Result, again: Confirmed | None, seconds: float, replay: str) -> str:
    """The same for programs."""
    task, found = result.task, again.found if again is not None else result.found
    told = {
        "system": name, "backend": task.backend, "runtime": task.runtime, "precision": task.precision,
        "against": task.against, "for": task.goal, "seed": task.seed, "asked": task.examples, "examples": result.drawn,
        "judged": result.count, "bounds_worked_out": result.worked_out, "refused": result.refused,
        "unheld": result.unheld, "lost": result.lost,
        "seconds": round(seconds, 3), "interrupted": result.interrupted,
        "failed": result.found is not None and result.found.failed,
        "confirmed": again is not None and again.found.failed,
        "only_after_another": again is not None and again.remembers,
        "clip": None if found is None else found.words, "worst": None if found is None else found.verdict,
        "failing": [] if again is None else again.failing, "why": [] if again is None else why(again), "replay": replay,
    }  # fmt: skip
    return msgspec.json.format(msgspec.json.encode(told), indent=1).decode()


def command(path: str, system: str, golden: Path | None = None) -> str:
    """What to type to see a counter-example again; recordings in it are of the goldens that were named."""
    more = {"--system": system, "--golden": "" if golden is None else str(golden)}
    typed = [word for option, value in more.items() if value for word in (option, value)]
    return shlex.join(["parity", "search", "--replay", path, *typed])
