"""A server and all that it starts, in namespaces of their own: when it ends nothing is left, neither process nor mount.

Run as a process of its own, `python -m parity.targets.namespaces FILE`: the JSON in the file says what to `unshare` (of
"user", "mount", "pid"), a `script` for `sh` to be run first, in the file's folder (mounts), the `server` to run, and
folders to `remove` at the end. It lives until its stdin ends, so that it goes with whoever started it, even by SIGKILL.
`reboot SECONDS` on stdin kills all that is in it, waits, and starts the server again. Linux only; `unshare` needs root.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_FLAGS = {"mount": 0x00020000, "user": 0x10000000, "pid": 0x20000000}  # CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_IDS = b"0 0 65536"
"""User ids inside a user namespace, as outside: sshd changes between several."""


def _system_call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _enter(kinds: list[str]) -> None:
    """New namespaces for this process's children; ids of a user namespace are mapped from outside it, by a child."""
    reader, writer = os.pipe()
    mapper = os.fork()
    if mapper == 0:
        os.close(writer)
        if os.read(reader, 1):
            for table in ("uid_map", "gid_map"):
                Path(f"/proc/{os.getppid()}/{table}").write_bytes(_IDS)
        os._exit(0)
    os.close(reader)
    try:
        _system_call("unshare", sum(_FLAGS[k] for k in kinds))
        if "user" in kinds:
            os.write(writer, b"!")
    finally:
        os.close(writer)
        _, status = os.waitpid(mapper, 0)
    if status:
        raise OSError("the user namespace's ids can't be mapped")


def _descendants() -> list[int]:
    """All processes below this one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found, ahead = [], [os.getpid()]
    while ahead:
        below = children.get(ahead.pop(), [])
        found += below
        ahead += below
    return found


def _kill_all() -> None:
    """End every process in here but this one, and reap it."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if os.getpid() == 1:  # all that is left of anything in the namespace is, or becomes, a child of this process
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        else:
            for pid in _descendants():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def _serve(server: list[str]) -> None:
    """Run the server until stdin ends, reaping whatever it leaves; again where it is told to reboot."""
    process = subprocess.Popen(server, stdin=subprocess.DEVNULL)
    print("started", flush=True)
    while True:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == process.pid:
                    process.returncode = os.waitstatus_to_exitcode(status)
                    raise SystemExit(f"{server[0]} ended with exit code {process.returncode}")
        if not select.select([0], [], [], 0.2)[0]:
            continue
        order = os.read(0, 4096).decode().split()
        if not order:
            return
        _kill_all()
        process.returncode = -signal.SIGKILL
        time.sleep(float(order[-1]))
        process = subprocess.Popen(server, stdin=subprocess.DEVNULL)
        print("started", flush=True)


def _inside(what: dict[str, Any]) -> None:
    _system_call("prctl", _SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if what.get("script"):
        done = subprocess.run(
            ["sh", "-eu", "-c", what["script"]],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=Path(sys.argv[1]).parent,
        )  # fmt: skip
        if done.returncode:
            told = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[0]
            raise SystemExit(f"its namespaces can't be made: {told}")
    try:
        _serve(what["server"])
    finally:
        _kill_all()


def main() -> None:
    """Do what the file says."""
    what = json.loads(Path(sys.argv[1]).read_bytes())
    os.setsid()  # Ctrl-C is the starter's: it closes our stdin
    _keep(what)
    for folder in what["remove"]:  # a server that ended by itself leaves its log to the starter
        shutil.rmtree(folder, ignore_errors=True)


def _keep(what: dict[str, Any]) -> None:
    try:
        if what["unshare"]:
            _enter(what["unshare"])
    except OSError as e:
        raise SystemExit(f"namespaces of its own are refused here: {e}") from None
    if "pid" not in what["unshare"]:
        _inside(what)
        return
    first = os.fork()
    if first == 0:
        _system_call("prctl", _SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _inside(what)  # as process 1: with it all of them go
        os._exit(0)
    if code := os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]):
        raise SystemExit(code)


if __name__ == "__main__":
    main()
