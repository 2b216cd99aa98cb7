"""A link: a way to run commands somewhere else, with pipes to them."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from parity.errors import ConfigError, TargetError


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit code, what it wrote to stdout, and to stderr."""

    code: int
    out: bytes
    err: str


class Link(Protocol):
    """Where commands are run; each is given to a POSIX shell there."""

    name: str
    """What the user calls it."""

    @property
    def address(self) -> str:
        """Where it leads, for a reader."""
        ...

    def connect(self) -> None:
        """Make ready, again too. TargetError where it can't be reached, ConfigError for what must be mended."""
        ...

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """A command with pipes for stdin, stdout and stderr."""
        ...

    def run(self, command: str, stdin: bytes = b"", limit: float = 60.0) -> Done:
        """A command to its end. TargetError where the link is lost, or it takes more than `limit` seconds."""
        ...

    @property
    def alive(self) -> bool:
        """Whether commands get there now; asks."""
        ...

    def how_to_install(self, distributions: Sequence[str], plugin: str) -> str:
        """What to type, so that a plugin's distributions are there."""
        ...

    def close(self) -> None:
        """Let go; nothing is left running."""
        ...


def finish(name: str, process: subprocess.Popen[bytes], stdin: bytes, limit: float) -> Done:
    """Feed a command and wait for it; what it writes is read up to 64 MB."""
    out = bytearray()
    err = bytearray()
    readers = [threading.Thread(target=_read, args=(pipe, into), daemon=True)
               for pipe, into in ((process.stdout, out), (process.stderr, err))]  # fmt: skip
    for reader in readers:
        reader.start()
    assert process.stdin is not None
    feeder = threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True)
    feeder.start()
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        end(process)
        raise TargetError(f"{name}: a command there took more than {limit:g} s", "is the device hanging?") from None
    for thread in (*readers, feeder):
        thread.join(5.0)
    close_pipes(process)
    return Done(code, bytes(out), err.decode(errors="replace"))


def _read(pipe: object, into: bytearray, most: int = 64 << 20) -> None:
    with contextlib.suppress(OSError, ValueError):
        while len(into) < most and (data := os.read(pipe.fileno(), 1 << 16)):  # type: ignore[attr-defined]
            into += data


def _feed(pipe: object, data: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):
        pipe.write(data)  # type: ignore[attr-defined]
        pipe.close()  # type: ignore[attr-defined]


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a command that we started here, and wait for it."""
    kill(process)
    close_pipes(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a command, with all that it started where it leads a group of its own, and wait for it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def close_pipes(process: subprocess.Popen[bytes]) -> None:
    """Close what is left open of a process that has ended."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()


def shell(command: str) -> str:
    """A command for POSIX sh, whatever the login shell is."""
    return f"exec /bin/sh -c {shlex.quote(command)}"


def at_home(path: str) -> str:
    """A path there, quoted for a shell: `~/` is that user's home."""
    rest = path.removeprefix("~/")
    return shlex.quote(path) if rest == path else f'"$HOME"/{shlex.quote(rest)}'


class PythonLink:
    """Another Python on this machine."""

    def __init__(self, name: str, python: str, environment: Mapping[str, str] | None = None) -> None:
        """`environment`: more variables for what is run."""
        self.name, self.python = name, str(Path(python).expanduser())
        self._environment = dict(environment or {})
        self._started: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        return self.python

    def connect(self) -> None:
        if shutil.which(self.python) is None:
            raise ConfigError(f"{self.name}: there is no Python at {self.python}", "name its `python`, as `which` says")

    def start(self, command: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, env=os.environ | self._environment, bufsize=0,
        )  # fmt: skip
        self._started.append(process)
        return process

    def run(self, command: str, stdin: bytes = b"", limit: float = 60.0) -> Done:
        return finish(self.name, self.start(command), stdin, limit)

    @property
    def alive(self) -> bool:
        return True

    def how_to_install(self, distributions: Sequence[str], plugin: str) -> str:
        return f"{shlex.quote(self.python)} -m pip install {' '.join(distributions)}"

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                end(process)
        self._started.clear()
