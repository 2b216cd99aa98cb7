"""`parity gate` and `parity accept`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from parity.cli.group import (
    PATH,
    check_selection,
    cli,
    local_options,
    opened_targets,
    record_options,
    selected,
    selection_options,
    show_run,
    shown,
    target_option,
    threads_option,
    typed,
)


@cli.command()
@selection_options
@click.option("--require-baseline", is_flag=True,
              help="Exit code 2 where a system has no accepted baseline of this environment.")  # fmt: skip
@target_option
@record_options
@local_options
@threads_option
def gate(**options: Any) -> None:
    """Run, and compare with the accepted baselines as well: what drifted, got lost, larger or slower.

    Limits stand in parity.toml, [gate]. `parity accept --reason TEXT` makes a run the baseline of its environment. Each
    run is added to history.sqlite in the reports' folder.
    """
    import msgspec

    from parity import gate as gating
    from parity import progress, settings, system
    from parity.plan import Selection

    check_selection(options)
    if options["require_baseline"] and options["audio"] is not None:
        raise click.UsageError("--audio is judged without baselines: take --require-baseline away")
    limits = settings.load().gate
    if options["require_baseline"]:
        limits = msgspec.structs.replace(limits, require_baseline=True)
    reports = options["report"] or system.root() / "reports"
    with opened_targets(options) as targets, progress.shown() as step:
        done, folder = gating.gate(Selection(**selected(options)), targets, reports, limits, typed(), step)
    show_run(done, folder, options["form"], options["verbose"])


@cli.command()
@click.argument("folder", type=PATH, metavar="[RUN]", required=False)
@click.option("--reason", required=True, metavar="TEXT", help="Why what this run measured is right; it is kept.")
@click.option("--golden", type=PATH, metavar="DIR", help="Where baselines/ is. Default: the goldens that RUN names.")
@click.option("--afresh", is_flag=True,
              help="Forget how near to its bound a tap came before; else the worst accepted stays.")  # fmt: skip
@click.option("--report", type=PATH, metavar="DIR", help="Without RUN: where the newest is looked for.")
def accept(folder: Path | None, reason: str, golden: Path | None, afresh: bool, report: Path | None) -> None:
    """Make a run the accepted baseline of its environment.

    RUN is a folder under reports/; without it, the newest of `parity gate`. Shows what differs from the baseline that
    was accepted before, and writes golden/baselines/<system>/<fingerprint>.json. Refuses a run in which something
    failed.
    """
    from parity import acceptance, records, system
    from parity.errors import ConfigError
    from parity.report import github, wording

    if not reason.strip():
        raise ConfigError("a baseline needs a reason", "say why this run is right: --reason 'onnxruntime 1.23'")
    folder = folder or acceptance.newest(report or system.root() / "reports")
    run = records.read_run(folder)
    acceptance.refuse(run, folder)
    proposed = acceptance.proposals(run, folder, golden, afresh)
    with github.no_commands():
        for p in proposed:
            for line in _told(p):
                click.echo(line)
    for p in proposed:
        path = acceptance.accept(p, run, wording.clean(reason.strip()))
        click.echo(f"accepted: {shown(path)}")


FEW = 8
"""Lines of a kind that are shown."""


def _told(p: Any) -> list[str]:
    """A proposal in words."""
    from parity import acceptance
    from parity.localize import on
    from parity.report.wording import one_line

    taps, who = f"{len(p.new.rows)} taps", f"{p.new.system}{on(p.standing.target)}"
    if p.fresh:
        differs = f" ({', '.join(p.standing.differs)})" if p.standing.differs else ""
        return [one_line(f"{who}: the first baseline of this environment{differs}: {taps}")]
    lines = []
    for head, of in acceptance.changes(p):
        lines.append(f"  {head}")
        lines += [f"    {line}" for line in of[:FEW]]
        lines += [f"    and {len(of) - FEW} more"] if len(of) > FEW else []
    same = "nothing differs from what was accepted" if not lines else "differs from what was accepted"
    return [one_line(line) for line in (f"{who}: {same}, {taps}", *lines)]
