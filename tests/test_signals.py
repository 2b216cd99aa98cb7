"""`parity.signals`: what a rendered clip must be, over the whole space of parameters and for each kind."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import FrozenInstanceError, replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from parity.signals import MAX_DBFS, MIN_DBFS, Kind, Signal, describe, from_plain, render, to_plain

LEVELS = st.floats(-140.0, 40.0)
KINDS: tuple[Kind, ...] = get_args(Kind)
quick = settings(derandomize=True, deadline=None, database=None, max_examples=60)


@st.composite
def signals(draw: st.DrawFn) -> Signal:
    """Any possible signal of up to 3,000 samples (properties don't depend on a clip being a second long)."""
    length = draw(st.integers(1, 3_000))
    rate = draw(st.sampled_from([8_000, 16_000, 22_050, 48_000]))
    inside_nyquist = st.floats(0.0, rate / 2, exclude_min=True, exclude_max=True)
    return Signal(
        kind=draw(st.sampled_from(KINDS)),
        length=length,
        rate=rate,
        level_dbfs=draw(LEVELS),
        frequency=draw(inside_nyquist),
        end_frequency=draw(st.floats(0.0, rate / 2)),
        at=draw(st.integers(0, length - 1)),
        dc=draw(st.floats(-1.0, 1.0)),
        noise_dbfs=draw(st.none() | LEVELS),
        clip_at=draw(st.none() | st.floats(0.01, 1.0)),
        fade=draw(st.integers(0, length // 2)),
        seed=draw(st.integers(0, 2**32)),
    )


def dbfs(samples: NDArray[np.float32]) -> float:
    return float(20.0 * np.log10(np.max(np.abs(samples.astype(np.float64)))))


@quick
@given(signals())
def test_a_clip_is_float32_of_the_length_and_within_its_limit(signal: Signal) -> None:
    samples = render(signal)
    assert samples.dtype == np.float32
    assert samples.shape == (signal.length,)
    assert samples.flags.c_contiguous
    limit = np.float32(1.0 if signal.clip_at is None else signal.clip_at)
    assert bool(np.all(np.abs(samples) <= limit))  # NaN would fail here too


@quick
@given(signals())
def test_the_same_signal_gives_the_same_bytes(signal: Signal) -> None:
    assert render(signal).tobytes() == render(replace(signal)).tobytes()


@quick
@given(signals())
def test_the_plain_form_survives_json_and_keeps_everything(signal: Signal) -> None:
    back = from_plain(json.loads(json.dumps(to_plain(signal))))
    assert back == signal
    assert describe(back) == describe(signal)
    assert render(back).tobytes() == render(signal).tobytes()


@quick
@given(signals(), st.integers(0, 2**32))
def test_describe_shows_the_seed_exactly_when_it_matters(signal: Signal, seed: int) -> None:
    other = replace(signal, seed=seed)
    if describe(replace(signal, seed=1)) == describe(replace(signal, seed=2)):
        assert render(other).tobytes() == render(signal).tobytes()
    else:
        assert signal.kind in ("white", "pink", "clicks") or signal.noise_dbfs is not None


@pytest.mark.parametrize(
    ("signal", "text"),
    [
        (Signal(), "silence"),
        (
            Signal(kind="tone", level_dbfs=-80.0, dc=0.3, length=511),
            "tone 1000 Hz, -80 dBFS, DC 0.3, length 511",
        ),
        (Signal(kind="tone", at=7, seed=3), "tone 1000 Hz"),
        (Signal(kind="chirp", frequency=20.0, level_dbfs=-6.0), "chirp 20 to 8000 Hz, -6 dBFS"),
        (Signal(kind="impulse", at=8_000), "impulse at 8000"),
        (Signal(kind="impulses", frequency=100.0, at=5), "impulses 100 Hz from 5"),
        (Signal(kind="step", at=9, fade=4, clip_at=0.5), "step at 9, fade 4, clipped at 0.5"),
        (Signal(kind="white", level_dbfs=-20.0, seed=3), "white noise, -20 dBFS, seed 3"),
        (Signal(kind="pink", rate=8_000), "pink noise, rate 8000 Hz"),
        (Signal(kind="dc", dc=-0.5, level_dbfs=-3.0), "DC -0.5"),
        (Signal(kind="clicks", frequency=5.0), "clicks 5 a second"),
        (Signal(noise_dbfs=-60.0, seed=2), "silence, noise -60 dBFS, seed 2"),
    ],
)
def test_describe(signal: Signal, text: str) -> None:
    assert describe(signal) == text


def test_the_plain_form_has_no_defaults_and_reads_from_toml() -> None:
    assert to_plain(Signal()) == {}
    tone = Signal(kind="tone", level_dbfs=-80.0, length=511)
    assert to_plain(tone) == {"kind": "tone", "length": 511, "level_dbfs": -80.0}
    assert from_plain(tomllib.loads('kind = "tone"\nlevel_dbfs = -80\nlength = 511')) == tone


def test_numpy_numbers_become_plain_ones() -> None:
    numpys: dict[str, Any] = {"length": np.int64(511), "frequency": np.float32(440.0)}
    plain = to_plain(Signal(kind="tone", **numpys))
    assert json.dumps(plain) == '{"kind": "tone", "length": 511, "frequency": 440.0}'


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"kind": "square"}, "kind must be one of"),
        ({"kind": []}, "kind must be one of"),
        ({"length": 0}, "length must be 1 to 16777216 samples, not 0"),
        ({"length": 2**24 + 1}, "length must be 1 to 16777216 samples, not 16777217"),
        ({"length": 10**400}, "length must be 1 to"),
        ({"length": 512.0}, "length must be a whole number"),
        ({"length": True}, "length must be a whole number"),
        ({"length": None}, "length must be a whole number"),
        ({"rate": 0}, "rate must be 1 to 16777216 Hz, not 0"),
        ({"rate": 2**32}, "rate must be 1 to"),
        ({"seed": -1}, "seed must be 0 to"),
        ({"seed": 2**63}, "seed must be 0 to"),
        ({"dc": 10**400}, "dc must be a finite number"),
        ({"level_dbfs": MAX_DBFS + 1}, "level_dbfs must be -400 to 120 dBFS, not 121"),
        ({"noise_dbfs": MIN_DBFS - 1}, "noise_dbfs must be -400 to 120 dBFS"),
        ({"level_dbfs": float("nan")}, "level_dbfs must be a finite number"),
        ({"level_dbfs": "loud"}, "level_dbfs must be a finite number, not 'loud'"),
        ({"dc": float("inf")}, "dc must be a finite number"),
        ({"dc": 1.5}, "dc must be -1 to 1"),
        ({"clip_at": 0.0}, "clip_at must be"),
        ({"clip_at": 1.01}, "clip_at must be"),
        ({"length": 101, "fade": 51}, "fade must be 0 to 50"),
        ({"fade": -1}, "fade must be"),
        ({"kind": "impulse", "length": 10, "at": 10}, "at must be 0 to 9"),
        ({"kind": "step", "at": -1}, "at must be"),
        ({"kind": "tone", "frequency": 8_000.0}, "frequency must lie inside 0 to 8000 Hz"),
        ({"kind": "tone", "frequency": 0.0}, "frequency must lie inside"),
        ({"kind": "chirp", "frequency": -1.0}, "frequency must be 0 to 8000 Hz"),
        ({"kind": "chirp", "rate": 8_000}, "end_frequency must be 0 to 4000 Hz"),
        ({"kind": "impulses", "frequency": 0.0}, "frequency must be in"),
        ({"kind": "clicks", "frequency": 16_001.0}, "frequency must be in"),
        ({"loudness": 3, "Kind": "tone"}, "unknown in a signal: Kind, loudness"),
    ],
)
def test_what_is_impossible_is_refused_in_words(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text.replace("(", r"\(")):
        from_plain(fields)


