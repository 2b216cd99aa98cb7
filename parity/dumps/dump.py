"""A dump: which arrays it has of which clips, and each as it stands at its tap.

A clip's arrays go by its name: whole (`go/a.wav`), without its ending (`go/a`), or as an identifier of C or MATLAB
(`go_a`), as `parity golden export` names them. Usual names, where nothing else is said:

    <clip>/<tap>.npy     one file an array; <tap> is features_compressed for features/compressed
    <clip>.mat, .npz     a variable a tap, named so, or the only one
    <clip>.npy           where there is one tap
    one file             a stack of clips, a variable a clip, or one clip
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from parity import layout
from parity.c_source import identifiers
from parity.dumps import files
from parity.dumps.description import FILE, Description, Entry, read
from parity.errors import ConfigError
from parity.frontend import Frontend, Mel
from parity.protocols import Array, Raw, Tap


@dataclass(frozen=True)
class Expected:
    """What a tap is in its system: its axes as letters in the order of taps, its dtype, its width where it is known."""

    axes: str
    dtype: str
    width: int | None = None


@dataclass(frozen=True)
class Place:
    """Where an array lies: a file, a variable of it, and its index along the axis N of a stack."""

    entry: Entry
    path: Path
    variable: str | None = None
    at: int | None = None
    of: int = 1
    """Clips of the stack."""


def identifier(name: str) -> str:
    """A tap or a clip as a variable's name."""
    return identifiers([name])[0]


def stem(clip: str) -> str:
    """A clip's name without its ending; folders stay."""
    return PurePosixPath(clip).with_suffix("").as_posix()


@functools.lru_cache(maxsize=4)
def _stored(path: Path, form: files.Format, variable: str | None, _changed: int) -> files.Stored:
    return files.read(path, form, variable)


def load(place: Place) -> files.Stored:
    """What lies in a place's file; a stack is read once."""
    try:
        changed = place.path.stat().st_mtime_ns
    except OSError as e:
        raise ConfigError(f"{place.path} can't be read: {e.strerror}", "check its name and its permissions") from None
    return _stored(place.path, place.entry.format, place.variable, changed)


def at_tap(stored: files.Stored, place: Place, expected: Expected) -> tuple[Array, Raw | None]:
    """An array as it stands at its tap, and its integers where it has a scale. ConfigError where it can't be."""
    e, what = place.entry, f"{place.path}: {place.entry.tap}"
    try:
        x = _turned(_shaped(stored, place, expected, what), place, expected)
    except ValueError as error:
        raise ConfigError(
            f"{what}: {error}", "say what its axes are: axes = 'FT', or 'NTF' of a stack (--axes FT)"
        ) from None
    if e.scale is not None:
        return _scaled(x, e, what)
    dtype = e.dtype or (x.dtype.name if stored.typed else expected.dtype)
    return _as(x, dtype, what), None


def _axes(place: Place, expected: Expected) -> str:
    """A letter an axis: as said, else as the tap has them, clips of a stack first."""
    return place.entry.axes if place.entry.axes is not None else "N" * (place.at is not None) + expected.axes


def _shaped(stored: files.Stored, place: Place, expected: Expected, what: str) -> Array:
    """The array with the axes that it has, as far as the file, `shape` or the recipe say."""
    x, axes, width = stored.array, _axes(place, expected), expected.width
    if (shape := place.entry.shape) is not None:
        if x.size != math.prod(shape):
            raise ConfigError(f"{what}: {x.size} numbers aren't of shape {list(shape)}", "mend `shape`, or the file")
        return x.reshape(shape)
    if x.ndim == 1 and width is not None and len(axes) > 1 and not stored.matrix:  # raw bytes: the recipe knows
        sizes = {"T": -1, "F": width, "N": place.of}
        if x.size % (width * (place.of if "N" in axes else 1)):
            raise ConfigError(
                f"{what}: {x.size} numbers aren't whole frames of {width} bands",
                "is it cut short? Else say what raw bytes are: `written`, `shape`",
            )
        return x.reshape([sizes.get(a, 1) for a in axes])
    if stored.matrix and x.ndim == 2 and len(axes) < 2 and (x.size if axes else 1) in x.shape and 1 in x.shape:
        return x.reshape(-1 if axes else ()) if axes or x.size == 1 else x
    return x


