"""`parity recheck`: a run's arrays, judged again."""

from __future__ import annotations

from pathlib import Path

import click

from parity.cli.group import PATH, cli, show_run, typed


@cli.command()
@click.argument("folder", type=PATH, metavar="RUN")
@click.option("--tolerances", type=PATH, metavar="FILE", help="Rules to judge by.")
@click.option("--golden", type=PATH, metavar="DIR",
              help="Its tolerances.toml and known_gaps.toml to judge by. Default: those of RUN.")  # fmt: skip
@click.option("--report", type=PATH, metavar="DIR",
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

    from parity import recheck as rechecking

    reports = report or folder.resolve().parent
    done, written = rechecking.recheck(folder, reports, tolerances, golden, typed())
    show_run(done, written, form, verbose)
