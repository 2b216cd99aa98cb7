"""Building a system where it is wanted: trained, exported, its goldens recorded; for what is too large to be committed.

All of it happens in `build/<system>/`, which git ignores, and is put in place when it is complete: until then the
system is not built. What was interrupted goes on after the last step that was finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity import golden, record, system
from parity.errors import ConfigError, GoldenError
from parity.protocols import Target
from parity.sources import Progress
from parity.system import System

WEIGHTS, TRAINING, ARTIFACTS = "weights.safetensors", "training.json", "artifacts.json"
_SOURCES = ("*.py", "*.toml", "*.md")
_FROM = "built-from.json"


@dataclass(frozen=True, kw_only=True)
class Building:
    """What is built: `data` is a folder like Speech Commands, `goldens` the folder that the goldens go to."""

    found: System
    data: Path
    goldens: Path
    command: str
    options: tuple[str, ...] = ()
    """Of the system's own train.py."""


def _read(path: Path) -> dict[str, Any]:
    """A JSON file; empty where there is none, or half of one."""
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def is_trained(folder: Path) -> bool:
    """Whether the weights are those that their record describes."""
    found = _sha256(folder / WEIGHTS)
    return bool(found) and _read(folder / TRAINING).get("weights_sha256") == found


def is_exported(folder: Path) -> bool:
    """Whether every file is there as the list of artifacts says, and made from these weights."""
    listed = _read(folder / ARTIFACTS)
    return WEIGHTS in listed and all(_sha256(folder / name) == entry["sha256"] for name, entry in listed.items())


def is_built(found: System, goldens: Path) -> bool:
    """Whether a system is trained, exported, and its goldens were recorded from these weights."""
    if not (is_trained(found.folder) and is_exported(found.folder)):
        return False
    try:
        recorder = golden.load(goldens, found).manifest["recorder"]
    except GoldenError:
        return False
    return recorder["model_sha256"] in {a.sha256 for a in found.artifacts}


def _sources(folder: Path) -> Iterator[Path]:
    for pattern in _SOURCES:
        yield from sorted(folder.glob(pattern))


def _stage(what: Building) -> Path:
    """The folder that it is built in: as it was left, or new where the sources, the data or the options are others."""
    stage = system.root() / "build" / what.found.name
    digest = hashlib.sha256()
    for path in _sources(what.found.folder):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    mark = {"sources": digest.hexdigest(), "data": str(what.data.resolve()), "options": list(what.options)}
    if _read(stage / _FROM) != mark:
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
        for path in _sources(what.found.folder):
            shutil.copyfile(path, stage / path.name)
        golden.write_atomic(stage / _FROM, json.dumps(mark).encode())
    return stage


def _script(stage: Path, name: str, *arguments: str) -> None:
    """Run a system's own script. ConfigError where it ends in anything but success."""
    if not (stage / name).is_file():
        raise ConfigError(f"{stage.name} has no {name}", "a system is built by its own train.py and export.py")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    code = subprocess.run(
        [sys.executable, str(stage / name), *arguments], env=quiet | os.environ, check=False
    ).returncode
    if code:
        raise ConfigError(f"{name} of {stage.name} ended in {code}", "mend what it says above; then the same command")


def build(what: Building, target: Target, progress: Progress, say: Callable[[str], None]) -> dict[str, Any]:
    """Train, export, record, and put in place; returns the record of the training. ConfigError where a step fails."""
    if not what.data.is_dir():
        raise ConfigError(f"no folder {what.data} to train on", "name one like Speech Commands: --data DIR")
    stage = _stage(what)
    if is_trained(stage):
        say(f"{what.found.name} was trained already: it goes on from there")
    else:
        _script(stage, "train.py", "--data", str(what.data), *what.options)
    if not is_exported(stage):
        _script(stage, "export.py")
    made = system.load(stage)
    if made.not_built:
        raise ConfigError(
            f"export.py of {made.name} leaves out {Path(made.unbuilt[0].path).name}", "mend its export.py"
        )
    clips = what.goldens / "clips"
    recording = record.Recording(system=made, folder=clips, root=what.goldens, command=what.command)
    _, manifest = record.record(recording, target, progress)
    target.release()
    # The goldens are in place; now the files that they were made from, the list of them last.
    listed = _read(stage / ARTIFACTS)
    for name in (*listed, TRAINING, ARTIFACTS):
        os.replace(stage / name, what.found.folder / name)
    say(f"{made.name}: {len(listed)} files in {what.found.folder}, {len(manifest['clips'])} goldens in {what.goldens}")
    shutil.rmtree(stage)
    return _read(what.found.folder / TRAINING)
