"""The fixed-point front end by the code that defines it, and how its two builds part."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest

from parity import frontend as fe
from parity import registry
from parity.backends import fixed_point
from parity.errors import ConfigError
from parity.protocols import Clip, FeatureBackend
from parity.search import clip_of
from parity.signals import Signal
from parity.testing import RECIPES, SOUNDS, BackendConformance

EVERY_10_MS = RECIPES["micro, every 10 ms"]
MICRO = fe.Micro(length=480, hop=320, bands=40)


def has_pymicro() -> bool:
    return importlib.util.find_spec("pymicro_features") is not None


class TestMicrofrontendConformance(BackendConformance):
    spec = "microfrontend"


@pytest.fixture(scope="module")
def tf() -> FeatureBackend:
    made: FeatureBackend = registry.create("backend", "microfrontend:implementation=tf")
    return made


LOUD = (
    Clip("full scale, clipped", np.sign(np.sin(np.arange(16000) * 0.1)).astype(np.float32) * 2, 16000, ""),
    Clip("lowest value throughout", np.full(16000, -1.0, np.float32), 16000, ""),
    clip_of(Signal(kind="white", level_dbfs=6.0, seed=3)),
    clip_of(Signal(kind="tone", frequency=3.0, level_dbfs=-80.0)),
)


@pytest.mark.parametrize(
    "other",
    [
        {"pcan": False}, {"log": False}, {"pcan": False, "log": False}, {"hop": 160}, {"length": 1024, "hop": 512},
        {"length": 400, "hop": 160, "bands": 32}, {"length": 64, "hop": 32, "bands": 8}, {"length": 288, "hop": 288},
        {"length": 1760, "hop": 320}, {"bands": 80},
        {"even_smoothing": 0.5, "odd_smoothing": 0.9, "min_signal_remaining": 0.3}, {"smoothing_bits": 8},
        {"fmin": 20.0, "fmax": 7000.0}, {"log_shift": 3}, {"log_shift": 12, "odd_smoothing": 0.0},
        {"gain_bits": 20, "pcan_offset": 60.0, "pcan_strength": 1.0},
    ],
    ids=str,
)  # fmt: skip
def test_the_oracle_equals_tensorflows_op_in_every_setting(tf: FeatureBackend, other: dict[str, object]) -> None:
    s = dataclasses.replace(MICRO, **other)  # type: ignore[arg-type]
    recipe = fe.Frontend(input=fe.Input(rate=16000, scale="int16"), micro=s)
    assert tf.supports(recipe) is None
    for clip in (*SOUNDS, *LOUD):
        (got,) = tf.features([clip], recipe, frozenset({"features/micro"}))
        np.testing.assert_array_equal(
            fixed_point.features(clip.samples * 32768.0, s, 16000), got["features/micro"], err_msg=clip.name
        )


def test_no_clip_hears_the_noise_of_the_one_before(tf: FeatureBackend) -> None:
    tap = frozenset({"features/micro"})
    after = tf.features([SOUNDS[3], SOUNDS[0]], EVERY_10_MS, tap)[1]
    (alone,) = tf.features([SOUNDS[0]], EVERY_10_MS, tap)
    np.testing.assert_array_equal(after["features/micro"], alone["features/micro"])


def test_what_the_op_cannot_be_told_is_refused(tf: FeatureBackend) -> None:
    def refusal(recipe: fe.Frontend) -> str:
        found = tf.supports(recipe)
        assert found is not None
        return found.reason

    odd = dataclasses.replace(EVERY_10_MS, micro=dataclasses.replace(MICRO, hop=100))
    assert "whole milliseconds" in refusal(odd)
    gaps = dataclasses.replace(EVERY_10_MS, micro=dataclasses.replace(MICRO, hop=MICRO.length + 16))
    assert "gap" in refusal(gaps)
    assert "[micro]" in refusal(RECIPES["commands-cnn"])


def test_an_implementation_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="no implementation 'jax'"):
        registry.create("backend", "microfrontend:implementation=jax")


@pytest.mark.skipif(not has_pymicro(), reason="pymicro-features isn't installed: pip install 'parity[pymicro]'")
def test_pymicro_features_parts_from_tensorflow_by_one_coefficient_of_its_window(
    tf: FeatureBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    pymicro: FeatureBackend = registry.create("backend", "microfrontend:implementation=pymicro")
    refused = pymicro.supports(RECIPES["micro-speech"])
    assert refused is not None
    assert "hop=160" in refused.reason
    tap = frozenset({"features/micro"})
    got = [x["features/micro"].astype(int) for x in pymicro.features(SOUNDS, EVERY_10_MS, tap)]
    right = [x["features/micro"].astype(int) for x in tf.features(SOUNDS, EVERY_10_MS, tap)]
    different = [int((a != b).sum()) for a, b in zip(got, right, strict=True)]
    assert different == [7, 403, 264, 83, 0], "of about 3900 values a clip"

    exact = fixed_point.window(480)
    step = np.float32(2 * np.pi) / np.float32(480)
    hann = np.float32(0.5) - np.float32(0.5) * np.cos(step * (np.arange(480, dtype=np.float32) + np.float32(0.5)))
    single = np.floor(hann * np.float32(4096) + np.float32(0.5)).astype(np.int32)
    assert np.flatnonzero(single != exact).size == 1
    monkeypatch.setattr(fixed_point, "window", lambda length: single)
    assert EVERY_10_MS.micro is not None
    for clip, theirs in zip(SOUNDS, got, strict=True):
        with_it = fixed_point.features(clip.samples * 32768.0, EVERY_10_MS.micro, 16000)
        np.testing.assert_array_equal(with_it, theirs, err_msg=clip.name)
