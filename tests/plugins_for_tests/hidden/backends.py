"""Features that are right on most clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from parity.backends import reference
from parity.backends.numpy_ import NumpyBackend
from parity.backends.reference import ReferenceBackend
from parity.errors import AudioError
from parity.frontend import Frontend
from parity.protocols import Array, Clip, Tap, Taps

COMPRESSED = "features/compressed"


def _from(frontend: Frontend, tap: Tap, value: Array, arrays: Taps) -> dict[Tap, Array]:
    """The arrays with another one at `tap`, and what the stages behind it make of that."""
    taps = frontend.taps
    out = {**arrays, tap: np.ascontiguousarray(value)}
    for later in taps[taps.index(tap) + 1 :]:
        value = out[later] = np.ascontiguousarray(reference.stage(frontend, later, value))
    return {t: a for t, a in out.items() if t in arrays}


class OneFrameMore(NumpyBackend):
    """Counts frames as `(n + 1 - length) // hop + 1`: one too many where a frame lacks one sample."""

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        frame: Any = frontend.framing
        lacking = [(len(c.samples) + 1 - frame.length) % frame.hop == 0 for c in clips]
        longer = [
            replace(c, samples=np.pad(c.samples, (0, 1))) if lacks else c
            for c, lacks in zip(clips, lacking, strict=True)
        ]
        found = super().features(longer, frontend, taps)
        return [
            {t: a[:-1] if lacks and t == "features/audio" else a for t, a in arrays.items()}
            for arrays, lacks in zip(found, lacking, strict=True)
        ]


class ForgetsTheFirstSample(NumpyBackend):
    """Pre-emphasis starts with the second sample, and takes the first for zero, as it is in most recordings."""

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        spoilt = []
        for clip in clips:
            samples = clip.samples.copy()
            samples[0] = 0.0
            spoilt.append(replace(clip, samples=samples))
        return super().features(spoilt, frontend, taps)


class QuietIsSilent(NumpyBackend):
    """A log floor of its own: frames whose samples are all below -90 dBFS, one step of 16 bits, count as silence."""

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        frame: Any = frontend.framing
        out = []
        for clip, arrays in zip(clips, super().features(clips, frontend, frozenset(frontend.taps)), strict=True):
            heard = reference.frames(reference.samples(clip.samples, frontend.input), frame)
            quiet = np.abs(heard).max(axis=1, initial=0.0) < 2.0**-15
            silent = reference.compress(np.zeros((1, 1), np.float32), frontend.compress)  # type: ignore[arg-type]
            log = np.where(quiet[:, None], silent, arrays[COMPRESSED])
            spoilt = _from(frontend, COMPRESSED, log, arrays)
            out.append({t: a for t, a in spoilt.items() if t in taps})
        return out


class SignAndMagnitude(ReferenceBackend):
    """Takes 16-bit samples apart into sign and magnitude; -32768 has no magnitude in 16 bits."""

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        spoilt = []
        for clip in clips:
            x = np.clip(np.rint(clip.samples * np.float32(32768)), -32768, 32767).astype(np.int16)
            again = np.sign(x).astype(np.int32) * np.abs(x)  # the magnitude of -32768 is -32768
            wrong = np.clip(again, -32768, 32767) / np.float32(32768)
            spoilt.append(replace(clip, samples=np.where(again == x, clip.samples, wrong).astype(np.float32)))
        return super().features(spoilt, frontend, taps)


class LastFrameRepeated(NumpyBackend):
    """Pads the end with the clip's last sample where the recipe says zeros, and in the very last frame only."""

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        frame: Any = frontend.framing
        out = []
        for clip, arrays in zip(clips, super().features(clips, frontend, frozenset(frontend.taps)), strict=True):
            frames = arrays["features/frames"].copy()
            beyond = (len(frames) - 1) * frame.hop + frame.length // 2 - len(clip.samples)
            if beyond > 0:
                frames[-1, -beyond:] = clip.samples[-1]
            spoilt = _from(frontend, "features/frames", frames, arrays)
            out.append({t: a for t, a in spoilt.items() if t in taps})
        return out


class ThroughAnotherRate(NumpyBackend):
    """Plays clips through a codec at 44.1 kHz and back, and rounds both lengths down.

    What is a multiple of 10 ms long comes back as it was.
    """

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        heard = []
        for clip in clips:
            n = len(clip.samples)
            there = n * 44_100 // clip.rate
            back = there * clip.rate // 44_100
            if back < n:
                at = np.arange(back) * n / max(1, back)
                heard.append(replace(clip, samples=np.interp(at, np.arange(n), clip.samples).astype(np.float32)))
            else:
                heard.append(clip)
        return super().features(heard, frontend, taps)


class TopDbOfEachFrame(NumpyBackend):
    """The floor lies below the maximum of each frame, not of the clip: what a streaming front end can know."""

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        db: Any = frontend.compress
        without = replace(frontend, compress=replace(db, top_db=None))
        out = []
        for arrays in super().features(clips, without, frozenset(frontend.taps)):
            each = arrays[COMPRESSED]
            each = np.maximum(each, each.max(axis=1, keepdims=True) - np.float32(db.top_db))
            out.append({t: a for t, a in _from(frontend, COMPRESSED, each, arrays).items() if t in taps})
        return out


class KeepsTheLastSample(NumpyBackend):
    """Pre-emphasis goes on from the last sample of the clip before."""

    def __init__(self) -> None:
        self._last = np.float32(0.0)

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        out: list[Taps] = []
        for clip in clips:
            samples = clip.samples.copy()
            samples[0] -= np.float32(frontend.input.pre_emphasis) * self._last
            self._last = clip.samples[-1]
            out += super().features([replace(clip, samples=samples)], frontend, taps)
        return out


class Refuses(NumpyBackend):
    """Takes no clip whose peak is above a level."""

    def __init__(self, above: str) -> None:
        self._above = float(above)

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        if any(np.abs(c.samples).max() > self._above for c in clips):
            raise AudioError("it is too loud for me", "turn it down")
        return super().features(clips, frontend, taps)
