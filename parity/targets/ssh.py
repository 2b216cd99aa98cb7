"""SSH by the user's own OpenSSH client: their config, keys, agent, jumps and known_hosts, and one connection.

The connection is a master that runs `cat` there: it ends with us, and a byte that comes back says that the link lives.
Every command is a channel of it. Host keys are always checked, as the user's config says.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from parity.errors import ConfigError, ParityError, TargetError
from parity.targets.link import Done, close_pipes, finish, kill, shell

_READY = b"\0parity-connected\n"
SET_UP = ("numpy", "onnxrt", "tflite")
"""What `parity target setup` installs."""
CONNECT = 30.0
"""Seconds in which a connection must stand, asking for a passphrase apart."""
ANSWER = 10.0
"""Seconds in which a byte must come back."""

_ROOM = 60
"""Characters of a folder's name that leave room for a socket in it: a path to one has 104 at most."""


def interactive() -> bool:
    """Whether somebody is there who can type a passphrase or look at a new host key."""
    return sys.stdin.isatty() and sys.stderr.isatty() and not os.environ.get("CI")


class SshLink:
    """A connection to `host` (`[user@]host`, or an alias of the user's ssh config)."""

    def __init__(self, name: str, host: str, port: int | None = None, config: Path | None = None) -> None:
        """`config` takes the place of the user's own (`ssh -F`)."""
        self.name, self._host, self._port = name, host, port
        self._ssh = ["ssh", *(["-F", str(config)] if config is not None else []),
                     *(["-p", str(port)] if port is not None else [])]  # fmt: skip
        self._options: list[str] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._master: subprocess.Popen[bytes] | None = None
        self._asking = threading.Lock()
        self._closed = False
        self._words = bytearray()
        self._listener: threading.Thread | None = None

    @property
    def address(self) -> str:
        return f"ssh://{self._host}" + (f":{self._port}" if self._port is not None else "")

    def _given(self) -> list[str]:
        """Our options, where the user's config doesn't say it."""
        if shutil.which("ssh") is None:
            raise ConfigError(f"{self.name}: there is no ssh on this machine", "apt install openssh-client")
        asked = subprocess.run([*self._ssh, "-G", "--", self._host], capture_output=True, text=True, check=False)
        if asked.returncode:
            raise self._error(asked.stderr)
        own = dict(line.partition(" ")[::2] for line in asked.stdout.splitlines())
        options = ["ClearAllForwardings=yes", "ForwardAgent=no", "ForwardX11=no", "RequestTTY=no", "RemoteCommand=none",
                   "LogLevel=ERROR"]  # fmt: skip
        if own.get("serveraliveinterval", "0") == "0":
            options += ["ServerAliveInterval=5", "ServerAliveCountMax=3"]
        if own.get("connecttimeout", "none") == "none":
            options.append("ConnectTimeout=15")
        if not interactive():
            options.append("BatchMode=yes")
        # Their own shared connection, where they have set one up, is as good as ours.
        if own.get("controlpath", "none") == "none" or own.get("controlmaster") == "false":
            # The path of a socket has 107 bytes at most, of which ssh wants 18 for a name while it makes it.
            short = None if len(tempfile.gettempdir()) < 60 else "/tmp"
            self._folder = self._folder or tempfile.TemporaryDirectory(prefix="parity-", dir=short)
            options += ["ControlMaster=auto", "ControlPersist=no", f"ControlPath={self._folder.name}/master"]
        return [f"-o{option}" for option in options]

    def _error(self, words: str) -> ParityError:
        return _error(self.name, self._host, words, self._port, self._ssh[1:])

    def _popen(self, command: str, *options: str) -> subprocess.Popen[bytes]:
        assert self._options is not None
        return subprocess.Popen(
            [*self._ssh, *options, *self._options, "--", self._host, shell(command)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
            start_new_session=not interactive(),  # Ctrl-C is ours to handle; a passphrase is asked for on the terminal
        )  # fmt: skip

    def connect(self) -> None:
        try:
            self._connect()
        finally:
            if self._closed:  # meanwhile, by another thread
                self.close()

    def _connect(self) -> None:
        self._drop()
        self._options = self._given()
        master = self._popen(r"printf '\000parity-connected\n'; exec cat")
        self._words = bytearray()
        self._listener = threading.Thread(target=self._listen, args=(master, self._words), daemon=True)
        self._listener.start()
        limit = None if interactive() else CONNECT
        if not _until(master, _READY, limit):
            with contextlib.suppress(subprocess.TimeoutExpired):
                master.wait(1.0)  # it may be about to say why
            waited, code = master.poll() is None, master.poll()
            kill(master)
            self._heard()
            close_pipes(master)
            if waited:
                raise TargetError(f"{self.name}: {self._host} gave no answer within {CONNECT:g} s",
                                  f"is it on, and on the network? try: parity target check {shlex.quote(self.name)}; "
                                  "then the same command again")  # fmt: skip
            if code != 255:  # ssh's own; any other is the shell's there
                raise ConfigError(
                    f"{self.name}: the shell of {self._host} ends with {code} before a command is run",
                    "see what its startup files do (.bashrc, .profile), and its login shell",
                )
            raise self._error(self._words.decode(errors="replace"))
        self._master = master

    @staticmethod
    def _listen(process: subprocess.Popen[bytes], words: bytearray) -> None:
        """Keep the last that a connection says."""
        assert process.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            while data := os.read(process.stderr.fileno(), 4096):
                words += data
                del words[:-8192]

    def start(self, command: str) -> subprocess.Popen[bytes]:
        if self._master is None:
            self.connect()
        # A channel of the connection that stands, or nothing: never a second one in silence.
        return self._popen(command, "-oControlMaster=no", "-oProxyCommand=false")

    def run(self, command: str, stdin: bytes = b"", limit: float = 60.0) -> Done:
        # ssh itself answers 255 for a lost link and for a command that died of a signal: the shell there says which.
        done = finish(self.name, self.start(f"({command}\n); c=$?; echo parity-exit-$c >&2; exit $c"), stdin, limit)
        err, found, code = done.err.rpartition("parity-exit-")
        if not found or not code.strip().isdecimal():
            raise TargetError(f"{self.name}: the link was lost in the middle of a command", _AGAIN)
        return Done(int(code), done.out, err)

    @property
    def alive(self) -> bool:
        master = self._master
        if master is None or master.poll() is not None:
            return False
        assert master.stdin is not None
        with self._asking, contextlib.suppress(OSError):
            master.stdin.write(b".")
            return _until(master, b".", ANSWER)
        return False

    def how_to_install(self, distributions: Sequence[str], plugin: str) -> str:
        if plugin in SET_UP:
            more = "" if plugin == "numpy" else f" --with {plugin}"
            return f"parity target setup {shlex.quote(self.name)}{more}"
        return f"have {' '.join(distributions)} for the Python there, and name that: `python` of [targets.NAME]"

    def _drop(self) -> None:
        master, self._master = self._master, None
        if master is None:
            return
        with contextlib.suppress(OSError):
            assert master.stdin is not None
            master.stdin.close()  # ends `cat` there, and with it the connection
        with contextlib.suppress(subprocess.TimeoutExpired):
            master.wait(2.0)
        if master.poll() is None:
            kill(master)
        self._heard()
        close_pipes(master)

    def _heard(self) -> None:
        """Wait for the last words of a connection that has ended."""
        if self._listener is not None:
            self._listener.join(2.0)

    def close(self) -> None:
        self._closed = True
        self._drop()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _until(process: subprocess.Popen[bytes], wanted: bytes, limit: float | None) -> bool:
    """Whether a process writes `wanted` within so many seconds; what it writes before it is left out."""
    assert process.stdout is not None
    deadline = None if limit is None else time.monotonic() + limit
    seen = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while wanted not in seen and len(seen) < 1 << 16:
            if not selector.select(None if deadline is None else max(0.0, deadline - time.monotonic())):
                return False
            if not (data := os.read(process.stdout.fileno(), 1024)):
                return False
            seen += data
    return wanted in seen


_AGAIN = "the same command again goes on with what is there already"


def _error(name: str, host: str, words: str, port: int | None = None, options: Sequence[str] = ()) -> ParityError:
    """What the client said, as an error: unreachable is worth a retry, keys and configuration are the user's."""
    text = words.lower()
    lines = [line.strip() for line in words.splitlines() if line.strip(" @\t-")]
    last = "".join(c for c in (lines[-1] if lines else "ssh said nothing") if c.isprintable())[:300]
    given = shlex.join([*options, host])  # ssh-copy-id takes -F and -p as ssh does
    try_it = f"ssh {given}"
    where = f"[{host.rpartition('@')[2]}]:{port}" if port not in (None, 22) else host.rpartition("@")[2]
    if "remote host identification has changed" in text:
        return ConfigError(f"{name}: the host key of {host} is another than the known one",
                           f"only if it was set up anew: ssh-keygen -R '{where}', then {try_it}")  # fmt: skip
    if "host key verification failed" in text or "host key is known for" in text:
        return ConfigError(f"{name}: the host key of {host} isn't known here",
                           f"look at its fingerprint and accept it once: {try_it}")  # fmt: skip
    if "permission denied" in text or "too many authentication failures" in text:
        return ConfigError(f"{name}: {host} refuses the key: {last}",
                           f"let it know yours: ssh-copy-id {given}; or unlock it: ssh-add; try: {try_it}")  # fmt: skip
    if any(w in text for w in ("bad configuration", "user config file", "bad owner or permissions", "bad option")):
        return ConfigError(f"{name}: {last}", "mend the ssh configuration")
    return TargetError(f"{name}: {host} can't be reached: {last}", f"is it on, and on the network? try: {try_it}")
