"""Mutants made by hand in float32 (`handmade`), and what explains them: one setting, two, none."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.fft

from parity import audio, system
from parity.backends import reference
from parity.evidence import Evidence
from parity.explain import Explanation, bound, definition, explain, wording
from parity.explain.definition import Definition, Hook
from parity.frontend import Frontend
from parity.protocols import Array, Clip
from tests.explain import handmade

CLIPS = ("yes-en-us-f2.flac", "stop-en-us-m4.flac")
GOLDEN = Path(__file__).parents[2] / "golden" / "clips"


@cache
def frontend(name: str) -> Frontend:
    return system.find([name])[0].frontend


@cache
def clips(name: str) -> tuple[Clip, ...]:
    return tuple(audio.read(GOLDEN / clip, clip, frontend(name)) for clip in CLIPS)


def evidence(name: str, last: bool = True, **changed: Any) -> list[Evidence]:
    """What the hand-made featurizer gives with other settings, at its last tap or at all."""
    found = []
    for clip in clips(name):
        arrays: dict[str, Array] = handmade.features(clip.samples, handmade.settings(frontend(name)) | changed)
        kept = {frontend(name).output: list(arrays.values())[-1]} if last else arrays
        found.append(Evidence(name, clip, kept, backend="handmade"))
    return found


def first(e: Explanation) -> list[str]:
    """The keys that are named first, finding by finding."""
    return [cause.key for f in e.findings for cause in f.alternatives[0]]


RIGHT = ("commands-cnn", "mfcc-lstm", "mel40-mobilenetv2", "tiny-conv", "logmel-gru")


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_needs_no_explanation(name: str) -> None:
    e = explain(frontend(name), evidence(name, last=False))
    assert e.complete
    assert e.findings == ()


SINGLE: list[tuple[str, str, dict[str, Any]]] = [
    ("commands-cnn", "window.periodic", {"periodic": False}),
    ("commands-cnn", "audio.gain", {"gain": 1.001}),
    ("logmel-gru", "audio.dc", {"dc": 0.01}),
    ("commands-cnn", "audio.pre-emphasis", {"emphasis": 0.97}),
    ("commands-cnn", "frame.hop", {"hop": 128}),
    ("mfcc-lstm", "frame.pad_mode", {"center": "reflect"}),
    ("mel40-mobilenetv2", "frame.lost-last", {"lost": 1}),
    ("mfcc-lstm", "window.float16", {"w16": True}),
    ("tiny-conv", "spectrum.n_fft", {"n_fft": 1024}),
    ("commands-cnn", "spectrum.exponent", {"power": 1}),
    ("mel40-mobilenetv2", "mel.scale", {"scale": "htk"}),
    ("logmel-gru", "mel.triangles", {"at": "hz"}),
    ("commands-cnn", "mel.fmax", {"fmax": 7613.0}),
    ("commands-cnn", "mel.rate", {"bank_rate": 22050}),
    ("commands-cnn", "log.base", {"log": "2"}),
    ("commands-cnn", "log.offset", {"offset": 1.1e-6}),
    ("commands-cnn", "log.offset-as-floor", {"offset": 0.0, "floor": 1e-6}),
    ("mel40-mobilenetv2", "db.ref", {"ref": 1.0}),
    ("mfcc-lstm", "db.top_db", {"top_db": None}),
    ("mfcc-lstm", "dct.c0", {"no_c0": True}),
    ("mfcc-lstm", "dct.lifter", {"lifter": 17}),
    ("tiny-conv", "quantize.scale", {"q": 0.45}),
    ("tiny-conv", "quantize.zero_point", {"zero": 17}),
    ("tiny-conv", "quantize.rounding", {"round": "floor"}),
    ("tiny-conv", "quantize.dtype", {"dtype": "int8", "zero": -128}),
    ("commands-cnn", "layout.transposed", {"transposed": True}),
    ("commands-cnn", "tap.float16", {"half": True}),
]


@pytest.mark.parametrize(("name", "key", "changed"), SINGLE, ids=[f"{n}-{k}" for n, k, _ in SINGLE])
def test_one_setting_is_named_from_the_last_tap_alone(name: str, key: str, changed: dict[str, Any]) -> None:
    e = explain(frontend(name), evidence(name, **changed))
    assert e.complete
    assert first(e) == [key]


PAIRS: list[tuple[str, set[str], dict[str, Any]]] = [
    ("commands-cnn", {"window.periodic", "log.offset"}, {"periodic": False, "offset": 1e-8}),
    ("logmel-gru", {"window.name", "log.offset"}, {"window": "hann", "offset": 0.5}),
    ("commands-cnn", {"spectrum.exponent", "log.base"}, {"power": 1, "log": "e"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "keys", "changed"), PAIRS, ids=["+".join(sorted(k)) for _, k, _ in PAIRS])
def test_two_settings_are_named_from_the_last_tap_alone(name: str, keys: set[str], changed: dict[str, Any]) -> None:
    e = explain(frontend(name), evidence(name, **changed))
    assert e.complete
    assert set(first(e)) == keys


def test_two_settings_at_different_taps_are_two_findings() -> None:
    e = explain(frontend("commands-cnn"), evidence("commands-cnn", last=False, periodic=False, norm="none", log="e"))
    assert e.complete
    assert first(e) == ["window.periodic", "mel.norm", "log.base"]
    assert [f.tap for f in e.findings] == ["features/windowed", "features/filterbank", "features/compressed"]


def test_settings_that_cannot_be_told_apart_are_named_together() -> None:
    e = explain(frontend("commands-cnn"), evidence("commands-cnn", gain=2.0))
    keys = [[c.key for c in causes] for causes in e.findings[0].alternatives]
    assert keys[0] == ["audio.gain"]
    assert ["spectrum.gain"] in keys
    told = "\n".join(wording.lines(e))
    assert "gain 2 on the samples: 100 % of the error explained" in told
    assert "can't be told apart at these taps" in told


def test_what_no_setting_explains_is_not_explained() -> None:
    given = evidence("tiny-conv", last=False)
    noise = np.random.default_rng(0)
    for e in given:
        arrays = dict(e.features)
        x = arrays["features/windowed"]
        arrays["features/windowed"] = (x + 1e-3 * noise.standard_normal(x.shape)).astype(np.float32)
        object.__setattr__(e, "features", arrays)
    e = explain(frontend("tiny-conv"), given)
    assert not e.complete
    assert not e.findings[0].complete
    assert e.findings[0].tap == "features/windowed"
    assert e.findings[0].alternatives == ()
    told = wording.lines(e)[1]
    assert "nothing explains it, and nothing close was found" in told
    assert "%" not in told


def test_a_nan_is_no_setting() -> None:
    given = evidence("commands-cnn", last=False)
    given[0].features["features/compressed"][3, 4] = np.nan
    e = explain(frontend("commands-cnn"), given)
    assert not e.complete
    assert e.findings[0].alternatives == ()
    assert "1 elements are NaN" in wording.lines(e)[1]


@pytest.mark.slow
def test_a_little_more_noise_than_float32_makes_is_no_setting() -> None:
    """Changes that round more often have wider bounds: those alone must not explain anything."""
    given = evidence("commands-cnn")[:1]
    x = given[0].features["features/compressed"]
    x += (2e-5 * np.random.default_rng(1).standard_normal(x.shape)).astype(np.float32)
    e = explain(frontend("commands-cnn"), given)
    assert len(e.findings) == 1
    assert not e.complete


def test_bounds_follow_elements_into_other_rows() -> None:
    f, clip = frontend("commands-cnn"), clips("commands-cnn")[0]
    hooks = (
        Hook("features/frames", after=lambda x: x.T, index=True),
        Hook("features/windowed", after=lambda x: np.reshape(x.T, x.shape[::-1]), index=True),
    )
    d = Definition(f, hooks)
    arrays = definition.run(d, clip.samples.astype(np.float64), "features/spectrum")
    got = bound.intervals(d, arrays)["features/spectrum"]
    frames = arrays["features/frames"].astype(np.float32)
    assert frames.shape == (512, 98)
    windowed = (frames * reference.window(f.stages()["features/windowed"], 98).astype(np.float32)).T.reshape(98, 512)
    power = np.square(np.abs(scipy.fft.rfft(windowed))).astype(np.float64)
    assert got.value.shape == power.shape == (98, 257)
    assert ((got.lo <= power) & (power <= got.hi)).all()
    assert not ((got.lo <= 1.001 * power) & (1.001 * power <= got.hi)).all()


def test_the_arrays_are_left_as_they_are() -> None:
    given = evidence("commands-cnn", last=False, periodic=False)
    before = [{t: a.tobytes() for t, a in e.features.items()} for e in given]
    explain(frontend("commands-cnn"), given)
    assert before == [{t: a.tobytes() for t, a in e.features.items()} for e in given]
