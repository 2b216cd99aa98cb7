"""Features in float32 with nothing but NumPy: what one ships to a board.

Constants (window, filter bank, DCT) are computed once in float64 and rounded; everything on samples is float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from parity import frontend as fe
from parity.backends import reference
from parity.protocols import Array, Clip, Tap, Taps, Unsupported


def _spectrum(x: Array, s: fe.Spectrum) -> Array:
    # NumPy 1.x answers float32 with complex128: rounding here keeps the output float32 on both.
    transform = np.fft.rfft(x, n=s.n_fft, axis=-1).astype(np.complex64, copy=False)
    if not s.nyquist:
        transform = transform[:, : s.n_fft // 2]
    power = np.square(transform.real) + np.square(transform.imag)
    value = power if s.exponent == 2 else np.sqrt(power)
    return value * np.float32(1.0 / s.n_fft) if s.scaling == "1/n_fft" else value


class NumpyBackend:
    """float32 throughout, whole clips at a time."""

    def versions(self) -> Mapping[str, str]:
        return {"numpy": np.__version__}

    def supports(self, frontend: fe.Frontend) -> Unsupported | None:
        if frontend.micro is not None:
            return Unsupported("the fixed-point front end is integers, not float32: see microfrontend")
        return None

    def taps(self, frontend: fe.Frontend) -> frozenset[Tap]:
        return frozenset(frontend.taps)

    def features(self, clips: Sequence[Clip], frontend: fe.Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        results: list[Taps] = []
        for clip in clips:
            x, out = clip.samples, {}
            for tap in frontend.taps:
                s = frontend.stages()[tap]
                x = _spectrum(x, s) if isinstance(s, fe.Spectrum) else reference.stage(frontend, tap, x)
                if tap in taps:
                    out[tap] = np.ascontiguousarray(x)
            results.append(out)
        return results
