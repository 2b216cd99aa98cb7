"""Numbers from files: .npy, .npz, text (.csv, .tsv, .txt), MATLAB's .mat, and raw bytes (.f32, .raw, .bin).

Everything comes back as a real array in this machine's byte order. Nothing is unpickled. SciPy (.mat of v4 to v7) and
h5py (v7.3, which is HDF5) are imported where such a file is read.
"""

from __future__ import annotations

import importlib
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parity.errors import ConfigError, MissingExtra
from parity.protocols import Array

TEXT = frozenset({".csv", ".tsv", ".txt"})
RAW = frozenset({".f32", ".raw", ".bin"})
SEVERAL = frozenset({".npz", ".mat"})
"""Hold arrays by name."""
SUFFIXES = TEXT | RAW | SEVERAL | {".npy"}
_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Stored:
    """An array as its file has it."""

    array: Array
    typed: bool = True
    """The file says which dtype was meant: text says none, and a MATLAB double is what every number is there."""
    matrix: bool = False
    """The format knows matrices only: a vector is `[1, n]` or `[n, 1]`."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """What a file doesn't say itself."""

    delimiter: str | None = None
    """Of text; None: a comma, a semicolon or white space, whichever the first line has."""
    header: int = 0
    """Lines of text before the numbers."""
    written: str = "<f4"
    """dtype of raw bytes, little-endian where it doesn't say."""


def real(array: Any, what: str) -> Array:
    """An array of real numbers in this machine's byte order and C's order. ConfigError for anything else."""
    a = np.asarray(array)
    if a.dtype.kind == "c":
        raise ConfigError(f"{what} holds complex numbers ({a.dtype.name})",
                          "write the magnitude or the power that the tap is: real numbers")  # fmt: skip
    if a.dtype.kind not in "biuf" or a.dtype.itemsize > 8:
        name = "a struct" if a.dtype.names else a.dtype.name
        raise ConfigError(f"{what} holds {name}, not numbers that a tap has",
                          "write a plain array of float64 or float32, or of integers of up to 64 bits")  # fmt: skip
    if a.size == 0:
        raise ConfigError(f"{what} is empty: shape {list(a.shape)}", "was it written before it was computed?")
    return np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("="))


def names(path: Path) -> list[str]:
    """The variables of an .npz or .mat file, sorted. ConfigError where it can't be read."""
    if path.suffix.lower() == ".npz":
        return sorted(_npz(path, lambda z: [n.removesuffix(".npy") for n in z.namelist()]))
    if is_hdf5(path):
        with _h5py(path).File(path, "r") as f:
            return sorted(n for n in f if not n.startswith("#"))
    return sorted(name for name, _, _ in _scipy(path, "whosmat"))


def read(path: Path, form: Format, variable: str | None = None) -> Stored:
    """The array of a file; `variable` names one of several. ConfigError says what is wrong and how to mend it."""
    kind = path.suffix.lower()
    try:
        size = path.stat().st_size
    except OSError as e:
        raise ConfigError(f"{path} can't be read: {e.strerror}", "check its name and its permissions") from None
    if size == 0:
        raise ConfigError(f"{path} is empty", "write it again: nothing arrived")
    what = f"{path}, variable {variable!r}," if variable is not None else str(path)
    try:
        if kind in TEXT:
            return Stored(real(_text(path, form), what), typed=False, matrix=True)
        if kind in RAW:
            return Stored(real(_raw(path, form), what))
        if kind == ".npy":
            with path.open("rb") as f:
                return Stored(real(_npy(f), what))
        if variable is not None and variable not in (there := names(path)):
            raise ConfigError(f"{path} has no variable {variable!r}", f"it has {', '.join(there) or 'none'}")
        if kind == ".npz":
            return Stored(real(_npz(path, lambda z: _member(z, variable or "")), what))
        if kind == ".mat":
            array = _matlab73(path, variable or "") if is_hdf5(path) else _matlab(path, variable or "")
            return Stored(a := real(array, what), typed=a.dtype != np.float64, matrix=True)
    except OSError as e:
        raise ConfigError(f"{path} can't be read: {e.strerror or e}", "copy it again from the device") from None
    raise ConfigError(f"{path}: no reader for {kind or 'a file without an ending'}", f"there are {', '.join(ENDINGS)}")


ENDINGS = sorted(SUFFIXES)


def _npy(file: Any) -> Array:
    try:
        return np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as e:
        path = getattr(file, "name", "the file")
        if "pickle" in str(e).lower() or "object" in str(e).lower():
            raise ConfigError(
                f"{path} holds pickled objects, which are never loaded: they can run code",
                "save a plain array of numbers: np.save(path, np.asarray(x, np.float32))",
            ) from None
        raise ConfigError(f"{path} can't be read as .npy: {e}", "copy it again: is it whole?") from None


def _npz(path: Path, use: Callable[[zipfile.ZipFile], Any]) -> Any:
    try:
        with zipfile.ZipFile(path) as z:
            return use(z)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as e:
        raise ConfigError(f"{path} can't be read as .npz: {e}", "copy it again: is it whole?") from None


def _member(z: zipfile.ZipFile, name: str) -> Array:
    with z.open(f"{name}.npy") as f:
        return _npy(f)


