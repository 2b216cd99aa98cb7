"""The commands. Nothing heavy is imported before a command runs: `parity --help` must feel instant."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.shell_completion import CompletionItem

from parity import __version__
from parity.errors import BUG, CONFIG, INTERRUPTED, MISMATCH, NOTHING, ParityError

if TYPE_CHECKING:
    from parity.golden_export import Format
    from parity.system import System
    from parity.targets.local import LocalTarget

PATH = click.Path(path_type=Path)


def _complete(names: Callable[[], list[str]]) -> Any:
    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(n) for n in names() if n.startswith(incomplete)]

    return complete


def _system_names() -> list[str]:
    from parity import system

    return system.names()


def _plugin_names(kind: Any) -> Callable[[], list[str]]:
    def names() -> list[str]:
        from parity import registry

        return list(registry.plugins(kind))

    return names


def _systems(f: Any) -> Any:
    return click.option(
        "--system", "systems", multiple=True, metavar="NAME|DIR", shell_complete=_complete(_system_names),
        help="A system by name, or the folder of its system.toml. Repeatable; default: all.",
    )(f)  # fmt: skip


def _local(f: Any) -> Any:
    f = click.option("--jobs", type=click.IntRange(1), help="Workers that compute at a time. Default: the cores.")(f)
    return click.option(
        "--limit", type=click.FloatRange(0, min_open=True), default=120.0, show_default=True, metavar="SECONDS",
        help="How long a plugin may take to answer before it is stopped.",
    )(f)  # fmt: skip


def _command() -> str:
    return shlex.join(["parity", *sys.argv[1:]])


def _target(jobs: int | None, limit: float) -> LocalTarget:
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


@cli.command()
@_systems
@click.option("--backend", "backends", multiple=True, metavar="NAME",
              shell_complete=_complete(_plugin_names("backend")),
              help="A feature backend. Repeatable; default: all installed.")  # fmt: skip
@click.option("--runtime", "runtimes", multiple=True, metavar="NAME",
              shell_complete=_complete(_plugin_names("runtime")),
              help="A runtime, with options: onnxrt:opt=off. Repeatable; default: all installed.")  # fmt: skip
@click.option("--precision", "precisions", multiple=True, metavar="NAME", help="float32, int8, ... Repeatable.")
@click.option("--audio", type=PATH, metavar="DIR", help="Clips without goldens: judged by the oracle, here and now.")
@click.option("--labels-from", type=click.Choice(["folders"]), help="With --audio: print accuracy.")
@click.option("--golden", type=PATH, metavar="DIR", help="Goldens to compare with. Default: the project's golden/.")
@click.option("--examples", type=click.IntRange(0), default=0, metavar="N", help="Judge N generated clips as well.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the generated clips.")
@click.option("--streaming", is_flag=True,
              help="A few frames at a time, held to the whole clip's; prints detections.")  # fmt: skip
@click.option("--layers", type=click.IntRange(0), default=3, show_default=True, metavar="N",
              help="With --audio: clips whose inner layers are compared too.")  # fmt: skip
@click.option("--keep", type=click.Choice(["failing", "all", "none"]), default="failing", show_default=True,
              help="Whose arrays go into the run's folder; all: `parity recheck` can judge anew.")  # fmt: skip
@click.option("--report", type=PATH, metavar="DIR", help="Where the run's folder goes. Default: reports/.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="What is printed.")
@click.option("--verbose", "-v", is_flag=True, help="Every tap of every pair, not the worst only.")
@_local
def run(**options: Any) -> None:
    """Compare backends and runtimes with the goldens, tap by tap."""
    import msgspec
    from rich.console import Console

    from parity import pipeline, progress, system
    from parity.plan import Selection
    from parity.report import streaming, terminal

    _combination(options)
    selection = Selection(
        systems=options["systems"], backends=options["backends"], runtimes=options["runtimes"],
        precisions=options["precisions"], audio=options["audio"], golden=options["golden"],
        labels_from_folders=options["labels_from"] is not None, examples=options["examples"], seed=options["seed"],
        layers=options["layers"], streaming=options["streaming"], keep=options["keep"],
    )  # fmt: skip
    reports = options["report"] or system.root() / "reports"
    with _target(options["jobs"], options["limit"]) as target, progress.shown() as step:
        heard = streaming.hearing(Console(highlight=False)) if options["form"] == "table" else lambda _: None
        done, folder = pipeline.run(selection, target, reports, _command(), step, heard)
    try:
        if options["form"] == "json":
            sys.stdout.write(msgspec.json.format(msgspec.json.encode(done), indent=1).decode() + "\n")
        else:
            console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
            terminal.show(done, console, options["verbose"])
            console.print(f"report: {_shown(folder / 'index.html')}", soft_wrap=True, markup=False)
            if done.evidence and "explain" in cli.commands:
                console.print(f"why: parity explain {shlex.quote(_shown(folder))}", soft_wrap=True, markup=False)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # rich makes the one of the other
        # Whoever read our output has gone; the verdict stands.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(done.exit_code)


def _combination(options: dict[str, Any]) -> None:
    """Refuse options that would be overlooked."""
    context = click.get_current_context()

    def given(name: str) -> bool:
        return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE

    if options["labels_from"] and options["audio"] is None:
        raise click.UsageError("--labels-from needs --audio: the goldens' folders are not labels")
    if options["golden"] is not None and options["audio"] is not None:
        raise click.UsageError("--audio judges without goldens: take --golden away")
    if given("layers") and options["audio"] is None:
        raise click.UsageError("--layers needs --audio: goldens say themselves which layers they hold")
    if options["streaming"] and (options["labels_from"] or options["examples"]):
        raise click.UsageError("--streaming compares frames with whole clips': take --labels-from and --examples away")
    if given("seed") and not options["examples"]:
        raise click.UsageError("--seed needs --examples")


def _shown(path: Path) -> str:
    """A path as short as it can be."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@cli.group()
