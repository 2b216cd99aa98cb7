"""Goldens on disk: `<root>/<system>/manifest.json` names every array and clip with its digest.

Arrays are content-addressed files: those of the features once for all systems with one recipe, in
`<root>/features/<digest>/`, those of the network in `<root>/<system>/`. The manifest is replaced last and in one
step, so that a crash at any point leaves the old set whole. Nothing here runs a backend or a runtime.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from parity import audio, compare
from parity import frontend as fe
from parity import system as systems
from parity.bounds.features import Interval, bounds
from parity.errors import GoldenError
from parity.expected import Expected, bounds_of, features_of, network_input, regenerated, stored
from parity.packed import ROUNDED, unpack, unpack_features
from parity.protocols import Array, Clip, Tap
from parity.system import System
from parity.taps import REGENERATED_TAPS

FORMAT = 2
MANIFEST = "manifest.json"


def sha256(data: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(data).hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write beside, flush to the disk, rename: the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def slug(name: str, data: bytes, suffix: str) -> str:
    """A readable, safe and unique file name for content that belongs to a clip."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", name.rsplit(".", 1)[0])[:60].strip(".") or "clip"
    return f"{stem}-{sha256(data)[:8]}{suffix}"


def describe_arrays(arrays: Mapping[str, Array], units: Mapping[Tap, str]) -> dict[str, dict[str, Any]]:
    """What the manifest says of each array."""
    return {
        k: {"dtype": a.dtype.name, "shape": list(a.shape), "unit": units.get(k.split(":")[0], "1"),
            "sha256": sha256(np.ascontiguousarray(a).tobytes())}
        for k, a in sorted(arrays.items())
    }  # fmt: skip


def units(frontend: fe.Frontend) -> dict[Tap, str]:
    """The unit of each feature tap: full scale (FS), its powers, and logarithms of them."""
    power = "FS²" if frontend.spectrum is not None and frontend.spectrum.exponent == 2 else "FS"
    out = dict.fromkeys(REGENERATED_TAPS, "FS") | {"features/spectrum": power, "features/filterbank": power}
    if (c := frontend.compress) is not None:
        name = "dB" if isinstance(c, fe.Decibel) else ("ln" if c.base == "e" else "log10")
        out["features/compressed"] = name if isinstance(c, fe.Decibel) else f"{name}({power})"
        out["features/cepstrum"] = out["features/compressed"]
    return out


@functools.cache
def _inside(folder: Path, root: Path) -> bool:
    """Whether a folder is the set's own, links followed."""
    return folder.resolve().is_relative_to(root.resolve())