def test_fields_that_a_kind_does_not_use_are_not_judged() -> None:
    assert not render(Signal(rate=100, frequency=1_000.0, at=99_999)).any()


def test_a_signal_is_frozen_and_its_fields_are_named() -> None:
    with pytest.raises(FrozenInstanceError):
        Signal().length = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        Signal("tone")  # type: ignore[call-arg]


@quick
@given(st.integers(1, 799), st.floats(-100.0, 0.0))
def test_a_tone_has_its_level_and_frequency_and_nothing_else(tenths: int, level: float) -> None:
    """Over whole periods the spectrum has one line, of half the amplitude, as far as float32 carries."""
    frequency = 10.0 * tenths
    samples = render(Signal(kind="tone", frequency=frequency, level_dbfs=level))
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64))) / samples.size
    amplitude = 10.0 ** (level / 20.0)
    assert int(np.argmax(spectrum)) == int(frequency)  # a second long: bin k is k Hz
    assert spectrum[int(frequency)] == pytest.approx(amplitude / 2, rel=1e-6)
    spectrum[int(frequency)] = 0.0
    assert spectrum.max() < 1e-8 * amplitude
    assert np.max(np.abs(samples)) <= np.float32(amplitude)


def test_a_tone_starts_at_zero_and_reaches_its_peak() -> None:
    samples = render(Signal(kind="tone", frequency=1_000.0))
    assert samples[0] == 0.0
    assert samples[4] == 1.0
    assert samples[12] == -1.0