def _turned(x: Array, place: Place, expected: Expected) -> Array:
    """Time-major, one clip of a stack. ValueError where the axes don't fit."""
    axes = _axes(place, expected)
    if place.entry.axes is None and place.at is None and x.ndim == len(axes) + 1 and x.shape[0] == 1:
        axes = "N" + axes  # a batch of one
    if sorted(axes.replace("N", "").replace("1", "")) != sorted(expected.axes):
        raise ValueError(f"axes {axes!r} where the tap has {expected.axes or 'none'!r}")
    if place.at is not None and "N" in axes and x.ndim == len(axes):
        if (held := x.shape[axes.index("N")]) != place.of:
            raise ValueError(f"{held} clips along N of {list(x.shape)}, {place.of} are named")
        x = x.take([place.at], axis=axes.index("N"))
    return layout.time_major(x, axes)


def _scaled(x: Array, e: Entry, what: str) -> tuple[Array, Raw | None]:
    assert e.scale is not None
    value = _as((x.astype(np.float64) - e.zero_point) * e.scale, e.dtype or "float32", what)
    if np.issubdtype(x.dtype, np.integer):
        return value, Raw(x, e.scale, e.zero_point)
    whole = (np.abs(x) < 2**31).all() and (x == np.rint(x)).all()  # text and MATLAB's doubles
    return value, Raw(x.astype(np.int32), e.scale, e.zero_point) if whole else None


def _as(x: Array, dtype: str, what: str) -> Array:
    if x.dtype.name == dtype:
        return np.ascontiguousarray(x)
    to = np.dtype(dtype)
    if to.kind in "iu":
        info = np.iinfo(to)
        wrong = ~(np.isfinite(x) & (x == np.rint(x)) & (x >= info.min) & (x <= info.max))
        if wrong.any():
            raise ConfigError(f"{what}: {x[wrong].reshape(-1)[0]:g} is no {to.name}",
                              "mend `dtype`, or say the `scale` of its integers")  # fmt: skip
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is judged as the infinity that it is
        return np.ascontiguousarray(x, dtype=to)


