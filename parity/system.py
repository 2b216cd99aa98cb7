"""A System: a frontend, model artifacts, labels and a decision rule, read from one `system.toml`.

Nothing unknown is overlooked: a key that doesn't belong is refused with its place in the file.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import os
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parity import consistency
from parity import frontend as fe
from parity.errors import ConfigError
from parity.protocols import Artifact, Port, State, Tap
from parity.recipe import convert, read_frontend, refuse_unknown, where
from parity.schema import (
    Anchor,
    ArtifactTable,
    Decision,
    File,
    Model,
    Published,
    Streaming,
    StreamingTable,
    Vector,
)  # fmt: skip

FILE = "system.toml"
WEIGHTS = "weights.safetensors"
"""What a system's train.py writes."""
LISTING = "artifacts.json"
"""What an export writes beside the files: sha256, size and what made each."""


@dataclass(frozen=True, kw_only=True)
class System:
    """What was trained and what is deployed. `artifacts` are those whose files are there; `not_built` the others."""

    name: str
    folder: Path
    description: str
    frontend: fe.Frontend
    labels: tuple[str, ...]
    taps: tuple[Tap, ...]
    """Taps of the network in flow order."""
    decision: Decision
    reference: str | None
    """The runtime that activations are judged against where no golden is at hand."""
    artifacts: tuple[Artifact, ...]
    not_built: tuple[str, ...]
    unbuilt: tuple[Artifact, ...] = ()
    """The artifacts whose files aren't there, without a digest."""
    published: Published | None = None
    ranges: str | None = None
    """The file in `folder` that has what each tensor ranged over while files of integers were calibrated."""
    changed: tuple[str, ...] = ()
    """Files that aren't the ones that artifacts.json beside system.toml lists, one sentence each."""
    anchor: Anchor = field(default_factory=Anchor)
    streaming: Streaming | None = None

    @property
    def files(self) -> tuple[Artifact, ...]:
        """Every artifact that is there, and then those of a stream in files of their own."""
        own = {a.path for a in self.artifacts}
        streamed = () if self.streaming is None else self.streaming.artifacts
        return (*self.artifacts, *(a for a in streamed if a.path not in own))

    @property
    def answers(self) -> frozenset[Tap]:
        """Taps that are wanted of every clip: what decides, and what a stream is held to."""
        return frozenset({self.decision.source, *([self.streaming.tap] if self.streaming is not None else [])})


def _tables(path: Path, data: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = data.get(name, [])
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise ConfigError(f"{where(path, name)}: expected a list of tables", f"write [[{name}]], with two brackets")
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(path: Path) -> System:
    """The system in `path`, a system.toml or the folder that holds it. ConfigError for anything wrong in it."""
    path = path / FILE if path.is_dir() else path
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no {path}", "make one with `parity init DIR`") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path} is not TOML: {e}", "mend the line that it names") from None
    streaming = data.get("streaming")
    streamed = _tables(path, streaming, "artifacts") if isinstance(streaming, dict) else []
    tables = [(f"artifacts[{i}]", a) for i, a in enumerate(_tables(path, data, "artifacts"))]
    tables += [(f"streaming.artifacts[{i}]", a) for i, a in enumerate(streamed)]
    for here, artifact in tables:
        refuse_unknown(path, here, artifact, ArtifactTable)
        refuse_unknown(path, f"{here}.input", artifact.get("input"), Port)
        for tap, port in artifact["taps"].items() if isinstance(artifact.get("taps"), dict) else ():
            refuse_unknown(path, f"{here}.taps.{tap}", port, Port)
        for state in artifact["state"] if isinstance(artifact.get("state"), list) else ():
            refuse_unknown(path, f"{here}.state", state, State)
    anchor = data.get("anchor", {})
    for i, vector in enumerate(_tables(path, anchor, "vector") if isinstance(anchor, dict) else ()):
        refuse_unknown(path, f"anchor.vector[{i}]", vector, Vector)
    for place, kind in (
        ("model", Model), ("decision", Decision), ("anchor", Anchor), ("streaming", StreamingTable),
        ("published", Published),
    ):  # fmt: skip
        refuse_unknown(path, place, data.get(place), kind)
    file: File = convert(path, "", data, File)
    frontend = read_frontend(path, file.frontend)
    consistency.check(path, file, frontend)
    artifacts, unbuilt, not_built = _built(path, file, frontend, file.artifacts)
    found = System(
        name=file.name, folder=path.parent, description=file.description, frontend=frontend, labels=file.labels,
        taps=file.model.taps, decision=file.decision, reference=file.model.reference, ranges=file.model.ranges,
        artifacts=artifacts, not_built=not_built, unbuilt=unbuilt, published=file.published, anchor=file.anchor,
        streaming=None if file.streaming is None else _streaming(path, file, frontend, file.streaming),
    )  # fmt: skip
    return dataclasses.replace(found, changed=_changed(path.parent, found.files))


