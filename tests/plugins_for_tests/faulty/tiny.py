"""NumPy features of tiny-conv with a fault planted: what its several implementations do otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from faulty.backends import FILTERBANK, SPECTRUM, _Arrays, _Recipe

from parity.backends import reference
from parity.frontend import Frontend, Quantize
from parity.protocols import Array, Clip, Tap

QUANTIZED = "features/quantized"
TWICE = Quantize(dtype="uint8", scale=0.5, rounding="half-away")


class BinsOfTheCCode(_Arrays):
    """The published C code: 256 bins, and the last group of four divided by six."""

    def spoil(self, arrays: dict[Tap, Array], clip: Clip) -> Mapping[Tap, Array]:
        pooled = arrays[FILTERBANK].copy()
        pooled[:, -1] = arrays[SPECTRUM][:, 252:256].sum(axis=1) / np.float32(6.0)
        return arrays | {FILTERBANK: pooled, QUANTIZED: reference.quantize(pooled, TWICE)}


class NoNyquist(_Recipe):
    """256 bins: 43 groups all the same."""

    def change(self, frontend: Frontend) -> Frontend:
        return replace(frontend, spectrum=replace(frontend.spectrum, nyquist=False))


class RoundedDown(_Recipe):
    """What a cast to an integer does."""

    def change(self, frontend: Frontend) -> Frontend:
        quantize: Any = frontend.quantize
        return replace(frontend, quantize=replace(quantize, rounding="floor"))


class NotDoubled(_Recipe):
    """One step is a mean power of 1."""

    def change(self, frontend: Frontend) -> Frontend:
        quantize: Any = frontend.quantize
        return replace(frontend, quantize=replace(quantize, scale=1.0))


class Int16(_Recipe):
    """Samples as they stand in the file, not divided by 32768."""

    def change(self, frontend: Frontend) -> Frontend:
        return replace(frontend, input=replace(frontend.input, scale="int16"))


class WrapsAround(_Arrays):
    """A cast without clipping: 256 becomes 0."""

    def spoil(self, arrays: dict[Tap, Array], clip: Clip) -> Mapping[Tap, Array]:
        steps = np.floor(arrays[FILTERBANK] * 2.0 + 0.5).astype(np.int64)
        return arrays | {QUANTIZED: (steps & 255).astype(np.uint8)}