class Dump:
    """A file or folder of arrays, indexed by tap and by the clip's name in it; arrays are read when asked for."""

    def __init__(self, path: Path, said: Description | None, taps: Sequence[Tap]) -> None:
        """`taps` are those of the system. ConfigError where nothing in it can be told to be one of them."""
        if not path.exists():
            raise ConfigError(f"no dump at {path}", "name a file or folder of .npy, .npz, .csv, .mat or raw arrays")
        self.said = said = described(path) if said is None else said
        self.path = path.parent if path.suffix == ".toml" else path
        self.root = self.path if self.path.is_dir() else self.path.parent
        self._taps = taps
        self._files = self._find()
        entries = said.arrays or tuple(self._inferred())
        if not entries:
            raise ConfigError(
                f"what {path} holds can't be told",
                f"say which tap it is: [[arrays]] in a {FILE} beside it, or of `parity compare` --tap features/...",
            )
        self.places: dict[Tap, dict[str, Place]] = {}
        for e in entries:
            found = self._places(e, len(entries) == 1)
            if not found:
                where = e.file or f"by a usual name of {e.tap}"
                raise ConfigError(f"{path} has no file {where}", "say `file` in its [[arrays]]: file = '{clip}.csv'")
            self.places[e.tap] = self._named_ones(found)
        if absent := sorted(set(said.named) - set(self.keys)):
            raise ConfigError(
                f"{path} has no array of {absent[0]!r}, which `clips` names", f"it has {', '.join(self.keys[:8])}"
            )

    def _named_ones(self, found: dict[str, Place]) -> dict[str, Place]:
        """The clips that were named, where any were. ConfigError where one isn't there."""
        if not self.said.clips:
            return found
        kept: dict[str, Place] = {}
        for clip in self.said.clips:
            key = next((k for k in (clip, stem(clip), identifier(stem(clip))) if k in found), None)
            if key is None:
                close = difflib.get_close_matches(clip, found, n=1, cutoff=0.4)
                raise ConfigError(
                    f"{self.path} has nothing of the clip {clip!r}",
                    f"did you mean {close[0]!r}?" if close else f"it has {', '.join(sorted(found)[:8])}",
                )
            kept[key] = found[key]
        return kept

    @property
    def taps(self) -> frozenset[Tap]:
        """Taps that it has an array of, of some clip."""
        return frozenset(self.places)

    @property
    def keys(self) -> list[str]:
        """Names of its clips, as it has them, sorted."""
        return sorted({key for places in self.places.values() for key in places})

    @property
    def sha256(self) -> str:
        """Digest of its files, names and all."""
        whole = hashlib.sha256()
        for name in self._files:
            whole.update(name.encode("utf-8", "surrogateescape") + b"\0")
            whole.update(hashlib.sha256((self.root / name).read_bytes()).digest())
        return whole.hexdigest()

    def key(self, clip: str, sha256: str = "") -> str | None:
        """A clip's name in the dump; None where it isn't there."""
        known = {key for places in self.places.values() for key in places}
        for key, wanted in self.said.named.items():
            if wanted in (clip, sha256) and key in known:
                return key
        known -= self.said.named.keys()  # those belong to whom they are said to
        return next((k for k in (clip, stem(clip), identifier(stem(clip))) if k in known), None)

    def extra(self, clips: Iterable[tuple[str, str]]) -> list[str]:
        """Names in the dump that none of the clips (name, sha256) go by, sorted."""
        claimed = {self.key(*clip) for clip in clips}
        return [key for key in self.keys if key not in claimed]

    def get(self, tap: Tap, key: str, expected: Expected) -> tuple[Array, Raw | None] | None:
        """A clip's array at a tap, and its integers where it has a scale; None where the dump hasn't got it."""
        place = self.places.get(tap, {}).get(key)
        if place is None:
            return None
        if place.path.suffix.lower() in files.SEVERAL and place.variable is None:
            name = self._variable(place, key)
            if name is None:
                return None
            place = dataclasses.replace(place, variable=name)
        return at_tap(load(place), place, expected)

    def _variable(self, place: Place, key: str) -> str | None:
        """The variable of a tap where the layout doesn't say: named as the tap, as the clip, or the only one."""
        there = files.names(place.path)
        for name in (place.entry.tap, identifier(place.entry.tap), key, identifier(key)):
            if name in there:
                return name
        if len(there) == 1 and len(self.places) == 1:
            return there[0]
        if len(self.places) == 1:
            raise ConfigError(f"{place.path} has several variables: {', '.join(there)}",
                              "say which: --variable NAME, or `variable` in its [[arrays]]")  # fmt: skip
        return None

    def _find(self) -> list[str]:
        if self.path.is_file():
            return [self.path.name]
        found = (p for p in self.path.rglob("*") if p.suffix.lower() in files.SUFFIXES and p.is_file())
        return sorted(p.relative_to(self.path).as_posix() for p in found)

    def _inferred(self) -> Iterable[Entry]:
        """Arrays whose files or variables are named as taps are."""
        seen = {Path(name).stem for name in self._files}
        for name in self._files[:1] if not seen & {identifier(t) for t in self._taps} else []:
            if Path(name).suffix.lower() in files.SEVERAL:
                seen |= set(files.names(self.root / name))
        return [Entry(tap=t) for t in self._taps if t in seen or identifier(t) in seen]

    def _places(self, e: Entry, alone: bool) -> dict[str, Place]:
        if e.file is not None and "{clip}" in e.file:
            return {k: Place(e, self.root / name, _variable_of(e, k))
                    for k, name in files.matching(e.file, self._files).items()}  # fmt: skip
        if e.file is not None:
            return self._of_one(e, self.root / e.file) if (self.root / e.file).is_file() else {}
        if self.path.is_file():
            return self._of_one(e, self.path)
        mine = [n for n in self._files if Path(n).stem == identifier(e.tap)]
        if any("/" not in n for n in mine):
            return self._of_one(e, self.root / mine[0])  # one stack a tap
        # A file of its own in a folder a clip; else a file a clip, which holds several arrays, or this one alone.
        usual = {n: Path(n).parent for n in mine} or {
            n: Path(n).with_suffix("") for n in self._files if alone or Path(n).suffix.lower() in files.SEVERAL
        }
        found: dict[str, Place] = {}
        for name, key in ((n, k.as_posix()) for n, k in usual.items()):
            if key in found:
                raise ConfigError(
                    f"{self.path} has two arrays of {e.tap} for {key}: {found[key].path.name} and {Path(name).name}",
                    "say which: `file` in its [[arrays]]",
                )
            found[key] = Place(e, self.root / name, _variable_of(e, key))
        return found

    def _of_one(self, e: Entry, path: Path) -> dict[str, Place]:
        """The clips of a single file: a stack of them, one a variable, or one."""
        clips = self.said.clips
        if e.variable is not None and "{clip}" in e.variable:
            return {k: Place(e, path, name) for k, name in files.matching(e.variable, files.names(path)).items()}
        several = path.suffix.lower() in files.SEVERAL and e.variable is None
        named = _named_for(e.tap, files.names(path)) if several else False
        if several and not named and len(files.names(path)) > 1 and not clips:
            return {name: Place(e, path, name) for name in files.names(path)}
        if len(clips) > 1 or (clips and e.axes is not None and "N" in e.axes):
            return {clip: Place(e, path, e.variable, i, len(clips)) for i, clip in enumerate(clips)}
        return {clips[0] if clips else stem(path.name): Place(e, path, e.variable)}


