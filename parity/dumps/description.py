"""What a dump says of itself: `dump.toml` beside it, or the same words as options.

clips = ["yes.wav", "no.wav"]     # of a stack, in its order; or a table: name in the dump -> clip, or its sha256
fed = "own"                       # networks: on the device's own features; "golden" (default): on the golden's
[[arrays]]
tap = "features/compressed"
file = "{clip}.csv"
axes = "FT"
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from parity.dumps.files import Format
from parity.errors import ConfigError
from parity.protocols import Tap
from parity.taps import is_tap

FILE = "dump.toml"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An array a clip: where it is, and how it is laid out."""

    tap: Tap
    file: str | None = None
    """Path below the dump; `{clip}` stands for the clip's name without its ending. None: by the usual names."""
    variable: str | None = None
    """Of an .npz or .mat file; `{clip}` as above."""
    axes: str | None = None
    """A letter an axis: T time, F band, C channel, N clips of a stack (or a batch of one), 1 an axis of size one."""
    dtype: str | None = None
    """What the device computed in. None: as the file says; of text and MATLAB's doubles, as the system declares."""
    written: str = "<f4"
    """dtype of raw bytes."""
    shape: tuple[int, ...] | None = None
    """Of raw bytes and text, where they don't say: the axes' sizes."""
    scale: float | None = None
    """value = scale · (number - zero_point)."""
    zero_point: int = 0
    delimiter: str | None = None
    header: int = 0

    @property
    def format(self) -> Format:
        """What the reader of a file must be told."""
        return Format(delimiter=self.delimiter, header=self.header, written=self.written)


@dataclass(frozen=True, kw_only=True)
class Description:
    """All that is said of a dump, or of a program that writes one."""

    arrays: tuple[Entry, ...] = ()
    clips: tuple[str, ...] = ()
    """Of a stack: names of its clips, in order."""
    named: Mapping[str, str] = field(default_factory=dict)
    """Name in the dump -> name of the clip, or the sha256 of its samples."""
    audio: str | None = None
    """Folder of the wavs that the arrays were computed from, where they aren't goldens' clips."""
    fed: str = "golden"
    precision: str | None = None
    """Of the model file that the device runs."""
    format: str | None = None
    runtime: str = "recorded"
    """The runtime whose rules the activations are judged by."""
    device: str = ""
    command: str | tuple[str, ...] = ()
    """Of `exec:FILE.toml`: the program."""
    limit: float = 60.0
    """Seconds that it may take for a clip."""
    stdout: str | None = None
    """What it writes there: npy, raw or csv; None: it writes `{out}`."""


_FED = ("golden", "own")
_STDOUT = ("npy", "raw", "csv")


def _refuse(path: Path | str, key: str, problem: str, hint: str) -> ConfigError:
    return ConfigError(f"{path}: {key}: {problem}", hint)


def _typed(path: Path | str, key: str, value: Any, kind: Any) -> Any:
    """A value of TOML as a field's type. ConfigError where it is another."""
    text = str(kind)
    if "tuple[int" in text:
        fits = isinstance(value, list | tuple) and all(type(v) is int and v > 0 for v in value)
        value, wanted = tuple(value) if fits else value, "a list of whole numbers"
    elif "float" in text:
        fits, wanted = type(value) in (int, float) and np.isfinite(value) and value != 0, "a number, not zero"
        value = float(value) if fits else value
    elif "int" in text:
        fits, wanted = type(value) is int, "a whole number"
    elif "tuple[str" in text and isinstance(value, list):
        fits, wanted = all(isinstance(v, str) for v in value), "a list of texts"
        value = tuple(value)
    else:
        fits, wanted = isinstance(value, str) and value != "", "a text"
    if not fits:
        raise _refuse(path, key, f"expected {wanted}, found {value!r}", "see README, 'Dumps from a device'")
    return value


def _fields(path: Path | str, place: str, data: Mapping[str, Any], kind: type, without: frozenset[str]) -> Any:
    hints = get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind) if f.name not in without]
    for key in data:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"keys: {', '.join(known)}"
            raise _refuse(path, f"{place}{key}", "there is no such key", hint)
    return {key: _typed(path, f"{place}{key}", value, hints[key]) for key, value in data.items()}


