"""Goldens for other test benches: clips, features at every tap and known answers, as C, as .npy or as MATLAB files.

Nothing is computed anew but what a golden keeps as a digest only. `lo` and `hi` are float32 numbers (integers for
quantized features) that judge a candidate of that type exactly as the golden's own bounds do: a bound between two
numbers is moved to the one inside. The network's taps have no bounds here: how far they may move depends on the
precision of the file that a device runs, which `parity compare --precision` asks for.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from parity import c_source, golden
from parity import frontend as fe
from parity.bounds.features import Interval
from parity.errors import ConfigError, GoldenError, MissingExtra
from parity.expected import stored
from parity.golden import GoldenSet
from parity.protocols import Array, Tap
from parity.system import System, how_to_build
from parity.taps import REGENERATED_TAPS

Format = Literal["c", "npy", "mat"]
INDEX = "index.json"


@dataclass(frozen=True)
class Vector:
    """A tap of a clip; `bounds` holds `lo` and `hi` of the same dtype and shape, or nothing."""

    tap: Tap
    name: str
    """Of a variable: no two taps of a system have the same."""
    value: Array
    unit: str
    bounds: Mapping[str, Array] = field(default_factory=dict)

    @property
    def arrays(self) -> dict[str, Array]:
        """Ending of a name -> array."""
        return {"": self.value} | {f"_{end}": a for end, a in self.bounds.items()}


@dataclass(frozen=True)
class Case:
    """A clip with what is right for it; `samples` are int16 where they are 16-bit numbers, else float32."""

    name: str
    label: str
    margin: float
    rate: int
    samples: Array
    vectors: Sequence[Vector]


def inside(x: Interval, dtype: str) -> dict[str, Array]:
    """`lo` and `hi` as numbers of `dtype` that admit the same numbers of it as the interval does."""
    if np.issubdtype(np.dtype(dtype), np.integer):
        info = np.iinfo(dtype)
        lo, hi = np.ceil(x.lo).clip(info.min, info.max), np.floor(x.hi).clip(info.min, info.max)
        return {"lo": lo.astype(dtype), "hi": hi.astype(dtype)}
    lo, hi = x.lo.astype(dtype), x.hi.astype(dtype)
    lo = np.where(lo < x.lo, np.nextafter(lo, np.inf, dtype=dtype), lo)
    hi = np.where(hi > x.hi, np.nextafter(hi, -np.inf, dtype=dtype), hi)
    return {"lo": lo, "hi": hi}


def _in_c(x: Array) -> Array:
    """An array of a dtype that C and MATLAB have: half precision becomes float32, which loses nothing."""
    return x if x.dtype.name in c_source.TYPES else x.astype(np.float32)


def _samples(x: Array) -> Array:
    whole = x * np.float32(32768.0)
    exact = np.array_equal(whole, np.rint(whole)) and np.all((whole >= -32768.0) & (whole <= 32767.0))
    return whole.astype(np.int16) if exact else x


def cases(goldens: GoldenSet) -> Iterator[Case]:
    """The clips of a set, sorted by name. GoldenError where the set is damaged."""
    frontend, units = goldens.system.frontend, golden.units(goldens.system.frontend)
    every = [*frontend.taps, *goldens.system.taps]
    names = dict(zip(every, c_source.identifiers(every), strict=True))
    for entry in goldens.clips:
        expected = goldens.read(entry)
        vectors = []
        for tap in frontend.taps:
            x, dtype = expected.features[tap], frontend.dtype(tap)
            x = stored(x) if tap in REGENERATED_TAPS else x
            vectors.append(Vector(tap, names[tap], x.value.astype(dtype), units.get(tap, "1"), inside(x, dtype)))
        vectors += [
            Vector(t, names[t], _in_c(expected.model[t]), "1") for t in goldens.system.taps if t in expected.model
        ]
        clip, decision = expected.clip, entry["decision"]
        yield Case(entry["name"], decision["label"], decision["margin"], clip.rate, _samples(clip.samples), vectors)


def export(goldens: GoldenSet, form: Format, folder: Path) -> list[Path]:
    """Write a set into `folder`, which must be new or empty; returns the files. Running it again gives the same bytes.

    ConfigError where the folder can't be written or holds something, MissingExtra where SciPy is missing for `mat`.
    """
    if form == "mat" and importlib.util.find_spec("scipy") is None:
        raise MissingExtra("MATLAB files need SciPy, which is not installed", "pip install 'parity[mat]'")
    write = {"c": _c, "npy": _npy, "mat": _mat}[form]
    if not goldens.clips:
        raise GoldenError(f"the golden of {goldens.system.name} has no clips", "record some: parity golden record")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder} is not an empty folder", "name another, or empty it: --out DIR")
        files = []
        for name, data in write(goldens):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
            files.append(folder / name)
    except OSError as e:
        raise ConfigError(f"{folder} can't be written: {e.strerror}", "name another: --out DIR") from None
    return files


def only(goldens: GoldenSet, names: Sequence[str]) -> GoldenSet:
    """The set with these clips only; all of them where none is named. ConfigError for a name that it hasn't."""
    known = [e["name"] for e in goldens.clips]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see `parity golden show`"
            raise ConfigError(f"the golden of {goldens.system.name} has no clip {name!r}", hint)
    kept = [e for e in goldens.clips if not names or e["name"] in names]
    return dataclasses.replace(goldens, manifest={**goldens.manifest, "clips": kept})


