"""torch.stft with a planted fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from parity.backends.torch_ import TorchBackend
from parity.frontend import Frontend
from parity.protocols import Clip, Tap, Taps


class Centered(TorchBackend):
    """`center=True`, torch.stft's own default; frames beyond the recipe's are cut off."""

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        found = super().features(clips, replace(frontend, frame=replace(frontend.frame, center=True)), taps)
        return [
            {t: a if a.ndim == 1 else a[: frontend.frames(len(c.samples))].copy() for t, a in arrays.items()}
            for arrays, c in zip(found, clips, strict=True)
        ]


class UnitTriangles(TorchBackend):
    """Triangles of unit height, as torchaudio's `norm=None` draws them."""

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        bank: Any = frontend.filterbank
        return super().features(clips, replace(frontend, filterbank=replace(bank, norm="none")), taps)
