"""The device's part of `parity target setup`: keep wheels that are sent, make a virtual environment of them.

It runs there by itself, from the standard library alone; takes one request, a line of JSON on stdin, and answers in
lines of JSON. `make` works as long as stdin is open: whoever started it and is gone wants nothing half done.

    look    a plan                                                  -> {"looked": folder, "versions": {...} or null}
    held    {"folder": ..., "files": [[name, sha256, bytes], ...]}  -> {"held": [sha256, ...]}
    keep    the same, and then the files' bytes                     -> {"kept": name} each, {"done": true}
    make    a plan                                                  -> {"doing": ...}, {"made": folder, "versions": ...}

What goes wrong is a line {"error": kind, "text": ...}: full, busy, venv, pip, broken, damaged, denied.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

MARK = "parity-setup.json"
"""In a virtual environment that is complete: what it was made of."""


def say(**words: Any) -> None:
    """A line to the other side, whatever a login shell has left in the one before it."""
    sys.stdout.write("\n" + json.dumps(words) + "\n")
    sys.stdout.flush()


class Wrong(Exception):
    """What can't be done: one of the kinds above, and words."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind, self.text = kind, text


def keep(folder: Path, files: list[list[Any]]) -> None:
    """Keep files from stdin under `folder`/<sha256>/<name>; each appears whole or not at all."""
    for name, sha256, size in files:
        place = folder / sha256
        place.mkdir(parents=True, exist_ok=True)
        part = place / (".part-%d" % os.getpid())  # noqa: UP031
        try:
            digest, left = hashlib.sha256(), size
            with part.open("wb") as out:
                while left:
                    data = sys.stdin.buffer.read(min(left, 1 << 16))
                    if not data:
                        raise Wrong("damaged", "the transfer was cut off in " + name)
                    left -= len(data)
                    digest.update(data)
                    out.write(data)
                out.flush()
                os.fsync(out.fileno())
            if digest.hexdigest() != sha256:
                raise Wrong("damaged", name + " did not arrive as it was sent")
            os.replace(str(part), str(place / name))
        finally:
            with contextlib.suppress(OSError):
                part.unlink()
        say(kept=name)