def golden() -> None:
    """Record, verify and show goldens."""


def _recorded_to(out: Path | None, found: System) -> Path:
    """Where a system's goldens are recorded: as named, the project's, or beside a system.toml outside the project."""
    from parity import system

    return out or (system.root() if system.inside(found.folder) else found.folder) / "golden"


def _recorded(systems: tuple[str, ...]) -> list[System]:
    """The systems named; where none is, all that have a file to run: of the others nothing can be recorded."""
    from parity import system

    found = system.find(systems)
    return found if systems else [s for s in found if s.artifacts] or found


def _golden_of(where: Path | None, found: System) -> Path:
    """Where a system's goldens are: as named, beside its system.toml, or the project's."""
    from parity import plan, sources

    return sources.golden_root(plan.Selection(golden=where), found)


@golden.command()
@click.option("--system", "systems", multiple=True, metavar="NAME|DIR", shell_complete=_complete(_system_names),
              help="Default: all that are built.")  # fmt: skip
@click.option("--audio", type=PATH, metavar="DIR", help="Clips to record from. Default: the goldens' own clips/.")
@click.option(
    "--out",
    type=PATH,
    metavar="DIR",
    help="Where goldens go. Default: the project's golden/, or golden/ beside a system.toml elsewhere.",
)
@click.option("--anchor", "--backend", metavar="NAME",
              help="Backend that must agree with the oracle. Default: system.toml's, else librosa.")  # fmt: skip
@click.option("--unanchored", is_flag=True, help="Record without such a backend; every report says so.")
@click.option(
    "--runtime", metavar="NAME", help="Runtime that activations are recorded from. Default: the system's own."
)
@click.option("--layers", type=click.IntRange(0), default=3, show_default=True, metavar="N",
              help="Clips whose inner layers are recorded.")  # fmt: skip
