"""`parity search`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from parity.cli.group import (
    PATH,
    SECONDS,
    cli,
    complete,
    given,
    local_target,
    one_thread,
    plugin_names,
    shown,
    system_names,
)

if TYPE_CHECKING:
    from parity.adversary import Result, Task
    from parity.confirm import Confirmed
    from parity.contest import Contest


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
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, metavar="K",
              help="Of what is drawn. Named, nothing that failed before is tried first.")  # fmt: skip
@click.option("--for", "goal", type=click.Choice(["error", "flip", "crash"]), default="error", show_default=True,
              help="The largest error over bound, another label, or a crash.")  # fmt: skip
@click.option("--save", is_flag=True, help="Put what is found into golden/counterexamples/: every run replays it.")
@click.option("--replay", type=PATH, metavar="FILE", help="Judge a counter-example again, and draw nothing.")
@click.option("--golden", type=PATH, metavar="DIR", help="Goldens whose clips are drawn too. Default: golden/.")
@click.option("--processes", type=click.IntRange(1, 64), default=2, show_default=True, metavar="N",
              help="Each has its share of the examples, and a seed.")  # fmt: skip
@click.option("--limit", type=SECONDS, default=30.0, show_default=True, metavar="SECONDS",
              help="How long a plugin may take to answer before it is stopped.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="What is printed.")
def search(**options: Any) -> None:
    """Look for the clip on which a pair is worst, and shrink it to a few numbers.

    Clips are drawn from parameters (tones, noise, clicks, recordings; levels, lengths, offsets) and driven towards the
    largest error over bound, a label that flips, or a crash. What is found is judged again in fresh workers, at every
    tap, and explained. Exit code 1 where something was found, 0 where nothing was, 2 where not everything was judged;
    Ctrl-C keeps what was found so far.
    """
    one_thread()
    if options["replay"] is not None:
        _replay(options)
    task = _task(options, {})
    from parity import adversary, counterexamples, progress, shards, system
    from parity.seen import Refused, Unheld

    (of,) = system.find([task.system])
    if options["save"]:
        counterexamples.require_room(adversary.golden_of(task, of), of.name)
    begun = time.monotonic()
    # A seed that was named says it all: then nothing is tried but what it draws.
    known = [] if given("seed") else shards.remembered(task)
    with progress.nearest(task.goal) as tell:
        result = shards.run(task, options["processes"], options["limit"], 1, tell, known)
    found, again, where = result.found, None, ""
    if found is not None and (found.failed or found.tie):
        try:
            with local_target(None, options["limit"]) as target:
                again, where = _confirmed(task, result, adversary.contest(task, target), options)
        except KeyboardInterrupt:
            result.interrupted = True
        except (Refused, Unheld) as e:
            result.lost = e.message  # in fresh workers; it was found all the same
    _end(options, of.name, result, again, time.monotonic() - begun, where)


def _task(options: dict[str, Any], held: dict[str, Any]) -> Task:
    """What is searched, or judged again: `held` is what a counter-example says of it, what is typed goes first.

    Options that would be overlooked are refused.
    """
    from parity.adversary import Task

    wanted = dict(held)
    wanted |= {name: options[name] for name in ("system", "backend", "runtime", "precision", "against")
               if given(name) or name not in held}  # fmt: skip
    if options["oracle"] and options["against"]:
        raise click.UsageError("--against holds it to another pair: take --oracle away")
    if options["oracle"]:
        wanted["against"] = ""
    if options["golden"] is not None and not options["golden"].is_dir():
        raise click.UsageError(f"--golden: there is no folder {options['golden']}")
    if not wanted["system"]:
        raise click.UsageError("--system says what is searched: see `parity list systems`")
    if not (wanted["backend"] or wanted["runtime"]):
        raise click.UsageError("--backend and --runtime say what is searched: one of them at least")
    if given("precision") and not wanted["runtime"]:
        raise click.UsageError("--precision is of the model file that a --runtime runs: name one, or take it away")
    wanted["against"] = _against(wanted["against"], wanted["backend"], wanted["runtime"])
    golden = "" if options["golden"] is None else str(options["golden"])
    rest = held or {"goal": options["goal"], "examples": options["examples"], "seed": options["seed"]}
    return Task(**{**rest, **wanted}, golden=golden)


def _against(typed: str, backend: str, runtime: str) -> str:
    """The other pair as `backend/runtime`."""
    if "/" not in typed:
        if typed and backend and runtime:
            raise click.UsageError("--against takes a backend and a runtime: --against librosa/tflite")
        return typed and (f"{typed}/" if backend else f"/{typed}")
    for name, part, own in zip(("backend", "runtime"), typed.split("/"), (backend, runtime), strict=False):
        if part and not own:
            raise click.UsageError(f"--against names a {name}: name the one that is held to it with --{name}")
    return typed


def _confirmed(task: Task, result: Result, judge: Contest, options: dict[str, Any]) -> tuple[Confirmed, str]:
    """What was found in fresh workers, and the file that it was written to; '' where it couldn't be."""
    from parity import counterexamples
    from parity.adversary import counterexample, golden_of
    from parity.confirm import confirm
    from parity.errors import ConfigError
    from parity.targets import machine

    assert result.found is not None
    again = confirm(task, result.found, judge)
    found = again.found if again.found.failed else result.found
    told = counterexample(task, judge.plan, found)
    if options["save"] and again.found.failed:
        return again, shown(counterexamples.write(golden_of(task, judge.plan.system), told))
    # What isn't kept with the goldens, or not confirmed, can be seen again all the same, where there is a cache.
    try:
        return again, shown(counterexamples.write(machine.cache_folder(), told))
    except ConfigError:
        return again, ""


