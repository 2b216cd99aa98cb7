"""What a candidate computed for a clip at every tap that it gave: what `explain` works on, wherever it came from.

A run keeps it for a few of the clips that fail, in `reports/<run>/evidence/*.npz`, without pickle; `read` reads it.
A dump from a device is read into it as well.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from parity.errors import ConfigError
from parity.protocols import Array, Clip, Tap

FOLDER = "evidence"
FIRST = 2
"""Failing clips kept of a candidate, beside the worst."""
FILES, BYTES = 120, 100_000_000
"""At most so much is kept of a run: files, and bytes on the disk."""

WHO = ("system", "backend", "runtime", "precision", "target", "path")
Group = tuple[str, str, str, str, str, str]
"""A candidate: system, backend, runtime, precision, target, path."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """A clip, and the candidate's arrays at the taps that it gave: time-major, of the dtype that it gave them in.

    `features` are those of a backend. `model` are the activations of a runtime fed with `fed` (the golden's features
    where `path` is isolated or deployment, the backend's where it is cumulative).
    """

    system: str
    clip: Clip
    features: Mapping[Tap, Array] = field(default_factory=dict)
    model: Mapping[Tap, Array] = field(default_factory=dict)
    fed: Array | None = None
    backend: str = ""
    runtime: str = ""
    precision: str = ""
    target: str = "local"
    path: str = "features"
    """features, isolated, cumulative, or deployment (held to the kernels that say what the file computes)."""

    @property
    def group(self) -> Group:
        """Whose it is."""
        return self.system, self.backend, self.runtime, self.precision, self.target, self.path


def write(path: Path, of: Evidence, badness: float = 0.0) -> int:
    """Write a file of evidence; returns its size in bytes. `badness` orders a candidate's clips, the worst first."""
    about = {
        "system": of.system, "backend": of.backend, "runtime": of.runtime, "precision": of.precision,
        "target": of.target, "path": of.path, "clip": of.clip.name, "rate": of.clip.rate, "sha256": of.clip.sha256,
        "badness": min(badness, 1e300),
    }  # fmt: skip
    arrays: dict[str, Any] = {"about": np.array(json.dumps(about)), "samples": of.clip.samples}
    arrays |= {f"features|{tap}": a for tap, a in of.features.items()}
    arrays |= {f"model|{tap}": a for tap, a in of.model.items()}
    if of.fed is not None:
        arrays["fed"] = of.fed
    # A tap's slash would make folders of the members.
    np.savez_compressed(path, **{name.replace("/", "!"): np.asarray(a) for name, a in arrays.items()})  # type: ignore[arg-type]
    return path.stat().st_size


def _arrays(path: Path, only: str = "") -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name.replace("!", "/"): found[name] for name in found.files if only in ("", name)}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise _unreadable(path, e) from None


def _unreadable(path: Path, why: Exception) -> ConfigError:
    return ConfigError(f"{path} is no evidence that parity kept: {why!r}", "make the run again")


def _who(about: Mapping[str, Any]) -> dict[str, str]:
    """Whose a file is; those of before there were targets say none."""
    about = {"target": "local", **about}
    return {k: str(about[k]) for k in WHO}


def _order(path: Path) -> tuple[Group, float, str]:
    try:
        about = json.loads(str(_arrays(path, "about")["about"]))
        group = tuple(_who(about).values())
        return group, -float(about["badness"]), str(about["clip"])  # type: ignore[return-value]
    except (ValueError, KeyError, TypeError) as e:
        raise _unreadable(path, e) from None


def _one(path: Path) -> Evidence:
    try:
        arrays = _arrays(path)
        about = json.loads(str(arrays.pop("about")))
        clip = Clip(about["clip"], arrays.pop("samples"), int(about["rate"]), about["sha256"])
        fed = arrays.pop("fed", None)
        kinds: dict[str, dict[Tap, Array]] = {"features": {}, "model": {}}
        for name, array in arrays.items():
            kind, _, tap = name.partition("|")
            kinds[kind][tap] = array
        who = _who(about)
        return Evidence(clip=clip, fed=fed, features=kinds["features"], model=kinds["model"], **who)
    except (ValueError, KeyError, TypeError) as e:
        raise _unreadable(path, e) from None


def read(run: Path) -> Iterator[Evidence]:
    """What a run folder kept, one at a time: by candidate, of each the worst clip first. Nothing where none was kept.

    ConfigError for a file that can't be read.
    """
    for _, path in sorted((_order(path), path) for path in (run / FOLDER).glob("*.npz")):
        yield _one(path)


@dataclass
class _Kept:
    """The files of a candidate: name of the clip -> taps in it, badness."""

    clips: dict[str, tuple[int, float]] = field(default_factory=dict)
    worst: str = ""


class Keeper:
    """Keeps evidence as a run goes, on the disk: of each candidate the worst clip, and the first two that fail.

    Of clips with fewer taps (layers are recorded for a few only) those with more take the place.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._groups: dict[Group, _Kept] = {}
        self._files: dict[tuple[Group, str], tuple[Path, int]] = {}
        self._next = 0

    def wanted(self, group: Group, taps: int, badness: float) -> bool:
        """Whether `add` would keep a clip with so many taps: asked before its arrays are put together."""
        of = self._groups.get(group)
        if of is None or len(of.clips) < FIRST:
            return not self._full
        return badness > of.clips[of.worst][1] or taps > min(n for n, _ in of.clips.values())

    @property
    def _full(self) -> bool:
        return len(self._files) >= FILES or sum(size for _, size in self._files.values()) >= BYTES

    def add(self, of: Evidence, badness: float) -> None:
        """Keep it, in the place of what it outdoes."""
        taps = len(of.features) + len(of.model)
        kept = self._groups.get(of.group, _Kept())
        if not self.wanted(of.group, taps, badness) or (self._full and len(kept.clips) <= FIRST):
            return
        self._groups[of.group] = kept
        kept.clips[of.clip.name] = taps, badness
        kept.worst = max(kept.clips, key=lambda name: (kept.clips[name][1], name == kept.worst))
        if len(kept.clips) > FIRST + 1:
            rest = [name for name in kept.clips if name != kept.worst]
            # The one with the fewest taps goes, the last that came among equals.
            gone = min(reversed(rest), key=lambda name: kept.clips[name][0])
            del kept.clips[gone]
            if gone == of.clip.name:
                return
            self._files.pop((of.group, gone))[0].unlink()
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{self._next:04d}.npz"
        self._next += 1
        self._files[of.group, of.clip.name] = path, write(path, of, badness)

    def index(self) -> list[dict[str, Any]]:
        """What was kept, for run.json: file, candidate and clip, in the order in which `read` gives it."""
        rows = []
        for (group, clip), (path, _) in self._files.items():
            badness = self._groups[group].clips[clip][1]
            who = dict(zip(WHO, group, strict=True))
            rows.append((group, -badness, clip, {"file": f"{FOLDER}/{path.name}", **who, "clip": clip}))
        return [row for *_, row in sorted(rows, key=lambda r: r[:3])]
