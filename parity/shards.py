"""A search in several processes, each with its share of the examples and a seed of its own.

The result is the same whichever of them is faster: the first, by number, that finds something.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase

from parity import errors
from parity.adversary import Result, Task, Tell, contest
from parity.errors import ParityError
from parity.hunt import Hunt
from parity.targets import machine
from parity.targets.local import LocalTarget

EVERY = 0.2
"""Seconds between two reports of a process."""


class Remembered(ExampleDatabase):
    """Clips that failed, in the user's cache; nothing else that Hypothesis would keep, so that a seed says it all."""

    def __init__(self, of: Task) -> None:
        what = dataclasses.asdict(of) | {"examples": 0, "seed": 0}
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
        self._kept = DirectoryBasedExampleDatabase(machine.cache_folder() / "hypothesis" / digest)

    def save(self, key: bytes, value: bytes) -> None:
        """Keep what failed."""
        if not key.endswith((b".pareto", b".secondary")):
            self._kept.save(key, value)

    def fetch(self, key: bytes) -> Any:
        """What failed before."""
        return self._kept.fetch(key)

    def delete(self, key: bytes, value: bytes) -> None:
        """Forget what doesn't fail any more."""
        self._kept.delete(key, value)


def shares(task: Task, processes: int) -> list[Task]:
    """The part of each process."""
    whole, rest = divmod(task.examples, processes)
    return [
        dataclasses.replace(task, examples=whole + (i < rest), seed=task.seed * processes + i)
        for i in range(processes)
        if whole + (i < rest)
    ]


def run(task: Task, processes: int, limit: float, threads: int, tell: Tell) -> Result:
    """Search in so many processes. Ctrl-C ends it with what was found so far.

    Raises the ParityError of a process.
    """
    parts = shares(task, processes)
    cores = _cores(len(parts))
    started = [_start(part, i, limit, threads, cores[i]) for i, part in enumerate(parts)]
    results: list[Result | None] = [None] * len(parts)
    open_, error, interrupted = dict(enumerate(started)), None, False
    try:
        while open_:
            ready = wait([pipe for _, pipe in open_.values()])
            for i, (process, pipe) in list(open_.items()):
                if pipe not in ready:
                    continue
                try:
                    kind, told = pipe.recv()
                except EOFError:
                    process.join()
                    kind, told = "error", ("", f"a process of the search ended with code {process.exitcode}", None)
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
    merged.interrupted = interrupted
    return merged


def _cores(searches: int) -> list[int | None]:
    """The core of each search, where there are at least as many of them as cores; else the system's choice."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if not usable or searches < len(usable):
        return [None] * searches
    return [usable[i % len(usable)] for i in range(searches)]


def _start(part: Task, i: int, limit: float, threads: int, core: int | None) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    name = f"parity-search-{i}"
    process = context.Process(target=_search, args=(part, there, limit, threads, core), name=name, daemon=True)
    # Ctrl-C is the parent's to handle, while a process still imports as well: what is ignored is inherited.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)
    there.close()
    return process, here


def _search(part: Task, pipe: Connection, limit: float, threads: int, core: int | None) -> None:
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
            pipe.send(("so far", result))

    try:
        with LocalTarget(None, limit, threads) as target:
            result = Hunt(part, contest(part, target), tell, Remembered(part)).run()
        pipe.send(("done", result))
    except ParityError as e:
        pipe.send(("error", (type(e).__name__, e.message, e.hint)))
    except BrokenPipeError:
        pass  # the parent has gone


def _merged(task: Task, results: Sequence[Result | None]) -> Result:
    known = [r for r in results if r is not None]
    found = [r.found for r in known if r.found is not None]
    failed = [f for f in found if f.failed]
    sums = {name: sum(getattr(r, name) for r in known) for name in ("count", "drawn", "worked_out", "refused")}
    best = failed[0] if failed else max(found, key=lambda f: f.score, default=None)
    if failed:  # what the others drew meanwhile differs from run to run
        sums["drawn"] = next(r.drawn for r in known if r.found is best)
    return Result(task, best, refusal=next((r.refusal for r in known if r.refusal), ""), **sums)
