"""`parity target`: other places where plugins run, what they lack, and how they get it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from parity.cli.group import cli, complete

if TYPE_CHECKING:
    from parity.targets.named import Reached


def _names() -> list[str]:
    from parity import settings

    return [*settings.load().targets, *settings.BUILT_IN]


_NAME = click.argument("name", shell_complete=complete(_names))


@cli.group()
def target() -> None:
    """Another Python, a Raspberry Pi over SSH: what is there, what is missing, and setting it up.

    NAME is one of `[targets.NAME]` in parity.toml, ssh://[user@]host[:port] or python:/path/to/python.
    """


@target.command("list")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="What is printed.")
def list_targets(form: str) -> None:
    """The targets that parity.toml names, and those that need no settings."""
    from parity import inventory, settings

    inventory.show_targets(settings.load().targets, form)


@target.command()
@_NAME
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="What is printed.")
def check(name: str, form: str) -> None:
    """What is there and what is missing, and what to type for it.

    Exit code 0 when the backend numpy and a runtime can run there, 3 when something must be mended first, 4 when it
    can't be reached.
    """
    from parity import inventory, readiness

    with _connected(name) as there:
        report = readiness.check(there.link, there.python, provisioned=there.python is None)
    inventory.show_readiness(report, form)
    sys.exit(report.exit_code)


@target.command()
@_NAME
@click.option("--with", "runtimes", metavar="onnxrt,tflite", default="",
              help="The runtimes to install, separated by commas. Default: all that there are for it.")  # fmt: skip
@click.option("--offline", is_flag=True, help="Download wheels here, and send them over: the device needs no internet.")
@click.option("--python", metavar="PYTHON", help="The Python there to make it with. Default: python3.")
def setup(name: str, runtimes: str, offline: bool, python: str | None) -> None:
    """Make a virtual environment there, in ~/.local/share/parity, with NumPy and runtimes of pinned versions.

    The same again changes nothing. What was cut off goes on where it stopped.
    """
    from parity import provisioning

    def say(words: str) -> None:
        click.echo(f"{name}: {words}", err=True)

    chosen = [r.strip() for r in runtimes.split(",") if r.strip()]
    with _connected(name) as there:
        provisioning.may_set_up(there)
        made = provisioning.setup(there.link, chosen, offline=offline, python=python, say=say)
    what = ", ".join(f"{k} {v}" for k, v in made.versions.items())
    click.echo(f"{name}: {made.venv} {'has' if made.new else 'has already'} {what}")
    click.echo(f"now: parity run --target {name} --backend numpy")


@target.command()
@_NAME
@click.option("--all", "everything", is_flag=True, help="And the virtual environment that setup made.")
def clean(name: str, everything: bool) -> None:
    """Take away what parity keeps there: its cache folder. It comes back by itself with the next run."""
    from parity import provisioning
    from parity.targets.machines import size

    with _connected(name) as there:
        removed = provisioning.remove(there.link, everything)
    for path, taken in removed:
        click.echo(f"{name}: removed {path} ({size(taken)})")
    if not removed:
        click.echo(f"{name}: parity keeps nothing there")


@contextlib.contextmanager
def _connected(name: str) -> Iterator[Reached]:
    """The way to a target, connected."""
    from parity import settings
    from parity.targets import named
    from parity.targets.link import PythonLink

    with contextlib.ExitStack() as stack:
        # This machine, seen as a device is: through a shell.
        here = named.Reached(PythonLink(name, sys.executable), sys.executable)
        there = named.reach(name, settings.addresses(), stack) or here
        stack.callback(there.link.close)
        there.link.connect()
        yield there