@dataclass(frozen=True)
class GoldenSet:
    """The goldens of a system, opened: the manifest is read and fits the system, arrays are read when asked for."""

    root: Path
    system: System
    manifest: Mapping[str, Any]

    @property
    def clips(self) -> Sequence[Mapping[str, Any]]:
        """The manifest's entry of each clip, sorted by name."""
        return self.manifest["clips"]

    def file(self, entry: Mapping[str, Any]) -> bytes:
        """A file of the set. GoldenError where it is missing, altered, or outside the set's folder."""
        path = self.root / entry["file"]
        if path.is_symlink() or not _inside(path.parent, self.root):
            raise GoldenError(f"golden file {entry['file']!r} lies outside {self.root}", "record the set again")
        try:
            data = path.read_bytes()
        except OSError as e:
            raise GoldenError(
                f"golden file {path} can't be read: {e.strerror}", "restore it, or record again"
            ) from None
        if sha256(data) != entry["sha256"]:
            raise GoldenError(f"golden file {path} was altered: its sha256 isn't the manifest's",
                              "restore it (git checkout), or record again: parity golden record")  # fmt: skip
        return data

    def read(
        self, entry: Mapping[str, Any], regenerate: frozenset[Tap] = REGENERATED_TAPS, rounded: bool = False
    ) -> Expected:
        """A clip with what is right for it; `regenerate` names the wanted ones of the taps kept as digests only.

        `rounded` asks for the bounds of the arithmetic `float64-rounded` as well.
        """
        self.file(entry["clip"])
        frontend = self.system.frontend
        clip = audio.read(self.root / entry["clip"]["file"], entry["name"], frontend)
        if clip.sha256 != entry["samples_sha256"]:
            raise GoldenError(f"clip {entry['name']} no longer gives the samples it was recorded from", "record again")
        kept = unpack(self.file(entry["features"]), self.root / entry["features"]["file"], None if rounded else ROUNDED)
        model = unpack(self.file(entry["model"]), self.root / entry["model"]["file"])
        if (problem := self._holds(kept, model)) is not None:
            raise GoldenError(f"the golden of {entry['name']} holds {problem}", how_to_record(self.root, self.system))
        features, output = unpack_features(kept), frontend.output
        if output in REGENERATED_TAPS:  # raw audio: what the network is fed with isn't stored either
            regenerate |= {output}
        narrow = self._rounded(clip, kept, features) if rounded else {}
        if regenerate:
            first = regenerated(clip, frontend, regenerate)
            features = bounds(frontend, first) | features
            if rounded and "features/windowed" in first:
                narrow = bounds(frontend, first, "float64-rounded") | narrow
        halves = {name: model.pop(name).astype(np.float64) for name in list(model) if ":" in name}
        return Expected(clip, features, network_input(features[output].value, frontend), model, halves, narrow)

    def _rounded(self, clip: Clip, kept: Mapping[str, Array], features: Mapping[Tap, Interval]) -> dict[Tap, Interval]:
        """The bounds of the arithmetic `float64-rounded`: as stored, or worked out where an older golden has none."""
        if any(name.endswith(ROUNDED) for name in kept) or self.system.frontend.stft is None:
            return unpack_features(kept, ROUNDED)
        now = bounds_of(clip, self.system.frontend, ("float64-rounded",))[0]["float64-rounded"]
        out = {}
        for tap, golden in features.items():
            x = stored(now[tap])
            finite = np.isfinite(golden.value)
            with np.errstate(invalid="ignore"):
                lo, hi = golden.value - (x.value - x.lo), golden.value + (x.hi - x.value)
            out[tap] = Interval(golden.value, np.where(finite, lo, x.lo), np.where(finite, hi, x.hi))
        return out

    def _holds(self, features: Mapping[str, Array], model: Mapping[Tap, Array]) -> str | None:
        """What a clip's arrays lack, or have too much of, in words."""
        taps = [t for t in self.system.frontend.taps if t not in REGENERATED_TAPS]
        for name in (*taps, *(f"{t}:above" for t in taps)):
            if name not in features:
                return f"no {name}"
        if (source := self.system.decision.source) not in model:
            return f"no {source}, which decides"
        strange = sorted(n for n in features if n.partition(":")[0] not in taps)
        return f"{strange[0]}, which its recipe doesn't store" if strange else None

    def _decision(self, entry: Mapping[str, Any], logits: Array) -> str | None:
        """What is wrong with a clip's recorded decision, in words."""
        choice = compare.decide(self.system.decision.logits(logits), tuple(self.manifest["labels"]))
        if choice is None:
            return "its logits don't fit the manifest's labels, or aren't finite"
        recorded = entry.get("decision")
        if recorded == {"label": choice.label, "margin": choice.margin}:
            return None
        return f"its decision is recorded as {recorded}; its logits decide {choice.label!r} by {choice.margin!r}"

    def verify(self) -> Iterator[str]:
        """Check that all is there, every digest, each decision, and that the oracle still computes what was recorded.

        Yields a line a problem.
        """
        if not self.clips:
            yield "it has no clips"
        for entry in self.clips:
            try:
                expected = self.read(entry)
                for part in ("features", "model"):
                    arrays = unpack(self.file(entry[part]), Path(entry[part]["file"]))
                    if describe_arrays(arrays, {}).keys() != entry[part]["arrays"].keys() or any(
                        sha256(np.ascontiguousarray(arrays[k]).tobytes()) != d["sha256"]
                        for k, d in entry[part]["arrays"].items()
                    ):
                        yield f"{entry['name']}: arrays of its {part} file are not the manifest's"
            except GoldenError as e:
                yield f"{entry['name']}: {e.message}"
                continue
            if (problem := self._decision(entry, expected.model[self.system.decision.source])) is not None:
                yield f"{entry['name']}: {problem}"
            now, _ = features_of(expected.clip, self.system.frontend)
            if entry["regenerated"].keys() != now.keys() & REGENERATED_TAPS:
                yield f"{entry['name']}: the manifest has no digest of {', '.join(sorted(REGENERATED_TAPS))}, or others"
                continue
            for tap, digest in entry["regenerated"].items():
                if regenerated_digest(now[tap].value) != digest:
                    yield f"{entry['name']}: the oracle makes another {tap}"
            for tap, interval in unpack_features(arrays_of(self, entry)).items():
                judged = compare.compare(now[tap].value, interval.value, interval.lo, interval.hi, "float64")
                if judged.outcome != "pass":
                    yield f"{entry['name']}: the oracle makes another {tap}: {judged.message}"


