"""`parity calibrate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from parity.cli.group import PATH, cli, complete, local_options, local_target, plugin_names, systems_option
from parity.errors import MISMATCH, NOTHING

if TYPE_CHECKING:
    from parity.calibrate import Row
    from parity.records import Skipped


@cli.command()
@systems_option
@click.option("--backend", "backends", multiple=True, metavar="NAME", help="Repeatable; default: all installed.",
              shell_complete=complete(plugin_names("backend")))  # fmt: skip
@click.option("--runtime", "runtimes", multiple=True, metavar="NAME", help="Repeatable; default: all installed.",
              shell_complete=complete(plugin_names("runtime")))  # fmt: skip
@click.option("--precision", "precisions", multiple=True, metavar="NAME", help="float32, int8, ... Repeatable.")
@click.option("--audio", type=PATH, required=True, metavar="DIR",
              help="Speech; a speaker is what stands before _nohash_ in a file's name.")  # fmt: skip
@click.option("--clips", type=click.IntRange(1), default=100, show_default=True, metavar="N",
              help="Files of each half of the speakers.")  # fmt: skip
@click.option("--level", "levels", type=click.FloatRange(-200.0, 0.0), multiple=True, metavar="DB",
              help="Each file as much quieter, in dB (0 as it is). Repeatable; default: 0.")  # fmt: skip
@click.option("--layers", type=click.IntRange(0), default=3, show_default=True, metavar="N",
              help="Clips of each half whose inner layers are compared too.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="What is printed.")
@local_options
def calibrate(systems: tuple[str, ...], backends: tuple[str, ...], runtimes: tuple[str, ...],
              precisions: tuple[str, ...], audio: Path, clips: int, levels: tuple[float, ...], layers: int,
              form: str, jobs: int | None, limit: float) -> None:  # fmt: skip
    """Measure error over bound on two halves of the speakers of a folder of speech.

    A row a pair, tap and half: clips, elements, false alarms, median and largest error over bound. Constants are set by
    the half `calibration` and checked on `check`. Exit codes: 0 no false alarm, 1 one at least, 2 nothing compared.
    """
    import msgspec

    from parity import calibrate as calibration
    from parity import progress
    from parity.plan import Selection

    selection = Selection(
        systems=systems, backends=backends, runtimes=runtimes, precisions=precisions, audio=audio, layers=layers
    )
    speech = calibration.Speech(folder=audio, clips=clips, levels=levels or (0.0,))
    with local_target(jobs, limit) as target, progress.shown() as step:
        rows, skipped = calibration.calibrate(selection, speech, target, step)
    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode([r.plain() for r in rows]), indent=1).decode())
    else:
        _show(rows, skipped)
    if any(r.false_alarms for r in rows):
        sys.exit(MISMATCH)
    if any(s.asked for s in skipped):
        sys.exit(NOTHING)


def _show(rows: list[Row], skipped: list[Skipped]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    columns: dict[str, Any] = dict.fromkeys(("pair", "path", "tap", "half"), "left")
    columns |= dict.fromkeys(("clips", "elements", "false alarms", "median", "largest"), "right")
    for system in dict.fromkeys(r.system for r in rows):
        table = Table(title=system, title_justify="left", box=None, pad_edge=False)
        for name, justify in columns.items():
            table.add_column(name, justify=justify, no_wrap=True)
        for r in (r for r in rows if r.system == system):
            alarms = str(r.false_alarms) + (f" ({r.gaps} known)" if r.gaps else "")
            numbers = [_ratio(x) if r.elements else "" for x in (r.median, r.largest)]
            table.add_row(r.pair, r.path, r.tap, r.half, str(r.clips), f"{r.elements:,}", alarms, *numbers)
        console.print(table, markup=False)
    for s in skipped:
        what = " ".join(filter(None, (s.backend, s.runtime, s.precision)))
        console.print(f"not compared: {s.system} {what}: {s.reason}", markup=False, soft_wrap=True)
    for half in dict.fromkeys(r.half for r in rows):
        judged = sum(r.clips for r in rows if r.half == half)
        wrong = sum(r.false_alarms for r in rows if r.half == half)
        most = f", so at most {3.0 / judged:.1e} of them with 95 % confidence" if judged > 3 and not wrong else ""
        alarms = "1 false alarm" if wrong == 1 else f"{wrong} false alarms"
        text = f"{half}: {alarms} in {judged:,} comparisons (tap, clip, pair){most}"
        console.print(text, markup=False, soft_wrap=True)


def _ratio(x: float | None) -> str:
    """A ratio in three digits; where nothing may move, that is told."""
    return "exact" if x is None else f"{x:.2g}" if x < 0.01 else f"{x:.3f}"
