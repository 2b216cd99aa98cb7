"""What a target has and what it lacks, and what to type for that: `parity target check`."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from parity import wheels
from parity.errors import CONFIG, OK, ConfigError
from parity.targets import machine, places
from parity.targets.link import Done, Link
from parity.targets.machines import MOST, Machine, believed, clean, duration, numbers, size

CLOCK = 60.0
"""Seconds that a clock may be off before it is told."""
NUMPY = (1, 24)
"""The oldest that the far side works with."""
_KERNELS = (
    "sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16",
    "neon", "vfpv4", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme",
)  # fmt: skip
"""Features of CPUs by which runtimes choose their kernels."""
_GOVERNORS = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
LITTLE_MEMORY, LITTLE_DISK, HOT = 200 << 20, 200 << 20, 80.0


class Check(msgspec.Struct, frozen=True):
    """One line of what is there. What is missing or wrong is to be mended; what is absent nobody needs."""

    what: str
    found: str
    state: Literal["ok", "note", "missing", "wrong", "absent"]
    to_do: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `check` found; `ready` is whether backend numpy and a runtime can run there."""

    target: str
    address: str
    ready: bool
    emulated: bool
    checks: list[Check]
    machine: Machine | None

    @property
    def exit_code(self) -> int:
        """0, or 3 where something is to be mended."""
        return OK if self.ready else CONFIG


class Asked(msgspec.Struct, frozen=True):
    """What a target answered: Python's version ('' where it has none), what its shell told, and what its Python did."""

    python: str
    shell: dict[str, str]
    machine: Machine | None


BOOT = "import sys; exec(compile(sys.stdin.buffer.read(int(sys.argv.pop())), 'parity', 'exec'))"
"""Runs the source that comes first on stdin."""

_SHELL = """\
say() { printf '%s %s\\n' "$1" "$2"; }
say machine "$(uname -m)"
say system "$(uname -s)"
say clock "$(date +%s)"
say release "$(. /etc/os-release 2>/dev/null && echo "$PRETTY_NAME")"
say memory "$(sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo 2>/dev/null)"
say free "$(df -Pk "$HOME" 2>/dev/null | sed -n '2s/  */ /gp' | cut -d' ' -f4)"
"""


def ask(link: Link, python: str | None) -> Asked:
    """What a target says of itself. `python`: what the settings name; None: parity's own there, else python3."""
    mark, source = f"parity-{secrets.token_hex(8)}", Path(machine.__file__).read_bytes()
    version = "import sys; print('python %d.%d.%d' % sys.version_info[:3])"
    script = f"""\
{places.python_there(python)}
printf '\\n%s\\n' {mark}
{_SHELL}
if command -v "$python" >/dev/null 2>&1; then
  cd /
  "$python" -c {shlex.quote(version)} </dev/null 2>/dev/null || say python none
  printf '%s\\n' {mark}
  exec "$python" -c {shlex.quote(BOOT)} {len(source)}
fi
"""
    done = link.run(script, source)
    # What a login shell prints of its own comes before the mark.
    _, _, told = done.out[-MOST:].partition(mark.encode())
    head, _, facts = told.partition(mark.encode())
    shell = dict(clean(line).partition(" ")[::2] for line in head.decode(errors="replace").splitlines()[:50])
    try:
        found = believed(facts)
    except ValueError:
        found = None
    return Asked("" if shell.get("python") == "none" else shell.get("python", ""), shell, found)


_LIBRARIES = 'XDG_CACHE_HOME="${XDG_CACHE_HOME:-$HOME/.cache}/parity/libraries"'
"""What a library leaves in a user's cache when it is imported stays in parity's part of it, as in a run."""


def works(link: Link, python: str | None, distribution: str) -> str | None:
    """Why a library can't be imported there; None where it can."""
    module = wheels.MODULES[distribution]
    script = f'{places.python_there(python)}\ncd / && {_LIBRARIES} exec "$python" -c {shlex.quote(f"import {module}")}'
    done = link.run(script, limit=120)
    if done.code == 0:
        return None
    return ended(done)


def ended(done: Done) -> str:
    """How a command ended that wasn't to, in words."""
    if done.code == 132 or done.code == -4:
        return "illegal instruction: it was built for a newer CPU"
    if done.code > 128 or done.code < 0:
        return f"it died of signal {done.code - 128 if done.code > 0 else -done.code}"
    lines = [clean(line) for line in done.err.splitlines() if line.strip()]
    return lines[-1] if lines else f"it ended with exit code {done.code}"


