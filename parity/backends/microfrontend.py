"""The microcontrollers' audio front end, by the code that defines it: TensorFlow's op, or pymicro_features.

A clip is one call of the op, or a front end of its own: the noise estimate never outlives its clip. The two aren't
bit-equal: pymicro-features 2.0.2 draws its window in float32, one of 480 coefficients is off by one, and the energy of
weak bands beside strong ones with it. Published features agree with TensorFlow's op, which is what a recipe means.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from parity import frontend as fe
from parity.backends import reference
from parity.errors import ConfigError
from parity.protocols import Array, Clip, Tap, Taps, Unsupported

_PACKAGES = {"tf": "tensorflow", "pymicro": "pymicro_features"}
_BUILT_IN = fe.Micro(length=480, hop=160, bands=40)
"""The settings that pymicro_features was compiled with."""
_STEP = 1 / 25.6
"""What pymicro_features multiplies its integers by, to give floats."""


def _int16(x: Array) -> Array:
    return np.clip(np.rint(x), -32768, 32767).astype(np.int16)


class MicrofrontendBackend:
    """Option: `implementation` tf or pymicro; the first of them that is installed where it isn't said."""

    def __init__(self, implementation: str | None = None) -> None:
        installed = [name for name, package in _PACKAGES.items() if importlib.util.find_spec(package) is not None]
        self._name = implementation or installed[0]
        if self._name not in _PACKAGES:
            raise ConfigError(f"no implementation {implementation!r}", f"one of {', '.join(_PACKAGES)}")
        if self._name not in installed:
            raise ConfigError(f"{_PACKAGES[self._name]} isn't installed", f"installed: {', '.join(installed)}")
        self._compute = _tensorflow() if self._name == "tf" else _pymicro

    def versions(self) -> Mapping[str, str]:
        distribution = "tensorflow" if self._name == "tf" else "pymicro-features"
        return {distribution: version(distribution), "numpy": np.__version__}

    def supports(self, frontend: fe.Frontend) -> Unsupported | None:
        if (s := frontend.micro) is None:
            return Unsupported("microfrontend is the front end of [micro] and of nothing else")
        reasons = {
            "the op has no normalization": frontend.normalize is not None,
            "the op takes its frames in whole milliseconds": any(
                n * 1000 % frontend.input.rate for n in (s.length, s.hop)
            ),
            "the op writes beyond its memory where frames leave a gap (the hop is longer than they are)": s.hop
            > s.length,
            f"pymicro_features computes {_BUILT_IN} at 16000 Hz only": self._name == "pymicro"
            and (s != _BUILT_IN or frontend.input.rate != 16000),
        }
        return next((Unsupported(reason) for reason, holds in reasons.items() if holds), None)

    def taps(self, frontend: fe.Frontend) -> frozenset[Tap]:
        return frozenset(frontend.taps)

    def features(self, clips: Sequence[Clip], frontend: fe.Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        assert frontend.micro is not None  # supports() has refused the others
        results: list[Taps] = []
        for clip in clips:
            x = reference.samples(clip.samples, frontend.input)
            out = {"features/audio": x, "features/micro": self._one(x, frontend.micro, frontend.input.rate)}
            if frontend.quantize is not None:
                out["features/quantized"] = reference.quantize(out["features/micro"], frontend.quantize)
            results.append({t: np.ascontiguousarray(a) for t, a in out.items() if t in taps})
        return results

    def _one(self, x: Array, s: fe.Micro, rate: int) -> Array:
        if len(x) < s.length:
            return np.zeros((0, s.bands), np.uint16)
        return np.asarray(self._compute(_int16(x), s, rate), np.uint16)


def _tensorflow() -> Any:
    import tensorflow as tf
    from tensorflow.lite.experimental.microfrontend.python.ops import audio_microfrontend_op

    def compute(x: Array, s: fe.Micro, rate: int) -> Array:
        with tf.device("/CPU:0"):
            features: Array = audio_microfrontend_op.audio_microfrontend(
                tf.constant(x), sample_rate=rate, window_size=s.length * 1000 // rate,
                window_step=s.hop * 1000 // rate, num_channels=s.bands, lower_band_limit=s.fmin,
                upper_band_limit=s.fmax, smoothing_bits=s.smoothing_bits, even_smoothing=s.even_smoothing,
                odd_smoothing=s.odd_smoothing, min_signal_remaining=s.min_signal_remaining, enable_pcan=s.pcan,
                pcan_strength=s.pcan_strength, pcan_offset=s.pcan_offset, gain_bits=s.gain_bits, enable_log=s.log,
                scale_shift=s.log_shift, out_type=tf.uint16,
            ).numpy()  # fmt: skip
        return features

    return compute


def _pymicro(x: Array, s: fe.Micro, rate: int) -> Array:
    import pymicro_features

    front_end, rows = pymicro_features.MicroFrontend(), []  # a new one: its state is of this clip alone
    for start in range(0, len(x) - s.hop + 1, s.hop):
        found = front_end.process_samples(x[start : start + s.hop].tobytes()).features
        rows += [found] if found else []
    return np.rint(np.asarray(rows) / _STEP)