def _built(
    path: Path, file: File, frontend: fe.Frontend, wanted: Sequence[ArtifactTable]
) -> tuple[tuple[Artifact, ...], tuple[Artifact, ...], tuple[str, ...]]:
    """The artifacts whose files are there, the others, and what is to be said of those."""
    there = {a.file: (path.parent / a.file).is_file() for a in wanted}
    made = [(a.file, _artifact(path, file, frontend, a, path.parent / a.file)) for a in wanted]
    command = how_to_build(path.parent)
    said = tuple(
        f"{a.format} {a.precision}: " + (f"{name} is not built ({command})" if command else f"{a.path} isn't there")
        for name, a in made
        if not there[name]
    )
    return tuple(a for name, a in made if there[name]), tuple(a for name, a in made if not there[name]), said


def _streaming(path: Path, file: File, frontend: fe.Frontend, s: StreamingTable) -> Streaming:
    # Where the clip ends, the last frame's logits are the clip's: what decides is read from the same tensor.
    deciding = [dataclasses.replace(a, taps={**a.taps, file.decision.source: a.taps[s.tap]}) for a in s.artifacts]
    built, unbuilt, not_built = _built(path, file, frontend, deciding)
    return Streaming(
        tap=s.tap, chunks=s.chunks, smoothing=s.smoothing, threshold=s.threshold, ignored=s.ignored,
        artifacts=built, not_built=not_built, unbuilt=unbuilt,
    )  # fmt: skip


def _changed(folder: Path, artifacts: Sequence[Artifact]) -> tuple[str, ...]:
    """Files with another sha256 than artifacts.json lists, where a system has one; others are new."""
    listing = folder / LISTING
    if not listing.is_file():
        return ()
    try:
        listed = {name: entry["sha256"] for name, entry in json.loads(listing.read_bytes()).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise ConfigError(f"{listing} can't be read: {e}", "export again: parity models export NAME") from None
    found = {Path(os.path.relpath(a.path, folder)).as_posix(): a.sha256 for a in artifacts}
    return tuple(
        f"{name} was changed: its sha256 is {digest[:12]}, {LISTING} says {listed[name][:12]}"
        for name, digest in sorted(found.items())
        if name in listed and listed[name] != digest
    )


def _artifact(path: Path, file: File, frontend: fe.Frontend, a: ArtifactTable, model: Path) -> Artifact:
    network = None
    if a.network is not None:
        module, _, attribute = a.network.rpartition(":")
        # A file beside this one, or a module on the path.
        network = f"{path.parent / module}:{attribute}" if module.endswith(".py") else a.network
    shape = file.model.shape or ("any", frontend.bands)
    ranges = path.parent / file.model.ranges if file.model.ranges is not None and a.precision == "float32" else None
    return Artifact(
        system=file.name, format=a.format, precision=a.precision, path=str(model), input=a.input,
        sha256=_sha256(model) if model.is_file() else "",
        taps={t: a.taps[t] for t in [*file.model.taps, *(s.tap for s in a.state)] if t in a.taps}, network=network,
        shape=(None if shape[0] == "any" else shape[0], shape[1]), frames=a.frames, kernels=a.kernels,
        state=a.state, context=a.context, constants=dict(a.constants), reset=a.reset,
        ranges=None if ranges is None else str(ranges),
    )  # fmt: skip


def root() -> Path:
    """The project: the nearest folder, from the current one upwards, that has `reference_models/`; else the current."""
    here = Path.cwd()
    return next((p for p in (here, *here.parents) if (p / "reference_models").is_dir()), here)


def inside(folder: Path) -> bool:
    """Whether a folder lies in the project's `reference_models/`, where systems go by the folder's name."""
    return folder.resolve().parent == (root() / "reference_models").resolve()


def as_typed(folder: Path) -> str:
    """A system's folder as a command takes it, quoted for a shell."""
    return shlex.quote(folder.name if inside(folder) else str(folder))


def how_to_build(folder: Path) -> str | None:
    """The command that makes a system's files by its own scripts; None where nothing beside it makes them."""
    scripts = {name for name in ("train.py", "export.py") if (folder / name).is_file()}
    if "export.py" in scripts and (folder / WEIGHTS).is_file():
        return f"parity models export {as_typed(folder)}"
    return f"parity models build {as_typed(folder)}" if len(scripts) == 2 else None


def names() -> list[str]:
    """Systems under `reference_models/`, sorted."""
    return sorted(p.parent.name for p in (root() / "reference_models").glob(f"*/{FILE}"))


def find(wanted: Sequence[str]) -> list[System]:
    """The systems that were asked for by name or path; all of the project's where none was."""
    if not wanted:
        if not names():
            raise ConfigError(
                f"no systems under {root() / 'reference_models'}",
                "name the folder of a system.toml: parity run --system DIR, parity list systems DIR",
            )
        return [load(root() / "reference_models" / name) for name in names()]
    found = []
    for name in wanted:
        inside = root() / "reference_models" / name / FILE
        if inside.is_file() and "/" not in name:
            found.append(load(inside))
        elif Path(name).exists():
            found.append(load(Path(name)))
        else:
            close = difflib.get_close_matches(name, names(), n=1)
            hint = f"did you mean {close[0]!r}? Or" if close else f"systems: {', '.join(names()) or 'none here'}; or"
            raise ConfigError(f"unknown system {name!r}", f"{hint} name a folder that holds a {FILE}")
    return found
