"""A conversation with `targets/installer.py` on a device: which wheels are there, here are the others, make it so.

It is sent along each time it is asked something. Its lines are read with a limit, and what goes wrong there becomes an
error that says what to type.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import selectors
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity import wheels
from parity.errors import ConfigError, ParityError, TargetError
from parity.readiness import BOOT
from parity.targets import installer, places
from parity.targets.link import Link, close_pipes, end
from parity.targets.machines import clean, size

Say = Callable[[str], None]
MOST = 1 << 20
"""Bytes that an installer may say in all."""
SILENCE = 1800.0
"""Seconds without a word in which an installation may be at work: unpacking takes minutes on a small board."""


@dataclass(frozen=True)
class Made:
    """A virtual environment on a device: where, what is in it, and whether it had to be made."""

    venv: str
    versions: dict[str, str]
    new: bool


@dataclass(frozen=True)
class Context:
    """What errors need to say what to type."""

    name: str
    platform: str
    offline: bool
    clock: str


def full(name: str, words: str) -> ConfigError:
    """A full disk there."""
    hint = f"free some space there (df -h ~), or take away what parity kept: parity target clean {shlex.quote(name)}"
    return ConfigError(f"the disk of {name} is full" + (f": {words}" if words else ""), hint)


def described(path: Path) -> tuple[str, str, int]:
    """Name, sha256 and size of a file."""
    data = path.read_bytes()
    return path.name, hashlib.sha256(data).hexdigest(), len(data)


class Installer:
    """`targets/installer.py`, run there as often as it is asked something."""

    def __init__(self, link: Link, python: str, say: Say, context: Context) -> None:
        self._link, self._python, self._say, self._context = link, python, say, context

    def look(self, plan: dict[str, Any]) -> Made | None:
        """What is there already, where it was made by this plan and works."""
        (line,) = self._talk("look", plan, [], "looked")
        return self._made(line, "looked", new=False)

    @staticmethod
    def _made(line: dict[str, Any], key: str, new: bool) -> Made | None:
        versions = line.get("versions")
        if not isinstance(versions, dict):
            return None
        return Made(clean(str(line[key])), {clean(str(k)): clean(str(v), 40) for k, v in versions.items()}, new)

    def missing(self, folder: str, files: Sequence[tuple[str, str, int]]) -> set[str]:
        """The sha256 of those files that aren't there."""
        (line,) = self._talk("held", {"folder": folder, "files": files}, [], "held")
        told = line["held"]
        held = {h for h in told if isinstance(h, str)} if isinstance(told, list) else set()
        return {sha256 for _, sha256, _ in files} - held

    def send(self, folder: str, paths: Sequence[Path]) -> None:
        """Have files kept there."""
        if not paths:
            return
        large = [path for path in paths if path.stat().st_size > 1_000_000]
        rest = f" and {len(paths) - len(large)} small ones" if large and len(large) < len(paths) else ""
        names = ", ".join(f"{path.name.split('-')[0]} ({size(path.stat().st_size)})" for path in large or paths)
        self._say(f"sending {names}{rest}")
        files = [described(path) for path in paths]
        for _ in self._talk("keep", {"folder": folder, "files": files}, paths, "done"):
            pass

    def make(self, plan: dict[str, Any]) -> Made:
        """Have the virtual environment made."""
        for line in self._talk("make", plan, None, "made"):
            if isinstance(doing := line.get("doing"), str):
                self._say(clean(doing))
            if "made" in line and (made := self._made(line, "made", new=True)) is not None:
                return made
        raise TargetError(f"{self._context.name}: the setup ended without a word", "try again")

    def _talk(
        self, what: str, request: dict[str, Any], payload: Sequence[Path] | None, last: str
    ) -> Iterator[dict[str, Any]]:
        """Its lines of JSON, up to the one that has `last`. stdin stays open where there is no payload to end it."""
        source = Path(installer.__file__).read_bytes()
        python = places.python_there(self._python)
        command = f'{python}\ncd / && exec "$python" -c {shlex.quote(BOOT)} {what} {len(source)}'
        process = self._link.start(command)
        head = source + json.dumps(request).encode() + b"\n"
        moved, complaints = [time.monotonic()], bytearray()
        feeding = threading.Thread(target=_feed, args=(process, head, payload, moved), daemon=True)
        draining = threading.Thread(target=_drain, args=(process, complaints), daemon=True)
        feeding.start()
        draining.start()
        try:
            for raw in _lines(process, moved):
                line = _line(raw)
                if "error" in line:
                    raise self._wrong(str(line["error"]), clean_lines(str(line.get("text", ""))))
                if line:
                    yield line
                if last in line:
                    return
            silent = process.poll() is None and time.monotonic() - moved[0] > SILENCE
            draining.join(0 if silent else 5.0)
            raise self._lost(silent, complaints)
        finally:
            self._end(process, payload is None)
            for thread in (feeding, draining):
                thread.join(5.0)
            close_pipes(process)

    @staticmethod
    def _end(process: subprocess.Popen[bytes], waiting: bool) -> None:
        """Let it end by itself, which takes no time once its stdin has ended."""
        if waiting and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            end(process)

    def _lost(self, silent: bool, complaints: bytearray) -> ParityError:
        """Why there was no answer."""
        name = self._context.name
        if silent:
            return TargetError(f"{name}: no word for {SILENCE:g} s", "is it hanging? restart it, and try again")
        if not self._link.alive:
            again = "the same command goes on with what is there already"
            return TargetError(f"{name}: the link was lost during the setup", again)
        lines = [clean(line) for line in complaints.decode(errors="replace").splitlines() if line.strip()]
        words = lines[-1] if lines else "it says nothing"
        return ConfigError(f"{name}: the setup there failed: {words}", "try again; --python names another Python")

    def _wrong(self, kind: str, text: str) -> ParityError:
        """An error of the installer's, as what to do."""
        c = self._context
        first, _, rest = text.partition("\n")
        if kind == "full":
            return full(c.name, first)
        if kind == "busy":
            return ConfigError(f"{c.name}: {first}", "wait for it to end")
        if kind == "damaged":
            return TargetError(f"{c.name}: {first}", "try again")
        if kind == "denied":
            return ConfigError(f"{c.name}: {first[:300]}", "make it writable there")
        lines = [line for line in rest.splitlines() if line.strip()]
        if kind == "pip":
            offline = f"parity target setup {shlex.quote(c.name)} --offline sends the wheels from here"
            return wheels.failed(rest, c.name, c.platform, None if c.offline else offline, c.clock)
        if kind == "broken":
            why = (lines or ["it says nothing"])[-1][:300]
            return ConfigError(f"{c.name}: {first} is installed but can't be imported: {why}",
                               "is a library of the system missing? it says which")  # fmt: skip
        words = (lines or ["it says nothing"])[-1][:300]
        return ConfigError(
            f"{c.name}: no virtual environment can be made: {words}", "there: sudo apt install python3-venv"
        )