@_local
def record(systems: tuple[str, ...], audio: Path | None, out: Path | None, anchor: str | None, unanchored: bool,
           runtime: str | None, layers: int, jobs: int | None, limit: float) -> None:  # fmt: skip
    """Record goldens: oracle features with their bounds, activations and decisions.

    Nothing is recorded where the anchor, or a published vector that system.toml names, disagrees with the oracle.
    """
    from parity import progress
    from parity import record as recording
    from parity.report import wording

    with _target(jobs, limit) as target:
        for found in _recorded(systems):
            root = _recorded_to(out, found)
            backend = None if unanchored else anchor or recording.usual_anchor(found)
            what = recording.Recording(
                system=found, folder=audio or root / "clips", root=root, anchor=backend,
                runtime=runtime, layers=layers, command=_command(),
            )  # fmt: skip
            with progress.shown() as step:
                path, manifest = recording.record(what, target, step)
            worst = max(manifest["anchor"]["worst_error_over_bound"].values(), default=0.0)
            agrees = f"{backend}, given this recipe, agrees with the oracle, at most {worst:.2g} of the bound"
            proof = [agrees if backend else "", wording.published(manifest["anchor"])]
            told = "; ".join(filter(None, proof)) or "no anchor"
            click.echo(f"{found.name}: {len(manifest['clips'])} clips recorded in {_shown(path.parent)}; {told}; "
                       f"activations by {manifest['recorder']['runtime']}")  # fmt: skip


@golden.command()
@_systems
@click.option("--golden", "where", type=PATH, metavar="DIR", help="Default: the project's golden/.")
def verify(systems: tuple[str, ...], where: Path | None) -> None:
    """Check every digest, and that the oracle still computes what was recorded."""
    from parity import golden as goldens
    from parity import vectors
    from parity.errors import GoldenError

    problems = 0
    for found in _recorded(systems):
        opened = goldens.load(_golden_of(where, found), found)
        for problem in opened.verify():
            problems += 1
            click.echo(f"{found.name}: {problem}", err=True)
        met, absent = len(list(vectors.reproduce(found, at_hand=True))), vectors.absent(found)
        and_vectors = f", {met} published vectors reproduced" if met else ""
        and_vectors += f", {len(absent)} not at hand: {', '.join(absent)}" if absent else ""
        click.echo(f"{found.name}: {len(opened.clips)} clips checked{and_vectors}")
    if problems:
        found_are = "1 problem" if problems == 1 else f"{problems} problems"
        raise GoldenError(f"{found_are} in the goldens", "restore them (git checkout), or record again")


@golden.command()
@_systems
@click.option("--golden", "where", type=PATH, metavar="DIR", help="Default: the project's golden/.")
def show(systems: tuple[str, ...], where: Path | None) -> None:
    """What is recorded: clips, decisions, arrays, anchor and provenance."""
    from parity import golden as goldens
    from parity import inventory

    for found in _recorded(systems):
        inventory.show_golden(goldens.load(_golden_of(where, found), found))


@golden.command("export")
@_systems
@click.option("--format", "form", type=click.Choice(["c", "npy", "mat"]), required=True,
              help="C99 source, a .npy file an array, or a MATLAB file a clip (extra `mat`).")  # fmt: skip
@click.option("--clip", "clips", multiple=True, metavar="NAME", help="These only, as `golden show` names them.")
@click.option("--golden", "where", type=PATH, metavar="DIR", help="Default: the project's golden/.")
@click.option("--out", type=PATH, default=Path("golden-export"), show_default=True, metavar="DIR",
              help="A folder of its own for each system goes here.")  # fmt: skip
def export_golden(systems: tuple[str, ...], form: Format, clips: tuple[str, ...], where: Path | None,
                  out: Path) -> None:  # fmt: skip
    """Write goldens for firmware or MATLAB tests: clips, features at every tap with bounds, known answers."""
    from parity import golden as goldens
    from parity import golden_export

    for found in _recorded(systems):
        opened = golden_export.only(goldens.load(_golden_of(where, found), found), clips)
        files = golden_export.export(opened, form, out / found.name)
        size = sum(f.stat().st_size for f in files) / 1e6
        count = f"{len(opened.clips)} clip{'s' if len(opened.clips) != 1 else ''}"
        click.echo(f"{found.name}: {count} in {len(files)} files, {size:.1f} MB, "
                   f"in {_shown(out / found.name)}")  # fmt: skip


