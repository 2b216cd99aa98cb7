"""What the commands share: their group, options that several have, and how a run is shown."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.shell_completion import CompletionItem

from parity import __version__

if TYPE_CHECKING:
    from parity.protocols import Target
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


class _Seconds(click.FloatRange):
    """Seconds that end: `inf` and `nan` are numbers to Python."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if not seconds <= MOST_SECONDS:
            self.fail(f"{value} is not a number of seconds up to {MOST_SECONDS:g}", param, ctx)
        return seconds


MOST_SECONDS = 1e6
SECONDS = _Seconds(0, min_open=True)


def local_options(f: Any) -> Any:
    """--jobs and --limit of a local target."""
    f = click.option("--jobs", type=click.IntRange(1), help="Workers that compute at a time. Default: the cores.")(f)
    return click.option(
        "--limit", type=SECONDS, default=120.0, show_default=True, metavar="SECONDS",
        help="How long a plugin may take to answer before it is stopped.",
    )(f)  # fmt: skip


def selection_options(f: Any) -> Any:
    """What a run compares, and with what."""
    for option in reversed((
        systems_option,
        click.option("--backend", "backends", multiple=True, metavar="NAME",
                     shell_complete=complete(plugin_names("backend")),
                     help="A feature backend. Repeatable; default: all installed."),
        click.option("--runtime", "runtimes", multiple=True, metavar="NAME",
                     shell_complete=complete(plugin_names("runtime")),
                     help="A runtime, with options: onnxrt:opt=off. Repeatable; default: all installed."),
        click.option("--precision", "precisions", multiple=True, metavar="NAME",
                     help="float32, int8, ... Repeatable."),
        click.option("--audio", type=PATH, metavar="DIR",
                     help="Clips without goldens: judged by the oracle, here and now."),
        click.option("--labels-from", type=click.Choice(["folders"]), help="With --audio: print accuracy."),
        click.option("--golden", type=PATH, metavar="DIR",
                     help="Goldens to compare with. Default: the project's golden/."),
        click.option("--layers", type=click.IntRange(0), default=3, show_default=True, metavar="N",
                     help="With --audio: clips whose inner layers are compared too."),
    )):  # fmt: skip
        f = option(f)
    return f


def record_options(f: Any) -> Any:
    """What a run leaves behind, and what is printed of it."""
    for option in reversed((
        click.option("--keep", type=click.Choice(["failing", "all", "none"]), default="failing", show_default=True,
                     help="Whose arrays go into the run's folder; all: `parity recheck` can judge anew."),
        click.option("--report", type=PATH, metavar="DIR", help="Where the run's folder goes. Default: reports/."),
        click.option("--format", "form", type=click.Choice(["table", "json"]), default="table",
                     help="What is printed."),
        click.option("--verbose", "-v", is_flag=True, help="Every tap of every pair, not the worst only."),
    )):  # fmt: skip
        f = option(f)
    return f


def threads_option(f: Any) -> Any:
    """--threads of every runtime."""
    return click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, metavar="N",
                        help="Threads that a runtime computes with.")(f)  # fmt: skip


def selected(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of a Selection that `selection_options` give."""
    same = ("systems", "backends", "runtimes", "precisions", "audio", "golden", "layers", "keep")
    return {k: options[k] for k in same} | {"labels_from_folders": options["labels_from"] is not None}


def given(name: str) -> bool:
    """Whether an option was typed."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def check_selection(options: dict[str, Any]) -> None:
    """Refuse options of a selection that would be overlooked."""
    if options["labels_from"] and options["audio"] is None:
        raise click.UsageError("--labels-from needs --audio: the goldens' folders are not labels")
    if options["golden"] is not None and options["audio"] is not None:
        raise click.UsageError("--audio judges without goldens: take --golden away")
    if given("layers") and options["audio"] is None:
        raise click.UsageError("--layers needs --audio: goldens say themselves which layers they hold")


def one_thread() -> None:
    """Have NumPy, which isn't imported yet, compute on one thread, unless the user's environment says otherwise.

    Matrices here are small: on two busy cores threads that wait for each other took ten times the work's CPU time.
    """
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")


def typed() -> str:
    """The command as it was typed."""
    return shlex.join(["parity", *sys.argv[1:]])


def target_option(f: Any) -> Any:
    """--target, repeatable."""
    return click.option(
        "--target", "targets", multiple=True, metavar="NAME", shell_complete=complete(target_names),
        help="Where it runs: local, a name from parity.toml, ssh://user@host, python:/path/to/python, emulated-pi. "
             "Repeatable: side by side. Default: local.",
    )(f)  # fmt: skip


def target_names() -> list[str]:
    """The targets that have a name."""
    from parity import settings
    from parity.targets import emulated_pi, local

    return [local.NAME, *settings.load().targets, *emulated_pi.KINDS]


@contextlib.contextmanager
def opened_targets(options: dict[str, Any]) -> Iterator[list[Target]]:
    """The targets of --target, with --jobs, --limit and --threads; all ended afterwards."""
    from parity import settings
    from parity.targets import named

    known = settings.addresses()
    threads = options["threads"] if given("threads") else None
    asked = named.Options(jobs=options["jobs"], limit=options["limit"], threads=threads)
    with contextlib.ExitStack() as stack:
        yield named.open_all(list(options["targets"]), known, asked, stack)


def local_target(jobs: int | None, limit: float, threads: int = 1) -> LocalTarget:
    """Worker processes on this machine."""
    from parity.targets.local import LocalTarget

    return LocalTarget(jobs, limit, threads)


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

    from parity.report import github, terminal, wording

    try:
        if form == "json":
            sys.stdout.write(msgspec.json.format(msgspec.json.encode(done), indent=1).decode() + "\n")
        else:
            with github.no_commands():
                console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
                terminal.show(done, console, verbose)
                console.print(f"report: {shown(folder / 'index.html')}", soft_wrap=True, markup=False)
                if done.evidence and "explain" in cli.commands:
                    console.print(f"why: parity explain {shlex.quote(shown(folder))}", soft_wrap=True, markup=False)
                if wording.acceptable(done):
                    command = f"parity accept {shlex.quote(shown(folder))} --reason TEXT"
                    console.print(f"if it is right as it is: {command}", soft_wrap=True, markup=False)
        sys.stdout.flush()
        github.tell(done, sys.stderr if form == "json" else sys.stdout)  # JSON stays pure
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
