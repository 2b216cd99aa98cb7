"""Arrays as the bytes of a golden's file and back, the same bytes for the same arrays; bounds as room beside values."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from parity.bounds.features import Interval
from parity.errors import GoldenError
from parity.expected import stored
from parity.protocols import Array, Tap
from parity.taps import REGENERATED_TAPS

ROUNDED = "@float64-rounded"
"""Ends the names of bounds of that class of arithmetic; those without an end are of float32's."""


def rounded_up(x: Array) -> Array:
    """Positive numbers rounded up to four significant bits, float32: a little wider, and a fifth of the size."""
    mantissa, exponent = np.frexp(x)
    with np.errstate(over="ignore"):
        up = np.ldexp(np.ceil(mantissa * 16.0) / 16.0, exponent).astype(np.float32)
    # Where float32 runs out of bits below, the conversion may have rounded down.
    return np.where(up < x, np.nextafter(up, np.float32(np.inf)), up)


def pack(arrays: Mapping[str, Array]) -> bytes:
    """An .npz, the same bytes for the same arrays; each array compressed where that makes it a fifth smaller.

    Values are mostly noise below their first bits: deflating them saves nothing and costs more than judging them.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            member = zipfile.ZipInfo(name.replace("/", "|") + ".npy")  # with the format's first date, not today's
            smaller = len(zlib.compress(data.getvalue())) < 0.8 * len(data.getvalue())
            z.writestr(member, data.getvalue(), zipfile.ZIP_DEFLATED if smaller else zipfile.ZIP_STORED)
    return buffer.getvalue()


def unpack(data: bytes, what: Path, but: str | None = None) -> dict[str, Array]:
    """The arrays of an .npz without pickle, but those whose name ends in `but`. GoldenError where it isn't one."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as z:
            names = {n: n.removesuffix(".npy").replace("|", "/") for n in z.namelist()}
            return {a: _npy(z.read(n)) for n, a in names.items() if but is None or not a.endswith(but)}
    except (ValueError, OSError, EOFError, TypeError, RuntimeError, KeyError, zipfile.BadZipFile, zlib.error) as e:
        raise GoldenError(f"{what} can't be read: {e}", "restore it, or record again: parity golden record") from None


_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<|][a-z]\d)', 'fortran_order': False, 'shape': \(([\d, ]*)\), \} *\n", re.DOTALL
)


def _npy(data: bytes) -> Array:
    """An array from the bytes of a .npy file as `pack` writes it: the general reader takes ten times as long."""
    header = _HEADER.match(data)
    if header is None:
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    shape = [int(n) for n in header[2].split(b",") if n.strip()]
    return np.frombuffer(data, header[1].decode(), offset=header.end()).reshape(shape)


def pack_features(intervals: Mapping[Tap, Interval], rounded: Mapping[Tap, Interval] | None = None) -> dict[str, Array]:
    """Value and bound of each stored tap: `tap` float32, `tap:below` and `tap:above` the room on either side.

    `rounded` are the bounds of the arithmetic `float64-rounded`: under the same names with that at their end, where
    they differ.
    """
    out: dict[str, Array] = {}
    for tap, exact in intervals.items():
        if tap in REGENERATED_TAPS:
            continue
        out[tap] = exact.value.astype(np.float32)
        out |= (wide := _rooms(tap, exact, ""))
        if rounded is not None:
            narrow = _rooms(tap, rounded[tap], ROUNDED)
            if len(narrow) != len(wide) or not all(
                np.array_equal(a, b) for a, b in zip(narrow.values(), wide.values(), strict=True)
            ):
                out |= narrow
    return out


def _rooms(tap: Tap, exact: Interval, end: str) -> dict[str, Array]:
    """The room above the stored value, and below it where the two differ by more than an eighth."""
    kept = stored(exact)
    with np.errstate(invalid="ignore"):
        below, above = (np.nan_to_num(x, nan=0.0, posinf=np.inf) for x in (kept.value - kept.lo, kept.hi - kept.value))
        wider = np.maximum(below, above)
        alike = np.array_equal(below, above) or bool((wider <= 1.125 * np.minimum(below, above)).all())
    if alike:
        return {f"{tap}:above{end}": rounded_up(wider)}
    return {f"{tap}:above{end}": rounded_up(above), f"{tap}:below{end}": rounded_up(below)}


def unpack_features(arrays: Mapping[str, Array], end: str = "") -> dict[Tap, Interval]:
    """The inverse of `pack_features`; with `end` `ROUNDED` those taps that have bounds of that class."""
    out = {}
    for tap in arrays:
        if ":" in tap or f"{tap}:above{end}" not in arrays:
            continue
        value = arrays[tap].astype(np.float64)
        above = arrays[f"{tap}:above{end}"].astype(np.float64)
        below = arrays.get(f"{tap}:below{end}", above).astype(np.float64)
        with np.errstate(invalid="ignore"):
            lo, hi = value - below, value + above
        if not np.isfinite(value).all():
            # The room beside an infinite value is infinite: what the end was can't be told any more.
            lo, hi = np.where(np.isnan(lo), -np.inf, lo), np.where(np.isnan(hi), np.inf, hi)
        out[tap] = Interval(value, lo, hi)
    return out
