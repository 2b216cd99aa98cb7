"""What is here: `parity list`, `parity doctor`; and `parity init`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from parity.cli.group import (
    PATH,
    cli,
    complete,
    local_target,
    shown,
    system_names,
)

if TYPE_CHECKING:
    pass


@cli.command("list")
@click.argument("what", type=click.Choice(["plugins", "systems"]), default="plugins")
@click.argument("wanted", nargs=-1, metavar="[NAME|DIR]...", shell_complete=complete(system_names))
@click.option("--format", "form", type=click.Choice(["table", "markdown"]), default="table",
              help="markdown: the table of files in reference_models/README.md.")  # fmt: skip
def list_all(what: str, wanted: tuple[str, ...], form: str) -> None:
    """Plugins: installed or not, versions, what to install.

    `list systems [NAME|DIR]...`: each system's backends, and by file the runtimes that run it, with the reasons where
    none does. Default: all of the project.
    """
    from parity import inventory, matrix, system

    if what == "plugins":
        if form != "table":
            raise click.UsageError("--format markdown is for `list systems`")
        if wanted:
            raise click.UsageError(f"{wanted[0]!r} goes with `list systems`")
        inventory.show_plugins()
        return
    systems = system.find(wanted)
    if form == "markdown":
        click.echo(matrix.markdown(systems, matrix.absent(system.root() / "reference_models")), nl=False)
        return
    with local_target(None, 120.0) as target:
        inventory.show_matrix(systems, target)


@cli.command()
def doctor() -> None:
    """Check this installation: Python, plugins that load, goldens that verify, a reports folder that can be written."""
    from parity import doctor as checks

    sys.exit(checks.run())


@cli.command()
@click.argument("folder", type=PATH, metavar="DIR")
def init(folder: Path) -> None:
    """Write a commented system.toml for your own model into DIR."""
    from parity import starter

    for path in starter.write(folder):
        click.echo(f"wrote {shown(path)}")
    click.echo("fill in what is marked TODO, then: parity golden record --system "
               f"{shlex.quote(str(folder))} --audio WAVS")  # fmt: skip
