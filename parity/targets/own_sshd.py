"""An OpenSSH server of one's own on this machine, with keys, configuration and known_hosts of its own in one folder.

Nothing of it touches the user's or the machine's SSH configuration: clients reach it with `ssh -F <folder>/ssh_config`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import parity
from parity.errors import ConfigError, TargetError

_PORTS_TRIED = 5
_SERVER = """\
ListenAddress {address}
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/client_key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
PidFile none
PrintMotd no
PrintLastLog no
MaxStartups 100
MaxSessions 100
"""
_CLIENT = """\
Host {host}
  HostName {address}
  Port {port}
  User {user}
  IdentityFile {folder}/client_key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
"""


def program(name: str, package: str) -> str:
    """The path of a program, also of one that only root's PATH has. ConfigError where it isn't installed."""
    found = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise ConfigError(f"{name} is not installed", f"sudo apt-get install --no-install-recommends {package}")
    return found


def new_key(path: Path) -> str:
    """A new key pair at `path` and `path`.pub, in place of one that is there; the public half."""
    path.unlink(missing_ok=True)
    keygen = program("ssh-keygen", "openssh-client")
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-C", "parity", "-f", str(path)], check=True)
    return path.with_name(path.name + ".pub").read_text(encoding="utf-8")


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class OwnSshd:
    """A running server. `host` is its name in `ssh_config`; `settings` are lines of sshd_config before the common ones.

    `unshare` and `script`: see parity.targets.namespaces. `enter` stands before its command, as `ip netns exec name`
    does, where `address` can be reached. Its folder and those to `remove` go with it, however its starter ends.
    ConfigError where the server can't be had here.
    """

    def __init__(
        self,
        host: str,
        user: str,
        settings: Sequence[str] = (),
        unshare: Sequence[str] = (),
        script: str = "",
        enter: Sequence[str] = (),
        address: str = "127.0.0.1",
        remove: Sequence[Path] = (),
    ) -> None:
        self.host, self.user, self.address = host, user, address
        self._sshd = program("sshd", "openssh-server")
        self._settings, self._unshare, self._script, self._enter = settings, unshare, script, enter
        self.folder = Path(tempfile.mkdtemp(prefix="parity-sshd-"))
        self.ssh_config = self.folder / "ssh_config"
        self._remove = [str(path) for path in (self.folder, *remove)]
        self._process: subprocess.Popen[str] | None = None
        self._log = self.folder / "log"
        try:
            self.change_host_key(trusted=True)
            new_key(self.folder / "client_key")
            for left in range(_PORTS_TRIED - 1, -1, -1):  # somebody else may take the port in between
                self.port = _free_port()
                try:
                    self._start()
                    return
                except ConfigError as e:
                    if left == 0 or "ddress already in use" not in e.message:
                        raise
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        self._log.unlink(missing_ok=True)
        values = {k: getattr(self, k) for k in ("address", "port", "folder", "host", "user")}
        text = "".join(line + "\n" for line in self._settings) + _SERVER.format(**values)
        (self.folder / "sshd_config").write_text(text, encoding="utf-8")
        self.ssh_config.write_text(_CLIENT.format(**values), encoding="utf-8")
        self._know(self._host_key)
        server = [*self._enter, self._sshd, "-D", "-E", str(self._log), "-f", str(self.folder / "sshd_config")]
        what: dict[str, Any] = {"unshare": list(self._unshare), "script": self._script, "server": server}
        what["remove"] = self._remove
        (self.folder / "what.json").write_text(json.dumps(what), encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "parity.targets.namespaces", str(self.folder / "what.json")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(Path(parity.__file__).parents[1])},
        )  # fmt: skip
        self.wait()

    def _know(self, key: str) -> None:
        (self.folder / "known_hosts").write_text(f"[{self.address}]:{self.port} {key}", encoding="utf-8")

    def change_host_key(self, trusted: bool = False) -> None:
        """Another host key from the next start on; `trusted`: the client's known_hosts learns it."""
        key = new_key(self.folder / "host_key")
        if trusted:
            self._host_key = key
            if hasattr(self, "port"):
                self._know(key)

    def wait(self, limit: float = 30.0) -> None:
        """Until the server answers on its port."""
        deadline = time.monotonic() + limit
        assert self._process is not None
        while True:
            with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), 2) as s:
                s.settimeout(2)
                if s.recv(4) == b"SSH-":
                    return
            if self._process.poll() is not None:
                told = self._process.communicate()[1].strip().splitlines()[:1]
                logged = self._log.read_text(errors="replace").strip().splitlines()[:1] if self._log.is_file() else []
                raise ConfigError(f"no sshd of its own can be started: {'; '.join(logged + told) or 'it says nothing'}")
            if time.monotonic() > deadline:
                raise TargetError(f"the sshd of {self.host} doesn't answer within {limit:g} s", "try again")
            time.sleep(0.02)

    def reboot(self, seconds: float) -> None:
        """Kill the server and all that runs under it, at once; it comes back on the same port after so many seconds."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"reboot {seconds}\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """End it with all that runs under it, and remove its folder."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> OwnSshd:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
