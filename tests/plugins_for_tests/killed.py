"""A process that is killed (SIGKILL) at its n-th write: what is left then must be whole.

A write is a call of anything that changes a file or a folder: opening for writing, writing, flushing, closing, fsync,
rename, unlink, mkdir, and each statement of SQLite. The work runs in a fork; it is killed *before* the call, which is
after the one before it.
"""

from __future__ import annotations

import os
import signal
import sys
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
    """The wait status of a fork that does `child` and nothing after it."""
    pid = os.fork()
    if pid == 0:
        try:
            child()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def writes(work: Callable[[], object]) -> list[Place]:
    """The writes of a piece of work, in their order, found in a fork that finishes it."""
    out, into = os.pipe()

    def child() -> None:
        os.close(out)
        found: list[Place] = []
        _watched(work, lambda _, place: found.append(place))
        with os.fdopen(into, "w") as pipe:
            pipe.writelines(f"{file}\t{line}\t{name}\n" for file, line, name in found)

    pid = os.fork()
    if pid == 0:
        try:
            child()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(into)
    with os.fdopen(out) as pipe:
        rows = [line.rstrip("\n").split("\t") for line in pipe]
    assert os.waitpid(pid, 0)[1] == 0, "the work failed"
    return [(file, int(line), name) for file, line, name in rows]


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
