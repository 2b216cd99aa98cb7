"""librosa with a planted fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
from librosa import filters
from librosa.core import spectrum

from parity.backends.librosa_ import LibrosaBackend
from parity.frontend import Frontend
from parity.protocols import Clip, Tap, Taps


class SymmetricHann(LibrosaBackend):
    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        return super().features(clips, replace(frontend, window=replace(frontend.window, periodic=False)), taps)


class SingleWindow(LibrosaBackend):
    """A window that was rounded to float32, as another library hands it over: within the bounds of float32."""

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        with mock.patch.object(spectrum, "get_window", _single):
            return super().features(clips, frontend, taps)


def _single(*given: Any, **more: Any) -> Any:
    return filters.get_window(*given, **more).astype(np.float32).astype(np.float64)


class ReflectPadded(LibrosaBackend):
    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        return super().features(clips, replace(frontend, frame=replace(frontend.frame, pad_mode="reflect")), taps)
