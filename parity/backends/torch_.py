"""PyTorch's own front end: `torch.stft` and float32 tensors, what many train with.

The filter bank and the DCT are built by torch ops in float64 and rounded once; everything on samples is float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from parity import frontend as fe
from parity.protocols import Clip, Tap, Taps, Unsupported

_PAD = {"zero": "constant", "reflect": "reflect", "edge": "replicate"}
_NEAR = 1e-9
"""Bins: how far two float64 implementations of a mel scale may part, with a thousandfold reserve."""


def _corners(s: fe.Mel) -> tuple[Any, Any]:
    """Corners of the triangles in mel and in Hz, float64 `[bands + 2]` each."""
    if s.scale == "slaney":
        step = math.log(6.4) / 27.0
        low, high = (15.0 + math.log(f / 1000.0) / step if f >= 1000.0 else f * 0.015 for f in (s.fmin, s.fmax))
        mel = torch.linspace(low, high, s.bands + 2, dtype=torch.float64)
        return mel, torch.where(mel < 15.0, mel / 0.015, 1000.0 * torch.exp((mel - 15.0) * step))
    unit = 1127.0 if s.scale == "1127ln" else 2595.0 / math.log(10.0)
    low, high = (unit * math.log1p(f / 700.0) for f in (s.fmin, s.fmax))
    mel = torch.linspace(low, high, s.bands + 2, dtype=torch.float64)
    return mel, 700.0 * torch.expm1(mel / unit)


def _in_mel(hz: Any, scale: str) -> Any:
    if scale == "slaney":
        return torch.where(hz < 1000.0, hz * 0.015, 15.0 + torch.log(hz.clamp(min=1.0) / 1000.0) * 27.0 / math.log(6.4))
    return torch.log1p(hz / 700.0) * (1127.0 if scale == "1127ln" else 2595.0 / math.log(10.0))


def _between_bins(s: fe.Mel, rate: int, n_fft: int) -> bool:
    """Whether every corner (but one at 0 Hz) lies clearly between two bins, so that rounding down is well defined."""
    at = _corners(s)[1] * (n_fft + 1) / rate
    return bool(((at - at.round()).abs() > _NEAR)[at > _NEAR].all())


@lru_cache(maxsize=16)
def bank(s: fe.Mel, rate: int, n_fft: int, bins: int) -> Any:
    """The filter bank `[bins, bands]`, float64."""
    mel, hz = _corners(s)
    index = torch.arange(bins, dtype=torch.float64)
    if s.triangles == "bins":
        corners, at = torch.floor(hz * (n_fft + 1) / rate), index
    elif s.triangles == "mel":
        corners, at = mel, _in_mel(index * rate / n_fft, s.scale)
    else:
        corners, at = hz, index * rate / n_fft
    left, center, right, at = corners[:-2], corners[1:-1], corners[2:], at[:, None]
    # Where two corners share a bin a slope has no width: the other one decides.
    rise = torch.where(center > left, (at - left) / (center - left), torch.inf)
    fall = torch.where(right > center, (right - at) / (right - center), torch.inf)
    weights = torch.minimum(rise, fall).clamp(min=0.0)
    if s.triangles == "bins":
        weights = torch.where((at >= left) & (at < right), weights, 0.0)
    weights = torch.where(torch.isfinite(weights), weights, 0.0)
    if s.triangles == "mel":
        weights[0] = 0.0
    return weights * (2.0 / (hz[2:] - hz[:-2])) if s.norm == "slaney" else weights


@lru_cache(maxsize=16)
def dct(s: fe.Cepstrum, bands: int) -> Any:
    """DCT-II with its norm and lifter `[count, bands]`, float64."""
    n, k = torch.arange(bands, dtype=torch.float64), torch.arange(s.count, dtype=torch.float64)[:, None]
    matrix = 2.0 * torch.cos(math.pi / bands * (n + 0.5) * k)
    if s.norm != "none":
        matrix *= math.sqrt(0.5 / bands)
        if s.norm == "ortho":
            matrix[0] *= math.sqrt(0.5)
    return matrix * (1.0 + s.lifter / 2.0 * torch.sin(math.pi * (k + 1.0) / s.lifter)) if s.lifter > 0 else matrix


_ROUND: Mapping[str, Callable[[Any], Any]] = {
    "half-even": torch.round,
    "half-away": lambda x: torch.sign(x) * torch.floor(x.abs() + 0.5),
    "floor": torch.floor,
}


class TorchBackend:
    """`torch.stft` with `hann_window` or `hamming_window`, `matmul` with the bank, `log`, `log10`."""

    def __init__(self) -> None:
        torch.set_num_threads(1)

    def versions(self) -> Mapping[str, str]:
        return {"torch": torch.__version__, "numpy": np.__version__}

    def supports(self, frontend: fe.Frontend) -> Unsupported | None:
        if (stft := frontend.stft) is None:
            return Unsupported("torch.stft gives a spectrum, which the recipe has none of")
        mel, (frame, _, spectrum) = frontend.filterbank, stft
        reasons = {
            "torch.stft pads by half its FFT where it centers": frame.center and frame.length != spectrum.n_fft,
            "torch.stft drops a last frame that isn't full": frame.last != "drop",
            "torch can't reflect more samples than there are": frame.center
            and frame.pad_mode == "reflect"
            and frontend.samples(frame.length) <= frame.length // 2,
            "a corner of the bank lies on a whole bin: rounding would decide which": isinstance(mel, fe.Mel)
            and mel.triangles == "bins"
            and not _between_bins(mel, frontend.input.rate, spectrum.n_fft),
        }
        return next((Unsupported(reason) for reason, holds in reasons.items() if holds), None)

    def taps(self, frontend: fe.Frontend) -> frozenset[Tap]:
        # torch.stft keeps frames and windowed frames to itself.
        return frozenset(frontend.taps) - {"features/frames", "features/windowed"}

    def features(self, clips: Sequence[Clip], frontend: fe.Frontend, taps: frozenset[Tap]) -> Sequence[Taps]:
        by_length: dict[int, list[int]] = {}
        for i, clip in enumerate(clips):
            by_length.setdefault(len(clip.samples), []).append(i)
        results: list[Taps] = [{} for _ in clips]
        for members in by_length.values():
            with torch.inference_mode():
                arrays = self._batch(torch.from_numpy(np.stack([clips[i].samples for i in members])), frontend)
            for row, i in enumerate(members):
                # A copy: a row would keep its whole batch.
                results[i] = {t: np.array(a[row].numpy(), order="C") for t, a in arrays.items() if t in taps}
        return results

    def _batch(self, y: Any, frontend: fe.Frontend) -> dict[Tap, Any]:
        assert frontend.stft is not None  # supports() has refused the others
        frame, w, spectrum = frontend.stft
        out: dict[Tap, Any] = {"features/audio": (y := self._samples(y, frontend.input))}
        draw = {"hann": torch.hann_window, "hamming": torch.hamming_window}.get(w.name)
        length = w.length or frame.length
        window = torch.ones(length) if draw is None else draw(length, periodic=w.periodic)
        # torch.stft's frame is as long as its FFT, with a short window in its middle. Zeros put the window where the
        # recipe has it, and zeros after the clip keep its last frame.
        left = (frame.length - length) // 2 if w.position == "center" else 0
        window = F.pad(window, (left, spectrum.n_fft - length - left))
        transform = torch.stft(
            F.pad(y, (0, spectrum.n_fft - frame.length)), n_fft=spectrum.n_fft, hop_length=frame.hop, window=window,
            center=frame.center, pad_mode=_PAD[frame.pad_mode], return_complex=True,
        )  # fmt: skip
        x = transform.abs().pow(spectrum.exponent).transpose(-1, -2)[..., : frontend.bins]
        if spectrum.scaling == "1/n_fft":
            x = x / spectrum.n_fft
        out["features/spectrum"] = x
        if (mel := frontend.filterbank) is not None:
            if isinstance(mel, fe.Pool):
                # The mean of the last, smaller group is over the bins that are there.
                x = F.avg_pool1d(x, mel.size, ceil_mode=True)
            else:
                x = torch.matmul(x, bank(mel, frontend.input.rate, spectrum.n_fft, frontend.bins).float())
            out["features/filterbank"] = x
        if (c := frontend.compress) is not None:
            x = out["features/compressed"] = self._compress(x, c)
        if (cepstrum := frontend.cepstrum) is not None:
            # Tensor.sum adds pairwise. matmul adds one by one, and equal bands (silence) then round alike: 1.15 times
            # the bound of a DCT over 128 bands was measured.
            x = out["features/cepstrum"] = (x.unsqueeze(-2) * dct(cepstrum, x.shape[-1]).float()).sum(-1)
        if (fixed := frontend.normalize) is not None:
            x = out["features/normalized"] = (x - torch.tensor(fixed.mean)) / torch.tensor(fixed.spread)
        if (q := frontend.quantize) is not None:
            dtype = getattr(torch, q.dtype)
            info = torch.iinfo(dtype)
            steps = _ROUND[q.rounding](x / q.scale) + q.zero_point
            out["features/quantized"] = steps.clamp(info.min, info.max).to(dtype)
        return out

    def _samples(self, y: Any, s: fe.Input) -> Any:
        if s.scale == "int16":
            y = y * 32768.0
        if s.peak_normalize:
            peak = y.amax(-1, keepdim=True)
            y = torch.where(peak > 0, y / peak, y)
        if s.pre_emphasis:
            y = torch.cat([y[:, :1], y[:, 1:] - s.pre_emphasis * y[:, :-1]], dim=-1)
        if s.length is not None:
            y = F.pad(y[:, : s.length], (0, max(0, s.length - y.shape[-1])))
        return y

    def _compress(self, x: Any, c: fe.Log | fe.Decibel) -> Any:
        if isinstance(c, fe.Log):
            x = x.clamp(min=c.floor) + c.offset
            return torch.log(x) if c.base == "e" else torch.log10(x)
        # The reference and top_db are the clip's, not the batch's.
        ref = x.amax((-2, -1), keepdim=True) if c.ref == "max" else torch.tensor(abs(c.ref))
        db = 10.0 * torch.log10(x.clamp(min=c.amin)) - 10.0 * torch.log10(ref.clamp(min=c.amin))
        return db if c.top_db is None else torch.maximum(db, db.amax((-2, -1), keepdim=True) - c.top_db)
