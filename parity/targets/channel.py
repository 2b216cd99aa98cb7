"""One far side that runs: it is sent there if it isn't yet, started, and spoken to; answers go to whoever asked."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import select
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from parity.errors import ConfigError
from parity.targets import answers, far, wire
from parity.targets.bundle import bundle
from parity.targets.link import Link, close_pipes, kill
from parity.targets.places import python_there

MOST = 1 << 29
"""Bytes of arrays that one answer may have."""
_PING = 5.0
_SLICE = 1 << 18
_NOISE = 4096
"""Lines, and bytes of each, that a login shell may print before the far side speaks."""

# Runs under any Python 3: it says what is missing, takes the far side if it isn't there, and becomes it.
_LOADER = r"""
import sys
def say(text):
    sys.stdout.write("\0parity-" + text + "\n")
    sys.stdout.flush()
    return 9
if sys.version_info < (3, 11):
    sys.exit(say("python %d.%d.%d" % sys.version_info[:3]))
import hashlib, importlib.util, os, tempfile
digest, size, silence = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if importlib.util.find_spec("numpy") is None:
    sys.exit(say("numpy " + sys.executable))
base = os.environ.get("XDG_CACHE_HOME") or ""
folder = os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "parity", "agent")
path = os.path.join(folder, digest + ".pyz")
def right():
    try:
        with open(path, "rb") as f:
            return hashlib.sha256(f.read()).hexdigest() == digest
    except OSError:
        return False
if not right():
    say("send")
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            sys.exit(9)
        data += piece
    part = None
    try:
        os.makedirs(folder, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=folder, prefix=".part-")
        with os.fdopen(handle, "wb") as f:
            f.write(data)
        os.replace(part, path)
    except OSError as e:
        if part is not None and os.path.exists(part):
            os.unlink(part)
        sys.exit(say("disk " + folder + ": " + str(e.strerror)))
    if not right():
        sys.exit(say("disk " + folder + ": what is written there isn't what is read"))
say("start")
os.execv(sys.executable, [sys.executable, path, silence])
"""


class LostError(Exception):
    """The far side can't be spoken to any more; the text says why."""


