"""torch.stft: the conformance suite, that it does the work, and its constants beside the oracle's."""

from __future__ import annotations

import dataclasses
from typing import Any, NoReturn

import numpy as np
import pytest

from parity import frontend as fe
from parity import registry
from parity.backends import reference
from parity.backends.torch_ import bank, dct
from parity.protocols import Unsupported
from parity.testing import RECIPES, SOUNDS, BackendConformance


class TestTorchConformance(BackendConformance):
    spec = "torch"


def refused(frontend: fe.Frontend) -> str:
    """Why the backend won't have a recipe."""
    found = registry.create("backend", "torch").supports(frontend)
    assert isinstance(found, Unsupported)
    return found.reason


def changed(**stages: Any) -> fe.Frontend:
    """commands-cnn's recipe with other stages."""
    return dataclasses.replace(RECIPES["commands-cnn"], **stages)


def test_numpy_computes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("torch called NumPy or the oracle")

    backend, frontend = registry.create("backend", "torch"), RECIPES["mfcc"]
    bank.cache_clear()
    dct.cache_clear()
    for module, names in (
        (np.fft, ("fft", "rfft")), (np, ("log", "log10", "exp", "cos", "dot", "matmul", "einsum")),
        (reference, ("stage", "frames", "window", "spectrum", "mel_bank", "compress", "dct_matrix")),
    ):  # fmt: skip
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    (got,) = backend.features(SOUNDS[:1], frontend, frozenset({frontend.output}))
    assert got[frontend.output].shape == (32, 12)


@pytest.mark.parametrize("triangles", ["hz", "mel", "bins"])
@pytest.mark.parametrize("scale", ["htk", "slaney", "1127ln"])
@pytest.mark.parametrize("norm", ["none", "slaney"])
@pytest.mark.parametrize(("n_fft", "bands", "fmin", "fmax"), [(512, 40, 0.0, 8000.0), (2048, 128, 125.0, 7600.0)])
def test_its_bank_is_the_oracles(
    triangles: str, scale: str, norm: str, n_fft: int, bands: int, fmin: float, fmax: float
) -> None:
    settings: dict[str, Any] = {"scale": scale, "norm": norm, "triangles": triangles}
    mel = fe.Mel(bands=bands, fmin=fmin, fmax=fmax, **settings)
    ours = bank(mel, 16000, n_fft, n_fft // 2 + 1).numpy()
    np.testing.assert_allclose(ours.T, reference.mel_bank(mel, 16000, n_fft, n_fft // 2 + 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["none", "ortho", "ortho-c0-sqrt2"])
@pytest.mark.parametrize("lifter", [0.0, 22.0])
def test_its_dct_is_the_oracles(norm: str, lifter: float) -> None:
    s = fe.Cepstrum(count=13, norm=norm, lifter=lifter)  # type: ignore[arg-type]
    np.testing.assert_allclose(dct(s, 40).numpy(), reference.dct_matrix(s, 40), rtol=0, atol=1e-12)


def test_what_torch_stft_does_otherwise_is_refused() -> None:
    frame = RECIPES["commands-cnn"].frame
    centered = dataclasses.replace(frame, center=True)
    assert "by half its FFT" in refused(changed(frame=centered, spectrum=fe.Spectrum(n_fft=1024)))
    assert "isn't full" in refused(changed(frame=dataclasses.replace(frame, last="pad")))
    reflected = dataclasses.replace(frame, center=True, pad_mode="reflect")
    assert "reflect more samples" in refused(changed(input=fe.Input(rate=16000, length=256), frame=reflected))


def test_a_bank_whose_corner_lies_on_a_bin_is_refused_and_one_that_starts_at_0_hz_is_not() -> None:
    mel = fe.Mel(bands=20, fmax=8000.0, scale="1127ln", norm="none", triangles="bins")
    recipe = changed(filterbank=mel, frame=fe.Frame(length=513, hop=160), spectrum=fe.Spectrum(n_fft=513))
    assert "lies on a whole bin" in refused(recipe)  # 8,000 Hz is bin 257.0 of 513 + 1
    assert registry.create("backend", "torch").supports(changed(filterbank=mel)) is None


def test_its_window_is_its_own_float32_one() -> None:
    # Rounded once from float64, as numpy's is, it would be a window that nobody trains with.
    import torch

    exact = reference.window(fe.Window(name="hann"), 512)
    assert 0 < np.abs(torch.hann_window(512).numpy() - exact).max() < 8 * 2.0**-24