def _raw(path: Path, form: Format) -> Array:
    try:
        dtype = np.dtype(form.written)
    except TypeError:
        raise ConfigError(f"written = {form.written!r} is no dtype", "write one like '<f4', '>f4', 'int16'") from None
    data = path.read_bytes()
    if len(data) % dtype.itemsize:
        raise ConfigError(
            f"{path} has {len(data)} bytes, which is no whole number of {dtype.name} ({dtype.itemsize} bytes each)",
            "is it cut short, or another dtype? Say `written`",
        )
    return np.frombuffer(data, dtype)


def _text(path: Path, form: Format) -> Array:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text", "raw bytes go by another ending: .f32, .raw or .bin") from None
    numbered = [(i, line) for i, line in enumerate(lines, 1) if i > form.header and line.strip()]
    if not numbered:
        raise ConfigError(f"{path} holds no numbers after {form.header} lines of header", "mend `header`")
    delimiter = _delimiter(path, numbered[0][1]) if form.delimiter is None else form.delimiter
    rows: list[list[float]] = []
    for i, line in numbered:
        cells = line.split() if delimiter.isspace() else line.strip().removesuffix(delimiter).split(delimiter)
        try:
            rows.append([_number(cell) for cell in cells])
        except ValueError as e:
            # 0,25 between semicolons is a number where the comma is decimal, not a header.
            header = not rows and not any("," in cell and _is_decimal(cell) for cell in cells)
            hint = f"say header = {i} if it is one" if header else "write numbers with a decimal point"
            raise ConfigError(f"{path}, line {i}: {str(e)[:80]} is no number", hint) from None
        if len(rows[-1]) != len(rows[0]):
            raise ConfigError(
                f"{path}, line {i} has {len(rows[-1])} numbers, line {numbered[0][0]} has {len(rows[0])}",
                "write rows of one length: was the device stopped in the middle of a line?",
            )
    return np.array(rows)


def _is_decimal(cell: str) -> bool:
    try:
        _number(cell.replace(",", ".", 1))
    except ValueError:
        return False
    return True


def _number(cell: str) -> float:
    if "_" in cell:  # Python's own way to write 1_000
        raise ValueError(repr(cell.strip()))
    try:
        return float(cell)
    except ValueError:
        raise ValueError(repr(cell.strip())) from None


def _delimiter(path: Path, line: str) -> str:
    found = [d for d in (",", ";") if d in line]
    if len(found) > 1:
        raise ConfigError(f"{path} has commas and semicolons in a line", "say which parts numbers: delimiter = ';'")
    return found[0] if found else " "


def is_hdf5(path: Path) -> bool:
    """Whether a .mat file is of v7.3: HDF5, after MATLAB's own 512 bytes or from the start."""
    with path.open("rb") as f:
        head = f.read(520)
    return head[:8] == _HDF5 or head[512:520] == _HDF5


def _imported(module: str, distribution: str, path: Path, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtra(f"{path} is {what}, which needs {distribution}; it is not installed",
                           "pip install 'parity[mat]'") from None  # fmt: skip


def _h5py(path: Path) -> Any:
    return _imported("h5py", "h5py", path, "a MATLAB file of v7.3 (HDF5)")


def _scipy(path: Path, function: str, **more: Any) -> Any:
    """`scipy.io`'s answer. It raises anything on a damaged file."""
    io = _imported("scipy.io", "SciPy", path, "a MATLAB file")
    try:
        return getattr(io, function)(str(path), **more)
    except Exception as e:
        raise ConfigError(f"{path} can't be read as .mat: {type(e).__name__}: {str(e)[:120]}",
                          "save it with MATLAB's or Octave's own save: -v7, -v6, -v4 or -v7.3") from None  # fmt: skip


def _matlab(path: Path, variable: str) -> Any:
    found = _scipy(path, "loadmat", variable_names=[variable], chars_as_strings=True)[variable]
    if not isinstance(found, np.ndarray):
        raise ConfigError(f"{path}, variable {variable!r}, is a sparse matrix", f"save full({variable})")
    return found


def _matlab73(path: Path, variable: str) -> Any:
    """HDF5 lists MATLAB's axes backwards: its arrays are in Fortran's order."""
    with _h5py(path).File(path, "r") as f:
        found = f[variable]
        kind = found.attrs.get("MATLAB_class", b"")
        kind = kind.decode() if isinstance(kind, bytes) else str(kind)
        if not hasattr(found, "shape") or kind in ("struct", "cell", "char", "function_handle"):
            raise ConfigError(f"{path}, variable {variable!r}, is a {kind or 'struct'}",
                              "save the array itself as a variable")  # fmt: skip
        if found.attrs.get("MATLAB_empty", 0):
            return np.zeros((0, 0))
        if found.dtype.names and {"real", "imag"} <= set(found.dtype.names):
            return np.zeros(1, np.complex64)
        return found[()].T


_CLIP = "{clip}"


def pattern(template: str) -> re.Pattern[str]:
    """A template of names with `{clip}` in it as a pattern; the group `clip` is what stood there."""
    before, _, after = template.partition(_CLIP)
    return re.compile(re.escape(before) + "(?P<clip>.+?)" + re.escape(after).replace(re.escape(_CLIP), "(?P=clip)"))


def matching(template: str, among: Sequence[str]) -> dict[str, str]:
    """What stands for `{clip}` -> the name, of those among `among` that a template describes."""
    form = pattern(template)
    return {found["clip"]: name for name in among if (found := form.fullmatch(name)) is not None}
