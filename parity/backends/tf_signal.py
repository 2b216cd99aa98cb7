"""TensorFlow's signal ops: what goes into a SavedModel or a TFLite front end.

Everything on samples is a TensorFlow op in float32. The filter bank is the one that the recipe asks for, built by
TensorFlow ops in float64 and rounded once; `tf.signal.linear_to_mel_weight_matrix` draws its triangles straight in
mel, so it serves only recipes that say `triangles = "mel"`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from parity import frontend as fe
from parity.protocols import Clip, Tap, Taps, Unsupported

with contextlib.suppress(RuntimeError):  # TensorFlow is at work in this process already; a worker's is fresh
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _mel(f: Any) -> Any:
    return 2595.0 / math.log(10.0) * tf.math.log1p(f / 700.0)


@lru_cache(maxsize=16)
def _bank(s: fe.Mel, rate: int, n_fft: int, bins: int) -> Any:
    """`[bins, bands]` float32, triangles straight in Hz."""
    f = tf.cast(tf.range(bins), tf.float64) * (rate / n_fft)
    if s.scale == "htk":
        low, high = _mel(tf.constant(s.fmin, tf.float64)), _mel(tf.constant(s.fmax, tf.float64))
        hz = 700.0 * tf.math.expm1(tf.linspace(low, high, s.bands + 2) * (math.log(10.0) / 2595.0))
    else:
        step = math.log(6.4) / 27.0
        ends = [15.0 + math.log(e / 1000.0) / step if e >= 1000.0 else e * 0.015 for e in (s.fmin, s.fmax)]
        m = tf.linspace(tf.constant(ends[0], tf.float64), tf.constant(ends[1], tf.float64), s.bands + 2)
        hz = tf.where(m < 15.0, m / 0.015, 1000.0 * tf.exp((m - 15.0) * step))
    left, center, right = hz[:-2], hz[1:-1], hz[2:]
    rise, fall = (f[:, None] - left) / (center - left), (right - f[:, None]) / (right - center)
    bank = tf.maximum(tf.minimum(rise, fall), 0.0)
    if s.norm == "slaney":
        bank = bank * (2.0 / (right - left))
    return tf.cast(bank, tf.float32)


_ROUND: Mapping[str, Callable[[Any], Any]] = {
    "half-even": tf.round,
    "half-away": lambda x: tf.sign(x) * tf.floor(tf.abs(x) + 0.5),
    "floor": tf.floor,
}


class TfSignalBackend:
    """`tf.signal.frame`, `hann_window`, `rfft` and `dct`, `tf.linalg.matmul`, `tf.nn.avg_pool1d`, `tf.math.log`."""

    def versions(self) -> Mapping[str, str]:
        return {"tensorflow": tf.__version__, "numpy": np.__version__}

    def supports(self, frontend: fe.Frontend) -> Unsupported | None:
        if (stft := frontend.stft) is None:
            return Unsupported("tf.signal starts from a spectrum")
        mel, (frame, w, spectrum) = frontend.filterbank, stft
        reasons = {
            "tf.signal has no int16 input scale": frontend.input.scale != "unit",
            "tf.signal has no pre-emphasis": frontend.input.pre_emphasis != 0,
            "tf.signal.frame doesn't center with edge padding": frame.center and frame.pad_mode == "edge",
            "tf.pad can't reflect more samples than there are": frame.center
            and frame.pad_mode == "reflect"
            and frontend.samples(frame.length) <= frame.length // 2,
            "tf.signal puts a short window on the left of its frame": w.position != "left"
            and w.length not in (None, frame.length),
            "tf.signal has no rectangular window of its own": w.name == "rectangular",
            "tf.signal makes a periodic window of odd length symmetric": w.periodic
            and (w.length or frame.length) % 2 == 1,
            "tf.signal's spectrum has no scaling": spectrum.scaling != "none",
            "TensorFlow's average pooling puts half of a group's missing bins before the first": isinstance(
                mel, fe.Pool
            )
            and -frontend.bins % mel.size > 1,
            "tf.signal has no triangles between whole bins": isinstance(mel, fe.Mel) and mel.triangles == "bins",
            "tf.signal's mel scale is HTK's or Slaney's": isinstance(mel, fe.Mel) and mel.scale == "1127ln",
            "TensorFlow's own bank is HTK without norm": isinstance(mel, fe.Mel)
            and mel.triangles == "mel"
            and (mel.scale != "htk" or mel.norm != "none"),
            "TensorFlow's own bank takes the last bin for Nyquist": isinstance(mel, fe.Mel)
            and mel.triangles == "mel"
            and 2 * (frontend.bins - 1) != spectrum.n_fft,
            "tf.signal has no lifter": frontend.cepstrum is not None and frontend.cepstrum.lifter > 0,
            "tf.signal has no fixed normalization": frontend.normalize is not None,
        }
        return next((Unsupported(reason) for reason, holds in reasons.items() if holds), None)

    def taps(self, frontend: fe.Frontend) -> frozenset[Tap]:
        return frozenset(frontend.taps)

    def features(self, clips: Sequence[Clip], frontend: fe.Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        by_length: dict[int, list[int]] = {}
        for i, clip in enumerate(clips):
            by_length.setdefault(len(clip.samples), []).append(i)
        results: list[Taps] = [{} for _ in clips]
        for members in by_length.values():
            # On the CPU device by name: a GPU's kernels round differently.
            with tf.device("/CPU:0"):
                arrays = self._batch(tf.constant(np.stack([clips[i].samples for i in members])), frontend)
            for row, i in enumerate(members):
                results[i] = {t: np.ascontiguousarray(a[row].numpy()) for t, a in arrays.items() if t in taps}
        return results

    def _batch(self, y: Any, frontend: fe.Frontend) -> dict[Tap, Any]:
        assert frontend.stft is not None  # supports() has refused the others
        frame, w, spectrum = frontend.stft
        if frontend.input.peak_normalize:
            peak = tf.reduce_max(y, axis=-1, keepdims=True)
            y = tf.where(peak > 0, y / peak, y)  # silence stays silence
        if (n := frontend.input.length) is not None:
            y = tf.pad(y[:, :n], [[0, 0], [0, max(0, n - y.shape[1])]])
        out: dict[Tap, Any] = {"features/audio": y}
        if frame.center:
            side, mode = frame.length // 2, "REFLECT" if frame.pad_mode == "reflect" else "CONSTANT"
            y = tf.pad(y, [[0, 0], [side, side]], mode=mode)
        x = out["features/frames"] = tf.signal.frame(y, frame.length, frame.hop, pad_end=frame.last == "pad")
        draw = tf.signal.hann_window if w.name == "hann" else tf.signal.hamming_window
        window = draw(w.length or frame.length, periodic=w.periodic)
        window = tf.pad(window, [[0, frame.length - window.shape[0]]])
        x = out["features/windowed"] = x * window
        magnitude = tf.abs(tf.signal.rfft(x, [spectrum.n_fft]))[..., : frontend.bins]
        x = out["features/spectrum"] = tf.square(magnitude) if spectrum.exponent == 2 else magnitude
        if isinstance(mel := frontend.filterbank, fe.Pool):
            # SAME fills the last group up, and the mean is over the bins that are there.
            flat = tf.reshape(x, [-1, frontend.bins, 1])
            pooled = tf.nn.avg_pool1d(flat, mel.size, mel.size, "SAME")
            x = out["features/filterbank"] = tf.reshape(pooled, [*x.shape[:-1], -1])
        elif mel is not None:
            if mel.triangles == "mel":
                rate = frontend.input.rate
                # In float32 it is off by more than the recipe's own rounding: up to 2.1 bounds were measured.
                bank = tf.signal.linear_to_mel_weight_matrix(
                    mel.bands, frontend.bins, rate, mel.fmin, mel.fmax, dtype=tf.float64
                )
                bank = tf.cast(bank, tf.float32)
            else:
                bank = _bank(mel, frontend.input.rate, spectrum.n_fft, frontend.bins)
            x = out["features/filterbank"] = tf.linalg.matmul(x, bank)
        if (c := frontend.compress) is not None:
            x = out["features/compressed"] = self._compress(x, c)
        if (dct := frontend.cepstrum) is not None:
            x = tf.signal.dct(x, type=2, norm=None if dct.norm == "none" else "ortho")[..., : dct.count]
            if dct.norm == "ortho-c0-sqrt2":
                x = x * tf.constant([2.0**0.5] + [1.0] * (dct.count - 1), tf.float32)
            out["features/cepstrum"] = x
        if (q := frontend.quantize) is not None:
            info = np.iinfo(q.dtype)
            steps = _ROUND[q.rounding](x / q.scale) + q.zero_point
            out["features/quantized"] = tf.cast(tf.clip_by_value(steps, info.min, info.max), q.dtype)
        return out

    def _compress(self, x: Any, c: fe.Log | fe.Decibel) -> Any:
        ln10 = tf.math.log(tf.constant(10.0, tf.float32))
        if isinstance(c, fe.Log):
            log = tf.math.log(tf.maximum(x, c.floor) + c.offset)
            return log if c.base == "e" else log / ln10
        peak = tf.reduce_max(x, axis=[-2, -1], keepdims=True)
        ref = peak if c.ref == "max" else tf.constant(abs(c.ref), tf.float32)
        db = 10.0 * (tf.math.log(tf.maximum(x, c.amin)) - tf.math.log(tf.maximum(ref, c.amin))) / ln10
        return db if c.top_db is None else tf.maximum(db, tf.reduce_max(db, axis=[-2, -1], keepdims=True) - c.top_db)
