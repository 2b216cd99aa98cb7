"""What goes wrong before a network's first layer, and in reading its tensors: edits of what is fed and what is seen.

Arrays are time-major, `[time, band]` at the input, float64.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from parity import frontend as fe
from parity.explain.patches import Edit
from parity.explain.surgery import Patch
from parity.protocols import Array

SCALES: Mapping[str, tuple[float, float]] = {
    "divided by 255": (1 / 255, 0.0),
    "times 255": (255.0, 0.0),
    "divided by 256": (1 / 256, 0.0),
    "times 256": (256.0, 0.0),
    "divided by 128": (1 / 128, 0.0),
    "divided by 127": (1 / 127, 0.0),
    "times 127": (127.0, 0.0),
    "times 128": (128.0, 0.0),
    "128 taken off": (1.0, -128.0),
    "128 added": (1.0, 128.0),
    "to ±1: divided by 127.5, less 1": (1 / 127.5, -1.0),
    "divided by 128, less 1": (1 / 128, -1.0),
    "divided by 32768": (1 / 32768, 0.0),
    "times 32768": (32768.0, 0.0),
    "negated": (-1.0, 0.0),
    "times 10: dB where log10 is due": (10.0, 0.0),
    "divided by 10: log10 where dB is due": (0.1, 0.0),
    "times ln 10: ln where log10 is due": (float(np.log(10.0)), 0.0),
    "divided by ln 10: log10 where ln is due": (float(1 / np.log(10.0)), 0.0),
    "times 20": (20.0, 0.0),
    "times 2": (2.0, 0.0),
    "divided by 2": (0.5, 0.0),
    "all 0": (0.0, 0.0),
}


def scaled(a: float, b: float) -> Callable[[Array], Array]:
    """x -> a·x + b."""
    return lambda x: a * x + b


def _normalized(x: Array, axis: int | None, spread: bool = True) -> Array:
    centered = x - x.mean(axis=axis, keepdims=True)
    return centered / np.maximum(x.std(axis=axis, keepdims=True), 1e-12) if spread else centered


def _unit(x: Array) -> Array:
    return (x - x.min()) / max(float(np.ptp(x)), 1e-12)


def _largest(x: Array) -> Array:
    return x / max(float(np.abs(x).max()), 1e-12)


def _rolled(x: Array, by: int, zeros: bool) -> Array:
    moved = np.roll(x, by, axis=0)
    if zeros:
        moved[slice(0, by) if by > 0 else slice(by, None)] = 0.0
    return moved


def _edge(x: Array, by: int) -> Array:
    return x[np.clip(np.arange(len(x)) - by, 0, len(x) - 1)]


def fed(frontend: fe.Frontend) -> list[Edit]:
    """Edits of the input."""
    key = "network.input-"
    changes: list[tuple[str, str, Callable[[Array], Array]]] = [
        ("scale", f"input {words}", scaled(*ab)) for words, ab in SCALES.items()
    ]
    changes += [
        ("normalized", "input normalized by the clip's own mean and spread", lambda x: _normalized(x, None)),
        ("normalized", "each band normalized by its own mean and spread in the clip", lambda x: _normalized(x, 0)),
        ("normalized", "each frame normalized by its own mean and spread", lambda x: _normalized(x, 1)),
        ("normalized", "the clip's mean taken off the input", lambda x: _normalized(x, None, False)),
        ("normalized", "each band's mean in the clip taken off", lambda x: _normalized(x, 0, False)),
        ("normalized", "input scaled to 0..1 by the clip's own range", _unit),
        ("normalized", "input scaled to ±1 by the clip's own range", lambda x: 2.0 * _unit(x) - 1.0),
        ("normalized", "input divided by the clip's largest magnitude", _largest),
        ("order", "input read with its axes exchanged (a reshape where a transpose is due)",
         lambda x: x.T.reshape(x.shape)),
        ("order", "input's numbers in the order of the other axes (a reshape where a transpose is due)",
         lambda x: x.reshape(x.shape[::-1]).T),
        ("order", "frames in reverse", lambda x: x[::-1]),
        ("order", "bands in reverse", lambda x: x[:, ::-1]),
        ("clipped", "input's negative numbers cut to 0", lambda x: np.maximum(x, 0.0)),
        ("clipped", "input cut to whole numbers", np.trunc),
        ("clipped", "input rounded to whole numbers", np.round),
        ("clipped", "input rounded to whole numbers in 0..255", lambda x: np.clip(np.round(x), 0, 255)),
        ("clipped", "input read as int8: 128 and more wrap around", lambda x: (np.round(x) + 128) % 256 - 128),
        ("float16", "input rounded to float16", lambda x: x.astype(np.float16).astype(np.float64)),
    ]  # fmt: skip
    for by, words in ((1, "a frame late"), (-1, "a frame early"), (2, "two frames late"), (-2, "two frames early")):
        changes += [
            ("shift", f"input {words}, zeros in", partial(_rolled, by=by, zeros=True)),
            ("shift", f"input {words}, rolled around", partial(_rolled, by=by, zeros=False)),
            ("shift", f"input {words}, the frame at the end repeated", partial(_edge, by=by)),
        ]
    if (n := frontend.normalize) is not None and n.mean is not None:
        mean, spread = np.asarray(n.mean), np.asarray(n.spread)
        changes += [
            ("unnormalized", "the recipe's normalization isn't applied", lambda x: x * spread + mean),
            ("unnormalized", "the recipe's normalization is applied twice", lambda x: (x - mean) / spread),
            ("unnormalized", "the recipe's mean isn't taken off", lambda x: x + mean / spread),
            ("unnormalized", "the recipe's spread isn't divided by", lambda x: x * spread),
        ]
    return [Edit(key + what, words, Patch(feed=change)) for what, words, change in changes]


def _reordered(axes: tuple[int, ...], given: bool) -> Callable[[Array], Array]:
    """A tensor's numbers written in another order of its axes (`given`) or read in it, under its own shape."""

    def change(x: Array) -> Array:
        if x.ndim != len(axes):
            return x
        if given:
            return x.transpose(axes).reshape(x.shape)
        return x.reshape([x.shape[a] for a in axes]).transpose(np.argsort(axes))

    return change


def _turned(axes: tuple[int, ...]) -> Callable[[Array], Array]:
    return lambda x: x.transpose(axes) if x.ndim == len(axes) else x


def seen(dimensions: int) -> list[Edit]:
    """Edits of how a tap of so many axes is read."""
    found = []
    letters = {2: "time, channel", 3: "time, band, channel"}.get(dimensions, "")
    for axes in itertools.permutations(range(dimensions)):
        if axes == tuple(range(dimensions)):
            continue
        order = ", ".join(letters.split(", ")[a] for a in axes) if letters else str(axes)
        found.append(Edit("network.layout", f"axes of the tap stand as {order}", Patch(seen=_turned(axes))))
        for given in (True, False):
            words = f"the tap's numbers are in the order {order}, under the right shape"
            if not given:
                words = f"the tap's numbers are read in the order {order}, under the right shape"
            found.append(Edit("network.layout", words, Patch(seen=_reordered(axes, given))))
    return found


def twice() -> Edit:
    """A recurrent network that starts from what the same clip left."""

    def doubled(x: Array) -> Array:
        return np.concatenate([x, x])

    return Edit("network.state-kept", "not started from zeros: the state that the same clip left is kept",
                Patch(feed=doubled, seen=_second_half))  # fmt: skip


def _second_half(x: Array) -> Array:
    return x[len(x) // 2 :] if x.ndim > 1 else x
