"""The fixed-point front end: published features bit for bit, and its quantization."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from parity import frontend as fe
from parity.backends import fixed_point, reference
from parity.testing import RECIPES

RECIPE = RECIPES["micro-speech"]


@pytest.mark.data
@pytest.mark.parametrize("word", ["yes", "no"])
def test_published_features_are_reproduced_bit_for_bit(data: Path, word: str) -> None:
    samples, _ = soundfile.read(data / "micro_speech" / f"{word}_1000ms.wav")
    got = reference.run(RECIPE, samples)["features/quantized"]
    published = np.load(data / "micro_speech" / f"golden_micro_{word}_49x40_int8.npy")
    assert got.dtype == published.dtype == np.int8
    np.testing.assert_array_equal(got, published)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_the_affine_stage_is_the_published_integer_formula(dtype: type) -> None:
    every = np.arange(65536)
    assert isinstance(RECIPE.quantize, fe.Quantize)
    got = reference.quantize(every.astype(dtype), RECIPE.quantize)
    np.testing.assert_array_equal(got, np.clip((every * 256 + 333) // 666 - 128, -128, 127))


def test_the_root_is_rounded_to_the_nearest_integer() -> None:
    near = np.concatenate([np.arange(3000, dtype=np.uint64) ** np.uint64(2) + np.uint64(d) for d in (0, 1, 7, 999)])
    high = (np.arange(1, 2000, dtype=np.uint64) * np.uint64(2**20 + 7)) ** np.uint64(2)
    for x in (near, high, high - np.uint64(1), high + np.uint64(1)):
        exact = [round(float(np.longdouble(int(n)) ** np.longdouble(0.5))) for n in x]
        assert fixed_point.rounded_root(x).tolist() == exact
    assert fixed_point.rounded_root(np.array([2**32 - 1], np.uint64)).tolist() == [65535], "16 bits below 2^32"


@pytest.mark.parametrize("n", [16, 32, 512, 1024])
def test_the_transform_is_a_fourier_transform(n: int) -> None:
    x = np.random.default_rng(n).integers(-32768, 32768, (5, n)).astype(np.int16)
    re, im = fixed_point.real_fft(x)
    exact = np.fft.rfft(x.astype(np.float64)) / n
    assert np.abs(re + 1j * im - exact).max() < 6.0, "more than its roundings"


def test_a_clip_without_a_whole_frame_gives_none() -> None:
    assert RECIPE.micro is not None
    assert fixed_point.features(np.zeros(479), RECIPE.micro, 16000).shape == (0, 40)