class Channel:
    """A far side. Raises in `open` what must be mended (ConfigError), or LostError."""

    def __init__(self, link: Link, python: str | None, silence: float = far.SILENCE) -> None:
        self._link, self._python, self._silence = link, python, silence
        self.sent = self.received = self.arrays = 0
        """Bytes through the link, and those of them that are arrays' own."""
        # The greeting comes unasked, without a number.
        self._answers: dict[int, queue.SimpleQueue[dict[str, Any] | None]] = {0: queue.SimpleQueue()}
        self._guard, self._writing = threading.Lock(), threading.Lock()
        self._number = 0
        self._lost: str | None = None
        self._moved = time.monotonic()
        self._words = bytearray()
        self._process: subprocess.Popen[bytes] | None = None
        self._readers: list[threading.Thread] = []
        self.hello: dict[str, Any] = {}
        self.content = ""
        """The folder there with what it was sent."""
        self.held: set[str] = set()
        """Digests of arrays, and of more, that are there."""
        self.files: dict[Path, str] = {}
        """Of files here that are known to be whole there, the paths there: each job asks, and each is read once."""
        self.strange: str | None = None
        """What of its words can't be read, where that was its end."""

    @property
    def lost(self) -> str | None:
        """Why it can't be spoken to; None while it can."""
        return self._lost

    def open(self, limit: float = 60.0) -> None:
        """Start the far side, and wait until it says what it is."""
        arguments = f"{bundle().sha256} {len(bundle().data)} {self._silence:g}"
        command = f'"$python" -c {shlex.quote(_LOADER)} {arguments}'
        # The shell stays, to say how Python ended: ssh answers 255 for a signal there as for a lost link.
        self._process = self._link.start(f"{python_there(self._python)}; {command}; echo parity-exit-$? >&2")
        self._reading(self._listen)
        deadline = time.monotonic() + limit
        self._begin(deadline)
        self._reading(self._read)
        self._greeted(self._taken(self._answers[0], max(0.1, deadline - time.monotonic())))
        threading.Thread(target=self._ping, daemon=True).start()

    def _reading(self, what: Callable[[], None]) -> None:
        thread = threading.Thread(target=what, daemon=True)
        thread.start()
        self._readers.append(thread)

    def _begin(self, deadline: float) -> None:
        """Up to the far side's own first message."""
        while True:
            word = self._word(deadline)
            kind, _, text = word.partition(" ")
            if kind == "send":
                self._write([bundle().data])
            elif kind == "far-1":
                return
            elif kind != "start":
                raise self._refused(kind, text)

    def _word(self, deadline: float) -> str:
        """The next line of ours; what a login shell prints before it is passed over."""
        line = b""
        for _ in range(_NOISE):
            line = self._line(deadline)
            _, found, word = line.rpartition(b"\0parity-")
            if found:
                return answers.plain(word.decode(errors="replace"))
        raise self._stranger(f"it prints {answers.plain(line.decode(errors='replace'))[:40]!r} without end")

    def _line(self, deadline: float) -> bytes:
        """Up to the next end of a line, byte by byte: what comes after it may be the far side's own."""
        line = bytearray()
        while len(line) < _NOISE and (byte := self._some(1, deadline)) != b"\n":
            line += byte
        return bytes(line)

    def _refused(self, kind: str, text: str) -> ConfigError:
        name, python = self._link.name, self._python or "python3"
        if kind == "python":
            return ConfigError(f"{name}: {python} is {text} there; parity needs 3.11 or newer",
                               "name another: `python` of the target in parity.toml")  # fmt: skip
        if kind == "numpy":
            hint = self._link.how_to_install(["numpy"], "numpy")
            return ConfigError(f"{name}: NumPy is not installed for {text}", hint)
        if kind == "disk":
            return ConfigError(f"{name}: the far side can't be kept there: {text}",
                               f"free some space there, or: parity target clean {shlex.quote(name)}")  # fmt: skip
        return self._stranger(f"it said {kind[:40]!r}")

    def _stranger(self, why: str) -> ConfigError:
        name = self._link.name
        return ConfigError(f"{name}: what answers there is not parity's far side: {why}",
                           f"what does it print? parity target check {shlex.quote(name)}")  # fmt: skip

    def _greeted(self, hello: dict[str, Any]) -> None:
        held, content = hello.get("held"), hello.get("content")
        if not isinstance(content, str) or not content.startswith("/") or len(content) > 1000:
            raise self._stranger("its greeting names no folder")
        if not (isinstance(hello.get("hello"), dict) and isinstance(held, list)):
            raise self._stranger("its greeting has another form")
        self.hello, self.content = hello["hello"], content
        self.held = {h for h in held if isinstance(h, str) and re.fullmatch("[0-9a-f]{64}", h)}

    # ---- speaking ----

    def ask(self, message: dict[str, Any], replies: int, limit: float) -> Iterator[dict[str, Any]]:
        """Send a request; so many answers, each within `limit` seconds. LostError when the far side has gone."""
        with self._guard:
            self._number += 1
            number = self._number
            waiting = self._answers[number] = queue.SimpleQueue()
        try:
            parts = wire.encode({**message, "id": number})
            self.arrays += sum(len(p) for p in parts[2:])
            self._write(parts)
            for _ in range(replies):
                yield self._taken(waiting, limit)
        finally:
            with self._guard:
                del self._answers[number]

    def _taken(self, waiting: queue.SimpleQueue[dict[str, Any] | None], limit: float) -> dict[str, Any]:
        try:
            answer = waiting.get(timeout=limit) if self._lost is None else None
        except queue.Empty:
            self._fail(f"no answer within {limit:g} s")
            answer = None
        if answer is None:
            raise LostError(self._lost or "it ended")
        return answer

    def _write(self, parts: list[bytes | memoryview]) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            with self._writing:
                if self._lost is not None:
                    raise LostError(self._lost)
                for part in parts:
                    whole = memoryview(part).cast("B") if len(part) else memoryview(b"")
                    while whole:
                        done = os.write(process.stdin.fileno(), whole[:_SLICE])
                        self.sent += done
                        self._moved = time.monotonic()
                        whole = whole[done:]
        except (OSError, ValueError):
            self._fail("it ended")
            raise LostError(self._why()) from None

    def _ping(self) -> None:
        """Keeps the far side, and notices where nothing comes any more."""
        while self._lost is None:
            time.sleep(_PING)
            with contextlib.suppress(LostError):
                if self._writing.locked():
                    continue  # what is being sent tells the far side enough
                self._write(wire.encode({"do": "ping"}))
            if self._lost is None and time.monotonic() - self._moved > self._silence:
                self._fail(f"nothing heard for {self._silence:g} s")

    # ---- listening ----

    def _some(self, n: int, deadline: float | None = None) -> bytes:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        if deadline is not None and not _readable(process.stdout.fileno(), deadline):
            self._fail("no word from it")
            raise LostError(self._why())
        try:
            data = os.read(process.stdout.fileno(), n)
        except (OSError, ValueError):
            data = b""
        if not data:
            self._fail("it ended")
            raise LostError(self._why())
        self.received += len(data)
        self._moved = time.monotonic()
        return data

    def _exactly(self, n: int) -> bytearray:
        data = bytearray()
        while len(data) < n:
            data += self._some(min(n - len(data), 1 << 20))
        return data

    def _read(self) -> None:
        """Hand every message to whoever waits for it."""
        with contextlib.suppress(LostError):
            while True:
                try:
                    message = answers.plain(wire.decode(self._exactly, MOST))
                    number = message.get("id", 0) if isinstance(message, dict) else None
                    if not isinstance(number, int):
                        raise wire.WireError("a message without a number")
                except wire.WireError as e:
                    self.strange = f"what it says can't be read: {e}"
                    self._fail(self.strange)
                    return
                if "pong" in message:
                    continue
                self.arrays += _size(message)
                with self._guard:
                    waiting = self._answers.get(number)
                if waiting is not None:
                    waiting.put(message)

    def _listen(self) -> None:
        """Keep the last that it says to stderr."""
        process = self._process
        assert process is not None
        assert process.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            while data := os.read(process.stderr.fileno(), 4096):
                self._words += data
                del self._words[:-8192]

    def _fail(self, why: str) -> None:
        """It is gone: everybody who waits is told."""
        with self._guard:
            if self._lost is not None:
                return
            self._lost = why
            for waiting in self._answers.values():
                waiting.put(None)

    def _why(self) -> str:
        return self._lost or "it ended"

    def ending(self) -> int | None:
        """The exit code of the far side as the shell there tells it; None where nobody does: the link was cut."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(3.0)
        time.sleep(0.05)  # for the last of stderr
        found = re.findall(rb"parity-exit-([0-9]+)", bytes(self._words))
        return int(found[-1]) if found else None

    def last_words(self) -> str:
        """The last line that it wrote to stderr, printable."""
        lines = [line for line in self._words.decode(errors="replace").splitlines() if line.strip()]
        told = [line for line in lines if "parity-exit-" not in line]
        return answers.plain(told[-1].strip()[:200]) if told else ""

    def close(self) -> None:
        """Let the far side end: its stdin does."""
        self._fail("closed")
        process = self._process
        if process is None:
            return
        # Nothing is closed under a thread that uses it: the number of a closed pipe is soon another file's.
        if self._writing.acquire(timeout=2.0):
            with contextlib.suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()
            self._writing.release()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(3.0)
        if process.poll() is None:
            kill(process)
        for reader in self._readers:
            reader.join(2.0)
        if not any(reader.is_alive() for reader in self._readers):
            close_pipes(process)


def _readable(source: int, deadline: float) -> bool:
    """Whether something comes before the deadline."""
    waiting = select.poll()
    waiting.register(source, select.POLLIN)
    return bool(waiting.poll(max(0.0, 1e3 * (deadline - time.monotonic()))))


def _size(value: Any) -> int:
    """Bytes of the arrays in a message."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, dict):
        return sum(_size(v) for v in value.values())
    return sum(_size(v) for v in value) if isinstance(value, list) else 0