@cli.group()
def models() -> None:
    """List, build, train, export and weigh the reference models."""


@models.command("list")
@_systems
def list_models(systems: tuple[str, ...]) -> None:
    """Systems and their model files."""
    from parity import inventory, system

    inventory.show_systems(system.find(systems))


@models.command()
@click.argument("wanted", nargs=-1, metavar="[SYSTEM]...", shell_complete=_complete(_system_names))
def cost(wanted: tuple[str, ...]) -> None:
    """Parameters and multiply-adds of systems' PyTorch networks, sizes of their files. Default: all systems."""
    from parity import inventory, registry, system

    systems = system.find(wanted)
    registry.find("runtime", "torch")  # MissingExtra says what to install
    from parity import cost as costs

    found = [costs.of(s) for s in systems]
    published = [words for s, cost in zip(systems, found, strict=True) if (words := costs.beside(s, cost))]
    inventory.show_costs(systems, found, [costs.arenas(s) for s in systems], costs.RULE, published)


@models.command()
@click.argument("wanted", nargs=-1, metavar="[SYSTEM]...", shell_complete=_complete(_system_names))
@click.option("--verbose", "-v", is_flag=True, help="Every tensor, not the wrong ones only.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="What is printed.")
def check(wanted: tuple[str, ...], verbose: bool, form: str) -> None:
    """Hold the weights inside each model file to the trained ones. Default: all systems.

    Exit codes: 0 all explained, 1 a wrong weight or a changed file, 2 nothing, or not all that was named, was checked.
    """
    from parity import inventory, registry, system

    systems = system.find(wanted)
    registry.find("runtime", "torch")  # MissingExtra says what to install
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # it warns of the quantization that the files are made with
    from parity.weights import check as weights

    found = [(s, weights.of(s)) for s in systems]
    if form == "json":
        import msgspec

        plain = [record for s, files in found for record in weights.records(s, files)]
        click.echo(msgspec.json.format(msgspec.json.encode(plain), indent=1).decode())
    else:
        inventory.show_weights(found, verbose)
    files = [c for _, checked in found for c in checked]
    if any(s.changed for s in systems) or any(c.findings and not c.ok for c in files):
        sys.exit(MISMATCH)
    if not any(c.findings for c in files) or (wanted and any(not of or any(c.why for c in of) for _, of in found)):
        sys.exit(NOTHING)


def _script(name: str, script: str, arguments: tuple[str, ...]) -> NoReturn:
    """Run a system's own script, in a process of its own."""
    import subprocess

    from parity import system
    from parity.errors import ConfigError

    (found,) = system.find([name])
    path = found.folder / script
    if not path.is_file():
        raise ConfigError(f"{name} has no {script}", f"its folder is {found.folder}")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    code = subprocess.run([sys.executable, str(path), *arguments], env=quiet | os.environ, check=False).returncode
    sys.exit(CONFIG if code == NOTHING else code)  # argparse's 2 is a wrong option


_PASS = {"ignore_unknown_options": True, "help_option_names": []}
_HELP = ("-h", "--help")
"""With a system's name before it, its own script answers."""


def _help_asked(name: str) -> bool:
    """Whether help was asked for in a system's place, and given."""
    if name in _HELP:
        click.echo(click.get_current_context().get_help())
    return name in _HELP


@models.command(context_settings=_PASS)
@click.argument("name", metavar="SYSTEM", shell_complete=_complete(_system_names))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--format", "form", type=click.Choice(["c"]), help="C arrays of the TensorFlow Lite files.")
@click.option("--out", type=PATH, metavar="DIR", help="Default: the system's folder; with --format c, models-export/.")
def export(name: str, arguments: tuple[str, ...], form: str | None, out: Path | None) -> None:
    """Export a system's trained network to every format it is deployed in (its own export.py).

    `parity models export SYSTEM --help` is export.py's own. With --format c nothing is exported anew: the TensorFlow
    Lite files that are there are written as C arrays.
    """
    if _help_asked(name):
        return
    if form is None:
        _script(name, "export.py", (*(("--out", str(out)) if out is not None else ()), *arguments))
    if arguments:
        raise click.UsageError(f"--format c takes no {arguments[0]!r}: it writes what is exported already")
    from parity import golden_export, system

    (found,) = system.find([name])
    for path in golden_export.models(found, out or Path("models-export") / found.name):
        click.echo(f"wrote {_shown(path)}")


@models.command(context_settings=_PASS)
@click.argument("name", metavar="SYSTEM", shell_complete=_complete(_system_names))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(name: str, arguments: tuple[str, ...]) -> None:
    """Train a system's network: parity models train SYSTEM --data DIR (its own train.py, as is SYSTEM --help)."""
    if _help_asked(name):
        return
    _script(name, "train.py", arguments)


@models.command("build", context_settings={"ignore_unknown_options": True})
@click.argument("name", metavar="SYSTEM", shell_complete=_complete(_system_names))
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[OPTION OF train.py]...")
@click.option("--data", type=PATH, metavar="DIR", help="Speech to train on. Default: $PARITY_DATA/speech_commands.")
@click.option("--again", is_flag=True, help="Also where it is built already.")
@_local
def build_model(name: str, options: tuple[str, ...], data: Path | None, again: bool, jobs: int | None,
                limit: float) -> None:  # fmt: skip
    """Train and export a system that isn't committed, and record its goldens: then `parity run` includes it.

    Nothing is put in place before all of it is there. Interrupted, the same command goes on where it was.
    """
    from parity import building, progress, system
    from parity.errors import ConfigError

    (found,) = system.find([name])
    goldens = _recorded_to(None, found)
    if not again and building.is_built(found, goldens):
        click.echo(f"{found.name} is built; --again builds it anew")
        return
    if data is None and not os.environ.get("PARITY_DATA"):
        raise ConfigError("no speech to train on", "name a folder like Speech Commands: --data DIR")
    what = building.Building(
        found=found, data=data or Path(os.environ["PARITY_DATA"]) / "speech_commands", goldens=goldens,
        command=_command(), options=options,
    )  # fmt: skip
    with _target(jobs, limit) as target, progress.shown() as step:
        trained = building.build(what, target, step, click.echo)
    accuracy, clips = trained["accuracy"]["held_out"], trained["clips"]["held_out"]
    click.echo(f"{found.name}: {accuracy:.2%} on {clips} clips of speakers it never heard "
               "(no benchmark accuracy, if the clips come from an official test list)")  # fmt: skip
    click.echo(f"now: parity run --system {shlex.quote(name)}")


@cli.command("list")
@click.argument("what", type=click.Choice(["plugins", "systems"]), default="plugins")
@click.argument("wanted", nargs=-1, metavar="[NAME|DIR]...", shell_complete=_complete(_system_names))
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
    with _target(None, 120.0) as target:
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
        click.echo(f"wrote {_shown(path)}")
    click.echo("fill in what is marked TODO, then: parity golden record --system "
               f"{shlex.quote(str(folder))} --audio WAVS")  # fmt: skip


def _register() -> None:
    """Commands with a file of their own."""
    from parity.cli.explain import explain
    from parity.cli.recheck import recheck

    cli.add_command(explain)
    cli.add_command(recheck)


_register()


def main() -> NoReturn:
    """Entry point: every error becomes a line and an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # asked to end: as tidily as by Ctrl-C
    try:
        cli.main(standalone_mode=False)
        code = 0
    except click.exceptions.NoArgsIsHelpError as e:
        e.show()
        code = CONFIG
    except click.ClickException as e:
        e.show()
        code = CONFIG
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except ParityError as e:
        code = e.exit_code
        with contextlib.suppress(BrokenPipeError):
            click.echo(f"parity: {e.message}", err=True)
            if e.hint:
                click.echo(f"hint: {e.hint}", err=True)
    except BrokenPipeError:
        # Whoever read our output has gone; what was to be said no longer matters, that it failed does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = MISMATCH
    except Exception:
        import traceback

        traceback.print_exc()
        click.echo("parity: this is a bug in parity; please report it with the lines above", err=True)
        code = BUG
    sys.exit(code)