def _replay(options: dict[str, Any]) -> NoReturn:
    path: Path = options["replay"]
    for name in ("seed", "examples", "goal", "save", "processes"):
        if given(name):
            raise click.UsageError(f"--replay draws nothing: take --{'for' if name == 'goal' else name} away")
    if not path.is_file():
        raise click.UsageError(f"--replay: there is no file {path}")
    from parity import counterexamples
    from parity.adversary import Found, Result, contest
    from parity.confirm import confirm
    from parity.errors import AudioError, GoldenError
    from parity.parameters import Parameters

    begun, held = time.monotonic(), counterexamples.read(path)
    said = {"system": held.system, "backend": held.backend, "runtime": held.runtime, "against": held.against,
            "precision": held.precision or "float32", "goal": held.goal, "seed": held.seed}  # fmt: skip
    task = _task(options, said)
    if not isinstance(held.drawn, Parameters) and (task.backend or not task.runtime):
        raise click.UsageError(f"{path} is what a network alone is fed with: --runtime, and no --backend")
    with local_target(None, options["limit"]) as target:
        judge = contest(task, target)
        counterexamples.require_fit(path, held, judge.plan.system.frontend)
        try:
            again = confirm(task, Found(held.drawn, held.described, False, 0.0), judge)
        except AudioError as e:
            raise GoldenError(f"{path} can't be rendered: {e.message}", e.hint) from None
    result = Result(task, again.found, replayed=True)
    _end(options, judge.plan.system.name, result, again, time.monotonic() - begun, "")


def _end(options: dict[str, Any], name: str, result: Result, again: Confirmed | None, seconds: float,
         where: str) -> NoReturn:  # fmt: skip
    """Print what was found, and end with its exit code."""
    from rich.console import Console

    from parity.errors import INTERRUPTED, MISMATCH, NOTHING, OK
    from parity.report import found

    typed = options["system"] or ""
    replay = found.command(where, typed if "/" in typed else "", options["golden"]) if where else ""
    if options["form"] == "json":
        sys.stdout.write(found.as_json(name, result, again, seconds, replay) + "\n")
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
        found.show(console, name, result, again, seconds, replay)
    interrupted = result.interrupted or (again is not None and again.interrupted)
    # Once is enough: what fails only when it was found fails as well.
    failed = any(f is not None and f.failed for f in (result.found, None if again is None else again.found))
    sys.exit(INTERRUPTED if interrupted else MISMATCH if failed else NOTHING if result.lost else OK)
