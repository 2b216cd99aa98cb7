"""The libraries that a device gets: which versions, which wheels of them, and where they are kept here.

The versions are those that parity is tested with; everything is installed by its exact version, dependencies included.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from parity.errors import ConfigError
from parity.targets.machine import cache_folder
from parity.targets.machines import Machine, numbers

PIP = "pip==26.3"
NUMPY = "numpy==2.4.6"
WITH: dict[str, tuple[str, ...]] = {
    "onnxrt": ("onnxruntime==1.31.1", "flatbuffers==25.12.19", "packaging==26.3", "protobuf==7.36.2"),
    "tflite": (
        "ai-edge-litert==2.3.0", "backports.strenum==1.2.8", "flatbuffers==25.12.19", "ml_dtypes==0.6.0",
        "protobuf==7.36.2", "tqdm==4.70.1", "typing_extensions==4.16.0",
    ),
}  # fmt: skip
"""A runtime -> what it needs beside NumPy, what it is itself first."""
ARM32 = ("tflite-runtime==2.14.0",)
"""All that there is for 32-bit ARM; it was built for Python 3.9 to 3.11 and NumPy 1, which Debian has."""
MODULES = {"onnxruntime": "onnxruntime", "ai-edge-litert": "ai_edge_litert.interpreter", "numpy": "numpy",
           "tflite-runtime": "tflite_runtime.interpreter"}  # fmt: skip
"""A distribution -> what to import to see that it works."""
INSTALLED_BYTES = {"numpy": 75_000_000, "onnxruntime": 60_000_000, "ai-edge-litert": 45_000_000}
"""About what the large ones take once they are unpacked."""


@dataclass(frozen=True)
class Platform:
    """What wheels are chosen by: an architecture as pip names it, glibc's version, Python's."""

    architecture: str
    glibc: tuple[int, int]
    python: tuple[int, int]

    @property
    def tags(self) -> list[str]:
        """Its platform tags, newest first: a wheel built for an older glibc runs too."""
        low = 5 if self.architecture in ("x86_64", "i686") else 17
        tags = [f"manylinux_{self.glibc[0]}_{minor}_{self.architecture}" for minor in range(self.glibc[1], low - 1, -1)]
        return tags + [f"manylinux2014_{self.architecture}"] * (self.glibc >= (2, 17))

    @property
    def name(self) -> str:
        """In words."""
        return f"Python {self.python[0]}.{self.python[1]} on {self.architecture}, glibc {self.glibc[0]}.{self.glibc[1]}"

    @property
    def folder(self) -> str:
        """The name of its folder among the downloads."""
        return f"cp{self.python[0]}{self.python[1]}-{self.tags[0] if self.tags else self.architecture}"


def platform(machine: Machine) -> Platform | None:
    """What wheels for a machine are chosen by; None where it isn't Linux with glibc."""
    name, _, version = (machine.libc or "").partition(" ")
    libc = numbers(version)
    if machine.system != "Linux" or name != "glibc" or len(libc) < 2 or len(machine.version) < 2:
        return None
    return Platform(machine.architecture, (libc[0], min(libc[1], 99)), (machine.version[0], machine.version[1]))


def folder() -> Path:
    """Where wheels are kept on this machine."""
    return cache_folder() / "downloads"


def fetch(wanted: Iterable[str], platform: Platform, say: Callable[[str], None] = lambda _: None) -> list[Path]:
    """The wheel of each `name==version`, downloaded where it isn't here yet.

    ConfigError: no wheel for that platform, no network, no pip, no room.
    """
    place = folder() / platform.folder
    pins = list(wanted)
    missing = [pin for pin in pins if _held(place, pin) is None]
    if missing:
        say(f"downloading {len(missing)} wheel{'s' * (len(missing) > 1)} for {platform.name}")
        _download(missing, platform, place)
    found = [_held(place, pin) for pin in pins]
    return [path for path in found if path is not None]


def _held(place: Path, pin: str) -> Path | None:
    name, _, version = pin.partition("==")
    for path in sorted(place.glob("*.whl")):
        given = path.name.split("-")
        if plain(given[0]) == plain(name) and given[1] == version and zipfile.is_zipfile(path):
            return path
    return None


def plain(name: str) -> str:
    """A distribution's name as all its spellings share it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _download(pins: list[str], platform: Platform, place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=place) as part:
            command = [
                sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check",
                "--no-deps", "--only-binary=:all:", "--implementation", "cp", "--retries", "2", "--timeout", "30",
                "--python-version", f"{platform.python[0]}.{platform.python[1]}",
                *(f"--platform={tag}" for tag in platform.tags), "--dest", part, *pins,
            ]  # fmt: skip
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if done.returncode:
                raise failed(done.stderr + done.stdout, "this machine", platform.name)
            for path in Path(part).glob("*.whl"):
                os.replace(path, place / path.name)
    except OSError as e:
        hint = "free some space, or set XDG_CACHE_HOME to a folder with room for about 60 MB"
        raise ConfigError(f"{place} can't be written: {e.strerror}", hint) from None


_UNREACHED = re.compile(
    "connection broken|Failed to establish|NewConnectionError|NameResolution|Max retries|timed out|unreachable"
)


def failed(told: str, where: str, platform: str, offline: str | None = None, clock: str | None = None) -> ConfigError:
    """What pip's words mean, and what to type. `where` pip ran; `offline`, `clock`: what to type there for either."""
    if "No module named pip" in told:
        return ConfigError(f"the Python of {where} has no pip", f"{sys.executable} -m ensurepip")
    if "No space left" in told or "Errno 28" in told:
        return ConfigError(f"the disk of {where} is full", "free some space there, then type it again")
    # pip ends every one of these in "No matching distribution": what it says before tells them apart.
    reached = re.search(r"from versions: (?!none)", told)
    if not reached and ("CERTIFICATE_VERIFY_FAILED" in told or "certificate is not yet valid" in told):
        text = f"{where} doesn't trust the package index's certificate"
        return ConfigError(text, "; or: ".join(filter(None, (clock or "is its clock right? date", offline))))
    if not reached and _UNREACHED.search(told):
        hint = offline or "connect it to the internet, and type it again"
        return ConfigError(f"{where} can't reach the package index", hint)
    if found := re.search(r"No matching distribution found for (\S+)", told):
        hint = "another Python may have one: parity target setup NAME --python python3.11"
        return ConfigError(f"there is no wheel of {found[1].replace('==', ' ').rstrip('.')} for {platform}", hint)
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    last = lines[-1] if lines else "it says nothing"
    words = next((line for line in reversed(lines) if line.startswith("ERROR")), last).removeprefix("ERROR: ")
    return ConfigError(f"pip failed on {where}: {words[:300]}", None)
