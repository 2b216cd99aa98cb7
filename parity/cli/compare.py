"""`parity compare`: arrays that a device, C code or MATLAB wrote, judged as a run's are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from parity.cli.group import (
    PATH,
    cli,
    complete,
    local_options,
    local_target,
    show_run,
    system_names,
    typed,
)

_ARRAY = ("tap", "variable", "axes", "dtype", "written", "shape", "scale", "zero_point", "delimiter", "header")


def _shape(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.replace("x", ",").split(",")
    if not all(p.strip().isdecimal() and int(p) > 0 for p in parts):
        raise click.BadParameter(f"{text!r} is no shape: write 98,50")
    return tuple(int(p) for p in parts)


@cli.command()
@click.argument("dump", type=PATH, metavar="DUMP")
@click.option("--system", "system", required=True, metavar="NAME|DIR",
              shell_complete=complete(system_names), help="The system that computed it.")  # fmt: skip
@click.option("--layout", type=PATH, metavar="FILE", help="What the dump is. Default: dump.toml beside it.")
@click.option("--tap", metavar="TAP", help="Which tap the arrays are: features/compressed, model/logits, ...")
@click.option("--clip", "clips", multiple=True, metavar="NAME",
              help="A clip, as goldens (or --audio) name it. Repeat it in a stack's order.")  # fmt: skip
@click.option("--axes", metavar="LETTERS",
              help="T time, F band, C channel, N clips of a stack, 1: FT for band-major.")  # fmt: skip
@click.option("--variable", metavar="NAME", help="Of an .npz or .mat file.")
@click.option("--dtype", metavar="NAME", help="What the device computed in, where the file says another.")
@click.option("--written", metavar="NAME", help="dtype of raw bytes.  [default: <f4]")
@click.option("--shape", metavar="N,N", callback=_shape, help="Of raw bytes, or of text that holds a stack.")
@click.option("--scale", type=float, help="value = scale x (number - zero point).")
@click.option("--zero-point", type=int, help="Of integers.")
@click.option("--delimiter", metavar="TEXT", help="Of .csv. Default: what its first line has.")
@click.option("--header", type=click.IntRange(0), metavar="LINES", help="Lines before the numbers of a .csv.")
@click.option(
    "--fed",
    type=click.Choice(["golden", "own"]),
    help="Activations: of the golden's features (isolated; default), or the device's own (cumulative).",
)
@click.option("--precision", metavar="NAME", help="Of the model file that the device runs. Default: float32.")
@click.option("--runtime", metavar="NAME", help="Judge activations by this runtime's rules. Default: recorded.")
@click.option("--device", metavar="NAME", help="What reports call the place where it was computed.")
@click.option("--audio", type=PATH, metavar="DIR", help="The wavs that it was computed from. Default: goldens.")
@click.option("--golden", type=PATH, metavar="DIR", help="Goldens to compare with. Default: the project's golden/.")
@click.option("--report", type=PATH, metavar="DIR", help="Where the run's folder goes. Default: reports/.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="What is printed.")
@click.option("--verbose", "-v", is_flag=True, help="Every tap of every pair, not the worst only.")
@local_options
def compare(dump: Path, **options: Any) -> None:
    """Judge features or activations that a device, C code or MATLAB wrote: .npy, .npz, .csv, .mat or raw bytes.

    DUMP is a file or a folder. What it doesn't say itself (which tap, which clips, which way round) stands in a
    dump.toml beside it, or in the options. Exit codes are those of `parity run`.
    """
    from parity import pipeline, progress, system
    from parity import plan as plans
    from parity.dumped import NAME, DumpTarget
    from parity.dumps.dump import Dump
    from parity.errors import ConfigError

    if options["golden"] is not None and options["audio"] is not None:
        raise click.UsageError("--audio judges without goldens: take --golden away")
    (found,) = system.find([options["system"]])
    said = _said(dump, options)
    taps = (*found.frontend.taps, "model/input", *found.taps)
    selection = plans.Selection(systems=(options["system"],), audio=options["audio"], golden=options["golden"])
    reports = options["report"] or system.root() / "reports"
    with local_target(options["jobs"], options["limit"]) as target, progress.shown() as step:
        recorded = DumpTarget(target, found, Dump(dump, said, taps))
        try:
            done, folder = pipeline.run(selection, target, reports, typed(), step, dump=recorded)
        except ConfigError as e:
            if e.message.startswith("no rule says") and e.message.endswith(f" on {NAME}"):
                e.hint = "name the runtime that the device has, whose rules it is judged by: --runtime tflm"
            raise
    show_run(done, folder, options["form"], options["verbose"])


def _said(dump: Path, options: dict[str, Any]) -> Any:
    """What is said of the dump: the layout, with options put over it; None where the dump says it itself."""
    from parity.dumps import description
    from parity.dumps.dump import described

    array = {k: options[k] for k in _ARRAY if options[k] is not None}
    whole = {k: options[k] for k in ("fed", "precision", "runtime", "device") if options[k] is not None}
    if options["clips"]:
        whole["clips"] = options["clips"]
    said = description.read(options["layout"]) if options["layout"] is not None else described(dump)
    return description.changed(said, whole, array)
