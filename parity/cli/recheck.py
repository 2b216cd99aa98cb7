"""`parity recheck`: a run's arrays, judged again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--tolerances", type=click.Path(path_type=Path), metavar="FILE", help="Rules to judge by.")
@click.option("--golden", type=click.Path(path_type=Path), metavar="DIR",
              help="Its tolerances.toml and known_gaps.toml to judge by. Default: those of RUN.")  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path), metavar="DIR",
              help="Where the new run's folder goes. Default: beside RUN.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="What is printed.")
@click.option("--verbose", "-v", is_flag=True, help="Every tap of every pair, not the worst only.")
def recheck(
    folder: Path, tolerances: Path | None, golden: Path | None, report: Path | None, form: str, verbose: bool
) -> None:
    """Judge the arrays that a run kept again, under another policy; nothing is run.

    RUN is a folder under reports/; `parity run --keep all` keeps every array. A verdict without arrays stands where its
    rule is unchanged; else it is listed as not judged (exit code 2). The result is a new run; RUN is never changed.
    """
    import msgspec
    from rich.console import Console

    from parity import cli as commands
    from parity import recheck as rechecking
    from parity.report import terminal

    reports = report or folder.resolve().parent
    done, written = rechecking.recheck(folder, reports, tolerances, golden, commands._command())
    try:
        if form == "json":
            sys.stdout.write(msgspec.json.format(msgspec.json.encode(done), indent=1).decode() + "\n")
        else:
            console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
            terminal.show(done, console, verbose)
            console.print(f"report: {commands._shown(written / 'index.html')}", soft_wrap=True, markup=False)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # rich makes the one of the other
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(done.exit_code)
