"""The fixed-point front end with a planted fault: what is easily got wrong when it is moved to a board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from parity.backends import fixed_point, reference
from parity.backends.reference import ReferenceBackend
from parity.frontend import Frontend, Micro, Quantize
from parity.protocols import Array, Clip, Tap, Taps

MICRO, QUANTIZED = "features/micro", "features/quantized"


class _Micro(ReferenceBackend):
    """The oracle, but for what `micro` gives."""

    def micro(self, x: Array, s: Micro, rate: int) -> Array:
        raise NotImplementedError

    def features(self, clips: Sequence[Clip], frontend: Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        assert frontend.micro is not None
        assert frontend.quantize is not None
        results: list[Mapping[Tap, Array]] = []
        for clip in clips:
            x = reference.samples(clip.samples, frontend.input)
            found = np.ascontiguousarray(self.micro(x, frontend.micro, frontend.input.rate))
            out = {"features/audio": x, MICRO: found, QUANTIZED: self.quantized(found, frontend.quantize)}
            results.append({t: a for t, a in out.items() if t in taps})
        return results

    def quantized(self, x: Array, s: Quantize) -> Array:
        return reference.quantize(x, s)


class StateKept(_Micro):
    """The noise estimate goes on from one clip to the next."""

    before: Array | None = None

    def micro(self, x: Array, s: Micro, rate: int) -> Array:
        heard = x if self.before is None else np.concatenate([self.before, x])
        self.before = x
        assert len(x) % s.hop == 0  # or the frames of the second clip wouldn't start with it
        return fixed_point.features(heard, s, rate)[(len(heard) - len(x)) // s.hop :]


class WithoutPcan(_Micro):
    def micro(self, x: Array, s: Micro, rate: int) -> Array:
        return fixed_point.features(x, replace(s, pcan=False), rate)


class Every10Milliseconds(_Micro):
    """Steps of 160 samples, as most recipes have; as many frames of them as are wanted."""

    def micro(self, x: Array, s: Micro, rate: int) -> Array:
        wanted = fixed_point.features(x, s, rate)
        return fixed_point.features(x, replace(s, hop=160), rate)[: len(wanted)]


class HighestBandFirst(_Micro):
    def micro(self, x: Array, s: Micro, rate: int) -> Array:
        return fixed_point.features(x, s, rate)[:, ::-1]


class SmoothingSwapped(_Micro):
    """Even bands smoothed as odd ones are, and the other way round."""

    def micro(self, x: Array, s: Micro, rate: int) -> Array:
        swapped = replace(s, even_smoothing=s.odd_smoothing, odd_smoothing=s.even_smoothing)
        return fixed_point.features(x, swapped, rate)


class ZeroPointOffByOne(_Micro):
    def micro(self, x: Array, s: Micro, rate: int) -> Array:
        return fixed_point.features(x, s, rate)

    def quantized(self, x: Array, s: Quantize) -> Array:
        return reference.quantize(x, replace(s, zero_point=s.zero_point + 1))


class Truncated(ZeroPointOffByOne):
    """v * 256 / 666 - 128 without the half that rounds."""

    def quantized(self, x: Array, s: Quantize) -> Array:
        return reference.quantize(x, replace(s, rounding="floor"))
