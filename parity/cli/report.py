"""`parity report`: what people and machines read of a run, made again from its records."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from parity.cli.group import PATH, cli, shown

if TYPE_CHECKING:
    from parity.records import Run

FORMATS = ("html", "junit", "json", "markdown", "parquet", "model-explorer")


@cli.command()
@click.argument("folder", type=PATH, metavar="RUN")
@click.argument("later", type=PATH, metavar="[LATER]", required=False)
@click.option("--format", "form", type=click.Choice(FORMATS), help="Default: html and junit, in RUN itself.")
@click.option("--output", "-o", type=PATH, metavar="FILE", help="Where it goes.")
def report(folder: Path, later: Path | None, form: str | None, output: Path | None) -> None:
    """Draw a run's reports again, or what changed from RUN to LATER; nothing is run.

    RUN is a folder under reports/; only its records are read. json and markdown are printed where no --output is named.
    The exit code says whether the report was made, not what the run found: that is in the report.
    """
    if later is not None:
        _two(folder, later, form, output)
    elif form is None and output is None:
        for one in ("html", "junit"):
            _one(folder, one, None)
    else:
        _one(folder, form or "html", output)


def _two(a: Path, b: Path, form: str | None, output: Path | None) -> None:
    from parity.report import compared

    if form not in (None, "html"):
        raise click.UsageError(f"of two runs there is a page only: take --format {form} away")
    out = output or b / f"since-{a.resolve().name}.html"
    _written(out, lambda: compared.write(a, b, out))


def _one(folder: Path, form: str, output: Path | None) -> None:
    from parity import records

    run = records.read_run(folder)
    _FORMS[form](folder, run, output)


def _html(folder: Path, run: Run, output: Path | None) -> None:
    from parity.report import html

    if output is None:
        _written(folder / "index.html", lambda: html.write(folder, run))
    else:
        _written(output, lambda: output.write_text(html.render(run), encoding="utf-8", errors="backslashreplace"))


def _junit(folder: Path, run: Run, output: Path | None) -> None:
    from parity.report import junit

    out = output or folder / "junit.xml"
    _written(out, lambda: junit.write(folder, run, out))


_FORMS: dict[str, Callable[[Path, Run, Path | None], None]] = {"html": _html, "junit": _junit}


def _written(path: Path, write: Callable[[], object]) -> None:
    """Write a file and say so; ConfigError where it can't be written."""
    from parity.errors import ConfigError

    try:
        write()
    except OSError as e:
        raise ConfigError(f"{path} can't be written: {e.strerror}", "name another: --output FILE") from None
    click.echo(f"report: {shown(path)}")
