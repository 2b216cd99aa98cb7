"""`parity explain`: which setting explains what a run found."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from parity.cli.group import cli


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--system", "systems", multiple=True, metavar="NAME", help="Repeatable; default: all that failed.")
@click.option("--backend", "backends", multiple=True, metavar="NAME", help="Repeatable; default: all that failed.")
@click.option("--runtime", "runtimes", multiple=True, metavar="NAME", help="Repeatable; default: all that failed.")
@click.option("--clip", "clips", multiple=True, metavar="NAME", help="From these clips only. Repeatable.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="What is printed.")
@click.option("--verbose", "-v", is_flag=True, help="All settings that can't be told apart, not the first few.")
def explain(folder: Path, systems: tuple[str, ...], backends: tuple[str, ...], runtimes: tuple[str, ...],
            clips: tuple[str, ...], form: str, verbose: bool) -> None:  # fmt: skip
    """Name the setting, or the two, that explain why a run's features or activations differ.

    RUN is a folder under reports/. Of each backend that failed the arrays that the run kept are held to the oracle with
    one setting changed, then two: window, hop, mel scale, offset, gain and so on. Of each network that failed they are
    held to its float32 ONNX graph with something in it changed: gates, padding, a bias, BatchNorm, one weight and so
    on; and the weights in its file to the trained ones. 100 % is said where every element of every tap that was kept
    is within its bound. The candidate isn't run; exit code 2 where there is nothing to explain. Ctrl-C ends a search
    that takes long, with the closest that it found.
    """
    import msgspec

    from parity import progress
    from parity.explain import runs, wording

    found = []
    warn = partial(click.echo, err=True)
    for explanation in runs.explained(folder, systems, backends, clips, runtimes, warn, progress.shown):
        found.append(explanation)
        if form == "text":
            for line in wording.lines(explanation, 1000 if verbose else wording.ALSO):
                click.echo(line)
            sys.stdout.flush()
    if form == "json":
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n")
        sys.stdout.flush()
    if any(e.interrupted for e in found):
        raise KeyboardInterrupt  # what was found so far is said; the exit code is that of an interruption
