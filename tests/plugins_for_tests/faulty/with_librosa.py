"""librosa with a planted fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from parity.backends.librosa_ import LibrosaBackend
from parity.frontend import Frontend
from parity.protocols import Clip, Tap, Taps


class SymmetricHann(LibrosaBackend):
    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        return super().features(clips, replace(frontend, window=replace(frontend.window, periodic=False)), taps)


class ReflectPadded(LibrosaBackend):
    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        return super().features(clips, replace(frontend, frame=replace(frontend.frame, pad_mode="reflect")), taps)
