"""A search in several processes, each with its share of the examples and a seed of its own.

The result is the same whichever of them is faster: the first, by number, that finds something.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from hypothesis.database import ExampleDatabase

from parity import errors
from parity.adversary import Result, Task, Tell, contest
from parity.errors import NothingCompared, ParityError
from parity.golden import write_atomic
from parity.hunt import Hunt
from parity.targets import machine
from parity.targets.local import LocalTarget

FEWER = "was it memory? fewer of them take less: --processes 1"
EVERY = 0.2
"""Seconds between two reports of a process."""


class Remembered(ExampleDatabase):
    """Clips that failed, in the user's cache; nothing else that Hypothesis would keep, so that a seed says it all.

    What it gives is what it was made with and was given since: another process may save at any time.
    """

    def __init__(self, folder: Path, values: Iterable[bytes] = ()) -> None:
        super().__init__()
        self._folder, self._values = folder, set(values)

    def save(self, key: bytes, value: bytes) -> None:
        """Keep what failed."""
        if key.endswith((b".pareto", b".secondary")):
            return
        self._values.add(value)
        with contextlib.suppress(OSError):  # a cache that can't be written holds nobody up
            write_atomic(self._path(value), value)

    def fetch(self, key: bytes) -> Iterator[bytes]:
        """What failed before; of one test there is one key."""
        yield from () if key.endswith((b".pareto", b".secondary")) else sorted(self._values)

    def delete(self, key: bytes, value: bytes) -> None:
        """Forget what doesn't fail any more."""
        self._values.discard(value)
        with contextlib.suppress(OSError):
            self._path(value).unlink(missing_ok=True)

    def _path(self, value: bytes) -> Path:
        return self._folder / hashlib.sha256(value).hexdigest()[:16]


def folder_of(task: Task) -> Path:
    """Where is remembered what failed of a task, whatever its seed."""
    what = dataclasses.asdict(task) | {"examples": 0, "seed": 0}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    return machine.cache_folder() / "hypothesis" / digest


def remembered(task: Task) -> list[bytes]:
    """What failed of a task before; nothing where that can't be read."""
    try:
        return [path.read_bytes() for path in sorted(folder_of(task).iterdir()) if not path.name.startswith(".")]
    except OSError:
        return []


def shares(task: Task, processes: int) -> list[Task]:
    """The part of each process."""
    whole, rest = divmod(task.examples, processes)
    return [
        dataclasses.replace(task, examples=whole + (i < rest), seed=task.seed * processes + i)
        for i in range(processes)
        if whole + (i < rest)
    ]


def run(task: Task, processes: int, limit: float, threads: int, tell: Tell, known: Sequence[bytes] = ()) -> Result:
    """Search in so many processes. Ctrl-C ends it with what was found so far; so does the end of a process.

    `known` is tried first. Raises the ParityError of a process, NothingCompared where nothing was judged.
    """
    parts = shares(task, processes)
    cores = _cores(len(parts))
    started = [_start(part, i, limit, threads, cores[i], known) for i, part in enumerate(parts)]
    results: list[Result | None] = [None] * len(parts)
    open_, error, interrupted, lost = dict(enumerate(started)), None, False, ""
    try:
        while open_:
            ready = wait([pipe for _, pipe in open_.values()])
            for i, (process, pipe) in list(open_.items()):
                if pipe not in ready or i not in open_:  # what another found may have ended the wait for it
                    continue
                try:
                    kind, told = pipe.recv()
                except EOFError:
                    process.join()
                    lost = f"a process of the search {_ending(process.exitcode)}"
                    del open_[i]
                    continue
                if kind == "error":
                    error = error or errors.named(told[0])(*told[1:])
                    open_.clear()
                    break
                results[i] = told
                if kind == "done":
                    del open_[i]
                    if told.found is not None and told.found.failed:
                        open_ = {j: of for j, of in open_.items() if j < i}
            tell(_merged(task, results))
    except KeyboardInterrupt:
        interrupted = True
    finally:
        for process, pipe in started:
            process.terminate()
            process.join()
            pipe.close()
    if error is not None:
        raise error
    merged = _merged(task, results)
    merged.interrupted, merged.lost = interrupted, lost or merged.lost
    if not interrupted and merged.refused + merged.unheld == merged.count:
        why = lost or f"every clip was refused: {merged.refusal}"
        raise NothingCompared(why, FEWER if lost else "parity run says it of one clip")
    return merged


def _ending(code: int | None) -> str:
    return f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"


def _cores(searches: int) -> list[int | None]:
    """The core of each search, where there are at least as many of them as cores; else the system's choice."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if not usable or searches < len(usable):
        return [None] * searches
    return [usable[i % len(usable)] for i in range(searches)]


def _start(
    part: Task, i: int, limit: float, threads: int, core: int | None, known: Sequence[bytes]
) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    name = f"parity-search-{i}"
    arguments = (part, there, limit, threads, core, known)
    process = context.Process(target=_search, args=arguments, name=name, daemon=True)
    # Ctrl-C is the parent's to handle, while a process still imports as well: what is ignored is inherited.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)
    there.close()
    return process, here


def _search(part: Task, pipe: Connection, limit: float, threads: int, core: int | None, known: Sequence[bytes]) -> None:
    """One process, its workers with it."""
    if core is not None:
        # They wait for one another, and there are no more cores than searches: apart, they only change places.
        os.sched_setaffinity(0, {core})
    last, best = 0.0, -1.0

    def tell(result: Result) -> None:
        nonlocal last, best
        score = -1.0 if result.found is None else result.found.score + 1e9 * result.found.failed
        if time.monotonic() - last > EVERY or score > best:
            last, best = time.monotonic(), max(best, score)
            try:
                pipe.send(("so far", result))
            except BrokenPipeError:  # nobody is there to be told, and the workers end with this process
                os._exit(1)

    try:
        with LocalTarget(None, limit, threads) as target:
            result = Hunt(part, contest(part, target), tell, Remembered(folder_of(part), known)).run()
        pipe.send(("done", result))
    except ParityError as e:
        pipe.send(("error", (type(e).__name__, e.message, e.hint)))
    except BrokenPipeError:
        pass  # the parent has gone


def _merged(task: Task, results: Sequence[Result | None]) -> Result:
    known = [r for r in results if r is not None]
    found = [r.found for r in known if r.found is not None]
    failed = [f for f in found if f.failed]
    counts = ("count", "drawn", "worked_out", "refused", "unheld")
    sums = {name: sum(getattr(r, name) for r in known) for name in counts}
    best = failed[0] if failed else max(found, key=lambda f: f.score, default=None)
    if failed:  # what the others drew meanwhile differs from run to run
        sums["drawn"] = next(r.drawn for r in known if r.found is best)
    refusal, lost = (next((w for r in known if (w := getattr(r, name))), "") for name in ("refusal", "lost"))
    return Result(task, best, refusal=refusal, lost=lost, **sums)
