"""The oracle: the conformance suite, and published or independent numbers for each of its parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import scipy.signal

from parity import audio, registry
from parity import frontend as fe
from parity.backends import reference
from parity.protocols import Array
from parity.testing import RECIPES, BackendConformance

PUBLISHED = 1e-12  # the vectors are printed with 12 decimals


class TestReferenceConformance(BackendConformance):
    spec = "reference"


@pytest.fixture(scope="module")
def ell(data: Path) -> dict[str, Array]:
    with np.load(data / "ell_dsp" / "ell_dsp_test_data.npz", allow_pickle=False) as z:
        return {name: z[name] for name in z.files}


def of_vector(name: str, ell: dict[str, Array]) -> Array:
    """What the oracle computes for a published vector; its name holds the settings."""
    kind, *numbers = name.split("_")
    if kind == "GetMelReference":
        rate, n_fft, bands = map(int, numbers)
        mel = fe.Mel(bands=bands, fmax=rate / 2, scale="slaney", norm="none")
        return reference.mel_bank(mel, rate, n_fft, n_fft // 2 + 1)
    if kind == "Cepstrum":
        rate, n_fft, bands = map(int, numbers)
        mel = fe.Mel(bands=bands, fmax=rate / 2, scale="1127ln", norm="none", triangles="bins")
        return reference.mel_bank(mel, rate, n_fft, n_fft // 2 + 1)
    if kind == "GetReferenceHammingWindow":
        return reference.window(fe.Window(name="hamming", periodic=numbers[1] == "periodic"), int(numbers[0]))
    if kind == "GetRealFFT":
        n = int(numbers[0])
        return reference.spectrum(ell[f"GetFFTTestData_{n}"][None], fe.Spectrum(n_fft=n, exponent=1))[0]
    if numbers[0] == "III":  # as librosa called it once: the transpose of DCT-III, over half a spectrum
        return reference.dct_matrix(fe.Cepstrum(count=int(numbers[2])), int(numbers[1]) // 2 + 1)
    n = int(numbers[-1])
    ortho = reference.dct_matrix(fe.Cepstrum(count=n, norm="ortho" if "norm" in numbers else "none"), n)
    return ortho if "norm" in numbers else ortho / 2.0  # ELL leaves the factor 2 out


def deviations(ell: dict[str, Array]) -> dict[str, tuple[float, float]]:
    """(largest deviation, largest allowed) for each published vector: numbers are printed with 12 digits.

    A transform's inputs are printed too, and the rounding of each may add up.
    """
    found = {}
    for name in (n for n in ell if not n.startswith("GetFFTTestData_")):
        allowed = PUBLISHED
        if name.startswith("GetRealFFT_"):
            inputs = ell[name.replace("GetRealFFT", "GetFFTTestData")]
            allowed = printed(ell[name]) + len(inputs) * printed(inputs)
        found[name] = float(np.abs(of_vector(name, ell) - ell[name]).max()), allowed
    return found


def printed(x: Array) -> float:
    """Half of the twelfth digit of the largest number."""
    return float(0.5 * 10.0 ** (np.floor(np.log10(np.abs(x).max())) - 11))


@pytest.mark.data
@pytest.mark.parametrize("bands", [13, 40, 128])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_slaney_mel_bank_is_the_published_one(ell: dict[str, Array], rate: int, bands: int) -> None:
    mel = fe.Mel(bands=bands, fmax=rate / 2, scale="slaney", norm="none")
    published = ell[f"GetMelReference_{rate}_512_{bands}"]
    np.testing.assert_allclose(reference.mel_bank(mel, rate, 512, 257), published, rtol=0, atol=PUBLISHED)


@pytest.mark.data
def test_integer_bin_mel_bank_is_the_published_one(ell: dict[str, Array]) -> None:
    mel = fe.Mel(bands=13, fmax=8000.0, scale="1127ln", norm="none", triangles="bins")
    got = reference.mel_bank(mel, 16000, 512, 257)
    np.testing.assert_allclose(got, ell["Cepstrum_16000_512_13"], rtol=0, atol=PUBLISHED)


@pytest.mark.data
@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("n", [128, 301, 1000])
def test_hamming_window_is_the_published_one(ell: dict[str, Array], n: int, periodic: bool) -> None:
    published = ell[f"GetReferenceHammingWindow_{n}_{'periodic' if periodic else 'symmetric'}"]
    got = reference.window(fe.Window(name="hamming", periodic=periodic), n)
    np.testing.assert_allclose(got, published, rtol=0, atol=PUBLISHED)


@pytest.mark.data
@pytest.mark.parametrize("n", [32, 64, 128, 256, 512, 1024])
def test_magnitudes_are_the_published_ones(ell: dict[str, Array], n: int) -> None:
    got = reference.spectrum(ell[f"GetFFTTestData_{n}"][None], fe.Spectrum(n_fft=n, exponent=1))[0]
    np.testing.assert_allclose(got, ell[f"GetRealFFT_{n}"], rtol=PUBLISHED, atol=1e-9)


@pytest.mark.data
@pytest.mark.parametrize("n", [8, 64, 128])
def test_dct_is_the_published_one(ell: dict[str, Array], n: int) -> None:
    plain = reference.dct_matrix(fe.Cepstrum(count=n, norm="none"), n) / 2.0  # ELL leaves the factor 2 out
    np.testing.assert_allclose(plain, ell[f"GetDCTReference_II_{n}"], rtol=0, atol=PUBLISHED)
    ortho = reference.dct_matrix(fe.Cepstrum(count=n, norm="ortho"), n)
    np.testing.assert_allclose(ortho, ell[f"GetDCTReference_II_norm_{n}"], rtol=0, atol=PUBLISHED)


@pytest.mark.data
def test_every_published_vector_is_met(ell: dict[str, Array]) -> None:
    """All of them by name: none is forgotten where one is added."""
    found = deviations(ell)
    assert set(found) == {name for name in ell if not name.startswith("GetFFTTestData_")}  # those are inputs
    assert [name for name, (most, allowed) in found.items() if most > allowed] == []


@pytest.mark.data
def test_a_vector_that_is_wrong_is_not_met(ell: dict[str, Array]) -> None:
    for name in ("Cepstrum_16000_512_13", "GetDCTReference_III_64_40", "GetRealFFT_64"):
        changed = ell[name] * (1 + 1e-8)
        most, allowed = deviations(ell | {name: changed})[name]
        assert most > allowed


@pytest.mark.data
@pytest.mark.parametrize("backend", ["reference", "numpy", "tf_signal", "torch"])
@pytest.mark.parametrize("word", ["yes", "no"])
def test_tiny_conv_features_are_the_published_ones_bit_for_bit(data: Path, word: str, backend: str) -> None:
    frontend, folder = RECIPES["tiny-conv"], data / "micro_speech"
    clip = audio.read(folder / f"{word}_1000ms.wav", word, frontend)
    tap = "features/quantized"
    got = registry.create("backend", backend).features([clip], frontend, frozenset({tap}))[0][tap]
    published = np.load(folder / f"golden_simple_{word}_49x43_uint8.npy", allow_pickle=False)
    np.testing.assert_array_equal(got, published)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("name", ["hann", "hamming"])
@pytest.mark.parametrize("n", [1, 2, 5, 400, 401, 512])
def test_windows_are_scipys(name: str, periodic: bool, n: int) -> None:
    got = reference.window(fe.Window(name=name, periodic=periodic), n)  # type: ignore[arg-type]
    np.testing.assert_allclose(got, scipy.signal.get_window(name, n, fftbins=periodic), rtol=0, atol=1e-15)


def test_a_short_window_sits_where_the_recipe_says() -> None:
    centered = reference.window(fe.Window(name="rectangular", length=4), 7)
    left = reference.window(fe.Window(name="rectangular", length=4, position="left"), 7)
    assert centered.tolist() == [0, 1, 1, 1, 1, 0, 0]
    assert left.tolist() == [1, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize(("norm", "scipys"), [("ortho", "ortho"), ("none", None)])
@pytest.mark.parametrize("bands", [1, 7, 40])
def test_dct_is_scipys(norm: str, scipys: str | None, bands: int) -> None:
    x = np.random.default_rng(0).normal(size=(5, bands))
    s = fe.Cepstrum(count=bands, norm=norm)  # type: ignore[arg-type]
    np.testing.assert_allclose(x @ reference.dct_matrix(s, bands).T, scipy.fft.dct(x, norm=scipys), rtol=0, atol=1e-12)


def test_c0_times_sqrt_2_changes_the_first_coefficient_only() -> None:
    ortho = reference.dct_matrix(fe.Cepstrum(count=5), 8)
    other = reference.dct_matrix(fe.Cepstrum(count=5, norm="ortho-c0-sqrt2"), 8)
    np.testing.assert_array_equal(other[1:], ortho[1:])
    np.testing.assert_allclose(other[0], ortho[0] * np.sqrt(2.0), rtol=1e-15)


def test_pooling_averages_what_is_left_in_the_last_group() -> None:
    got = reference.pool_bank(fe.Pool(size=6), 257) @ np.arange(257.0)
    assert len(got) == 43
    assert got[0] == pytest.approx(2.5)
    assert got[-1] == pytest.approx(254.0)  # 252 to 256


def test_quantizing_rounds_and_clips_as_it_says() -> None:
    x = np.array([-1e9, -2.5, -0.5, 0.5, 1.5, 2.4, 1e9])
    ways = {
        "half-even": [-128, -2, 0, 0, 2, 2, 127],
        "half-away": [-128, -3, -1, 1, 2, 2, 127],
        "floor": [-128, -3, -1, 0, 1, 2, 127],
    }
    for rounding, right in ways.items():
        s = fe.Quantize(dtype="int8", scale=1.0, rounding=rounding)  # type: ignore[arg-type]
        assert reference.quantize(x, s).tolist() == right, rounding


def test_constants_that_are_shared_cant_be_written_to() -> None:
    mel = fe.Mel(bands=8, fmax=8000.0, scale="htk", norm="none")
    shared = (
        reference.window(fe.Window(name="hann"), 16), reference.mel_bank(mel, 16000, 64, 33),
        reference.dct_matrix(fe.Cepstrum(count=3), 8), reference.pool_bank(fe.Pool(size=2), 9),
    )  # fmt: skip
    assert not any(a.flags.writeable for a in shared)
