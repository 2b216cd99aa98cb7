"""NumPy features with a planted fault: another recipe than the one asked for, or arrays that went wrong on the way."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from parity.backends import reference
from parity.backends.numpy_ import NumpyBackend
from parity.frontend import Frontend
from parity.protocols import Array, Clip, Tap, Taps

SPECTRUM, FILTERBANK, COMPRESSED = "features/spectrum", "features/filterbank", "features/compressed"
CEPSTRUM = "features/cepstrum"


class _Recipe(NumpyBackend):
    """Computes another recipe."""

    def change(self, frontend: Frontend) -> Frontend:
        raise NotImplementedError

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        return super().features(clips, self.change(frontend), taps)


class SymmetricHann(_Recipe):
    def change(self, frontend: Frontend) -> Frontend:
        return replace(frontend, window=replace(frontend.window, periodic=False))


class WrongThere(_Recipe):
    """As SymmetricHann on a machine whose environment says WRONG_THERE, right on others."""

    def change(self, frontend: Frontend) -> Frontend:
        periodic = "WRONG_THERE" not in os.environ
        return replace(frontend, window=replace(frontend.window, periodic=periodic))


class ClaimsDouble(NumpyBackend):
    """Says that it multiplies and transforms in float64, and does so in float32."""

    def arithmetic(self, frontend: Frontend) -> str:
        return "float64-rounded"


class SlaneyScale(_Recipe):
    def change(self, frontend: Frontend) -> Frontend:
        bank: Any = frontend.filterbank
        return replace(frontend, filterbank=replace(bank, scale="slaney"))


class Magnitude(_Recipe):
    def change(self, frontend: Frontend) -> Frontend:
        return replace(frontend, spectrum=replace(frontend.spectrum, exponent=1))


class NaturalLog(_Recipe):
    def change(self, frontend: Frontend) -> Frontend:
        log: Any = frontend.compress
        return replace(frontend, compress=replace(log, base="e"))


class LogOffset(_Recipe):
    """The offset of log(x + offset) is 1e-7 where the recipe says 1e-6: only quiet bands tell."""

    def change(self, frontend: Frontend) -> Frontend:
        log: Any = frontend.compress
        return replace(frontend, compress=replace(log, offset=1e-7))


class PeriodicWindow(_Recipe):
    """The usual default of FFT libraries, where the recipe's window is symmetric."""

    def change(self, frontend: Frontend) -> Frontend:
        return replace(frontend, window=replace(frontend.window, periodic=True))


class ExactEdges(_Recipe):
    """Triangles with corners at their frequencies, as librosa has them, where the recipe rounds down to whole bins."""

    def change(self, frontend: Frontend) -> Frontend:
        bank: Any = frontend.filterbank
        return replace(frontend, filterbank=replace(bank, triangles="hz"))


class SmallOffset(_Recipe):
    """ln(x + 0.999) where the recipe says ln(x + 1)."""

    def change(self, frontend: Frontend) -> Frontend:
        log: Any = frontend.compress
        return replace(frontend, compress=replace(log, offset=0.999))


class ReflectPadded(_Recipe):
    """Centers with the clip mirrored at its ends where the recipe pads zeros: librosa's default before 0.9."""

    def change(self, frontend: Frontend) -> Frontend:
        return replace(frontend, frame=replace(frontend.frame, pad_mode="reflect"))


class ZeroPadding(_Recipe):
    """Centers with zeros, as librosa does since 0.9, where the recipe reflects."""

    def change(self, frontend: Frontend) -> Frontend:
        return replace(frontend, frame=replace(frontend.frame, pad_mode="zero"))


class NoTopDb(_Recipe):
    """Decibels without a floor."""

    def change(self, frontend: Frontend) -> Frontend:
        db: Any = frontend.compress
        return replace(frontend, compress=replace(db, top_db=None))


class TopDbOfEachFrame(NoTopDb):
    """The floor lies below the maximum of each frame, not of the clip: what a streaming front end can know."""

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        stage: Any = frontend.compress
        spoilt = []
        for arrays in super().features(clips, frontend, taps):
            db = arrays[COMPRESSED]
            db = np.maximum(db, db.max(axis=1, keepdims=True) - np.float32(stage.top_db))
            spoilt.append({**arrays, COMPRESSED: db, CEPSTRUM: reference.stage(frontend, CEPSTRUM, db)})
        return spoilt


class RawDct(_Recipe):
    """The cosine transform without its orthonormal scale, as scipy gives it unless asked."""

    def change(self, frontend: Frontend) -> Frontend:
        dct: Any = frontend.cepstrum
        return replace(frontend, cepstrum=replace(dct, norm="none"))


