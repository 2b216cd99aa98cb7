"""librosa: the conformance suite, and its own filter bank beside the oracle's."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from parity import frontend as fe
from parity.backends import reference
from parity.backends.librosa_ import LibrosaBackend
from parity.protocols import Clip
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


def centered(hop: int, length: int | None) -> fe.Frontend:
    return fe.Frontend(
        input=fe.Input(rate=16000, length=length), frame=fe.Frame(length=64, hop=hop, center=True, pad_mode="reflect"),
        window=fe.Window(name="rectangular"), spectrum=fe.Spectrum(n_fft=64),
    )  # fmt: skip


def test_reflection_is_refused_exactly_where_librosa_turns_around_too_early() -> None:
    plugin, refused = LibrosaBackend(), 0
    samples = np.random.default_rng(0).uniform(-1.0, 1.0, 256).astype(np.float32)
    for hop in (16, 31, 32, 64, 70):
        for n in range(64, 257, 8):
            frontend, clip = centered(hop, n), Clip("noise", samples[:n], 16000, "")
            (got,) = plugin.features([clip], frontend, frozenset({"features/spectrum"}))
            right = reference.oracle(frontend, clip)["features/spectrum"]
            differs = not np.allclose(got["features/spectrum"], right, rtol=1e-3, atol=1e-3)
            assert (plugin.supports(frontend) is not None) == differs, (hop, n)
            refused += differs
    assert refused > 5
    # Where any length may come, a hop of less than half the FFT is safe.
    assert plugin.supports(centered(31, None)) is None
    found = plugin.supports(centered(32, None))
    assert found is not None
    assert "reflects" in found.reason
