"""Progress on long work, on stderr: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

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


def _plain() -> Step:
    last = time.monotonic()

    def step(what: str, done: int, total: int) -> None:
        nonlocal last
        if 0 < done < total and time.monotonic() - last >= EVERY:
            last = time.monotonic()
            sys.stderr.write(f"{what}: {done} of {total}\n")
            sys.stderr.flush()

    return step
