"""A virtual environment on a device: `parity target setup`; and what was sent there, taken away: `parity target clean`.

Wheels come from the package index, or from here, over the link, by their sha256. What does the work there is
`targets/installer.py`, which is sent along; the same again does nothing, and half of it is never taken for the whole.
"""

from __future__ import annotations

import ensurepip
import hashlib
import json
import shlex
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parity import readiness, wheels
from parity.errors import ConfigError
from parity.installing import Context, Installer, Made, Say, described, full
from parity.targets import emulated_pi, places
from parity.targets.link import Link, PythonLink, at_home
from parity.targets.machines import Machine, clean, duration, size
from parity.targets.named import Reached

KEPT = ("agent", "content", "wheels", "downloads")
"""The folders in parity's cache folder that are parity's to take away."""
_PIP = ("--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--no-compile", "--only-binary=:all:",
        "--no-cache-dir")  # fmt: skip
_BASE_BYTES = 30_000_000
"""What a virtual environment takes beside the large libraries."""


@dataclass(frozen=True)
class Recipe:
    """What is to be installed on a machine."""

    pins: tuple[str, ...]
    distributions: tuple[str, ...]
    """Those that must work in the end."""
    system_site: bool
    """NumPy is Debian's."""

    @property
    def digest(self) -> str:
        """What stands for it in the virtual environment."""
        return hashlib.sha256(json.dumps([self.pins, self.system_site]).encode()).hexdigest()


def may_set_up(reached: Reached) -> None:
    """ConfigError where a target has a Python of the user's own: that one is theirs to fill."""
    name, pins = reached.link.name, " ".join([wheels.NUMPY, *(own[0] for own in wheels.WITH.values())])
    if name in emulated_pi.KINDS:
        raise ConfigError(f"{name} comes with all that it needs", f"parity run --target {name} --backend numpy")
    if reached.python is not None:
        hint = f"{reached.python} -m pip install {pins}"
        if not isinstance(reached.link, PythonLink):
            hint = f"there: {hint}; or take `python` of the target out of parity.toml"
        raise ConfigError(f"{name} has a Python of its own, {reached.python}: setup makes another", hint)


def recipe(machine: Machine, name: str, runtimes: Sequence[str]) -> Recipe:
    """What to install for these runtimes; none named: all that there are. ConfigError where there is nothing for it."""
    for runtime in runtimes:
        if runtime not in wheels.WITH:
            raise ConfigError(f"setup knows no runtime {runtime!r}", f"--with takes {', '.join(wheels.WITH)}")
    if machine.system != "Linux":
        two = f"{wheels.NUMPY} {wheels.WITH['onnxrt'][0]}"
        hint = f"there: python3 -m pip install {two}; and name that Python in parity.toml"
        raise ConfigError(f"{name}: setup is for Linux, this is {machine.system}", hint)
    if machine.architecture == "armv7l":
        return _arm32(machine, name, runtimes)
    if machine.bits == 32:
        raise ConfigError(
            f"{name}: there are no wheels for {machine.architecture}", "take a 64-bit system, or a newer board"
        )
    chosen = tuple(runtime for runtime in wheels.WITH if runtime in (runtimes or wheels.WITH))
    pins = dict.fromkeys([wheels.NUMPY, *(pin for runtime in chosen for pin in wheels.WITH[runtime])])
    first = (wheels.NUMPY, *(wheels.WITH[runtime][0] for runtime in chosen))
    return Recipe(tuple(pins), tuple(pin.partition("==")[0] for pin in first), system_site=False)


def _arm32(machine: Machine, name: str, runtimes: Sequence[str]) -> Recipe:
    if "onnxrt" in runtimes:
        hint = f"parity target setup {shlex.quote(name)} --with tflite; or install the 64-bit system, where both run"
        raise ConfigError(f"{name}: there is no ONNX Runtime for 32-bit ARM", hint)
    if machine.version[:2] > (3, 11):
        hint = "take Raspberry Pi OS Bookworm, or a 64-bit system"
        raise ConfigError(f"{name}: 32-bit ARM has tflite-runtime up to Python 3.11, this is {machine.python}", hint)
    if "numpy" not in machine.packages:
        hint = f"there: sudo apt install python3-numpy; then: parity target setup {shlex.quote(name)} --with tflite"
        raise ConfigError(f"{name}: on 32-bit ARM NumPy comes from Debian, and isn't installed", hint)
    return Recipe(wheels.ARM32, ("numpy", "tflite-runtime"), system_site=True)


