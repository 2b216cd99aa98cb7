"""Numbers from files: what is read, and a line with the fix for each thing that isn't."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from parity.dumps import files
from parity.dumps.files import Format, read
from parity.errors import ConfigError, MissingExtra
from parity.protocols import Array

X = np.arange(12, dtype=np.float32).reshape(4, 3) / 7


def refused(path: Path, *words: str, variable: str | None = None, form: Format | None = None) -> str:
    with pytest.raises(ConfigError) as e:
        read(path, form or Format(), variable)
    assert e.value.hint
    for word in words:
        assert word in e.value.message + " " + e.value.hint, (e.value.message, e.value.hint)
    return e.value.message


@pytest.mark.parametrize("stored", [X, X.astype(">f4"), np.asfortranarray(X), X.astype("<f8"), X.astype(">i2")])
def test_npy_of_any_order_comes_back_native_and_contiguous(stored: Array, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", stored)
    got = read(tmp_path / "x.npy", Format())
    assert got.typed
    assert got.array.dtype == stored.dtype.newbyteorder("=")
    assert got.array.dtype.isnative
    assert got.array.flags.c_contiguous
    np.testing.assert_array_equal(got.array, stored)


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (X.astype(np.complex64), "complex"), (np.array(["a", "b"]), "str"), (X.astype(np.longdouble), "longdouble"),
        (np.zeros((0, 50)), "is empty: shape [0, 50]"), (np.zeros(2, [("a", "f4")]), "a struct"),
        (np.array(["2026-01-01"], "datetime64[D]"), "datetime64"),
    ],
)  # fmt: skip
def test_what_is_no_real_number_is_refused(array: Array, word: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    refused(tmp_path / "x.npy", word if word != "longdouble" else array.dtype.name)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], object), allow_pickle=True)
    refused(tmp_path / "x.npy", "pickled objects", "never loaded", "np.save")
    (tmp_path / "y.npy").write_bytes(pickle.dumps([1.0, 2.0]))
    refused(tmp_path / "y.npy", "y.npy")
    np.savez(tmp_path / "z.npz", a=np.array([None], object))
    refused(tmp_path / "z.npz", "pickled objects", variable="a")


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-5])
    refused(tmp_path / "x.npy", "can't be read as .npy", "whole")
    np.savez(tmp_path / "x.npz", a=X)
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:-30])
    refused(tmp_path / "x.npz", "can't be read as .npz", variable="a")
    (tmp_path / "x.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    refused(tmp_path / "x.mat", "can't be read as .mat", "save", variable="a")
    (tmp_path / "empty.csv").write_bytes(b"")
    refused(tmp_path / "empty.csv", "is empty")
    refused(tmp_path / "none.npy", "can't be read: No such file")
    (tmp_path / "x.wav").write_bytes(b"RIFF")
    refused(tmp_path / "x.wav", "no reader for .wav", ".npy")


def test_a_variable_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", spectrum=X, mel=X)
    np.testing.assert_array_equal(read(tmp_path / "x.npz", Format(), "mel").array, X)
    assert files.names(tmp_path / "x.npz") == ["mel", "spectrum"]
    refused(tmp_path / "x.npz", "no variable 'logmel'", "it has mel, spectrum", variable="logmel")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("1,2.5,-3e-4\n4,5,6\n", Format()), ("1;2.5;-3e-4\r\n4;5;6\r\n", Format()), ("1 2.5\t-3e-4\n4 5  6", Format()),
        ("1,2.5,-3e-4,\n4,5,6,\n", Format()), ("\ufefft0,t1,t2\n1,2.5,-3e-4\n\n4,5,6\n", Format(header=1)),
        ("1|2.5|-3e-4\n4|5|6\n", Format(delimiter="|")),
    ],
)  # fmt: skip
def test_text_by_any_delimiter(text: str, form: Format, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text, encoding="utf-8", newline="")
    got = read(tmp_path / "x.csv", form)
    assert (got.typed, got.matrix) == (False, True)
    np.testing.assert_array_equal(got.array, [[1, 2.5, -3e-4], [4, 5, 6]])


def test_text_may_hold_what_is_not_finite(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("nan,-Inf\ninf,NaN\n")
    np.testing.assert_array_equal(read(tmp_path / "x.csv", Format()).array, [[np.nan, -np.inf], [np.inf, np.nan]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("band0,band1\n1,2\n", ("line 1", "'band0' is no number", "header = 1")),
        ("# made\nband0,band1\n1,2\n", ("line 1", "header = 1")),
        ("1,2\n3\n", ("line 2 has 1 numbers, line 1 has 2", "one length")),
        ("1,2\n3,four\n", ("line 2", "'four' is no number", "decimal point")),
        ("1_0,2\n", ("'1_0' is no number",)), ("1,,2\n", ("'' is no number",)),
        ("0,5;0,7\n", ("commas and semicolons", "delimiter")), ("\n\n", ("no numbers",)),
    ],
)  # fmt: skip
def test_text_that_is_no_table_of_numbers_names_its_line(text: str, words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    refused(tmp_path / "x.csv", *words)


def test_decimal_commas_are_no_header(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("0,25;-1,5\n1;2\n")
    with pytest.raises(ConfigError) as e:
        read(tmp_path / "x.csv", Format(delimiter=";"))
    assert "'0,25' is no number" in e.value.message
    assert e.value.hint == "write numbers with a decimal point"


def test_bytes_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00" * 9)
    refused(tmp_path / "x.csv", "is not text", ".f32")


def test_raw_bytes_are_what_they_are_said_to_be(tmp_path: Path) -> None:
    for written in ("<f4", ">f4", "<i2", "float64"):
        (tmp_path / "x.raw").write_bytes((X * 100).astype(written).tobytes())
        got = read(tmp_path / "x.raw", Format(written=written))
        np.testing.assert_array_equal(got.array, (X * 100).astype(written).reshape(-1))
        assert got.array.dtype.isnative
    (tmp_path / "x.raw").write_bytes(bytes(4801))
    refused(tmp_path / "x.raw", "4801 bytes", "no whole number of float32", "cut short")


def test_hdf5_files_of_matlab_say_what_they_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n" + bytes(200))
    assert files.is_hdf5(tmp_path / "x.mat")
    refused(tmp_path / "x.mat", "can't be read", variable="a")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtra, match=r"v7.3 \(HDF5\), which needs h5py; it is not installed") as e:
        read(tmp_path / "x.mat", Format(), "a")
    assert e.value.hint == "pip install 'parity[mat]'"


def test_matlab_files_say_that_scipy_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtra, match="needs SciPy; it is not installed") as e:
        read(tmp_path / "x.mat", Format(), "a")
    assert e.value.hint == "pip install 'parity[mat]'"
