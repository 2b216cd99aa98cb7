"""`parity search`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from parity.cli.group import PATH, cli, complete, given, local_target, one_thread, plugin_names, shown, system_names

if TYPE_CHECKING:
    from parity.adversary import Result, Task
    from parity.confirm import Confirmed
    from parity.contest import Contest
    from parity.targets.local import LocalTarget


@cli.command()
@click.option("--system", metavar="NAME|DIR", shell_complete=complete(system_names),
              help="A system by name, or the folder of its system.toml.")  # fmt: skip
@click.option("--backend", default="", metavar="NAME", shell_complete=complete(plugin_names("backend")),
              help="Whose features. Without it the network is fed with what is drawn.")  # fmt: skip
@click.option("--runtime", default="", metavar="NAME", shell_complete=complete(plugin_names("runtime")),
              help="Whose activations. Without it features alone are searched.")  # fmt: skip
@click.option("--precision", default="float32", show_default=True, metavar="NAME", help="Of the model file.")
@click.option("--against", default="", metavar="B/R", help="Hold it to another pair, in the place of the oracle.")
@click.option("--oracle", is_flag=True, help="Hold it to the oracle and the reference runtime: what it does anyway.")
@click.option("--examples", type=click.IntRange(1), default=1000, show_default=True, metavar="N", help="Clips drawn.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of what is drawn.")
@click.option("--for", "goal", type=click.Choice(["error", "flip", "crash"]), default="error", show_default=True,
              help="The largest error over bound, another label, or a crash.")  # fmt: skip
@click.option("--save", is_flag=True, help="Put what is found into golden/counterexamples/: every run replays it.")
@click.option("--replay", type=PATH, metavar="FILE", help="Judge a counter-example again, and draw nothing.")
@click.option("--golden", type=PATH, metavar="DIR", help="Goldens whose clips are drawn too. Default: golden/.")
@click.option("--processes", type=click.IntRange(1, 64), default=2, show_default=True, metavar="N",
              help="Each has its share of the examples, and a seed.")  # fmt: skip
@click.option("--limit", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True, metavar="SECONDS",
              help="How long a plugin may take to answer before it is stopped.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="What is printed.")
def search(**options: Any) -> None:
    """Look for the clip on which a pair is worst, and shrink it to a few numbers.

    Clips are drawn from parameters (tones, noise, clicks, recordings; levels, lengths, offsets) and driven towards the
    largest error over bound, a label that flips, or a crash. What is found is judged again in fresh workers, at every
    tap, and explained. Exit code 1 where something was found, 0 where nothing was; Ctrl-C keeps what was found so far.
    """
    one_thread()
    task = _task(options)
    if options["replay"] is not None:
        _replay(task, options)
    from parity import progress, shards, system

    begun = time.monotonic()
    with progress.nearest(task.goal) as tell:
        result = shards.run(task, options["processes"], options["limit"], 1, tell)
    found, again, where = result.found, None, ""
    if found is not None and (found.failed or found.tie):
        with local_target(None, options["limit"]) as target:
            again, where = _confirmed(task, result, _contest(task, target), options)
    _end(options, system.find([task.system])[0].name, result, again, time.monotonic() - begun, where)


def _task(options: dict[str, Any]) -> Task:
    """What is searched; options that would be overlooked are refused."""
    replay: Path | None = options["replay"]
    if options["oracle"] and options["against"]:
        raise click.UsageError("--against holds it to another pair: take --oracle away")
    for name in ("seed", "examples", "goal", "save", "processes"):
        if replay is not None and given(name):
            raise click.UsageError(f"--replay draws nothing: take --{'for' if name == 'goal' else name} away")
    from parity.adversary import Task

    if replay is not None and not replay.is_file():
        raise click.UsageError(f"--replay: there is no file {replay}")
    if options["golden"] is not None and not options["golden"].is_dir():
        raise click.UsageError(f"--golden: there is no folder {options['golden']}")
    golden = "" if options["golden"] is None else str(options["golden"])
    wanted = {name: options[name] for name in ("backend", "runtime", "precision", "against")}
    if replay is not None:
        from parity import counterexamples

        held = counterexamples.read(replay)
        said = {name: value for name, value in wanted.items() if given(name)}
        mine: dict[str, Any] = {"backend": held.backend, "runtime": held.runtime, "against": held.against,
                                "precision": held.precision or "float32"}  # fmt: skip
        return Task(system=options["system"] or held.system, goal=held.goal, seed=held.seed, golden=golden,
                    **{**mine, **said})  # fmt: skip
    if not options["system"]:
        raise click.UsageError("--system says what is searched: see `parity list systems`")
    if not (options["backend"] or options["runtime"]):
        raise click.UsageError("--backend and --runtime say what is searched: one of them at least")
    if given("precision") and not options["runtime"]:
        raise click.UsageError("--precision is of the model file that a --runtime runs: name one, or take it away")
    against = options["against"]
    for name, part in zip(("backend", "runtime"), against.split("/"), strict=False) if "/" in against else ():
        if part and not options[name]:
            raise click.UsageError(f"--against names a {name}: name the one that is held to it with --{name}")
    if against and "/" not in against:
        if options["backend"] and options["runtime"]:
            raise click.UsageError("--against takes a backend and a runtime: --against librosa/tflite")
        wanted["against"] = f"{against}/" if options["backend"] else f"/{against}"
    return Task(system=options["system"], goal=options["goal"], examples=options["examples"], seed=options["seed"],
                golden=golden, **wanted)  # fmt: skip


def _contest(task: Task, target: LocalTarget) -> Contest:
    from parity.adversary import contest

    return contest(task, target)


def _confirmed(task: Task, result: Result, judge: Contest, options: dict[str, Any]) -> tuple[Confirmed, str]:
    """What was found in fresh workers, and the file that it was written to."""
    from parity import counterexamples
    from parity.adversary import counterexample, golden_of
    from parity.confirm import confirm
    from parity.targets import machine

    assert result.found is not None
    again = confirm(task, result.found, judge)
    # What isn't kept with the goldens, or not confirmed, can be seen again all the same.
    kept = options["save"] and again.found.failed
    folder = golden_of(task, judge.plan) if kept else machine.cache_folder()
    found = again.found if again.found.failed else result.found
    path = counterexamples.write(folder, counterexample(task, judge.plan, found))
    return again, shown(path)


def _replay(task: Task, options: dict[str, Any]) -> NoReturn:
    from parity import counterexamples
    from parity.adversary import Found, Result
    from parity.confirm import confirm

    begun, held = time.monotonic(), counterexamples.read(options["replay"])
    with local_target(None, options["limit"]) as target:
        judge = _contest(task, target)
        again = confirm(task, Found(held.drawn, held.described, False, 0.0), judge)
    result = Result(task, again.found)
    _end(options, judge.plan.system.name, result, again, time.monotonic() - begun, "")


def _end(options: dict[str, Any], name: str, result: Result, again: Confirmed | None, seconds: float,
         where: str) -> NoReturn:  # fmt: skip
    """Print what was found, and end with its exit code."""
    from rich.console import Console

    from parity.errors import INTERRUPTED, MISMATCH, OK
    from parity.report import found

    typed = options["system"] or ""
    replay = found.command(where, typed if "/" in typed else "", options["golden"]) if where else ""
    if options["form"] == "json":
        sys.stdout.write(found.as_json(name, result, again, seconds, replay) + "\n")
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
        found.show(console, name, result, again, seconds, replay)
    failed = (again.found if again is not None else result.found) if result.found is not None else None
    code = INTERRUPTED if result.interrupted else MISMATCH if (failed is not None and failed.failed) else OK
    if result.found is not None and result.found.failed and code == OK:
        code = MISMATCH  # once is enough
    sys.exit(code)
