"""MATLAB's files, written by Octave: v4, v6, v7 and text. Octave doesn't write v7.3 (its -hdf5 is a format of its own):
those are written by h5py in the structure that MATLAB's own have.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from parity import system
from parity.backends import reference
from parity.dumps import files
from parity.dumps.description import Description, Entry
from parity.dumps.dump import Dump, of_stage
from parity.dumps.files import Format, read
from parity.errors import ConfigError
from parity.expected import features_of
from parity.protocols import Array, Clip
from tests.conftest import program
from tests.dumps.conftest import STEMS
from tests.plugins_for_tests import rig

FRONTEND = system.load(rig.SYSTEM).frontend
LOGMEL = "features/compressed"


@pytest.fixture(scope="session")
def saved(octave: tuple[str, ...], wavs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip's features as each format that Octave saves."""
    folder = tmp_path_factory.mktemp("octave")
    for form in ("-v4", "-v6", "-v7", "csv"):
        out = folder / (f"x{form}.mat" if form != "csv" else "x.csv")
        subprocess.run([*octave, wavs / f"{STEMS[0]}.wav", out, form], check=True)
    return folder


@pytest.mark.parametrize("form", ["-v4", "-v6", "-v7"])
def test_octave_s_files_are_read(saved: Path, form: str) -> None:
    path = saved / f"x{form}.mat"
    assert files.names(path) == ["filterbank", "logmel", "spectrum"]
    got = read(path, Format(), "logmel")
    assert got.array.shape == (50, 98)
    assert got.array.dtype == np.float64
    assert (got.typed, got.matrix) == (False, True)
    assert got.array.flags.c_contiguous
    # The text has 17 digits: the same numbers, a frame a line.
    np.testing.assert_array_equal(read(saved / "x.csv", Format()).array, got.array.T)
    with pytest.raises(ConfigError, match="no variable 'mel'") as e:
        read(path, Format(), "mel")
    assert "it has filterbank, logmel, spectrum" in (e.value.hint or "")


@pytest.mark.parametrize("form", ["-v4", "-v6", "-v7"])
def test_what_octave_computed_is_the_oracle_s_to_the_last_bits_of_float64(saved: Path, form: str) -> None:
    samples = rig.clip(STEMS[0])
    exact, _ = features_of(Clip("x", samples, 16000, ""), FRONTEND)
    arrays = (
        Entry(tap=LOGMEL, variable="logmel", axes="FT"),
        Entry(tap="features/spectrum", variable="spectrum", axes="FT"),
    )
    dump = Dump(saved / f"x{form}.mat", Description(arrays=arrays, clips=("a.wav",)), FRONTEND.taps)
    assert dump.keys == ["a.wav"]
    for tap in (LOGMEL, "features/spectrum"):
        got = dump.get(tap, "a.wav", of_stage(FRONTEND, tap))
        assert got is not None
        assert got[0].dtype == np.float32  # MATLAB's doubles are judged as what the system declares
        x = exact[tap]
        np.testing.assert_array_less(np.abs(got[0] - x.value), x.hi - x.value + 1e-30)
    entry = Entry(tap=LOGMEL, variable="logmel", axes="FT", dtype="float64")
    wide = Dump(saved / f"x{form}.mat", Description(arrays=(entry,), clips=("a.wav",)), FRONTEND.taps)
    got = wide.get(LOGMEL, "a.wav", of_stage(FRONTEND, LOGMEL))
    assert got is not None
    oracle = reference.oracle(FRONTEND, Clip("x", samples, 16000, ""))
    np.testing.assert_allclose(got[0], oracle[LOGMEL], rtol=0, atol=1e-9)


def evaluated(code: str, folder: Path) -> Path:
    """What `code` saves in the working folder, as x.mat."""
    done = [program("octave-cli", "octave"), "--norc", "--no-history", "--eval", code]
    subprocess.run(done, check=True, cwd=folder)
    return folder / "x.mat"


@pytest.mark.parametrize("form", ["-v4", "-v6", "-v7"])
def test_vectors_singles_and_integers_of_octave(form: str, tmp_path: Path) -> None:
    whole = "int8 ([-128; 127])" if form != "-v4" else "[-128; 127]"
    path = evaluated(
        f"row = [1 2 3]; narrow = single (pi) * ones (2, 3); q = {whole}; save ('{form}', 'x.mat')", tmp_path
    )
    stored = {name: read(path, Format(), name) for name in ("row", "narrow", "q")}
    assert stored["row"].array.shape == (1, 3)
    np.testing.assert_array_equal(stored["q"].array, [[-128], [127]])
    if form != "-v4":  # which keeps a single as a double
        assert stored["narrow"].array.dtype == np.float32
        assert stored["q"].array.dtype == np.int8
        assert stored["q"].typed


@pytest.mark.parametrize(
    ("value", "words"),
    [("ones (3) + i", "complex"), ("struct ('a', 1)", "not numbers"), ("{1, 2}", "not numbers"), ("'text'", "str"),
     ("sparse (eye (3))", "sparse"), ("zeros (0, 3)", "empty")],
)  # fmt: skip
def test_what_octave_saves_and_is_no_array_is_refused(value: str, words: str, tmp_path: Path) -> None:
    path = evaluated(f"x = {value}; save ('-v7', 'x.mat', 'x')", tmp_path)
    with pytest.raises(ConfigError, match=words) as e:
        read(path, Format(), "x")
    assert e.value.hint


def v73(path: Path, variables: dict[str, tuple[Array, str]]) -> Path:
    """A file in the structure of MATLAB's `save -v7.3`: HDF5 behind 512 bytes of its own, axes backwards, classes."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w", userblock_size=512) as f:
        for name, (array, kind) in variables.items():
            # A complex number is a pair there, an empty array a list of its sizes.
            made = f.create_dataset(name, data=array.T if array.dtype.names is None else array)
            made.attrs["MATLAB_class"] = np.bytes_(kind)
            if kind == "logical":
                made.attrs["MATLAB_int_decode"] = np.int32(1)
    with path.open("r+b") as f:
        f.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Sat Nov 21 12:00:00 2026 HDF5 schema 1.00 ."
                .ljust(116) + bytes(8) + b"\x00\x02IM")  # fmt: skip
    return path


def test_v73_of_matlab(saved: Path, tmp_path: Path) -> None:
    logmel = read(saved / "x-v7.mat", Format(), "logmel").array
    pair = np.zeros((2, 3), [("real", "f8"), ("imag", "f8")])
    path = v73(tmp_path / "x.mat", {
        "logmel": (logmel, "double"), "narrow": (logmel.astype(np.float32), "single"),
        "q": (np.arange(-3, 3, dtype=np.int8).reshape(2, 3), "int8"), "z": (pair, "double"),
        "word": (np.array([[121, 101, 115]], np.uint16), "char"),
    })  # fmt: skip
    assert files.is_hdf5(path)
    assert files.names(path) == ["logmel", "narrow", "q", "word", "z"]
    got = read(path, Format(), "logmel")
    np.testing.assert_array_equal(got.array, logmel)
    assert (got.typed, got.matrix) == (False, True)
    assert read(path, Format(), "narrow").typed
    np.testing.assert_array_equal(read(path, Format(), "q").array, np.arange(-3, 3).reshape(2, 3))
    for name, word in (("z", "complex"), ("word", "is a char"), ("mel", "no variable 'mel'")):
        with pytest.raises(ConfigError, match=word):
            read(path, Format(), name)