def _named_for(tap: Tap, names: Sequence[str]) -> bool:
    return tap in names or identifier(tap) in names


def _variable_of(e: Entry, key: str) -> str | None:
    return None if e.variable is None else e.variable.replace("{clip}", key)


def described(path: Path) -> Description:
    """What stands beside a dump: in `<name>.toml` or `dump.toml`; the dump may be named by that file itself."""
    if path.suffix == ".toml":
        return read(path)
    beside = (path / FILE,) if path.is_dir() else (path.with_suffix(".toml"), path.parent / FILE)
    said = next((read(p) for p in beside if p.is_file()), Description())
    if path.is_file() and said.arrays:
        mine = [e for e in said.arrays if e.file in (None, path.name)]
        if not mine:
            raise ConfigError(f"{FILE} beside {path} says nothing of it", f"name the folder: {path.parent}")
        return dataclasses.replace(said, arrays=tuple(dataclasses.replace(e, file=None) for e in mine))
    return said


def of_stage(frontend: Frontend, tap: Tap) -> Expected:
    """What a feature tap is: `[samples]`, or `[frames, width]`."""
    if tap == "features/audio":
        return Expected("T", frontend.dtype(tap))
    if tap in ("features/frames", "features/windowed") and frontend.framing is not None:
        return Expected("TF", frontend.dtype(tap), frontend.framing.length)
    bank = frontend.filterbank
    width = frontend.bands
    if tap == "features/spectrum" or (bank is None and tap == "features/compressed"):
        width = frontend.bins
    elif tap in ("features/filterbank", "features/compressed") and bank is not None:
        width = bank.bands if isinstance(bank, Mel) else -(-frontend.bins // bank.size)
    return Expected("TF", frontend.dtype(tap), width)
