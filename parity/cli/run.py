"""`parity run`."""

from __future__ import annotations

from typing import Any

import click

from parity.cli.group import (
    check_selection,
    cli,
    given,
    local_options,
    opened_targets,
    record_options,
    selected,
    selection_options,
    show_run,
    target_option,
    threads_option,
    typed,
)


@cli.command()
@selection_options
@click.option("--examples", type=click.IntRange(0), default=0, metavar="N", help="Judge N generated clips as well.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the generated clips.")
@click.option("--streaming", is_flag=True,
              help="A few frames at a time, held to the whole clip's; prints detections.")  # fmt: skip
@target_option
@record_options
@local_options
@threads_option
def run(**options: Any) -> None:
    """Compare backends and runtimes with the goldens, tap by tap."""
    from rich.console import Console

    from parity import pipeline, progress, system
    from parity.plan import Selection
    from parity.report import streaming

    _combination(options)
    selection = Selection(
        **selected(options), examples=options["examples"], seed=options["seed"], streaming=options["streaming"]
    )
    reports = options["report"] or system.root() / "reports"
    with opened_targets(options) as targets, progress.shown() as step:
        heard = streaming.hearing(Console(highlight=False)) if options["form"] == "table" else lambda _: None
        done, folder = pipeline.run(selection, targets, reports, typed(), step, heard)
    show_run(done, folder, options["form"], options["verbose"])


def _combination(options: dict[str, Any]) -> None:
    """Refuse options that would be overlooked."""
    check_selection(options)
    if options["streaming"] and (options["labels_from"] or options["examples"]):
        raise click.UsageError("--streaming compares frames with whole clips': take --labels-from and --examples away")
    if options["streaming"] and len(options["targets"]) > 1:
        raise click.UsageError("--streaming goes to one target at a time")
    for backend in options["backends"]:
        if backend.startswith("recorded:") and (options["examples"] or options["streaming"]):
            raise click.UsageError("a dump knows no drawn clips or chunks: take --examples and --streaming away")
    if given("seed") and not options["examples"]:
        raise click.UsageError("--seed needs --examples")
