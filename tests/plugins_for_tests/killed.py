"""A process that is killed (SIGKILL) at its n-th write: what is left then must be whole.

A write is a call of anything that changes a file or a folder: opening for writing, writing, flushing, closing, fsync,
rename, unlink, mkdir, and each statement of SQLite. The work runs in a fork; it is killed *before* the call, which is
after the one before it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

CALLS = frozenset({
    "open", "write", "writelines", "flush", "close", "truncate", "fsync", "fdatasync", "replace", "rename", "link",
    "unlink", "remove", "rmdir", "mkdir", "symlink", "execute", "executemany", "executescript", "commit",
})  # fmt: skip
WHOSE = frozenset({"posix", "io", "_io", "sqlite3", "nt"})
"""Modules of the built-in functions that are meant; methods go by the type they belong to."""


def _is_write(function: Any) -> bool:
    if getattr(function, "__name__", "") not in CALLS:
        return False
    of = getattr(function, "__self__", None)
    return (getattr(function, "__module__", None) or type(of).__module__) in WHOSE


Place = tuple[str, int, str]


def _watched(work: Callable[[], object], at_write: Callable[[int, Place], None]) -> None:
    """Do the work, and tell of each write before it happens: its number, and where it stands in the code."""
    count = 0

    def profile(frame: Any, event: str, function: Any) -> None:
        nonlocal count
        if event == "c_call" and _is_write(function):
            count += 1
            while frame is not None and "/parity/" not in frame.f_code.co_filename:
                frame = frame.f_back  # the line of ours that it comes from
            place = (frame.f_code.co_filename, frame.f_lineno) if frame is not None else ("", 0)
            at_write(count, (*place, function.__name__))

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)


def _forked(child: Callable[[], None]) -> int:
    """The wait status of a fork that does `child` and nothing after it, in a minute at most."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(60)
            child()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def writes(work: Callable[[], object]) -> list[Place]:
    """The writes of a piece of work, in their order, found in a fork that finishes it."""
    with tempfile.TemporaryFile() as told:

        def child() -> None:
            found: list[Place] = []
            _watched(work, lambda _, place: found.append(place))
            os.write(told.fileno(), json.dumps(found).encode())

        assert _forked(child) == 0, "the work failed"
        told.seek(0)
        return [(file, line, name) for file, line, name in json.load(told)]


def at_each(
    work: Callable[[], object], restore: Callable[[], object], of_a_place: int = 3
) -> Iterator[tuple[int, Place]]:
    """Forks that are killed, each at another write; yields after each, and `restore`s what was there before.

    Of many writes at one place (lines of a file) `of_a_place`: the first ones, and the last.
    """
    found = writes(work)
    restore()
    often, seen = Counter(found), defaultdict[Place, int](int)
    for n, place in enumerate(found, 1):
        seen[place] += 1
        if seen[place] >= of_a_place and seen[place] != often[place]:
            continue

        def kill(count: int, _: Place, at: int = n) -> None:
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)

        status = _forked(lambda kill=kill: _watched(work, kill))  # type: ignore[misc]
        assert os.WIFSIGNALED(status), f"it wasn't killed at write {n} of {len(found)}, {place}"
        assert os.WTERMSIG(status) == signal.SIGKILL
        yield n, place
        restore()
