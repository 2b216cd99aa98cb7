"""Boards for tests of what devices lack: a shell on this machine with a home, a PATH and a Python of its own.

Their Python is a real one, in a virtual environment with distributions that a test makes up; wheels are real wheels.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from parity.targets.link import PythonLink

_TOOLS = (
    "sh",
    "uname",
    "date",
    "sed",
    "df",
    "cut",
    "cat",
    "du",
    "rm",
    "rmdir",
    "chmod",
    "env",
    "sleep",
    "mkdir",
    "yes",
)


class Board(PythonLink):
    """`board.home`, and `board.path` (what it calls a command is a file there)."""

    def __init__(self, folder: Path, name: str = "board") -> None:
        self.home, self.path = folder / "home", folder / "bin"
        self.home.mkdir(parents=True)
        self.path.mkdir()
        for tool in _TOOLS:
            found = shutil.which(tool)
            assert found is not None, tool
            (self.path / tool).symlink_to(found)
        self._venv = folder / "python"
        super().__init__(name, "python3", {
            "HOME": str(self.home), "PATH": str(self.path), "XDG_CACHE_HOME": "", "PYTHONPATH": "",
            "PARITY_EMULATED": "",
        })  # fmt: skip

    def connect(self) -> None:
        """It is here."""

    def install_python(self) -> None:
        """A Python with nothing in it."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(self._venv)], check=True)
        self.command("python3", f'exec {self._venv}/bin/python "$@"')

    def command(self, name: str, script: str) -> None:
        """A command of its own, in sh."""
        place = self.path / name
        place.unlink(missing_ok=True)
        place.write_text(f"#!/bin/sh\n{script}\n")
        place.chmod(0o755)

    def install(self, name: str, version: str, module: str = "", source: str = "") -> None:
        """A distribution in its Python: what `importlib.metadata` tells of it, and a module."""
        site = next((self._venv / "lib").glob("python*/site-packages"))
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        _write(site, module or name.replace("-", "_"), source)


def _write(site: Path, module: str, source: str) -> None:
    *packages, last = module.split(".")
    place = site.joinpath(*packages)
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{last}.py").write_text(source)


def wheel(folder: Path, name: str, version: str, module: str = "", source: str = "", tag: str = "py3-none-any") -> Path:
    """A wheel with one module, that pip installs."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = name.replace("-", "_")
    path, info = folder / f"{plain}-{version}-{tag}.whl", f"{plain}-{version}.dist-info"
    files = {
        f"{(module or plain).replace('.', '/')}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for where, text in (files | {f"{info}/RECORD": record}).items():
            archive.writestr(where, text)
    return path
