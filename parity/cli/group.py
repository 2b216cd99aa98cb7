"""What the commands share: their group, options that several have, and how a run is shown."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.shell_completion import CompletionItem

from parity import __version__

if TYPE_CHECKING:
    from parity.records import Run
    from parity.targets.local import LocalTarget

PATH = click.Path(path_type=Path)


def complete(names: Callable[[], list[str]]) -> Any:
    """Completion in the shell from a list of names."""

    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(n) for n in names() if n.startswith(incomplete)]

    return complete


def system_names() -> list[str]:
    """The systems that are here."""
    from parity import system

    return system.names()


def plugin_names(kind: Any) -> Callable[[], list[str]]:
    """The plugins of a kind, looked up when asked."""

    def names() -> list[str]:
        from parity import registry

        return list(registry.plugins(kind))

    return names


def systems_option(f: Any) -> Any:
    """--system, repeatable."""
    return click.option(
        "--system", "systems", multiple=True, metavar="NAME|DIR", shell_complete=complete(system_names),
        help="A system by name, or the folder of its system.toml. Repeatable; default: all.",
    )(f)  # fmt: skip


def local_options(f: Any) -> Any:
    """--jobs and --limit of a local target."""
    f = click.option("--jobs", type=click.IntRange(1), help="Workers that compute at a time. Default: the cores.")(f)
    return click.option(
        "--limit", type=click.FloatRange(0, min_open=True), default=120.0, show_default=True, metavar="SECONDS",
        help="How long a plugin may take to answer before it is stopped.",
    )(f)  # fmt: skip


def typed() -> str:
    """The command as it was typed."""
    return shlex.join(["parity", *sys.argv[1:]])


def local_target(jobs: int | None, limit: float) -> LocalTarget:
    """Worker processes on this machine."""
    from parity.targets.local import LocalTarget

    return LocalTarget(jobs, limit)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "PARITY"})
@click.version_option(__version__, prog_name="parity")
def cli() -> None:
    """Prove that a keyword-spotting system computes on its deployment stack what it computed in training.

    `parity run --backend librosa --runtime onnxrt` compares one pair with the goldens; `parity run` compares everything
    that is installed. Exit codes: 0 within bounds, 1 a mismatch, 2 nothing (or not all) compared, 3 usage or
    configuration, 4 target unreachable, 5 goldens missing or altered.
    """


def show_run(done: Run, folder: Path, form: str, verbose: bool) -> NoReturn:
    """Print a run as a table or JSON, and end with its exit code."""
    import msgspec
    from rich.console import Console

    from parity.report import terminal

    try:
        if form == "json":
            sys.stdout.write(msgspec.json.format(msgspec.json.encode(done), indent=1).decode() + "\n")
        else:
            console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
            terminal.show(done, console, verbose)
            console.print(f"report: {shown(folder / 'index.html')}", soft_wrap=True, markup=False)
            if done.evidence and "explain" in cli.commands:
                console.print(f"why: parity explain {shlex.quote(shown(folder))}", soft_wrap=True, markup=False)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # rich makes the one of the other
        # Whoever read our output has gone; the verdict stands.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(done.exit_code)


def shown(path: Path) -> str:
    """A path as short as it can be."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