def models(system: System, folder: Path) -> list[Path]:
    """Write every TensorFlow Lite file of a system as C: `<file>_model.h` and `.c`. ConfigError where there is none."""
    paths = sorted({Path(a.path) for a in system.files if a.format == "tflite"})
    if not paths:
        missing = any(a.format == "tflite" for a in system.unbuilt)
        raise ConfigError(f"{system.name} has no TensorFlow Lite file" + " yet" * missing,
                          (missing and how_to_build(system.folder)) or "see `parity models list`")  # fmt: skip
    # What a file is called ends in `_model` by itself: a plain model.tflite goes by its system.
    stems = [re.sub(r"[^A-Za-z0-9]*model$", "", p.stem) or system.name for p in paths]
    written = []
    for name, path in zip(c_source.identifiers(stems), paths, strict=True):
        header, source = c_source.model(path.read_bytes(), name, f"{path.name} of {system.name}")
        for end, text in (("h", header), ("c", source)):
            target = folder / f"{name}_model.{end}"
            try:
                golden.write_atomic(target, text.encode())
            except OSError as e:
                raise ConfigError(f"{target} can't be written: {e.strerror}", "name another: --out DIR") from None
            written.append(target)
    return written


def _index(goldens: GoldenSet, clips: Sequence[dict[str, Any]]) -> bytes:
    """What the files are, for who reads them by a program."""
    manifest = goldens.manifest
    listing = {
        "system": goldens.system.name,
        "labels": list(manifest["labels"]),
        "decision": {"rule": "the largest element, the first among equals", "source": goldens.system.decision.source},
        "frontend": fe.to_plain(goldens.system.frontend),
        "frontend_digest": manifest["frontend_digest"],
        "anchor": manifest["anchor"]["backend"],
        "layout": "[time, band, channel], the last axis fastest",
        "bounds": "a candidate of an array's own dtype is right where lo <= candidate <= hi",
        "clips": clips,
    }
    return (json.dumps(listing, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _about(case: Case, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": case.name, "label": case.label, "margin": case.margin, "rate": case.rate, **arrays}


def _described(a: Array, **more: Any) -> dict[str, Any]:
    data = np.ascontiguousarray(a).tobytes()
    return {"dtype": a.dtype.name, "shape": list(a.shape), "sha256": golden.sha256(data), **more}


def _named(goldens: GoldenSet) -> Iterator[tuple[str, Case]]:
    yield from zip(
        c_source.identifiers([e["name"].rsplit(".", 1)[0] for e in goldens.clips]), cases(goldens), strict=True
    )


def _variables(case: Case) -> dict[str, tuple[Array, dict[str, str]]]:
    """Name of a variable -> array, and its unit and tap: `samples`, `features_spectrum`, `features_spectrum_lo`, ..."""
    unit = "1/32768 FS" if case.samples.dtype == np.int16 else "FS"
    out: dict[str, tuple[Array, dict[str, str]]] = {"samples": (case.samples, {"unit": unit})}
    for v in case.vectors:
        out |= {v.name + end: (a, {"unit": v.unit, "tap": v.tap}) for end, a in v.arrays.items()}
    return out


def _npy(goldens: GoldenSet) -> Iterator[tuple[str, bytes]]:
    """A .npy file an array, in a folder a clip."""
    clips = []
    for name, case in _named(goldens):
        arrays = {}
        for variable, (a, about) in _variables(case).items():
            data = io.BytesIO()
            np.lib.format.write_array(data, np.ascontiguousarray(a), version=(1, 0), allow_pickle=False)
            yield f"{name}/{variable}.npy", data.getvalue()
            arrays[variable] = _described(a, **about, file=f"{name}/{variable}.npy")
        clips.append(_about(case, {"arrays": arrays}))
    yield INDEX, _index(goldens, clips)


def _mat(goldens: GoldenSet) -> Iterator[tuple[str, bytes]]:
    """A MATLAB 5 file a clip: a variable an array, and `rate`, `label`, `margin`."""
    from scipy.io import savemat

    clips = []
    for name, case in _named(goldens):
        variables, data = _variables(case), io.BytesIO()
        rest = {"rate": float(case.rate), "label": case.label, "margin": case.margin}
        savemat(data, {k: a for k, (a, _) in variables.items()} | rest, oned_as="column", do_compression=True)
        # The first 116 bytes are free text, into which SciPy writes the time.
        yield f"{name}.mat", b"MATLAB 5.0 MAT-file, made by parity".ljust(116) + data.getvalue()[116:]
        arrays = {k: _described(a, **about) for k, (a, about) in variables.items()}
        clips.append(_about(case, {"file": f"{name}.mat", "arrays": arrays}))
    yield INDEX, _index(goldens, clips)


_STRUCTS = """\
#ifndef PARITY_GOLDEN_STRUCTS
#define PARITY_GOLDEN_STRUCTS
/* Arrays are [time, band, channel], the last axis fastest. */
typedef struct {
  const char *tap;       /* features/spectrum, model/logits, ... */
  const char *dtype;     /* float32, uint8, ...: what value, lo and hi point to */
  size_t dims, shape[4], count;
  const void *value, *lo, *hi; /* right where lo <= candidate <= hi; NULL where no bound is derived */
} parity_tap;
typedef struct {
  const char *name;
  unsigned long rate;    /* Hz */
  const char *dtype;     /* of the samples: int16, or float32 at full scale 1.0 */
  size_t samples;
  const void *audio;
  size_t tap_count;
  const parity_tap *taps;
  size_t label;          /* index into the labels */
  double margin;         /* lead of the largest element over the second */
} parity_clip;
#endif
"""


def _c(goldens: GoldenSet) -> Iterator[tuple[str, bytes]]:
    """A header and a source with the table of clips, and a source with the arrays of each clip."""
    (prefix,) = c_source.identifiers([goldens.system.name])
    labels = tuple(goldens.manifest["labels"])
    declared, rows = [], []
    for name, case in _named(goldens):
        source, row, externs = _c_clip(f"{prefix}_{name}", case, labels)
        yield f"{prefix}_{name}.c", f'#include "{prefix}.h"\n\n#include <math.h>\n\n{source}'.encode()
        declared.append(f"/* {c_source.comment(case.name)} */\n{externs}")
        rows.append(row)
    guard = f"PARITY_{prefix.upper()}_H"
    about = f"Goldens of {goldens.system.name}, recipe {goldens.manifest['frontend_digest'][:16]}"
    yield f"{prefix}.h", (
        f"/* {c_source.comment(about)}. Made by parity: don't edit. */\n#ifndef {guard}\n#define {guard}\n\n"
        "#include <stddef.h>\n#include <stdint.h>\n\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n"
        f"{_STRUCTS}\nextern const char *const {prefix}_labels[{len(labels)}];\n"
        f"extern const size_t {prefix}_clip_count;\nextern const parity_clip {prefix}_clips[{len(rows)}];\n\n"
        + "\n".join(declared) + "\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n"
    ).encode()  # fmt: skip
    named = ", ".join(map(c_source.text, labels))
    yield f"{prefix}.c", (
        f'#include "{prefix}.h"\n\nconst char *const {prefix}_labels[{len(labels)}] = {{{named}}};\n'
        f"const size_t {prefix}_clip_count = {len(rows)};\n"
        f"const parity_clip {prefix}_clips[{len(rows)}] = {{\n" + "".join(f"  {row},\n" for row in rows) + "};\n"
    ).encode()  # fmt: skip


def _c_clip(stem: str, case: Case, labels: Sequence[str]) -> tuple[str, str, str]:
    """The arrays of a clip, its row in the table, and the declarations of both."""
    parts, externs, rows = [], [], []

    def put(name: str, a: Array, what: str) -> str:
        externs.append(
            f"extern const {c_source.TYPES[a.dtype.name]} {name}[{a.size}]; /* {c_source.comment(what)} */\n"
        )
        parts.append(c_source.array(name, a))
        return name

    audio = put(f"{stem}_samples", case.samples, f"{len(case.samples)} samples at {case.rate} Hz")
    for v in case.vectors:
        shape = "[" + ", ".join(map(str, v.value.shape)) + "]"
        value = put(f"{stem}_{v.name}", v.value, f"{v.tap} {shape}, {v.unit}")
        # What must be met exactly (samples, frames) is its own bound.
        lo, hi = (
            (value if np.array_equal(v.bounds[end], v.value) else put(f"{value}_{end}", v.bounds[end], end))
            if v.bounds else "NULL" for end in ("lo", "hi")
        )  # fmt: skip
        sides = ", ".join(map(str, (*v.value.shape, *[1] * (4 - v.value.ndim))))
        rows.append(
            f"  {{{c_source.text(v.tap)}, {c_source.text(v.value.dtype.name)}, {v.value.ndim}, {{{sides}}}, "
            f"{v.value.size}, {value}, {lo}, {hi}}},\n"
        )
    taps = f"{stem}_taps"
    externs.append(f"extern const parity_tap {taps}[{len(rows)}];\n")
    parts.append(f"const parity_tap {taps}[{len(rows)}] = {{\n{''.join(rows)}}};\n")
    row = (
        f"{{{c_source.text(case.name)}, {case.rate}, {c_source.text(case.samples.dtype.name)}, {len(case.samples)}, "
        f"{audio}, {len(rows)}, {taps}, {list(labels).index(case.label)}, {case.margin!r}}}"
    )
    return "\n".join(parts), row, "".join(externs)
