"""From a framework's axis order to the time-major one of taps, and back.

A layout is a string with a letter an axis: `N` batch, `T` time, `F` frequency band, `C` channel, `1` an axis of size
one. `NCTF` is PyTorch's order for time-by-band images, `NTFC` TensorFlow's. At a tap the batch and the ones are dropped
and the rest is in the order T, F, C: `[time, band, channel]`, `[time, band]`, `[channel]`.

An input may have axes flattened into one: `N(TF)` is `[1, time · band]`, the last axis in the brackets fastest.
"""

from __future__ import annotations

import re

import numpy as np

from parity.protocols import Array

_ORDER = "TFC"
_FLATTENED = re.compile(r"\(([TFC]{2,3})\)")


def plain(layout: str) -> str:
    """A layout before its axes are flattened."""
    return layout.replace("(", "").replace(")", "")


def problem(layout: str, one_by_one: bool = False) -> str | None:
    """What is wrong with a layout, in words, or None.

    Where frames are fed `one_by_one` the axis of the batch may stand for time: `TF`.
    """
    if layout != plain(layout):
        if not re.fullmatch(r"[NTFC1]*", _FLATTENED.sub(lambda found: found[1], layout, count=1)):
            return f"brackets in {layout!r} don't hold two or three of T, F and C, once"
        layout = plain(layout)
    unknown = sorted(set(layout) - set("NTFC1"))
    if unknown:
        return f"unknown axis {unknown[0]!r} (use N, T, F, C and 1)"
    repeated = [a for a in "NTFC" if layout.count(a) > 1]
    if repeated:
        return f"axis {repeated[0]!r} stands twice"
    if one_by_one:
        return None if "T" in layout else "no time axis 'T', along which pieces follow each other"
    return None if "N" in layout else "no batch axis 'N'"


def time_major(array: Array, layout: str) -> Array:
    """A framework's tensor (one clip) as it stands at a tap. ValueError where the tensor doesn't fit the layout."""
    if array.ndim != len(layout):
        raise ValueError(f"{array.ndim} axes {list(array.shape)} where the layout {layout!r} has {len(layout)}")
    for axis, letter in enumerate(layout):
        if letter in "N1" and array.shape[axis] != 1:
            raise ValueError(f"axis {letter!r} of layout {layout!r} has size {array.shape[axis]}, not 1")
    kept = [axis for axis, letter in enumerate(layout) if letter not in "N1"]
    squeezed = array.reshape([array.shape[axis] for axis in kept])
    letters = [layout[axis] for axis in kept]
    return np.ascontiguousarray(squeezed.transpose([letters.index(a) for a in _ORDER if a in letters]))


def native(array: Array, layout: str) -> Array:
    """The inverse of `time_major`: an array at a tap as the framework's tensor with a batch of one."""
    if (found := _FLATTENED.search(layout)) is not None:
        whole, start = native(array, plain(layout)), found.start()
        return whole.reshape(*whole.shape[:start], -1, *whole.shape[start + len(found[1]) :])
    letters = [a for a in _ORDER if a in layout]
    if array.ndim != len(letters):
        raise ValueError(f"{array.ndim} axes {list(array.shape)} where the layout {layout!r} keeps {letters}")
    turned = array.transpose([letters.index(a) for a in layout if a in letters])
    sizes = iter(turned.shape)
    return np.ascontiguousarray(turned.reshape([1 if a in "N1" else next(sizes) for a in layout]))