class Remedies:
    """What to type on which target for what is missing."""

    def __init__(self, target: str, python: str | None, provisioned: bool, where: str = "") -> None:
        """`provisioned`: whether `parity target setup` is for it; else a Python that the user named gets its wheels.

        `where` that is typed, if not here.
        """
        self._target, self._python, self._provisioned, self._where = target, python, provisioned, where

    def install(self, runtime: str | None = None, arm32: bool = False) -> str:
        """For NumPy and both runtimes, or for one."""
        if self._provisioned:
            # Always of all runtimes: of one only it would take the other away.
            return f"parity target setup {shlex.quote(self._target)}"
        pins = [wheels.NUMPY] if not arm32 else []
        first = wheels.ARM32 if arm32 else tuple(own[0] for name, own in wheels.WITH.items() if runtime in (None, name))
        return f"{self._where}{self._python or 'python3'} -m pip install {' '.join([*pins, *first])}"


def check(link: Link, python: str | None, provisioned: bool = True) -> Report:
    """Look at a target that is connected. `provisioned`: whether `parity target setup` may be told for it."""
    before = time.time()
    asked = ask(link, python)
    middle = (before + time.time()) / 2
    remedies = Remedies(link.name, python, provisioned, "there: " if link.address.startswith("ssh://") else "")
    rows = [*_system(asked), *_python(asked, python, link.name)]
    ready = False
    if (found := asked.machine) is not None and found.version >= places.MINIMUM:
        libraries = list(_libraries(link, python, found, remedies))
        rows += libraries
        ready = libraries[0].state in ("ok", "note") and any(c.state == "ok" for c in libraries[1:])
    rows += _resources(asked, middle, link.name)
    emulated = found is not None and found.cpu is not None and found.cpu.emulated
    return Report(
        target=link.name, address=link.address, ready=ready, emulated=emulated, checks=rows, machine=found
    )  # fmt: skip


def _system(asked: Asked) -> list[Check]:
    found, shell = asked.machine, asked.shell
    if found is None:
        words = [shell.get("release", ""), shell.get("system", ""), shell.get("machine", "")]
        return [Check("system", ", ".join(w for w in words if w) or "it says nothing of itself", "note")]
    kernel = f" on a kernel for {found.machine}" if found.architecture != found.machine else ""
    words = [
        found.release or found.system,
        f"{found.architecture}{kernel}, {found.bits} bits",
        found.libc or "no glibc",
    ]
    rows = [Check("system", ", ".join(words), "ok")]
    if (cpu := found.cpu) is not None:
        same = cpu.board == cpu.model or not cpu.board
        parts = [cpu.model if same else f"{cpu.board}: {cpu.model}",
                 f"{cpu.cores} × {cpu.core}" if cpu.core else f"{cpu.cores} cores"]  # fmt: skip
        if cpu.emulated:
            rows.append(Check("CPU", ", ".join(parts), "note", "emulated: its times say nothing of a device's"))
        else:
            rows.append(Check("CPU", ", ".join(parts), "ok"))
        telling = ", ".join(f for f in _KERNELS if f in cpu.features) or "none that kernels ask for"
        rows.append(Check("CPU features", f"{telling} ({len(cpu.features)} in all: {cpu.features_sha256})", "ok"))
    return rows


def _python(asked: Asked, python: str | None, name: str) -> list[Check]:
    minimum = "{}.{}".format(*places.MINIMUM)
    other = f"parity target setup {shlex.quote(name)} --python PYTHON"
    another = f"name another: [targets.NAME] python = ... in parity.toml, or: {other}"
    if not asked.python and asked.shell.get("python") == "none":
        return [Check("Python", f"{python or 'python3'} is there, but doesn't run", "wrong", f"mend it, or {another}")]
    if not asked.python:
        if python is not None:
            return [Check("Python", f"none at {python}", "missing", "mend `python` in parity.toml, or take it away")]
        apt = "sudo apt install python3" if _debian(asked) else f"install Python {minimum} or newer there"
        return [Check("Python", "none: no python3 on its path", "missing", apt)]
    if numbers(asked.python) < places.MINIMUM:
        text = f"{asked.python}; {minimum} or newer is needed"
        return [Check("Python", text, "wrong", f"a system that has {minimum} (Bookworm and newer), or {another}")]
    if asked.machine is None:
        return [Check("Python", f"{asked.python}, but it can't say what is there", "wrong", another)]
    return [Check("Python", f"{asked.machine.python} ({asked.machine.executable or 'python3'})", "ok")]


def _debian(asked: Asked) -> bool:
    release = asked.shell.get("release", "") or ((asked.machine and asked.machine.release) or "")
    return any(word in release for word in ("Debian", "Raspbian", "Ubuntu"))