class RefOne(_Recipe):
    """Decibels of full scale where the recipe wants them of the clip's maximum."""

    def change(self, frontend: Frontend) -> Frontend:
        db: Any = frontend.compress
        return replace(frontend, compress=replace(db, ref=1.0))


class _Arrays(NumpyBackend):
    """Computes the right recipe, then spoils the arrays."""

    def spoil(self, arrays: dict[Tap, Array], clip: Clip) -> Mapping[Tap, Array]:
        raise NotImplementedError

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        found = super().features(clips, frontend, taps)
        return [self.spoil(dict(arrays), clip) for arrays, clip in zip(found, clips, strict=True)]


class Shifted(_Arrays):
    """A frame late, from the frames on."""

    def spoil(self, arrays: dict[Tap, Array], clip: Clip) -> Mapping[Tap, Array]:
        return {
            t: a if t == "features/audio" else np.ascontiguousarray(np.roll(a, 1, axis=0)) for t, a in arrays.items()
        }


class LastFrameLost(_Arrays):
    """The last frame is lost where frames are cut."""

    def spoil(self, arrays: dict[Tap, Array], clip: Clip) -> Mapping[Tap, Array]:
        return {t: a if t == "features/audio" else np.ascontiguousarray(a[:-1]) for t, a in arrays.items()}


class Transposed(_Arrays):
    """`[bands, frames]`, from the filter bank on."""

    def spoil(self, arrays: dict[Tap, Array], clip: Clip) -> Mapping[Tap, Array]:
        return arrays | {t: np.ascontiguousarray(arrays[t].T) for t in (FILTERBANK, COMPRESSED)}


class Reversed(_Arrays):
    """The bands upside down, from the filter bank on."""

    def spoil(self, arrays: dict[Tap, Array], clip: Clip) -> Mapping[Tap, Array]:
        return arrays | {t: np.ascontiguousarray(arrays[t][:, ::-1]) for t in (FILTERBANK, COMPRESSED)}


class _At(_Arrays):
    """Spoils one tap, the one named by the option `tap`."""

    def __init__(self, tap: str) -> None:
        self._tap = tap


class NotANumber(_At):
    def spoil(self, arrays: dict[Tap, Array], clip: Clip) -> Mapping[Tap, Array]:
        spoilt = arrays[self._tap].copy()
        spoilt.reshape(-1)[spoilt.size // 2] = np.nan
        return arrays | {self._tap: spoilt}


class Double(_At):
    def spoil(self, arrays: dict[Tap, Array], clip: Clip) -> Mapping[Tap, Array]:
        return arrays | {self._tap: arrays[self._tap].astype(np.float64)}


class Empty(_At):
    def spoil(self, arrays: dict[Tap, Array], clip: Clip) -> Mapping[Tap, Array]:
        return arrays | {self._tap: arrays[self._tap][:0]}


class OneUlpTooMuch(_At):
    """One element a thousand ulps away: what a flat tolerance would let through."""

    def spoil(self, arrays: dict[Tap, Array], clip: Clip) -> Mapping[Tap, Array]:
        spoilt = arrays[self._tap].copy()
        spoilt.reshape(-1)[np.abs(spoilt).argmax()] *= 1.0 + 1000 * 2.0**-23
        return arrays | {self._tap: spoilt}


class Missing(_At):
    """A declared tap that doesn't arrive."""

    def spoil(self, arrays: dict[Tap, Array], clip: Clip) -> Mapping[Tap, Array]:
        return {t: a for t, a in arrays.items() if t != self._tap}


class Renamed(_At):
    """A tap under nearly its name."""

    def spoil(self, arrays: dict[Tap, Array], clip: Clip) -> Mapping[Tap, Array]:
        return {f"{t}s" if t == self._tap else t: a for t, a in arrays.items()}


class Swapped(_Arrays):
    """Two taps of one shape under each other's names; the network is fed with what is called the last one."""

    def spoil(self, arrays: dict[Tap, Array], clip: Clip) -> Mapping[Tap, Array]:
        return arrays | {FILTERBANK: arrays[COMPRESSED], COMPRESSED: arrays[FILTERBANK]}


class OneClipShort(NumpyBackend):
    """Loses its last clip."""

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        return super().features(clips, frontend, taps)[:-1]


class Aborts(NumpyBackend):
    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        os.abort()


class Hangs(NumpyBackend):
    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        time.sleep(100_000)
        return []


class LoudGain(NumpyBackend):
    """Right for quiet clips; a gain of 1.001 where a sample exceeds 0.9: what a search has to find and shrink."""

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        gained = [
            replace(c, samples=c.samples * np.float32(1.001)) if np.abs(c.samples).max(initial=0.0) > 0.9 else c
            for c in clips
        ]
        return super().features(gained, frontend, taps)