def held(folder: Path, files: list[list[Any]]) -> list[str]:
    """Which of the files are there already, whole."""
    return [sha256 for name, sha256, size in files if _size(folder / sha256 / name) == size]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def make(plan: dict[str, Any]) -> None:
    """Make the virtual environment of a plan in place of whatever is there.

    `venv`: its folder; `pip`: the wheel of pip that installs; `arguments` of its `install`; `system_site`; `modules` to
    import (distribution -> module); `digest` of what is wanted; `free`: bytes that the disk must have; `wheels`: a
    folder to take away when all is done.
    """
    venv = Path(plan["venv"]).expanduser()
    venv.parent.mkdir(parents=True, exist_ok=True)
    with (venv.parent / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Wrong("busy", "another setup is at work there") from None
        for left in [*venv.parent.glob(venv.name + ".part"), *venv.parent.glob(venv.name + ".old")]:
            shutil.rmtree(str(left), ignore_errors=True)
        versions = _found(plan, venv)
        if versions is None:
            versions = _filled(plan, venv)
        shutil.rmtree(plan["wheels"], ignore_errors=True)
        say(made=str(venv), versions=versions)


def _mark(plan: dict[str, Any]) -> dict[str, str]:
    return {"digest": plan["digest"], "python": "%d.%d.%d" % sys.version_info[:3]}  # noqa: UP031


def _found(plan: dict[str, Any], venv: Path) -> dict[str, str] | None:
    """The versions in a virtual environment that was made by this plan and still works."""
    with contextlib.suppress(OSError, ValueError, Wrong):
        if json.loads((venv / MARK).read_text()) == _mark(plan):
            return _imported(venv, plan["modules"])
    return None


def _filled(plan: dict[str, Any], venv: Path) -> dict[str, str]:
    part, old = venv.with_name(venv.name + ".part"), venv.with_name(venv.name + ".old")
    free = shutil.disk_usage(str(venv.parent)).free
    if free < plan["free"]:
        raise Wrong("full", "%.0f MB are free, about %.0f MB are wanted" % (free / 1e6, plan["free"] / 1e6))  # noqa: UP031
    _WORK.append(part)
    site = ["--system-site-packages"] * plan["system_site"]
    say(doing="making a virtual environment")
    _run([sys.executable, "-m", "venv", "--without-pip", *site, str(part)], "venv")
    pip = [str(part / "bin/python"), plan["pip"] + "/pip", "install"]
    say(doing="installing " + ", ".join(plan["names"]))
    _run([*pip, *plan["arguments"]], "pip")
    versions = _imported(part, plan["modules"])
    (part / MARK).write_text(json.dumps(_mark(plan)))
    if venv.is_symlink() or venv.exists():
        venv.rename(old)
    part.rename(venv)
    _WORK.clear()
    shutil.rmtree(str(old), ignore_errors=True)
    # Its scripts for shells name the folder that they were written into.
    _run([sys.executable, "-m", "venv", "--without-pip", *site, str(venv)], "venv")
    return versions


def _imported(venv: Path, modules: dict[str, str]) -> dict[str, str]:
    """The version of each distribution, once its module could be imported."""
    program = "import sys, importlib as i, importlib.metadata as m; i.import_module(sys.argv[1]); "
    program += "print(m.version(sys.argv[2]))"
    return {
        name: _run([str(venv / "bin/python"), "-c", program, module, name], "broken", name).split()[-1]
        for name, module in modules.items()
    }


def _run(command: list[str], kind: str, what: str = "") -> str:
    """What a command writes to stdout. Wrong where it fails."""
    environment = {
        k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_USER")
    }
    # What pip and the libraries leave in a user's cache is parity's to clean up, as in a run.
    base = environment.get("XDG_CACHE_HOME", "")
    base = base if os.path.isabs(base) else os.path.expanduser("~/.cache")  # noqa: PTH111, PTH117
    environment["XDG_CACHE_HOME"] = base + "/parity/libraries"
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", env=environment,
        start_new_session=True,
    )  # fmt: skip
    _RUNNING.append(process.pid)
    out, err = process.communicate()
    _RUNNING.remove(process.pid)
    if process.returncode:
        told = (err + out).decode("utf-8", "replace")
        if "No space left" in told or "Errno 28" in told:
            raise Wrong("full", "")
        if process.returncode < 0:
            try:
                name = signal.Signals(-process.returncode).name
            except ValueError:
                name = "signal %d" % -process.returncode  # noqa: UP031
            told += "\nit died of " + name
        raise Wrong(kind, what + "\n" + told[-4000:])
    return out.decode("utf-8", "replace")


_RUNNING: list[int] = []
_WORK: list[Path] = []


def _watch() -> None:
    """End all, tidily, when the other side goes."""
    while os.read(0, 1024):
        pass
    for pid in list(_RUNNING):
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    for path in list(_WORK):
        shutil.rmtree(str(path), ignore_errors=True)
    os._exit(1)


def main(what: str) -> NoReturn:
    """Take a request, a line of JSON on stdin."""
    os.umask(0o022)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # stdin tells it, and then there is something to do
    try:
        request = json.loads(sys.stdin.buffer.readline())
        if what == "held":
            say(held=held(Path(request["folder"]), request["files"]))
        elif what == "look":
            venv = Path(request["venv"]).expanduser()
            say(looked=str(venv), versions=_found(request, venv))
        elif what == "keep":
            keep(Path(request["folder"]), request["files"])
            say(done=True)
        else:
            threading.Thread(target=_watch, daemon=True).start()
            make(request)
        os._exit(0)  # a thread may be waiting for stdin
    except Wrong as e:
        kind, text = e.kind, e.text
    except OSError as e:
        kind, text = "denied", str(e)
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            kind, text = "full", ""
        elif e.errno == errno.ENOENT:
            kind, text = "busy", "what was sent has gone again: another setup, or clean, is at work there"
    for path in _WORK:
        shutil.rmtree(str(path), ignore_errors=True)
    with contextlib.suppress(OSError):  # nobody may be there any more
        say(error=kind, text=text)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
