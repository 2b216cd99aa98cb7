"""Derived bounds: no false alarm over drawn clips, and every planted defect is seen on clips like speech."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity import frontend as fe
from parity.backends import reference
from parity.backends.numpy_ import NumpyBackend
from parity.bounds.features import Interval, bounds
from parity.bounds.levels import quantized
from parity.compare import compare
from parity.protocols import Array, Clip, Tap
from parity.search import clip_of, clips
from parity.signals import Signal
from parity.testing import RECIPES

OPEN = [name for name, f in RECIPES.items() if f.quantize is None]
many = settings(max_examples=settings().max_examples // 2)


def judge(exact: dict[Tap, Interval], got: dict[Tap, Array], frontend: fe.Frontend) -> dict[Tap, str]:
    """The taps that are out of bounds, with the reason."""
    found = {}
    for tap, array in got.items():
        x = exact[tap]
        judged = compare(array, x.value, x.lo, x.hi, frontend.dtype(tap))
        if judged.outcome != "pass":
            found[tap] = f"{judged.message} (ratio {judged.ratio})"
    return found


def exact_of(clip: Clip, frontend: fe.Frontend) -> dict[Tap, Interval]:
    return bounds(frontend, reference.oracle(frontend, clip))


def jittered(frontend: fe.Frontend, clip: Clip, seed: int) -> dict[Tap, Array]:
    """Another correct float32 implementation: constants and results an ulp off, as they fall."""
    random = np.random.default_rng(seed)
    x: Array = clip.samples.astype(np.float64)
    out: dict[Tap, Array] = {}
    for tap, stage in frontend.stages().items():
        moved = isinstance(stage, fe.Window | fe.Spectrum | fe.Mel | fe.Pool | fe.Cepstrum | fe.Log | fe.Decibel)
        if isinstance(stage, fe.Window):
            w = reference.window(stage, frontend.frame.length)
            x = x * (w + 2.0**-24 * random.uniform(-2.0, 2.0, w.shape) * (w != 0)).astype(np.float32)
        else:
            x = reference.stage(frontend, tap, x)
        if moved:
            x = x * (1.0 + 2.0**-24 * random.uniform(-1.0, 1.0, x.shape))
        out[tap] = x = x.astype(frontend.dtype(tap))
        x = x.astype(np.float64) if x.dtype == np.float32 else x
    return out


@pytest.mark.parametrize("name", RECIPES)
def test_the_oracle_lies_within_its_own_bounds(name: str) -> None:
    @many
    @given(clips(RECIPES[name]))
    def check(clip: Clip) -> None:
        oracle = reference.oracle(RECIPES[name], clip)
        for tap, x in bounds(RECIPES[name], oracle).items():
            assert x.lo.shape == x.hi.shape == oracle[tap].shape, tap
            assert not np.isnan(x.lo).any(), f"NaN below at {tap}"
            assert not np.isnan(x.hi).any(), f"NaN above at {tap}"
            assert np.all((x.lo <= x.value) & (x.value <= x.hi)), tap

    check()


@pytest.mark.parametrize("name", RECIPES)
def test_numpy_raises_no_false_alarm(name: str) -> None:
    frontend, backend = RECIPES[name], NumpyBackend()

    @many
    @given(clips(frontend))
    def check(clip: Clip) -> None:
        (got,) = backend.features([clip], frontend, frozenset(frontend.taps))
        assert judge(exact_of(clip, frontend), dict(got), frontend) == {}

    check()


@pytest.mark.parametrize("name", OPEN)
def test_another_float32_implementation_raises_no_false_alarm(name: str) -> None:
    frontend = RECIPES[name]

    @many
    @given(clips(frontend), st.integers(0, 99))
    def check(clip: Clip, seed: int) -> None:
        assert judge(exact_of(clip, frontend), jittered(frontend, clip, seed), frontend) == {}

    check()


def test_slow_sounds_may_round_as_they_are_in_a_pre_emphasis() -> None:
    # y = x - 0.97·x' of a slow x is 30 times smaller than x, and rounds as x does: these were 5.6 bounds off.
    frontend = RECIPES["logmel, emphasized cepstrum"]
    for signal in (
        Signal(kind="tone", frequency=2.0, level_dbfs=-1.0), Signal(kind="dc", dc=0.739), Signal(kind="step", at=3000),
        Signal(kind="chirp", frequency=1.0, end_frequency=50.0, length=5000),
    ):  # fmt: skip
        clip = clip_of(signal)
        (got,) = NumpyBackend().features([clip], frontend, frozenset(frontend.taps))
        assert judge(exact_of(clip, frontend), dict(got), frontend) == {}, clip.name


def test_equal_bands_round_alike_in_a_cepstrum() -> None:
    # One click has a flat spectrum: the logarithm's rounding is the same in all bins and adds up in C0.
    click = clip_of(Signal(kind="impulse", at=300, level_dbfs=-127.2, length=700))
    frontend = fe.Frontend(
        input=fe.Input(rate=16000, peak_normalize=True), frame=fe.Frame(length=401, hop=600, last="pad"),
        window=fe.Window(name="rectangular"), spectrum=fe.Spectrum(n_fft=512, exponent=1),
        compress=fe.Log(base="e", offset=1.0), cepstrum=fe.Cepstrum(count=13, norm="ortho-c0-sqrt2", lifter=22.0),
    )  # fmt: skip
    for level in np.arange(-130.0, -100.0, 1.3):
        clip = clip_of(dataclasses.replace(Signal(kind="impulse", at=300, length=700), level_dbfs=float(level)))
        (got,) = NumpyBackend().features([clip, click], frontend, frozenset(frontend.taps))[:1]
        assert judge(exact_of(clip, frontend), dict(got), frontend) == {}, clip.name


def test_bands_that_rounding_lifts_above_top_db_err_each_for_itself() -> None:
    # Bands of an offset hold nothing but rounding; clamped in the oracle, they are not in float32 (1.18 bounds off).
    frontend = fe.Frontend(
        input=fe.Input(rate=16000), frame=fe.Frame(length=512, hop=160), window=fe.Window(name="hann"),
        spectrum=fe.Spectrum(n_fft=512, exponent=1),
        filterbank=fe.Mel(bands=40, fmax=8000.0, scale="htk", norm="none"), compress=fe.Decibel(),
        cepstrum=fe.Cepstrum(count=13),
    )  # fmt: skip
    for dc in (0.572, -0.649, 0.3, 1.0, 1e-3):
        clip = clip_of(Signal(kind="dc", dc=dc, length=673))
        (got,) = NumpyBackend().features([clip], frontend, frozenset(frontend.taps))
        assert judge(exact_of(clip, frontend), dict(got), frontend) == {}, clip.name


SPEECH = tuple(
    clip_of(Signal(kind="pink", level_dbfs=level, seed=seed, fade=2000, noise_dbfs=level - 30.0))
    for seed, level in enumerate((-3.0, -12.0, -20.0, -30.0))
)

Change = Callable[[fe.Frontend], fe.Frontend]


def replace(stage: str, **values: object) -> Change:
    return lambda f: dataclasses.replace(f, **{stage: dataclasses.replace(getattr(f, stage), **values)})


def louder(clip: Clip) -> Clip:
    return dataclasses.replace(clip, samples=(clip.samples.astype(np.float64) * 1.001).astype(np.float32))


DEFECTS: dict[str, tuple[Tap, Change]] = {
    "symmetric window": ("features/windowed", replace("window", periodic=False)),
    "magnitude for power": ("features/spectrum", replace("spectrum", exponent=1)),
    "Slaney's scale for HTK's": ("features/filterbank", replace("filterbank", scale="slaney")),
    "fmax 7999 Hz": ("features/filterbank", replace("filterbank", fmax=7999.0)),
    "no norm": ("features/filterbank", replace("filterbank", norm="none")),
    "ln for log10": ("features/compressed", replace("compress", base="e")),
    "another offset": ("features/compressed", replace("compress", offset=1.1e-6)),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_wrong_setting_is_seen_on_every_clip_and_first_at_its_stage(defect: str) -> None:
    frontend = RECIPES["commands-cnn"]
    stage, change = DEFECTS[defect]
    for clip in SPEECH:
        (got,) = NumpyBackend().features([clip], change(frontend), frozenset(frontend.taps))
        wrong = judge(exact_of(clip, frontend), dict(got), frontend)
        assert frontend.output in wrong, f"{clip.name}: unseen in what the network gets"
        assert next(t for t in frontend.taps if t in wrong) == stage, clip.name


@pytest.mark.parametrize("name", ["commands-cnn", "logmel", "mfcc", "tf.signal"])
def test_a_gain_of_a_thousandth_is_seen_on_every_clip(name: str) -> None:
    frontend = RECIPES[name]
    for clip in SPEECH:
        (got,) = NumpyBackend().features([louder(clip)], frontend, frozenset(frontend.taps))
        wrong = judge(exact_of(clip, frontend), dict(got), frontend)
        assert {"features/audio", frontend.output} <= wrong.keys(), clip.name


def test_a_window_in_half_precision_is_seen_at_every_tap() -> None:
    frontend = RECIPES["commands-cnn"]
    for clip in SPEECH:
        exact = exact_of(clip, frontend)
        half = reference.window(frontend.window, 512).astype(np.float16).astype(np.float32)
        x: Array = reference.stage(frontend, "features/frames", exact["features/audio"].value.astype(np.float32)) * half
        got = {"features/windowed": x}
        for tap in frontend.taps[3:]:
            x = got[tap] = reference.stage(frontend, tap, x).astype(np.float32)
        assert judge(exact, got, frontend).keys() == got.keys(), clip.name


def test_a_filter_bank_in_half_precision_is_seen_where_it_multiplies() -> None:
    frontend = RECIPES["mfcc"]
    for clip in SPEECH:
        exact = exact_of(clip, frontend)
        half = reference.bank(frontend).astype(np.float16).astype(np.float32)
        got = {"features/filterbank": exact["features/spectrum"].value.astype(np.float32) @ half.T}
        assert judge(exact, got, frontend), clip.name


def test_quantized_features_may_move_by_their_rounding_edge_only() -> None:
    frontend = RECIPES["tiny-conv"]
    for clip in SPEECH:
        x = exact_of(clip, frontend)["features/quantized"]
        assert np.all(x.hi - x.lo <= 1.0)
        assert np.mean(x.hi > x.lo) < 0.001


@pytest.mark.parametrize("rounding", ["half-even", "half-away", "floor"])
@pytest.mark.parametrize("scale", [0.5, 0.05])
def test_a_step_is_allowed_beside_a_rounding_edge_and_nowhere_else(
    scale: float, rounding: Literal["half-even", "half-away", "floor"]
) -> None:
    # float32 values beside every edge of 0 to 255 steps, as exact as they are: what is left is the rounding itself.
    edge = np.arange(1, 255) + (0.0 if rounding == "floor" else 0.5)
    beside = [(edge * scale * (1.0 + d)).astype(np.float32) for d in (-1e-7, 0.0, 1e-7, -0.002, 0.002)]
    s = fe.Quantize(dtype="uint8", scale=scale, rounding=rounding)
    for i, values in enumerate(beside):
        exact = Interval(*[values[None].astype(np.float64)] * 3)
        right = reference.quantize(exact.value, s).astype(np.float64)
        x = quantized(right, s, exact)
        got = reference.quantize(values[None], s).astype(np.float64)
        assert np.all((x.lo <= got) & (got <= x.hi))
        assert i < 3 or (np.array_equal(x.lo, right) and np.array_equal(x.hi, right))
