"""Published test vectors as an anchor: somebody else's input and output of stages, which the oracle must reproduce.

A golden's anchor is usually an independent implementation that is given the recipe. Where no library computes a recipe,
those who published it may have published vectors: a window, a bank of triangles, the spectrum of a signal, the features
of a clip. They are committed beside system.toml with their licence and named there:

    [anchor]
    source = "microsoft/ELL, DSPTestData, MIT"

    [[anchor.vector]]
    input = "identity:257"              # or "ones:512", "FILE.npz:ARRAY", "FILE.npy", or a sound: "yes.wav"
    after = "features/spectrum"         # the tap where that input stands; left out: a clip's samples
    tap = "features/filterbank"
    expected = "ell-dsp.npz:Cepstrum_16000_512_13"
    transposed = true
    tolerance = 1e-12                   # absolute; 0: equal
    recipe = { filterbank = { bands = 13 } }    # settings in which the vector differs from the recipe

Vectors that may be used but not committed are named under an environment variable: `$PARITY_DATA/yes.wav`. Where that
isn't set, nothing can be recorded, and `parity golden verify` says which it left out.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parity import audio
from parity import frontend as fe
from parity.backends import reference
from parity.errors import AnchorError, ConfigError
from parity.protocols import Array, Clip, Tap
from parity.recipe import read_frontend
from parity.schema import Vector
from parity.system import System

SOUNDS = (".wav", ".flac")
_UNREADABLE = (OSError, ValueError, KeyError, IndexError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What NumPy raises at a file that is damaged, of another kind, or without the array that is named."""


@dataclass(frozen=True)
class Reproduced:
    """One vector that the oracle met: largest absolute difference, and what is allowed."""

    tap: Tap
    expected: str
    error: float
    tolerance: float


def variable(vector: Vector) -> str | None:
    """The environment variable that a vector's files lie under, if it isn't set; None where they can be read."""
    named = (w[1:].partition("/")[0] for w in (vector.input, vector.expected) if w.startswith("$"))
    return next((name for name in named if not os.environ.get(name)), None)


def _file(folder: Path, name: str) -> Path:
    """A file beside system.toml, or `$VARIABLE/file`."""
    if not name.startswith("$"):
        return folder / name
    root, _, rest = name[1:].partition("/")
    return Path(os.environ[root]) / rest


def _array(folder: Path, what: str, place: str) -> Array:
    """`FILE.npz:NAME` or `FILE.npy` beside system.toml; a vector of numbers becomes one frame, `[1, n]`.

    ConfigError where it can't be read, isn't of real numbers, or is empty: nothing would be compared.
    """
    file, _, name = what.partition(":")
    try:
        found = np.load(io.BytesIO(_file(folder, file).read_bytes()), allow_pickle=False)
        array = found[name] if name else found
    except _UNREADABLE as e:
        raise ConfigError(f"{place}: {what!r} can't be read: {e}", "name FILE.npy, or FILE.npz:ARRAY") from None
    if not isinstance(array, np.ndarray):
        names = sorted(array)
        many = "several arrays" if names else "no array"
        raise ConfigError(f"{place}: {file!r} holds {many}", f"name one: {file}:{names[0] if names else 'ARRAY'}")
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise ConfigError(f"{place}: {what!r} is of {array.dtype}, not of real numbers", "name an array of those")
    if array.size == 0:
        raise ConfigError(f"{place}: {what!r} is empty: it proves nothing", "name an array that holds numbers")
    return np.atleast_2d(array)


def _given(system: System, vector: Vector, recipe: fe.Frontend, place: str) -> Array:
    """The input of a vector in float64: `[frames, n]` after a tap, `[samples]` of a clip where there is none."""
    word, _, size = vector.input.partition(":")
    if word in ("identity", "ones") and size.isdecimal() and int(size) and vector.after is not None:
        return np.eye(int(size)) if word == "identity" else np.ones((1, int(size)))
    path = _file(system.folder, vector.input)
    if path.suffix.lower() in SOUNDS:
        clip: Clip = audio.read(path, path.name, recipe)
        return clip.samples.astype(np.float64)
    array = _array(system.folder, vector.input, place).astype(np.float64)
    return array if vector.after is not None else array.reshape(-1)