def setup(
    link: Link,
    runtimes: Sequence[str] = (),
    *,
    offline: bool = False,
    python: str | None = None,
    say: Say = lambda _: None,
) -> Made:
    """Make the virtual environment of a device that is connected, or see that it is as wanted.

    `python`: the one to make it with; None: python3. ConfigError: what must be mended there, or here. TargetError: the
    link was lost; the same again goes on where it stopped.
    """
    name, base = link.name, python or "python3"
    machine = readiness.needed(readiness.ask(link, base), name, python)
    wanted = recipe(machine, name, runtimes)
    platform = wheels.platform(machine)
    if platform is None:
        raise ConfigError(f"{name}: wheels are for glibc, this is {machine.libc or 'a system without it'}",
                          "name a Python that has them: [targets.NAME] python = ... in parity.toml")  # fmt: skip
    there = f"{machine.cache}/wheels"
    plan = {
        "venv": places.VENV, "system_site": wanted.system_site, "names": list(wanted.distributions), "wheels": there,
        "modules": {d: wheels.MODULES[d] for d in wanted.distributions},
        "digest": wanted.digest,
    }  # fmt: skip
    work = Installer(link, base, say, _context(name, machine, platform, offline))
    if (made := work.look(plan)) is not None:
        return made
    pip = _pip(platform)
    files = [pip, *wheels.fetch(wanted.pins, platform, say)] if offline else [pip]
    known = {path: described(path) for path in files}
    unpacked = _unpacked(files) if offline else sum(wheels.INSTALLED_BYTES.get(d, 0) for d in wanted.distributions)
    missing = work.missing(there, list(known.values()))
    sending = [path for path, (_, sha256, _) in known.items() if sha256 in missing]
    total = sum(path.stat().st_size for path in sending) + unpacked + _BASE_BYTES
    if machine.disk_free_bytes is not None and machine.disk_free_bytes < total:
        raise full(name, f"{size(machine.disk_free_bytes)} are free, about {size(total)} are wanted")
    work.send(there, sending)
    at = {path: f"{there}/{sha256}/{file}" for path, (file, sha256, _) in known.items()}
    # What the user has set for pip there counts where the index is asked: a proxy, a mirror.
    source = ["--isolated", "--no-index", *(at[path] for path in files[1:])] if offline else [
        "--retries", "2", "--timeout", "30", *wanted.pins]  # fmt: skip
    more = {"pip": at[pip], "arguments": [*_PIP, *source], "free": unpacked + _BASE_BYTES}
    return work.make(plan | more)


def _pip(platform: wheels.Platform) -> Path:
    """A wheel of pip: the pinned one, or without a network the one that this Python came with."""
    try:
        return wheels.fetch([wheels.PIP], platform)[0]
    except ConfigError:
        bundled = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
        if not bundled:
            raise
        return bundled[-1]


def _unpacked(files: Sequence[Path]) -> int:
    total = 0
    for path in files:
        with zipfile.ZipFile(path) as archive:
            total += sum(entry.file_size for entry in archive.infolist())
    return total


def _context(name: str, machine: Machine, platform: wheels.Platform, offline: bool) -> Context:
    off = machine.clock - time.time()
    which = "ahead" if off > 0 else "behind"
    clock = f"its clock is {duration(abs(off))} {which}: sudo timedatectl set-ntp true"
    return Context(name, platform.name, offline, clock if abs(off) > readiness.CLOCK else "is its clock right? date")


def remove(link: Link, everything: bool = False) -> list[tuple[str, int]]:
    """Take away what parity keeps on a target that is connected; (folder, bytes) of each that was there.

    `everything`: also what `setup` made. Needs no Python there.
    """
    folders = " ".join(KEPT)
    script = f"""\
case "${{XDG_CACHE_HOME:-}}" in /*) cache=$XDG_CACHE_HOME/parity ;; *) cache=$HOME/.cache/parity ;; esac
drop() {{
  [ -e "$1" ] || [ -L "$1" ] || return 0
  kilobytes=$(du -sk -- "$1" 2>/dev/null | cut -f1)
  chmod -R u+w -- "$1" 2>/dev/null
  if rm -rf -- "$1"; then printf 'parity-removed %s %s\\n' "${{kilobytes:-0}}" "$1"
  else printf 'parity-left %s\\n' "$1"; fi
}}
for folder in {folders}; do drop "$cache/$folder"; done
rmdir -- "$cache" 2>/dev/null
"""
    if everything:
        script += f"drop {at_home(places.HOME)}\n"
    done = link.run(script + "true", limit=300)
    removed = []
    for line in done.out[-(1 << 16) :].decode(errors="replace").splitlines():
        word, _, rest = line.partition(" ")
        if word == "parity-left":
            why = clean((done.err.splitlines() or [""])[-1])
            raise ConfigError(f"{link.name}: {clean(rest)} can't be removed: {why}", "take it away there by hand")
        kilobytes, _, path = rest.partition(" ")
        if word == "parity-removed" and kilobytes.isdecimal() and len(kilobytes) < 15:
            removed.append((clean(path), int(kilobytes) * 1024))
    return removed