def _line(raw: bytes) -> dict[str, Any]:
    """A line of the installer's; nothing for what a login shell says."""
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return line if isinstance(line, dict) else {}


def clean_lines(text: str) -> str:
    """Text of a device, line by line as it may be printed."""
    return "\n".join(clean(line, 600) for line in text.splitlines()[-60:])


def _feed(process: subprocess.Popen[bytes], head: bytes, payload: Sequence[Path] | None, moved: list[float]) -> None:
    stdin = process.stdin
    assert stdin is not None
    try:
        stdin.write(head)
        for path in payload or ():
            with path.open("rb") as f:
                while data := f.read(1 << 16):
                    stdin.write(data)
                    moved[0] = time.monotonic()
        stdin.flush()
        if payload is not None:
            stdin.close()
    except (OSError, ValueError):
        pass  # it has ended, and says why itself


def _drain(process: subprocess.Popen[bytes], into: bytearray) -> None:
    assert process.stderr is not None
    try:
        while data := os.read(process.stderr.fileno(), 4096):
            into += data
            del into[:-8192]
    except (OSError, ValueError):
        pass


def _lines(process: subprocess.Popen[bytes], moved: list[float]) -> Iterator[bytes]:
    """What it writes, by lines of at most 64 kB, until it ends or nothing has moved for too long."""
    assert process.stdout is not None
    left, total = b"", 0
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(10.0):
                if time.monotonic() - moved[0] > SILENCE:
                    return
                continue
            data = os.read(process.stdout.fileno(), 1 << 16)
            moved[0] = time.monotonic()
            total += len(data)
            if not data or total > MOST:
                return
            *lines, left = (left + data).split(b"\n")
            left = left[-(1 << 16) :]
            yield from lines
