"""What a machine says of itself: Python, CPU, memory, disk, clock, which of parity's libraries are there.

It runs anywhere that has a Python of 3.7 or newer, by itself (`python3 machine.py` prints one line of JSON), with the
standard library alone: a device is asked before anything is installed on it. Each fact that can't be had is None.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any, Callable  # noqa: UP035 - Python 3.7 takes it from here

PACKAGES = (
    "numpy", "onnxruntime", "ai-edge-litert", "tflite-runtime", "torch", "librosa", "tensorflow", "tensorflow-cpu",
    "scipy", "tflite-micro", "pymicro-features",
)  # fmt: skip

# Main ID register: implementer 0x41 (Arm) and these parts are the cores of Raspberry Pis, 1 to 5, and their like.
_CORES = {
    "0xb76": "ARM1176", "0xc07": "Cortex-A7", "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57", "0xd08": "Cortex-A72", "0xd09": "Cortex-A73", "0xd0b": "Cortex-A76",
}  # fmt: skip


def cpu() -> dict[str, Any]:
    """Model, architecture, core, board and feature flags of the CPU, as far as the system tells.

    `features_sha256`: 16 hexadecimal digits of the sorted flags. `emulated`: the CPU is computed by another one.
    """
    told = _read("/proc/cpuinfo") or ""
    model, flags, core, board = platform.processor() or platform.machine(), "", None, None
    for line in told.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key in ("model name", "Model"):
            model = value
        elif key in ("flags", "Features"):
            flags = " ".join(sorted(value.split()))
        elif key == "CPU part":
            core = _CORES.get(value, core)
        if key == "Model":
            board = value
    if board is None:
        board = (_read("/proc/device-tree/model") or "").strip("\0\n ") or None
    return {
        "model": model,
        "architecture": platform.machine(),
        "features": flags.split(),
        "features_sha256": hashlib.sha256(flags.encode()).hexdigest()[:16],
        "cores": os.cpu_count() or 1,
        "core": core,
        "board": board,
        "emulated": emulated(told),
    }


def emulated(cpuinfo: str) -> bool:
    """Whether this CPU is computed by another: times then say nothing, and numbers only what that emulator computes.

    A virtual machine on a CPU of its own kind is none. QEMU hides well, in user mode too; what it forgets is told here.
    """
    if os.environ.get("PARITY_EMULATED", "0") not in ("", "0"):
        return True
    if "QEMU TCG" in cpuinfo:
        return True
    # User mode: the kernel beneath is of another architecture, or runs the emulator in our place.
    kernel = (_read("/proc/sys/kernel/arch") or "").strip()
    if kernel and _family(kernel) != _family(platform.machine()):
        return True
    try:
        return Path(os.readlink("/proc/thread-self/exe")).name.startswith("qemu-")  # noqa: PTH115 - 3.9 and up
    except OSError:
        return False


def facts(cache: str | None = None) -> dict[str, Any]:
    """All that is known here. `cache`: the folder whose disk is measured; default: parity's own cache folder."""
    folder = Path(cache).expanduser() if cache else cache_folder()
    return {
        "python": _guarded(platform.python_version),
        "implementation": _guarded(platform.python_implementation),
        "executable": sys.executable or None,
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "machine": _guarded(platform.machine),
        "system": _guarded(platform.system),
        "release": _guarded(_release),
        "libc": _guarded(_libc),
        "cpu": _guarded(cpu),
        "memory_bytes": _guarded(lambda: _memory("MemTotal")),
        "memory_free_bytes": _guarded(lambda: _memory("MemAvailable")),
        "disk_free_bytes": _guarded(lambda: _disk_free(folder)),
        "clock": time.time(),
        "governor": _guarded(governor),
        "temperature_c": _guarded(temperature),
        "packages": _guarded(packages) or {},
        "venv": _guarded(_venv) or False,
        "cache": str(folder),
    }


def cache_folder() -> Path:
    """Where parity keeps what was sent to this machine, and nothing else."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # A relative one is to be ignored, says the XDG base directory specification.
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "parity"


def governor() -> str | None:
    """How the first core's clock is governed: 'ondemand', 'performance'; None where that can't be read."""
    return (_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "").strip() or None


def temperature() -> float | None:
    """Of the first thermal zone, in degrees Celsius; None where there is none."""
    told = (_read("/sys/class/thermal/thermal_zone0/temp") or "").strip()
    return round(int(told) / 1000, 1) if re.match(r"-?[0-9]+$", told) else None


def packages() -> dict[str, str]:
    """Distribution -> version, of those that parity's plugins need. Imports none of them."""
    try:
        from importlib import metadata
    except ImportError:  # Python 3.7
        return {}
    found = {}
    for name in PACKAGES:
        try:
            version = metadata.version(name)
        except Exception:  # not installed, or its metadata is damaged
            continue
        if isinstance(version, str):
            found[name] = version
    return found


def _guarded(fact: Callable[[], Any]) -> Any:
    try:
        return fact()
    except Exception:  # whatever a strange system raises: a fact less
        return None


def _read(path: str) -> str | None:
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as f:
            return f.read(1 << 20)
    except OSError:
        return None


def _family(machine: str) -> str:
    """'arm' for all of its architectures, 'x86' likewise: a 32-bit user land on a 64-bit kernel is no emulation."""
    if machine.startswith(("arm", "aarch64")):
        return "arm"
    return "x86" if re.match(r"(x86_64|amd64|i[3-6]86)$", machine, re.IGNORECASE) else machine


def _release() -> str | None:
    told = _read("/etc/os-release") or ""
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', told, re.MULTILINE)
    return found.group(1) if found else None


def _libc() -> str | None:
    return " ".join(part for part in platform.libc_ver() if part) or None


def _memory(key: str) -> int | None:
    found = re.search("^" + key + r":\s*([0-9]+) kB", _read("/proc/meminfo") or "", re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def _disk_free(folder: Path) -> int:
    told = os.statvfs(next(f for f in (folder, *folder.parents) if f.is_dir()))
    return told.f_bavail * told.f_frsize


def _venv() -> bool:
    from importlib import util

    # Debian takes ensurepip out of python3, and says so only when a virtual environment is half made.
    return util.find_spec("ensurepip") is not None and util.find_spec("venv") is not None


if __name__ == "__main__":
    print(json.dumps(facts(*sys.argv[1:2]), sort_keys=True))
