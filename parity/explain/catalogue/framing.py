"""Settings of frames and windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from parity import frontend as fe
from parity.backends import reference
from parity.explain.catalogue.changes import Change, both, brain, choices, half, hooked, other, single
from parity.explain.definition import Definition, Hook
from parity.explain.settings import PLAUSIBLE, RARE, USUAL, Knob, Setting
from parity.protocols import Array

_TAP, _WINDOWED = "features/frames", "features/windowed"
Draw = Callable[[int, Array], Array]
"""Length, and the recipe's own window -> another."""


def entries(frontend: fe.Frontend) -> list[Setting | Knob]:
    """What there is to change in how frames are cut and windowed."""
    found: list[Setting | Knob] = []
    if (frame := frontend.frame) is not None:
        found += _frames(frontend, frame)
    if (window := frontend.window) is not None and frame is not None:
        found += _windows(frontend, frame, window)
    return found


def _frames(frontend: fe.Frontend, s: fe.Frame) -> list[Setting | Knob]:
    rate = frontend.input.rate
    n_fft = s.length if frontend.spectrum is None else frontend.spectrum.n_fft
    found: list[Setting | Knob] = []
    ms = [rate * n // 1000 for n in (10, 16, 20, 25, 30, 32, 40, 64)]
    common = {n_fft, *ms, s.length // 2, 2 * s.length, 256, 512, 1024, 2048}
    for n in sorted(
        {n for n in common | {s.length - 1, s.length + 1} if 1 < n != s.length}, key=lambda n: abs(n - s.length)
    ):
        if n <= n_fft:
            found.append(Setting("frame.length", f"frames of {n} samples, not {s.length}", _TAP, _length(n),
                                 USUAL if n in common else RARE))  # fmt: skip
        if frontend.spectrum is not None and n_fft == s.length:
            found.append(Setting("spectrum.n_fft", f"n_fft (and frame) {n}, not {n_fft}", _TAP,
                                 _length(n, fft=True), USUAL if n in common else RARE))  # fmt: skip
    hops = [s.hop + 1, s.hop - 1, s.hop // 2, 2 * s.hop, s.length // 2, s.length // 4, s.length,
            *(rate * n // 1000 for n in (5, 8, 10, 12, 15, 16, 20, 25, 30, 32)), 128, 160, 256, 512]  # fmt: skip
    hops = [h for h in hops if 0 < h <= max(s.length, s.hop)]
    found += choices("frame.hop", "frame", "hop", s.hop, hops, "hop {}")
    if s.center:
        found.append(Setting("frame.center", "frames from the first sample, not centered", _TAP,
                             other("frame", center=False)))  # fmt: skip
        modes = {"zero": "zeros", "reflect": "reflection", "edge": "the edge"}
        for mode, words in modes.items():
            if mode != s.pad_mode:
                found.append(Setting("frame.pad_mode", f"padding with {words}, not {modes[s.pad_mode]}", _TAP,
                                     other("frame", pad_mode=mode)))  # fmt: skip
    else:
        for mode, words in {"zero": "zeros", "reflect": "reflection", "edge": "the edge"}.items():
            found.append(Setting("frame.center", f"frames centered (padded with {words}), not from the first sample",
                                 _TAP, other("frame", center=True, pad_mode=mode)))  # fmt: skip
    to, words = ("pad", "filled with zeros, not dropped") if s.last == "drop" else ("drop", "dropped, not filled")
    found.append(Setting("frame.last", f"a last frame that isn't full is {words}", _TAP, other("frame", last=to)))
    found += [
        Setting("frame.lost-first", "first frame lost", _TAP, _rows(lambda x: x[1:])),
        Setting("frame.lost-last", "last frame lost", _TAP, _rows(lambda x: x[:-1])),
        Setting("frame.extra", "one frame of zeros more at the end", _TAP,
                _rows(lambda x: np.pad(x, ((0, 1), (0, 0)))), RARE),
        Setting("frame.extra", "one frame of zeros more at the start", _TAP,
                _rows(lambda x: np.pad(x, ((1, 0), (0, 0)))), RARE),
        Setting("frame.rolled", "frames one late, the last in the first's place", _TAP,
                _rows(lambda x: np.roll(x, 1, axis=0)), PLAUSIBLE),
        Setting("frame.rolled", "frames one early, the first in the last's place", _TAP,
                _rows(lambda x: np.roll(x, -1, axis=0)), PLAUSIBLE),
        Setting("frame.rolled", "frames one late, zeros in the first", _TAP,
                _rows(lambda x: np.pad(x, ((1, 0), (0, 0)))[:-1]), PLAUSIBLE),
        Setting("frame.rolled", "frames one early, zeros in the last", _TAP,
                _rows(lambda x: np.pad(x, ((0, 1), (0, 0)))[1:]), PLAUSIBLE),
        Setting("frame.rolled", "frames one late, the first twice", _TAP,
                _rows(lambda x: np.concatenate([x[:1], x[:-1]])), PLAUSIBLE),
        Setting("frame.rolled", "frames one early, the last twice", _TAP,
                _rows(lambda x: np.concatenate([x[1:], x[-1:]])), PLAUSIBLE),
    ]  # fmt: skip
    for n, name in ((1, "a sample"), (-1, "a sample"), (s.hop // 2, "half a hop"), (-(s.hop // 2), "half a hop"),
                    (s.hop, "a hop"), (s.length // 2, "half a frame")):  # fmt: skip
        late = "late" if n > 0 else "early"
        found.append(Setting("frame.shift", f"frames start {name} {late}", _TAP, _started(n), PLAUSIBLE))
    return found


def _rows(f: Callable[[Array], Array]) -> Change:
    return hooked(Hook(_TAP, after=f, index=True))


def _length(n: int, fft: bool = False) -> Change:
    """Frames of another length; with `fft` the FFT and a window as long as the frame follow."""

    def change(d: Definition) -> Definition | None:
        frame, window, spectrum = d.frontend.frame, d.frontend.window, d.frontend.spectrum
        if frame is None or frame.length == n:
            return None
        stages: dict[str, fe.Stage | None] = {"frame": dataclasses.replace(frame, length=n)}
        if window is not None and window.length is not None and window.length > n:
            return None
        if fft and spectrum is not None:
            stages["spectrum"] = dataclasses.replace(spectrum, n_fft=n)
        return d.with_stages(**stages)

    return change


def _started(n: int) -> Change:
    """Frames cut `n` samples late: from a clip that goes on with zeros on either side."""

    def change(d: Definition) -> Definition | None:
        s = d.frontend.frame
        if s is None:
            return None

        def instead(x: Array) -> Array:
            count = len(reference.frames(x, s))
            if s.center:
                mode = {"zero": "constant", "reflect": "reflect", "edge": "edge"}[s.pad_mode]
                x = np.pad(x, s.length // 2, mode=mode)  # type: ignore[call-overload]
            x = np.pad(x, (max(0, -n), max(0, n) + s.length))[max(0, n) :]
            return np.lib.stride_tricks.sliding_window_view(x, s.length)[:: s.hop][:count]

        return d.with_hook(Hook(_TAP, instead=instead, index=True))

    return change


def _windows(frontend: fe.Frontend, frame: fe.Frame, s: fe.Window) -> list[Setting | Knob]:
    found: list[Setting | Knob] = []
    names = {"hann": "Hann", "hamming": "Hamming", "rectangular": "no window (rectangular)"}
    now = names[s.name].replace("no window (rectangular)", "rectangular")
    found += [Setting("window.name", f"{'' if n == 'rectangular' else 'window '}{names[n]}, not {now}", _WINDOWED,
                      other("window", name=n)) for n in names if n != s.name]  # fmt: skip
    found += [Setting("window.name", f"window {name}, not {now}", _WINDOWED, _shaped(draw), PLAUSIBLE)
              for name, draw in _SHAPES.items()]  # fmt: skip
    if s.name != "rectangular":
        is_, not_ = ("symmetric", "periodic") if s.periodic else ("periodic", "symmetric")
        found.append(Setting("window.periodic", f"window {is_}, not {not_}", _WINDOWED,
                             other("window", periodic=not s.periodic)))  # fmt: skip
        found.append(Setting("window.periodic", "window's points between the samples (n + 0.5)", _WINDOWED,
                             _shaped(_between), RARE))  # fmt: skip
        for name in ("hann", "hamming"):
            if name != s.name:
                found.append(Setting("window.name", f"window {names[name]} {is_}, not {now} {not_}", _WINDOWED,
                                     both(other("window", name=name), other("window", periodic=not s.periodic)),
                                     PLAUSIBLE))  # fmt: skip
    rate, length = frontend.input.rate, s.length or frame.length
    lengths = [rate * n // 1000 for n in (10, 16, 20, 25, 30, 32, 40)] + [length - 1, length // 2, frame.length]
    for n in sorted({n for n in lengths if 1 < n <= frame.length and n != length}, reverse=True):
        for position in ("center", "left"):
            where = (
                "" if n == frame.length else " in the middle of the frame" if position == "center" else " at its left"
            )
            if n == frame.length and position == "left":
                continue
            found.append(Setting("window.length", f"window of {n} samples{where}, not {length}", _WINDOWED,
                                 other("window", length=None if n == frame.length else n, position=position),
                                 RARE if n == length - 1 else USUAL))  # fmt: skip
    if length < frame.length:
        to, words = ("left", "at the left of its frame, not in the middle") if s.position == "center" else (
            "center", "in the middle of its frame, not at the left")  # fmt: skip
        found.append(Setting("window.position", f"window {words}", _WINDOWED, other("window", position=to)))
        found.append(Setting("frame.length", f"frames as long as the window of {length} samples, not {frame.length}",
                             _TAP, _as_long_as_window(length)))  # fmt: skip
    if frontend.spectrum is not None and frontend.spectrum.n_fft > frame.length and s.length is None:
        n_fft = frontend.spectrum.n_fft
        for position, where in (("center", "in the middle"), ("left", "at the left")):
            found.append(Setting("window.position", f"window {where} of a frame of n_fft = {n_fft} samples, "
                                 f"not a frame of {frame.length}", _TAP, _in_fft(n_fft, position)))  # fmt: skip
    found += [
        Setting("window.float32", "window in float32", _WINDOWED, _shaped(lambda n, w: single(w)), PLAUSIBLE),
        Setting("window.float16", "window in float16", _WINDOWED, _shaped(lambda n, w: half(w)), PLAUSIBLE),
        Setting("window.float16", "window in bfloat16", _WINDOWED, _shaped(lambda n, w: brain(w)), RARE),
        Setting("window.fixed-point", "window in 15 bits", _WINDOWED,
                _shaped(lambda n, w: np.rint(w * 32767.0) / 32768.0), RARE),
        Setting("window.fixed-point", "window in 16 bits", _WINDOWED,
                _shaped(lambda n, w: np.rint(w * 32768.0) / 32768.0), RARE),
        Setting("window.fixed-point", "window in 12 bits", _WINDOWED,
                _shaped(lambda n, w: np.rint(w * 4096.0) / 4096.0), RARE),
        Setting("window.scale", "window divided by its sum", _WINDOWED, _shaped(lambda n, w: w / w.sum()), PLAUSIBLE),
        Setting("window.scale", "window divided by the root of its sum of squares", _WINDOWED,
                _shaped(lambda n, w: w / np.sqrt(np.square(w).sum())), PLAUSIBLE),
        Setting("window.scale", "window divided by its mean", _WINDOWED, _shaped(lambda n, w: w / w.mean()), PLAUSIBLE),
        Setting("window.twice", "window applied twice", _WINDOWED, _shaped(lambda n, w: w * w), PLAUSIBLE),
    ]  # fmt: skip
    if s.name != "rectangular":
        found.append(Setting("window.twice", "root of the window", _WINDOWED, _shaped(lambda n, w: np.sqrt(w)), RARE))
    return found


def _between(n: int, w: Array) -> Array:
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * (np.arange(n) + 0.5) / n)


def _cosines(*a: float) -> Draw:
    def draw(n: int, w: Array) -> Array:
        phase = 2.0 * np.pi * np.arange(n) / n
        return np.asarray(sum(c * np.cos(i * phase) for i, c in enumerate(a)))

    return draw


_SHAPES: dict[str, Draw] = {
    "Blackman": _cosines(0.42, -0.5, 0.08),
    "Hamming 25/46": _cosines(25 / 46, -21 / 46),
    "Hamming 0.53836": _cosines(0.53836, -0.46164),
    "Povey": lambda n, w: (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n) / (n - 1))) ** 0.85,
    "Blackman symmetric": lambda n, w: np.blackman(n),
    "sine": lambda n, w: np.sin(np.pi * (np.arange(n) + 0.5) / n),
    "triangular": lambda n, w: np.bartlett(n),
}


def _shaped(draw: Draw) -> Change:
    """Another window of the same length in the same place; `draw` is given its length and the recipe's."""

    def constant(frontend: fe.Frontend, w: Array) -> Array:
        assert frontend.window is not None
        n = frontend.window.length or len(w)
        left = (len(w) - n) // 2 if frontend.window.position == "center" else 0
        inner = draw(n, w[left : left + n])
        return np.pad(inner, (left, len(w) - n - left))

    return hooked(Hook(_WINDOWED, constant=constant))


def _in_fft(n_fft: int, position: str) -> Change:
    def change(d: Definition) -> Definition | None:
        frame, window = d.frontend.frame, d.frontend.window
        if frame is None or window is None or frame.length >= n_fft:
            return None
        return d.with_stages(
            frame=dataclasses.replace(frame, length=n_fft),
            window=dataclasses.replace(window, length=window.length or frame.length, position=position),  # type: ignore[arg-type]
        )

    return change


def _as_long_as_window(n: int) -> Change:
    return both(other("window", length=None), other("frame", length=n))
