"""`parity explain`: which setting explains what a run found."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from parity.cli.group import cli, one_thread

if TYPE_CHECKING:
    from parity.explain import Explanation


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--system", "systems", multiple=True, metavar="NAME", help="Repeatable; default: all that failed.")
@click.option("--backend", "backends", multiple=True, metavar="NAME", help="Repeatable; default: all that failed.")
@click.option("--runtime", "runtimes", multiple=True, metavar="NAME", help="Repeatable; default: all that failed.")
@click.option("--target", "targets", multiple=True, metavar="NAME", help="Repeatable; default: all that failed.")
@click.option("--clip", "clips", multiple=True, metavar="NAME", help="From these clips only. Repeatable.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="What is printed.")
@click.option("--verbose", "-v", is_flag=True, help="All settings that can't be told apart, not the first few.")
def explain(folder: Path, systems: tuple[str, ...], backends: tuple[str, ...], runtimes: tuple[str, ...],
            targets: tuple[str, ...], clips: tuple[str, ...], form: str, verbose: bool) -> None:  # fmt: skip
    """Name the setting, or the two, that explain why a run's features or activations differ.

    RUN is a folder under reports/. Of each backend that failed the arrays that the run kept are held to the oracle with
    one setting changed, then two: window, hop, mel scale, offset, gain and so on. Of each network that failed they are
    held to its float32 ONNX graph with something in it changed: gates, padding, a bias, BatchNorm, one weight and so
    on; and the weights in its file to the trained ones. 100 % is said where every element of every tap that was kept
    is within its bound. The candidate isn't run; exit code 2 where there is nothing to explain. Ctrl-C ends a search
    that takes long, with the closest that it found. What is found goes into the run's page, unless --clip is given.
    """
    one_thread()
    import msgspec

    from parity import progress
    from parity.explain import runs, wording

    found = []
    warn = partial(click.echo, err=True)
    for explanation in runs.explained(folder, systems, backends, clips, runtimes, warn, progress.shown, targets):
        found.append(explanation)
        if form == "text":
            for line in wording.lines(explanation, 1000 if verbose else wording.ALSO):
                click.echo(line)
            sys.stdout.flush()
    if form == "json":
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n")
        sys.stdout.flush()
    if not clips:
        _tell(folder, [e for e in found if not e.interrupted])
    if any(e.interrupted for e in found):
        raise KeyboardInterrupt  # what was found so far is said; the exit code is that of an interruption


def _tell(folder: Path, found: Sequence[Explanation]) -> None:
    """Keep what was found beside the run's records, and draw its page again."""
    from parity.explain import wording
    from parity.records import read_run
    from parity.report import causes, html

    told = [
        causes.Told(
            system=e.system, backend=e.backend, runtime=e.runtime, precision=e.precision, target=e.target,
            path=e.path, clips=e.clips, complete=e.complete,
            lines=tuple(line.removeprefix("  ") for line in wording.lines(e)[1:]),
        )
        for e in found
    ]  # fmt: skip
    try:
        causes.add(folder, told)
        html.write(folder, read_run(folder))
    except OSError as e:
        click.echo(f"the page of {folder} doesn't say it: {e.strerror or e}", err=True)
