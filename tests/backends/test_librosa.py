"""librosa: the conformance suite, and its own filter bank beside the oracle's."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from parity import frontend as fe
from parity.backends import reference
from parity.testing import BackendConformance


class TestLibrosaConformance(BackendConformance):
    spec = "librosa"
    batch_bits = False  # einsum sums a batch in another order than a clip


@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize("norm", ["none", "slaney"])
@pytest.mark.parametrize(
    ("n_fft", "bands", "fmin", "fmax"), [(512, 40, 0.0, 8000.0), (2048, 128, 0.0, 8000.0), (400, 13, 125.0, 3800.0)]
)
def test_the_oracles_mel_bank_is_librosas(
    scale: str, norm: str, n_fft: int, bands: int, fmin: float, fmax: float
) -> None:
    s = fe.Mel(bands=bands, fmin=fmin, fmax=fmax, scale=scale, norm=norm)  # type: ignore[arg-type]
    theirs = librosa.filters.mel(
        sr=16000, n_fft=n_fft, n_mels=bands, fmin=fmin, fmax=fmax, htk=scale == "htk", dtype=np.float64,
        norm="slaney" if norm == "slaney" else None,
    )  # fmt: skip
    np.testing.assert_allclose(reference.mel_bank(s, 16000, n_fft, n_fft // 2 + 1), theirs, rtol=0, atol=1e-13)


@pytest.mark.parametrize("lifter", [0, 22])
def test_the_oracles_lifter_is_librosas(lifter: int) -> None:
    x = np.random.default_rng(0).normal(size=(40, 7))
    theirs = librosa.feature.mfcc(S=x, n_mfcc=13, lifter=lifter)
    ours = reference.dct_matrix(fe.Cepstrum(count=13, lifter=float(lifter)), 40) @ x
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
