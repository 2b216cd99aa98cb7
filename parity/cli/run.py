"""`parity run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from parity.cli.group import (
    PATH,
    cli,
    complete,
    local_options,
    local_target,
    plugin_names,
    show_run,
    systems_option,
    typed,
)

if TYPE_CHECKING:
    pass


@cli.command()
@systems_option
@click.option("--backend", "backends", multiple=True, metavar="NAME",
              shell_complete=complete(plugin_names("backend")),
              help="A feature backend. Repeatable; default: all installed.")  # fmt: skip
@click.option("--runtime", "runtimes", multiple=True, metavar="NAME",
              shell_complete=complete(plugin_names("runtime")),
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
@local_options
def run(**options: Any) -> None:
    """Compare backends and runtimes with the goldens, tap by tap."""
    from rich.console import Console

    from parity import pipeline, progress, system
    from parity.plan import Selection
    from parity.report import streaming

    _combination(options)
    selection = Selection(
        systems=options["systems"], backends=options["backends"], runtimes=options["runtimes"],
        precisions=options["precisions"], audio=options["audio"], golden=options["golden"],
        labels_from_folders=options["labels_from"] is not None, examples=options["examples"], seed=options["seed"],
        layers=options["layers"], streaming=options["streaming"], keep=options["keep"],
    )  # fmt: skip
    reports = options["report"] or system.root() / "reports"
    with local_target(options["jobs"], options["limit"]) as target, progress.shown() as step:
        heard = streaming.hearing(Console(highlight=False)) if options["form"] == "table" else lambda _: None
        done, folder = pipeline.run(selection, target, reports, typed(), step, heard)
    show_run(done, folder, options["form"], options["verbose"])


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
    for backend in options["backends"]:
        if backend.startswith("recorded:") and (options["examples"] or options["streaming"]):
            raise click.UsageError("a dump knows no drawn clips or chunks: take --examples and --streaming away")
    if given("seed") and not options["examples"]:
        raise click.UsageError("--seed needs --examples")