def arrays_of(golden: GoldenSet, entry: Mapping[str, Any]) -> dict[str, Array]:
    """The stored feature arrays of a clip."""
    return unpack(golden.file(entry["features"]), Path(entry["features"]["file"]))


def regenerated_digest(value: Array) -> str:
    """Digest of a regenerated tap, rounded to float32: the last bits of float64 differ between maths libraries."""
    return sha256(np.ascontiguousarray(value, dtype=np.float32).tobytes())


class _File(msgspec.Struct):
    file: str
    sha256: str


class _Arrays(_File):
    arrays: dict[str, dict[str, Any]]


class _Entry(msgspec.Struct):
    name: str
    samples_sha256: str
    clip: _File
    features: _Arrays
    model: _Arrays
    regenerated: dict[str, str]


class _Manifest(msgspec.Struct):
    """What is relied on in a manifest."""

    format: int
    frontend: dict[str, dict[str, Any]]
    frontend_digest: str
    labels: list[str]
    anchor: dict[str, Any]
    clips: list[_Entry]


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The first setting in which two recipes differ, in words."""
    for stage in {**old, **new}:
        a, b = old.get(stage, {}), new.get(stage, {})
        for key in {**a, **b}:
            if a.get(key) != b.get(key):
                return f"frontend.{stage}.{key} was {a.get(key)!r}, is {b.get(key)!r}"
    return "its digest differs"


def how_to_record(root: Path, system: System) -> str:
    """The command that records the goldens of a system under `root`, as it can be typed here."""
    inside = systems.inside(system.folder)
    usual = (systems.root() if inside else system.folder) / "golden"
    where = "" if root.resolve() == usual.resolve() else f" --out {shlex.quote(str(root))}"
    audio = "" if inside and not where else " --audio DIR"  # only the project's goldens have clips from the beginning
    return f"parity golden record --system {systems.as_typed(system.folder)}{audio}{where}"


def load(root: Path, system: System) -> GoldenSet:
    """The goldens of a system under `root`. GoldenError where there are none, or they were made for another recipe."""
    path = root / system.name / MANIFEST
    again = f"record them: {how_to_record(root, system)}"
    if not system.artifacts and (command := systems.how_to_build(system.folder)):
        again = f"build the system, which records them too: {command}"
    try:
        manifest = json.loads(path.read_bytes())
        if manifest["format"] != FORMAT:
            raise GoldenError(f"{path} has format {manifest['format']}, this parity reads {FORMAT}", again)
        msgspec.convert(manifest, _Manifest)
        recorded, digest = manifest["frontend"], manifest["frontend_digest"]
    except FileNotFoundError:
        raise GoldenError(f"no goldens of {system.name} in {root}", again) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, msgspec.ValidationError) as e:
        raise GoldenError(f"{path} can't be read: {e}", again) from None
    if digest != system.frontend.digest:
        changed = _difference(recorded, fe.to_plain(system.frontend))
        raise GoldenError(f"the goldens of {system.name} are of another recipe: {changed}", f"undo that, or {again}")
    return GoldenSet(root, system, manifest)


def commit(root: Path, system: str, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> Path:
    """Put a set in place: its files first, the manifest last; then what no manifest names any more goes."""
    for name, data in sorted(files.items()):
        if not (root / name).is_file() or sha256((root / name).read_bytes()) != sha256(data):
            write_atomic(root / name, data)
    path = root / system / MANIFEST
    write_atomic(path, (json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())
    _sweep(root, system)
    return path


_OURS = re.compile(r".+-[0-9a-f]{8}\.npz")


def _sweep(root: Path, system: str) -> None:
    """Take away arrays that no manifest names any more: only files that are named as ours, where ours are."""
    named = set()
    for path in root.glob(f"*/{MANIFEST}"):
        try:
            for entry in json.loads(path.read_bytes())["clips"]:
                named |= {entry["features"]["file"], entry["model"]["file"]}
        except (OSError, ValueError, KeyError, TypeError):
            return  # another system's manifest is damaged: what it names can't be told
    for path in [*root.glob("features/" + "[0-9a-f]" * 16 + "/*.npz"), *(root / system).glob("*.npz")]:
        if _OURS.fullmatch(path.name) and path.relative_to(root).as_posix() not in named:
            path.unlink()
