"""`parity golden`: record, verify, show, export."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import click

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

if TYPE_CHECKING:
    from parity.golden_export import Format
    from parity.system import System


@cli.group()
def golden() -> None:
    """Record, verify and show goldens."""


def recorded_to(out: Path | None, found: System) -> Path:
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
@click.option("--system", "systems", multiple=True, metavar="NAME|DIR", shell_complete=complete(system_names),
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
@local_options
def record(systems: tuple[str, ...], audio: Path | None, out: Path | None, anchor: str | None, unanchored: bool,
           runtime: str | None, layers: int, jobs: int | None, limit: float) -> None:  # fmt: skip
    """Record goldens: oracle features with their bounds, activations and decisions.

    Nothing is recorded where the anchor, or a published vector that system.toml names, disagrees with the oracle.
    """
    from parity import progress, sources
    from parity import record as recording
    from parity.bounds import networks
    from parity.report import wording

    with local_target(jobs, limit) as target:
        for found in _recorded(systems):
            root = recorded_to(out, found)
            backend = None if unanchored else anchor or recording.usual_anchor(found)
            what = recording.Recording(
                system=found, folder=audio or root / "clips", root=root, anchor=backend,
                runtime=runtime, layers=layers, command=typed(),
            )  # fmt: skip
            with progress.shown() as step:
                path, manifest = recording.record(what, target, step)
            worst = max(manifest["anchor"]["worst_error_over_bound"].values(), default=0.0)
            agrees = f"{backend}, given this recipe, agrees with the oracle, at most {worst:.2g} of the bound"
            proof = [agrees if backend else "", wording.published(manifest["anchor"])]
            told = "; ".join(filter(None, proof)) or "no anchor"
            why = sources.underived(found, target)
            bounds = "derived" if why is None else f"not derived ({why}): tolerances.toml declares them"
            if why is None and (left := networks.underived(found)):
                bounds += f" but for {', '.join(left)} (README, 'Bounds')"
            click.echo(f"{found.name}: {len(manifest['clips'])} clips recorded in {shown(path.parent)}; {told}; "
                       f"activations by {manifest['recorder']['runtime']}, their bounds {bounds}")  # fmt: skip


@golden.command()
@systems_option
@click.option("--golden", "where", type=PATH, metavar="DIR", help="Default: the project's golden/.")
def verify(systems: tuple[str, ...], where: Path | None) -> None:
    """Check every digest, that the oracle still computes what was recorded, and that counter-examples can be played."""
    from parity import counterexamples, vectors
    from parity import golden as goldens
    from parity.errors import GoldenError

    problems = 0
    for found in _recorded(systems):
        root = _golden_of(where, found)
        opened, saved = goldens.load(root, found), len(counterexamples.files(root, found.name))
        for problem in itertools.chain(opened.verify(), counterexamples.problems(root, found.name, found.frontend)):
            problems += 1
            click.echo(f"{found.name}: {problem}", err=True)
        met, absent = len(list(vectors.reproduce(found, at_hand=True))), vectors.absent(found)
        and_vectors = f", {met} published vectors reproduced" if met else ""
        and_vectors += f", {len(absent)} not at hand: {', '.join(absent)}" if absent else ""
        and_saved = f", {saved} counter-example{'s' if saved != 1 else ''}" if saved else ""
        click.echo(f"{found.name}: {len(opened.clips)} clips checked{and_saved}{and_vectors}")
    if problems:
        found_are = "1 problem" if problems == 1 else f"{problems} problems"
        raise GoldenError(f"{found_are} in the goldens", "restore them (git checkout), or record again")


@golden.command()
@systems_option
@click.option("--golden", "where", type=PATH, metavar="DIR", help="Default: the project's golden/.")
def show(systems: tuple[str, ...], where: Path | None) -> None:
    """What is recorded: clips, decisions, arrays, anchor and provenance."""
    from parity import golden as goldens
    from parity import inventory

    for found in _recorded(systems):
        inventory.show_golden(goldens.load(_golden_of(where, found), found))


@golden.command("export")
@systems_option
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
                   f"in {shown(out / found.name)}")  # fmt: skip
