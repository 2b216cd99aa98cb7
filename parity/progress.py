"""Progress on long work, on stderr: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from parity.sources import Progress as Step

EVERY = 10.0
"""Seconds between two plain lines."""


@contextmanager
def shown() -> Iterator[Step]:
    """Yields the callback that a run reports to."""
    if not sys.stderr.isatty():
        yield _plain()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def step(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield step


@contextmanager
def nearest(goal: str) -> Iterator[Callable[[Any], None]]:
    """Yields what a search reports to: how far it is, and the best that it found so far."""
    if not sys.stderr.isatty():
        last = time.monotonic()

        def plain(result: Any) -> None:
            nonlocal last
            if time.monotonic() - last >= EVERY:
                last = time.monotonic()
                sys.stderr.write(f"{result.drawn:,} of {result.task.examples:,}: {_best(goal, result)}\n")
                sys.stderr.flush()

        yield plain
        return
    columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def step(result: Any) -> None:
            bar.update(task, completed=min(result.drawn, result.task.examples), total=result.task.examples,
                       description=_best(goal, result))  # fmt: skip

        yield step


def _best(goal: str, result: Any) -> str:
    found = result.found
    if found is None:
        return "nothing yet"
    if found.failed:
        return f"found, shrinking: {found.words}"
    if goal != "error":
        return f"nearest so far: {found.words}"
    return f"{found.score:.2f} of its bound so far: {found.words}"


def _plain() -> Step:
    last = time.monotonic()

    def step(what: str, done: int, total: int) -> None:
        nonlocal last
        if 0 < done < total and time.monotonic() - last >= EVERY:
            last = time.monotonic()
            sys.stderr.write(f"{what}: {done} of {total}\n")
            sys.stderr.flush()

    return step