def _computed(recipe: fe.Frontend, vector: Vector, x: Array, place: str) -> Array:
    """What the oracle makes of `x` at the vector's tap."""
    taps = recipe.taps
    start = 0 if vector.after is None else taps.index(vector.after) + 1 if vector.after in taps else len(taps)
    if vector.tap not in taps[start:]:
        raise ConfigError(
            f"{place}: {vector.tap!r} doesn't come after {vector.after or 'the samples'} in this recipe",
            f"its taps are {', '.join(taps)}",
        )
    for tap in taps[start : taps.index(vector.tap) + 1]:
        try:
            x = reference.stage(recipe, tap, x)
        except ValueError as e:  # NumPy's, of shapes
            raise ConfigError(
                f"{place}: {tap} can't take the input: {e}", "mend `input`, `after` or `recipe`"
            ) from None
    return x


def absent(system: System) -> list[str]:
    """What the vectors of a system that aren't at hand are expected to give."""
    return [v.expected for v in system.anchor.vector if variable(v) is not None]


def reproduce(system: System, at_hand: bool = False) -> Iterator[Reproduced]:
    """Each published vector of a system, in order; with `at_hand` those only whose environment variable is set.

    AnchorError at the first that the oracle doesn't reproduce.
    """
    for i, vector in enumerate(system.anchor.vector):
        place = f"{system.folder / 'system.toml'}: anchor.vector[{i}]"
        if (unset := variable(vector)) is not None:
            if at_hand:
                continue
            raise ConfigError(f"{place}: {vector.expected} isn't at hand", f"set {unset} to the folder it lies under")
        plain = fe.to_plain(system.frontend)
        changed = {k: {**plain.get(k, {}), **v} for k, v in vector.recipe.items()}
        recipe = read_frontend(system.folder / "system.toml", {**plain, **changed}, f"anchor.vector[{i}].recipe")
        got = _computed(recipe, vector, _given(system, vector, recipe, place), place)
        expected = _array(system.folder, vector.expected, place)
        expected = expected.T if vector.transposed else expected
        if got.shape != expected.shape:
            raise AnchorError(
                f"{vector.expected} has shape {list(expected.shape)}, the oracle's {vector.tap} {list(got.shape)}",
                f"mend {place}",
            )
        error = float(np.abs(got.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0))
        if not error <= vector.tolerance:  # a NaN isn't
            raise AnchorError(
                f"the oracle doesn't reproduce {vector.expected} at {vector.tap}: off by {error:.3g}, "
                f"{vector.tolerance:.3g} is allowed",
                f"does the recipe say what was published? See {place}",
            )
        yield Reproduced(vector.tap, vector.expected, error, vector.tolerance)


def about(system: System, met: list[Reproduced]) -> dict[str, Any]:
    """What a manifest says of the vectors: their source, their files, how near the oracle came, what they miss."""
    files = {v.expected.partition(":")[0] for v in system.anchor.vector}
    return {
        "source": system.anchor.source,
        "files": {f: hashlib.sha256(_file(system.folder, f).read_bytes()).hexdigest() for f in sorted(files)},
        "reproduced": [{"tap": r.tap, "expected": r.expected, "error": r.error, "tolerance": r.tolerance} for r in met],
        "without": [t for t in system.frontend.taps if t not in _covered(system)],
    }


def _covered(system: System) -> set[Tap]:
    """Taps whose stage a vector goes through."""
    taps, covered = system.frontend.taps, set()
    for v in system.anchor.vector:
        start = 0 if v.after is None else taps.index(v.after) + 1
        covered |= set(taps[start : taps.index(v.tap) + 1])
    return covered