def test_a_chirp_passes_through_each_frequency_in_time() -> None:
    signal = Signal(kind="chirp", frequency=500.0, end_frequency=7_000.0, level_dbfs=-6.0)
    samples = render(signal).astype(np.float64)
    spectrum = np.fft.fft(samples)
    spectrum[samples.size // 2 :] = 0.0  # positive frequencies only: the analytic signal turns with the phase
    phase = np.unwrap(np.angle(np.fft.ifft(spectrum)))
    hertz = np.diff(phase) * signal.rate / (2.0 * np.pi)
    middle = np.arange(samples.size - 1) + 0.5
    expected = 500.0 + (7_000.0 - 500.0) * middle / signal.length
    inner = slice(1_600, -1_600)  # at the ends the analytic signal of a cut-off chirp rings
    assert np.max(np.abs(hertz[inner] - expected[inner])) < 20.0
    assert dbfs(render(signal)) == pytest.approx(-6.0, abs=0.01)


def test_a_chirp_between_equal_frequencies_is_a_tone() -> None:
    chirp = render(Signal(kind="chirp", frequency=440.0, end_frequency=440.0))
    assert chirp.tobytes() == render(Signal(kind="tone", frequency=440.0)).tobytes()


def test_pink_noise_falls_three_decibels_an_octave_and_white_noise_does_not() -> None:
    def slope(kind: Kind) -> float:
        decibels = np.zeros(5)
        for seed in range(8):
            power = np.abs(np.fft.rfft(render(Signal(kind=kind, seed=seed)).astype(np.float64))) ** 2
            decibels += [10.0 * np.log10(np.mean(power[125 * 2**k : 250 * 2**k])) / 8 for k in range(5)]
        return float(np.polyfit(np.arange(5), decibels, 1)[0])

    assert slope("pink") == pytest.approx(-3.01, abs=0.3)
    assert slope("white") == pytest.approx(0.0, abs=0.3)


@quick
@given(st.integers(2, 3_000), st.integers(0, 999), st.floats(-100.0, 0.0))
def test_pink_noise_peaks_at_its_level_and_has_no_offset(length: int, seed: int, level: float) -> None:
    samples = render(Signal(kind="pink", length=length, seed=seed, level_dbfs=level)).astype(np.float64)
    amplitude = 10.0 ** (level / 20.0)
    assert np.max(np.abs(samples)) == pytest.approx(amplitude, rel=1e-6)
    assert abs(np.mean(samples)) < 1e-6 * amplitude


def test_white_noise_fills_its_level_and_follows_its_seed() -> None:
    first = render(Signal(kind="white", level_dbfs=-20.0))
    assert 0.0999 < np.max(np.abs(first)) <= np.float32(0.1)
    assert np.sqrt(np.mean(first.astype(np.float64) ** 2)) == pytest.approx(0.1 / np.sqrt(3.0), rel=0.02)
    assert first.tobytes() != render(Signal(kind="white", level_dbfs=-20.0, seed=1)).tobytes()


def test_the_random_numbers_are_the_ones_that_were_published() -> None:
    """Clips made from a seed must not change with NumPy: white noise uses exact operations only."""
    digest = hashlib.sha256(render(Signal(kind="white", seed=7)).astype("<f4").tobytes()).hexdigest()
    assert digest.startswith("2a432271a4c01f96")


def test_impulses_keep_their_frequency_to_the_end() -> None:
    """300 a second at 16 kHz is 53 1/3 samples: a rounded period would lose two of them in a second."""
    places = np.flatnonzero(render(Signal(kind="impulses", frequency=300.0)))
    assert places.size == 300
    assert np.max(np.abs(places - np.arange(300) * 16_000 / 300.0)) < 1.0


@quick
@given(st.integers(1, 400), st.integers(0, 399))
def test_impulses_of_a_whole_period(period: int, at: int) -> None:
    signal = Signal(kind="impulses", frequency=16_000.0 / period, at=at, length=400, level_dbfs=-20.0)
    samples = render(signal)
    places = np.flatnonzero(samples)
    assert places[0] == at
    assert places.size == pytest.approx((400 - at) / period, abs=1.0)
    assert set(samples[places].tolist()) == {float(np.float32(0.1))}


def test_single_sample_kinds_and_the_step() -> None:
    impulse = render(Signal(kind="impulse", at=8_000))
    assert np.flatnonzero(impulse).tolist() == [8_000]
    assert impulse[8_000] == 1.0
    step = render(Signal(kind="step", at=3, length=6, level_dbfs=-20.0))
    assert step.tolist() == [0.0] * 3 + [float(np.float32(0.1))] * 3
    clicks = render(Signal(kind="clicks", frequency=50.0, level_dbfs=-20.0, seed=4))
    assert set(clicks[clicks != 0.0].tolist()) == {float(np.float32(0.1)), float(np.float32(-0.1))}
    assert 45 <= np.count_nonzero(clicks) <= 50  # two may fall on one place
    assert np.count_nonzero(render(Signal(kind="clicks", frequency=0.01))) == 1


def test_the_offset_comes_last_and_is_clipped() -> None:
    assert set(render(Signal(kind="dc", dc=0.5, fade=100)).tolist()) == {0.5}
    tone = render(Signal(kind="tone", level_dbfs=-20.0)).astype(np.float64)
    lifted = render(Signal(kind="tone", level_dbfs=-20.0, dc=0.3)).astype(np.float64)
    assert np.max(np.abs(lifted - tone - 0.3)) < 1e-7
    assert render(Signal(kind="tone", dc=0.8)).max() == 1.0
    assert render(Signal(kind="tone", dc=0.8)).min() == np.float32(-0.2)


def test_clipping_cuts_at_the_limit_only() -> None:
    whole = render(Signal(kind="tone"))
    cut = render(Signal(kind="tone", clip_at=0.25))
    assert cut.tobytes() == np.clip(whole, -0.25, 0.25).astype(np.float32).tobytes()
    overdriven = render(Signal(kind="tone", frequency=997.0, level_dbfs=30.0))
    assert np.mean(np.abs(overdriven) == 1.0) > 0.95


def test_a_fade_starts_and_ends_near_zero_and_leaves_the_middle() -> None:
    plain = Signal(kind="step", level_dbfs=0.0, length=1_000)
    faded = render(replace(plain, fade=200))
    assert faded[0] < 1e-4
    assert faded[-1] < 1e-4
    assert bool(np.all(np.diff(faded[:200]) > 0.0))
    assert faded[99] + faded[100] == pytest.approx(1.0, abs=1e-6)
    assert bool(np.all(faded[200:-200] == 1.0))
    assert faded.tobytes() == faded[::-1].tobytes()


def test_noise_has_its_own_level_and_is_not_faded() -> None:
    noise = render(Signal(noise_dbfs=-60.0, fade=8_000))
    assert 0.00099 < np.max(np.abs(noise)) <= np.float32(0.001)
    assert np.max(np.abs(noise[:100])) > 0.0008
    tone = render(Signal(kind="tone", level_dbfs=-20.0)).astype(np.float64)
    noisy = render(Signal(kind="tone", level_dbfs=-20.0, noise_dbfs=-60.0)).astype(np.float64)
    assert np.max(np.abs(noisy - tone - noise)) < 1e-7