def entry(path: Path | str, place: str, data: Mapping[str, Any]) -> Entry:
    """An array's layout from TOML or from options, checked. ConfigError for what doesn't belong."""
    if "tap" not in data:
        raise _refuse(path, f"{place}tap", "missing", "say which tap the array is: tap = 'features/compressed'")
    found = Entry(**_fields(path, place, data, Entry, frozenset()))
    if not is_tap(found.tap):
        raise _refuse(
            path, f"{place}tap", f"{found.tap!r} is no tap", "taps are features/..., model/... and decision/..."
        )
    if found.axes is not None and (problem := _axes_problem(found.axes)):
        raise _refuse(
            path, f"{place}axes", problem, "a letter an axis: 'TF' time by band, 'FT' band by time, 'NTF' stacked"
        )
    for key in ("dtype", "written"):
        text = getattr(found, key)
        try:
            right = text is None or np.dtype(text).kind in "iuf"
        except TypeError:
            right = False
        if not right:
            raise _refuse(
                path, f"{place}{key}", f"{text!r} is no dtype of real numbers", "float32, float64, int8, uint8, ..."
            )
    if found.header < 0:
        raise _refuse(path, f"{place}header", "it is a number of lines", "header = 1")
    return found


def _axes_problem(axes: str) -> str | None:
    if unknown := sorted(set(axes) - set("NTFC1")):
        return f"unknown axis {unknown[0]!r} in {axes!r}"
    return next((f"axis {a!r} stands twice in {axes!r}" for a in "NTFC" if axes.count(a) > 1), None)


def read(path: Path, program: bool = False) -> Description:
    """A description from TOML; `program`: of one that writes a dump, not of a dump. ConfigError where it is wrong."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"{path} can't be read: {e.strerror}", "check its name") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path} is not TOML: {e}", "mend the line that it names") from None
    tables, clips = data.pop("arrays", []), data.pop("clips", [])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise _refuse(path, "arrays", "expected a list of tables", "write [[arrays]], with two brackets")
    listed = list(clips.values()) if isinstance(clips, dict) else clips
    if not isinstance(listed, list) or not all(isinstance(c, str) for c in listed):
        raise _refuse(path, "clips", "expected a list of names, or a table of them", 'clips = ["yes.wav", "no.wav"]')
    arrays = tuple(entry(path, f"arrays[{i}].", t) for i, t in enumerate(tables))
    foreign = (
        {"audio", "fed", "precision", "format", "runtime", "device"} if program else {"command", "limit", "stdout"}
    )
    rest = _fields(path, "", data, Description, frozenset({"arrays", "clips", "named"} | foreign))
    named = clips if isinstance(clips, dict) else {}
    found = Description(arrays=arrays, clips=() if named else tuple(clips), named=named, **rest)
    return checked(found, path)


def checked(d: Description, path: Path | str) -> Description:
    """The description, where its parts fit together. ConfigError where not."""
    for key, known in (("fed", _FED), ("stdout", _STDOUT)):
        if (value := getattr(d, key)) is not None and value not in known:
            raise _refuse(path, key, f"{value!r} is none of {', '.join(known)}", f"{key} = {known[0]!r}")
    doubled = [c for i, c in enumerate(d.clips) if c in d.clips[:i]]
    if doubled:
        raise _refuse(path, "clips", f"{doubled[0]!r} stands twice", "name each clip once, in the stack's order")
    taps = [e.tap for e in d.arrays]
    if again := [t for i, t in enumerate(taps) if t in taps[:i]]:
        raise _refuse(path, "arrays", f"{again[0]} stands twice", "one [[arrays]] a tap")
    return d


def changed(d: Description, options: Mapping[str, Any], array: Mapping[str, Any]) -> Description:
    """A description with options put over it; `array` goes to every array, and makes one where there is none."""
    tap = array.get("tap")
    arrays = d.arrays
    if tap is not None:
        arrays = tuple(e for e in arrays if e.tap == tap)[:1] or (Entry(tap=tap),)
    if array and not arrays:
        option = next(iter(array)).replace("_", "-")
        raise ConfigError(f"--{option} is of an array, but none is named", "name it: --tap features/compressed")
    plain = [{k: v for k, v in vars(e).items() if v is not None} | dict(array) for e in arrays]
    return checked(dataclasses.replace(d, arrays=tuple(entry("options", "", p) for p in plain), **options), "options")
