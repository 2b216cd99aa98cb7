"""Where tests reach over SSH: this machine behind a plain sshd, and the emulated devices."""

from __future__ import annotations

import contextlib
import getpass
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from parity.errors import ParityError
from parity.targets.emulated_pi import EmulatedPi
from parity.targets.own_sshd import OwnSshd

IS_ROOT = os.geteuid() == 0
_PRIVATE = """
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/sshd /mnt/netns
test ! -d /run/netns || mount --rbind /run/netns /mnt/netns
mount --rbind /mnt /run
"""
"""sshd wants a folder in /run; namespaces that were named keep their place there."""


class PlainSshd(OwnSshd):
    """This machine over SSH, as the user of the tests, with `home` as the home there.

    As root it has mount and process namespaces of its own, and `size` makes the home a file system of so many bytes (as
    tmpfs takes it). `settings` are lines of sshd_config; its one SetEnv line gets `environment` (NAME=value) too.
    """

    def __init__(
        self,
        home: Path,
        *,
        size: str | None = None,
        settings: Sequence[str] = (),
        environment: Sequence[str] = (),
        enter: Sequence[str] = (),
        address: str = "127.0.0.1",
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        passwd = home.with_name(home.name + "-passwd")
        lines = [line.split(":") for line in Path("/etc/passwd").read_text().splitlines()]
        own = [[*line[:5], str(home), "/bin/bash"] if line[0] == getpass.getuser() else line for line in lines]
        passwd.write_text("".join(":".join(line) + "\n" for line in own))
        script = f"{_PRIVATE}mount --bind '{passwd}' /etc/passwd\n"
        if size is not None:
            script += f"mount -t tmpfs -o size={size},mode=755 tmpfs '{home}'\n"
        if not IS_ROOT and size is not None:
            raise ValueError("a file system of its own takes root")
        super().__init__(
            "plain", getpass.getuser(),
            (f"SetEnv HOME={home} {' '.join(environment)}", *settings),
            ("mount", "pid") if IS_ROOT else (), script if IS_ROOT else "", enter, address,
        )  # fmt: skip


def emulated(name: str, **options: object) -> EmulatedPi:
    """An emulated device; a skip with the reason where it can't be had here."""
    try:
        return EmulatedPi(name, **options)  # type: ignore[arg-type]
    except ParityError as e:
        pytest.skip(f"no {name} here: {e.message}" + (f" ({e.hint})" if e.hint else ""))


def ssh(config: Path, host: str, command: str, limit: float = 60, **more: object) -> subprocess.CompletedProcess[str]:
    """A command over there, by the plain client."""
    return subprocess.run(
        ["ssh", "-F", str(config), "-o", "BatchMode=yes", host, command],
        capture_output=True, text=True, timeout=limit, check=False, **more,  # type: ignore[call-overload]
    )  # fmt: skip


def session_daemons(server: OwnSshd) -> list[psutil.Process]:
    """The sshd processes that serve sessions now (the one that listens isn't among them)."""
    assert server._process is not None
    found = []
    for process in psutil.Process(server._process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since, or is a zombie
            command = process.cmdline()
            listens = any("-f" in part for part in command[1:]) or "[listener]" in " ".join(command)
            if process.name() == "sshd" and not listens:
                found.append(process)
    return found


def running(server: OwnSshd) -> list[list[str]]:
    """The command lines of all that runs over there, but for sshd's own processes."""
    assert server._process is not None
    found = []
    for process in psutil.Process(server._process.pid).children(recursive=True):
        try:
            if process.name() == "sshd" or "parity.targets.namespaces" in process.cmdline():
                continue
            found.append(process.cmdline())
        except psutil.NoSuchProcess:
            continue
    return found
