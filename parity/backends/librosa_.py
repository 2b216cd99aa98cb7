"""librosa: what most keyword spotters are trained with.

Clips of one length go through librosa as a batch: the filter bank is built once for all of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import librosa
import numpy as np

from parity import frontend as fe
from parity.protocols import Arithmetic, Array, Clip, Tap, Taps, Unsupported

_PAD = {"zero": "constant", "reflect": "reflect", "edge": "edge"}


def _reflects_too_few(n: int, hop: int, length: int | None) -> bool:
    """Whether the last frames miss samples: stft() pads only what follows the first frame that reaches over the end.

    Of that less than n // 2 + 1 samples may be left, and then np.pad turns around once more.
    """
    if length is None:
        return n - hop <= n // 2  # of some lengths
    tail = (length + n // 2 - n) // hop + 1
    start = tail * hop - n // 2
    return tail > -(-(n // 2) // hop) and start + n <= length + n // 2 and length - start <= n // 2


class LibrosaBackend:
    """`librosa.stft`, `librosa.feature.melspectrogram` and `power_to_db`, with the recipe's settings spelt out."""

    def versions(self) -> Mapping[str, str]:
        return {name: version(name) for name in ("librosa", "numpy", "scipy")}

    def supports(self, frontend: fe.Frontend) -> Unsupported | None:
        if (stft := frontend.stft) is None:
            return Unsupported("librosa starts from a spectrum")
        mel, (frame, w, spectrum) = frontend.filterbank, stft
        reasons = {
            "librosa has no int16 input scale": frontend.input.scale != "unit",
            "librosa has no peak normalization by the largest sample": frontend.input.peak_normalize,
            "librosa's preemphasis starts from another first sample": frontend.input.pre_emphasis != 0,
            "librosa drops a last frame that isn't full": frame.last != "drop",
            "librosa reflects the clip's end from too few samples where the hop is half the FFT or longer": frame.center
            and frame.pad_mode == "reflect"
            and _reflects_too_few(frame.length, frame.hop, frontend.input.length),
            "librosa's frame is as long as its FFT": frame.length != spectrum.n_fft,
            "librosa centers a short window in its frame": w.position != "center"
            and w.length not in (None, frame.length),
            "librosa keeps the Nyquist bin": not spectrum.nyquist,
            "librosa's spectrum has no scaling": spectrum.scaling != "none",
            "librosa has no average pooling of bins": isinstance(mel, fe.Pool),
            "librosa has no 1127·ln mel scale": isinstance(mel, fe.Mel) and mel.scale == "1127ln",
            "librosa's triangles are straight in Hz": isinstance(mel, fe.Mel) and mel.triangles != "hz",
            "librosa has no fixed normalization": frontend.normalize is not None,
            "librosa has no quantization": frontend.quantize is not None,
            "librosa's DCT has no form with C0 times sqrt(2)": frontend.cepstrum is not None
            and frontend.cepstrum.norm == "ortho-c0-sqrt2",
        }
        return next((Unsupported(reason) for reason, holds in reasons.items() if holds), None)

    def taps(self, frontend: fe.Frontend) -> frozenset[Tap]:
        # librosa keeps frames and windowed frames to itself.
        return frozenset(frontend.taps) - {"features/frames", "features/windowed"}

    def arithmetic(self, frontend: fe.Frontend) -> Arithmetic:
        return "float64-rounded"  # stft() multiplies and transforms in float64, and stores complex64

    def features(self, clips: Sequence[Clip], frontend: fe.Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        by_length: dict[int, list[int]] = {}
        for i, clip in enumerate(clips):
            by_length.setdefault(frontend.samples(len(clip.samples)), []).append(i)
        results: list[Taps] = [{} for _ in clips]
        for length, members in by_length.items():
            batch = np.stack([librosa.util.fix_length(clips[i].samples, size=length) for i in members])
            arrays = self._batch(batch, frontend)
            for row, i in enumerate(members):
                results[i] = {t: np.ascontiguousarray(a[row]) for t, a in arrays.items() if t in taps}
        return results

    def _batch(self, y: Array, frontend: fe.Frontend) -> dict[Tap, Array]:
        assert frontend.stft is not None  # supports() has refused the others
        frame, w, spectrum = frontend.stft
        window: Any = {"rectangular": "boxcar"}.get(w.name, w.name)
        if not w.periodic:
            from scipy.signal import get_window

            window = get_window(window, w.length or frame.length, fftbins=False)
        transform = librosa.stft(
            y, n_fft=spectrum.n_fft, hop_length=frame.hop, win_length=w.length or frame.length, window=window,
            center=frame.center, pad_mode=_PAD[frame.pad_mode],
        )  # fmt: skip
        x = np.abs(transform) ** spectrum.exponent
        out: dict[Tap, Array] = {"features/audio": y, "features/spectrum": x.swapaxes(-1, -2)}
        if (mel := frontend.filterbank) is not None:
            assert isinstance(mel, fe.Mel)  # supports() has refused the others
            with warnings.catch_warnings():  # a band between two bins is empty: so the recipe has it
                warnings.filterwarnings("ignore", "Empty filters", UserWarning)
                x = librosa.feature.melspectrogram(
                    S=x, sr=frontend.input.rate, n_fft=spectrum.n_fft, n_mels=mel.bands, fmin=mel.fmin, fmax=mel.fmax,
                    htk=mel.scale == "htk", norm=None if mel.norm == "none" else mel.norm,
                )  # fmt: skip
            out["features/filterbank"] = x.swapaxes(-1, -2)
        if (c := frontend.compress) is not None:
            x = self._compress(x, c)
            out["features/compressed"] = x.swapaxes(-1, -2)
        if (dct := frontend.cepstrum) is not None:
            norm = "ortho" if dct.norm == "ortho" else None
            x = librosa.feature.mfcc(S=x, n_mfcc=dct.count, norm=norm, lifter=dct.lifter)
            out["features/cepstrum"] = x.swapaxes(-1, -2)
        return out

    def _compress(self, x: Array, c: fe.Log | fe.Decibel) -> Array:
        if isinstance(c, fe.Log):
            x = np.maximum(x, np.float32(c.floor)) + np.float32(c.offset)
            with np.errstate(divide="ignore"):
                return np.log(x) if c.base == "e" else np.log10(x)
        # One clip at a time: the reference and top_db are the clip's, not the batch's.
        ref: Any = np.max if c.ref == "max" else c.ref
        return np.stack([librosa.power_to_db(clip, ref=ref, amin=c.amin, top_db=c.top_db) for clip in x])