def _libraries(link: Link, python: str | None, found: Machine, remedies: Remedies) -> Sequence[Check]:
    """NumPy first, then the runtimes."""
    arm32 = found.architecture == "armv7l"

    def library(what: str, distributions: Sequence[str], to_do: str) -> Check:
        there = next((d for d in distributions if d in found.packages), None)
        if there is None:
            return Check(what, "not installed", "absent", to_do)
        version = found.packages[there]
        if there == "numpy" and numbers(version) < NUMPY:
            return Check(what, f"{version}; 1.24 or newer is needed", "wrong", to_do)
        if (why := works(link, python, there)) is not None:
            return Check(what, f"{there} {version} can't be imported: {why}", "wrong", to_do)
        return Check(what, version if there == "numpy" else f"{there} {version}", "ok")

    apt = "sudo apt install python3-numpy"
    numpy = library("NumPy", ["numpy"], apt if arm32 else remedies.install())
    onnxrt = library("runtime onnxrt", ["onnxruntime"], remedies.install("onnxrt", arm32))
    tflite = library("runtime tflite", ["ai-edge-litert", "tflite-runtime"], remedies.install("tflite", arm32))
    if "ok" not in (onnxrt.state, tflite.state):  # one of them is enough
        onnxrt, tflite = _needed(onnxrt), _needed(tflite)
    if arm32 and onnxrt.state in ("absent", "missing"):
        hint = "run tflite; or install the 64-bit system, where both run"
        onnxrt = Check(onnxrt.what, "there is no ONNX Runtime for 32-bit ARM", "absent", hint)
    return [_needed(numpy), onnxrt, tflite]


def _needed(check: Check) -> Check:
    return Check(check.what, check.found, "missing", check.to_do) if check.state == "absent" else check


def _resources(asked: Asked, now: float, name: str) -> list[Check]:
    found, shell = asked.machine, asked.shell

    def told(key: str, factor: int = 1) -> int | None:
        return int(shell[key]) * factor if shell.get(key, "").isdecimal() and len(shell[key]) < 20 else None

    rows = []
    total = found.memory_bytes if found is not None else told("memory", 1024)
    free = found.memory_free_bytes if found is not None else None
    if total is not None:
        few = free is not None and free < LITTLE_MEMORY
        words = f"{size(free)} free of {size(total)}" if free is not None else size(total)
        rows.append(Check("memory", words, "note" if few else "ok", "little: --jobs 1" if few else ""))
    disk = found.disk_free_bytes if found is not None else told("free", 1024)
    if disk is not None:
        few = disk < LITTLE_DISK
        where = f" for {found.cache}" if found is not None else ""
        clear = f"free some space; what parity kept: parity target clean {shlex.quote(name)}"
        rows.append(Check("disk", f"{size(disk)} free{where}", "note" if few else "ok", clear if few else ""))
    clock = found.clock if found is not None else (float(told("clock") or 0) or None)
    if clock is not None:
        off = clock - now
        if abs(off) > CLOCK:
            words = f"{duration(abs(off))} {'ahead of' if off > 0 else 'behind'} this machine's"
            rows.append(Check("clock", words, "note", "sudo timedatectl set-ntp true; certificates fail, reports lie"))
        else:
            rows.append(Check("clock", f"within {max(1.0, abs(off)):.0f} s of this machine's", "ok"))
    if found is not None and found.governor is not None:
        steady = found.governor == "performance"
        fix = f"times vary; for steady ones: echo performance | sudo tee {_GOVERNORS}"
        rows.append(Check("governor", found.governor, "ok" if steady else "note", "" if steady else fix))
    if found is not None and found.temperature_c is not None:
        hot = found.temperature_c >= HOT
        rows.append(Check("temperature", f"{found.temperature_c:g} °C", "note" if hot else "ok",
                          "it slows itself down: let it cool" if hot else ""))  # fmt: skip
    return rows


def needed(found: Asked, name: str, python: str | None = None) -> Machine:
    """The machine, where its Python can run parity's far side. ConfigError says what to type where it can't.

    `python`: the one that was asked for, if any.
    """
    rows = _python(found, None, name)
    if python is not None and not found.python:
        hint = f"which there are: ssh there, and type ls /usr/bin/python3*; parity target check {shlex.quote(name)}"
        raise ConfigError(f"{name}: there is no Python that runs at {python}", hint)
    if rows[0].state != "ok" or found.machine is None:
        raise ConfigError(f"{name}: Python: {rows[0].found}", rows[0].to_do)
    return found.machine
