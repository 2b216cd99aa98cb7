"""`parity models`: list, weigh, check, train, export, build, take ranges."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import NoReturn

import click

from parity.cli.golden import recorded_to
from parity.cli.group import (
    PATH,
    cli,
    complete,
    local_options,
    local_target,
    shown,
    system_names,
    systems_option,
    typed,
)
from parity.errors import CONFIG, MISMATCH, NOTHING


@cli.group()
def models() -> None:
    """List, build, train, export and weigh the reference models."""


@models.command("list")
@systems_option
def list_models(systems: tuple[str, ...]) -> None:
    """Systems and their model files."""
    from parity import inventory, system

    inventory.show_systems(system.find(systems))


@models.command()
@click.argument("wanted", nargs=-1, metavar="[SYSTEM]...", shell_complete=complete(system_names))
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
@click.argument("wanted", nargs=-1, metavar="[SYSTEM]...", shell_complete=complete(system_names))
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
@click.argument("name", metavar="SYSTEM", shell_complete=complete(system_names))
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
        click.echo(f"wrote {shown(path)}")


@models.command("ranges")
@click.argument("name", metavar="SYSTEM", shell_complete=complete(system_names))
@click.option("--audio", type=PATH, metavar="DIR",
              help="Clips; of Speech Commands those to train on. Default: $PARITY_DATA/speech_commands.")  # fmt: skip
def take_ranges(name: str, audio: Path | None) -> None:
    """Write down what each tensor of a system's network ranges over on the clips that int8 files are calibrated on.

    What a file of integers may round is derived from these ranges, never from the file's own: a file that is badly
    quantized doesn't widen its bounds. An export takes them too.
    """
    from parity import golden, progress, registry, system
    from parity.errors import ConfigError

    (found,) = system.find([name])
    if audio is None and not os.environ.get("PARITY_DATA"):
        raise ConfigError("no speech to take ranges from", "name a folder of clips: --audio DIR")
    data = audio or Path(os.environ["PARITY_DATA"]) / "speech_commands"
    registry.find("runtime", "monte-carlo")  # MissingExtra says what to install
    from parity import calibration

    with progress.shown() as step:
        inputs = calibration.features(found, data, step)
    path = found.folder / (found.ranges or calibration.FILE)
    golden.write_atomic(path, calibration.taken(found, inputs))
    click.echo(f"wrote {shown(path)}, from {len(inputs)} clips")
    if found.ranges is None:
        click.echo(f'to use it: write ranges = "{path.name}" under [model] of {shown(found.folder / system.FILE)}')


@models.command(context_settings=_PASS)
@click.argument("name", metavar="SYSTEM", shell_complete=complete(system_names))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(name: str, arguments: tuple[str, ...]) -> None:
    """Train a system's network: parity models train SYSTEM --data DIR (its own train.py, as is SYSTEM --help)."""
    if _help_asked(name):
        return
    _script(name, "train.py", arguments)


@models.command("build", context_settings={"ignore_unknown_options": True})
@click.argument("name", metavar="SYSTEM", shell_complete=complete(system_names))
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[OPTION OF train.py]...")
@click.option("--data", type=PATH, metavar="DIR", help="Speech to train on. Default: $PARITY_DATA/speech_commands.")
@click.option("--again", is_flag=True, help="Also where it is built already.")
@local_options
def build_model(name: str, options: tuple[str, ...], data: Path | None, again: bool, jobs: int | None,
                limit: float) -> None:  # fmt: skip
    """Train and export a system that isn't committed, and record its goldens: then `parity run` includes it.

    Nothing is put in place before all of it is there. Interrupted, the same command goes on where it was.
    """
    from parity import building, progress, system
    from parity.errors import ConfigError

    (found,) = system.find([name])
    goldens = recorded_to(None, found)
    if not again and building.is_built(found, goldens):
        click.echo(f"{found.name} is built; --again builds it anew")
        return
    if data is None and not os.environ.get("PARITY_DATA"):
        raise ConfigError("no speech to train on", "name a folder like Speech Commands: --data DIR")
    what = building.Building(
        found=found, data=data or Path(os.environ["PARITY_DATA"]) / "speech_commands", goldens=goldens,
        command=typed(), options=options,
    )  # fmt: skip
    with local_target(jobs, limit) as target, progress.shown() as step:
        trained = building.build(what, target, step, click.echo)
    accuracy, clips = trained["accuracy"]["held_out"], trained["clips"]["held_out"]
    click.echo(f"{found.name}: {accuracy:.2%} on {clips} clips of speakers it never heard "
               "(no benchmark accuracy, if the clips come from an official test list)")  # fmt: skip
    click.echo(f"now: parity run --system {shlex.quote(name)}")
