"""Derived bounds to the last number, on arrays that one can work out by hand.

Whether the formulas are right is measured elsewhere (`test_bounds.py`, `test_bounds_recipes.py`, `parity calibrate`);
here each term of each of them must count.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from parity import frontend as fe
from parity.backends import reference
from parity.bounds import features, levels
from parity.bounds.features import bounds
from parity.bounds.interval import TINY, Interval, U, around
from parity.protocols import Arithmetic, Array

INF = math.inf
D = 2.0**-53


def array(*values: float) -> Array:
    return np.array(values, np.float64)


def same(got: Array | None, expected: object) -> None:
    assert got is not None
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=0.0)


def within(x: Interval, lo: object, hi: object) -> None:
    same(x.lo, lo)
    same(x.hi, hi)


def test_the_numbers_of_float32() -> None:
    assert np.finfo(np.float32).eps == 2.0 * U
    assert np.finfo(np.float32).tiny == TINY
    assert features.U == U


def test_around() -> None:
    value, half = array(1.0, -2.0), array(0.5, 0.25)
    x = around(value, half)
    assert x.value is value
    within(x, [0.5, -2.25], [1.5, -1.75])
    exact = around(value, None)
    assert exact.value is exact.lo is exact.hi is value


# ---- Samples ----

PLAIN, PEAK = fe.Input(rate=8), fe.Input(rate=8, peak_normalize=True)


def test_copied_samples_are_exact_but_for_denormals() -> None:
    assert features._input_error(array(0.5, 0.0, -1.0, TINY), PLAIN) is None
    same(features._input_error(array(0.5, 0.0, -TINY / 2, TINY), PLAIN), [0.0, 0.0, TINY, 0.0])
    same(features._input_error(array(0.5, 0.0, -1.0), PEAK), [U, 0.0, 2.0 * U])
    same(features._input_error(array(0.5, TINY / 4), PEAK), [U, TINY + U * TINY / 2])


@pytest.mark.parametrize("a", [0.5, -0.5])
def test_each_sample_of_a_pre_emphasis_rounds_by_its_own_size_and_that_of_the_one_before(a: float) -> None:
    x = array(1.0, -2.0, 0.5, 0.25, 0.0, 0.0)
    before = array(0.0, *(abs(a) * np.abs(x[:-1])))
    y = x - a * array(0.0, *x[:-1])
    emphasized = replace(PLAIN, pre_emphasis=a)
    expected = 2.0 * U * (np.abs(y) + before) + TINY
    expected[5:] = 0.0  # after the last sample that isn't zero
    same(features._input_error(y, emphasized), expected)
    peak = 2.0 * U * (np.abs(y) + 2.0 * before)
    peak[5:] = 0.0
    same(features._input_error(y, replace(PEAK, pre_emphasis=a)), expected + peak)
    same(features._input_error(np.zeros(3), emphasized), np.zeros(3))
    same(features._input_error(array(0.0, 0.0, 1.0), emphasized), [TINY, TINY, 2.0 * U + TINY])


@pytest.mark.parametrize("a", [0.5, -0.5])
def test_what_went_into_a_pre_emphasis(a: float) -> None:
    impulse = np.zeros(40)
    impulse[2] = 3.0
    expected = [3.0 * a**k if 0 <= k < 30 else 0.0 for k in range(-2, 38)]  # 0.5 ** 30 is below 1e-9
    same(features._without_emphasis(impulse, a), expected)
    same(features._without_emphasis(array(3.0, 0.0), 1e-9), [3.0, 0.0])


# ---- Windows ----

HANN = fe.Window(name="hann")
FRAMES = array(1.0, -2.0, 4.0, 8.0, 0.0, 1.0, -1.0, 0.5).reshape(2, 4)
W = array(0.0, 0.5, 1.0, 0.5)


def test_a_window_in_float32() -> None:
    np.testing.assert_allclose(reference.window(HANN, 4), W, atol=1e-16)
    w = reference.window(HANN, 4)
    own = np.where(w > 0, features.WINDOW, 0.0) + 2.0 * w
    half, drift = features._window(FRAMES * w, HANN, FRAMES, "float32")
    expected = U * np.abs(FRAMES) * own
    same(half, expected + TINY)
    same(drift, np.sqrt(np.square(expected).sum(axis=1))[:, None])
    rectangular = fe.Window(name="rectangular")
    half, _ = features._window(FRAMES, rectangular, FRAMES, "float32")
    same(half, 2.0 * U * np.abs(FRAMES) + TINY)


def test_where_a_window_is_zero_its_weights_are_exact() -> None:
    w = reference.window(HANN, 4)
    same(features.weights_error(HANN, 4), [0.0, *(8.0 + 2.0 * w[1:])])
    same(features.weights_error(fe.Window(name="rectangular", length=2), 4), [0.0, 2.0, 2.0, 0.0])
    same(features.weights_error(fe.Window(name="hamming", length=1, position="left"), 2), [10.0, 0.0])


def test_a_window_in_float64() -> None:
    w = reference.window(HANN, 4)
    own = np.where(w > 0, features.WINDOW, 0.0) + 2.0 * w
    half, drift = features._window(FRAMES * w, HANN, FRAMES, "float64-rounded")
    same(half, U * np.abs(FRAMES * w) + TINY)
    same(drift, D * np.sqrt(np.square(FRAMES * own).sum(axis=1))[:, None])


# ---- Spectra ----

WINDOWED = array(3.0, 4.0, 0.0, 12.0).reshape(2, 2)
NORM = array(5.0, 12.0)[:, None]
DRIFT = array(0.25, 0.5)[:, None] * U
VALUE = array(1.0, 4.0, 0.0, 16.0, 9.0, 0.25).reshape(2, 3)


def bin_error(arithmetic: Arithmetic, shared: object = 0.0) -> Array:
    if arithmetic == "float32":
        return U * 3.0 * 2.0 * NORM + 3.0 * DRIFT + np.asarray(shared)
    return 2.0 * (D * 3.0 * 2.0 * NORM + 3.0 * DRIFT) + np.asarray(shared)


@pytest.mark.parametrize("arithmetic", ["float32", "float64-rounded"])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_spectra(arithmetic: Arithmetic, scaled: bool, shared: bool) -> None:
    own = {"float32": 3.0, "float64-rounded": 5.0}[arithmetic] * U
    unit = 0.25 if scaled else 1.0
    s = fe.Spectrum(n_fft=4, scaling="1/n_fft" if scaled else "none")
    error = array(1e-7, 3e-7, 0.0, 2e-7).reshape(2, 2) if shared else None
    e = bin_error(arithmetic, [[4e-7], [2e-7]] if shared else 0.0)
    # |X ± e|² of a power that is scaled afterwards.
    power = ((np.sqrt(VALUE / unit) + e) ** 2 - VALUE / unit) * unit + 2.0 * own * VALUE + 2.0 * TINY
    np.testing.assert_allclose(
        features._spectrum(VALUE, s, WINDOWED, DRIFT, error, arithmetic), power, rtol=1e-8, atol=0.0
    )
    at_zero = features._spectrum(np.zeros((2, 3)), s, WINDOWED, DRIFT, error, arithmetic)
    same(at_zero, np.broadcast_to(e**2 * unit + 2.0 * TINY, (2, 3)))
    magnitude = e * unit + own * VALUE + 2.0 * math.sqrt(TINY)
    same(features._spectrum(VALUE, replace(s, exponent=1), WINDOWED, DRIFT, error, arithmetic), magnitude)


def test_what_may_be_flushed_counts_where_nothing_else_does() -> None:
    nothing = np.zeros((2, 2)), np.zeros((2, 1)), None
    for exponent, least in ((2, 2.0 * TINY), (1, 2.0 * math.sqrt(TINY))):
        s = fe.Spectrum(n_fft=4, exponent=exponent)  # type: ignore[arg-type]
        same(features._spectrum(np.zeros((2, 3)), s, *nothing, "float32"), np.full((2, 3), least))


# ---- Banks ----

POOLED = fe.Frontend(
    input=PLAIN, frame=fe.Frame(length=4, hop=2), window=HANN, spectrum=fe.Spectrum(n_fft=4), filterbank=fe.Pool(size=2)
)


def test_a_bank_is_a_root_of_squares_and_its_own_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    value, half = array(3.0, 5.0).reshape(1, 2), array(0.3, 0.4, 0.7).reshape(1, 3) * 1e-6
    monkeypatch.setattr(features, "BANK", {"pool": 2.0, "mel": 3.0})
    # Two bins by a half each, then the bin that is left.
    roots = array(math.hypot(0.15, 0.2), 0.7) * 1e-6
    own = U * array(2.0 + features.SUM * math.sqrt(2.0), 2.0 + features.SUM)
    same(features._bank(value, POOLED, half, half), [2.0 * roots + own * value[0] + 3.0 * TINY])
    same(features._bank(0.0 * value, POOLED, 0.0 * half, half), np.full((1, 2), 3.0 * TINY))


def test_bins_of_a_pool_err_more_alike_than_those_of_a_mel_bank() -> None:
    value, half = np.zeros((1, 2)), array(0.3, 0.4, 0.7).reshape(1, 3)
    mel = replace(POOLED, filterbank=fe.Mel(bands=2, fmin=0.0, fmax=8000.0, scale="htk", norm="none"))
    squares, _ = features.bank_error(mel)
    roots = np.sqrt(np.square(half) @ squares)
    same(features._bank(value, mel, half, 0.0 * half), roots + 3.0 * TINY)
    same(features._bank(value, POOLED, half, 0.0 * half), [1.25 * array(math.hypot(0.15, 0.2), 0.7) + 3.0 * TINY])


def test_a_banks_own_rounding_grows_with_the_root_of_its_bins() -> None:
    squares, own = features.bank_error(POOLED)
    same(squares, [[0.25, 0.0], [0.25, 0.0], [0.0, 1.0]])
    assert squares.flags.c_contiguous
    same(own, U * array(2.0 + 2.0 * math.sqrt(2.0), 4.0))


def narrow(fmin: float, fmax: float, bands: int = 1, **mel: object) -> fe.Frontend:
    """Bins at 0, 2, 4 and 6 Hz (Nyquist left out), under triangles between two frequencies."""
    bank = fe.Mel(bands=bands, fmin=fmin, fmax=fmax, scale="htk", norm="none")
    spectrum = fe.Spectrum(n_fft=8, nyquist=False)
    return replace(POOLED, input=fe.Input(rate=16), spectrum=spectrum, filterbank=replace(bank, **mel))


def test_a_bin_on_the_corner_of_a_band_that_holds_no_other_weighs_nothing_or_rounding() -> None:
    for fmin, fmax, at in ((4.5, 6.0, 3), (4.0, 5.5, 2)):  # on its last corner, on its first
        frontend = narrow(fmin, fmax)
        left, center, right = reference.mel_edges(frontend.filterbank)  # type: ignore[arg-type]
        off = 2.0 * features.CORNER * D * (right + 700.0) / min(center - left, right - center)
        expected = np.zeros((4, 1))
        expected[at] = off
        same(features.corner_error(frontend), expected)
        before, nothing = array(1.0, 3.0, 5.0, 7.0).reshape(1, 4), np.zeros((1, 4))
        same(features._bank(np.zeros((1, 1)), frontend, nothing, before), [[4.0 * TINY + before[0, at] * off]])
        same(features.corner_error(narrow(fmin, fmax, norm="slaney")), expected * 2.0 / (right - left))
        own = 2.0 * features.bank_error(frontend)[1]  # of what it sums, beside that
        same(features._bank(np.full((1, 1), 2.0), frontend, nothing, before), [own + 4.0 * TINY + before[0, at] * off])
        # And so in the walk, of the spectrum that it weighs.
        samples = array(0.5, -0.25, 0.125, 1.0, 0.5, -0.5, 0.25, 0.0)
        arrays = reference.run(frontend, samples)
        found = bounds(frontend, arrays)["features/filterbank"]
        moved = arrays["features/spectrum"] @ expected
        assert np.all(found.hi - found.value >= moved)
        assert np.all(moved > 0.0)


def test_a_corner_in_mel_is_off_in_mel() -> None:
    frontend = narrow(4.5, 6.0, triangles="mel")
    left, center, right = reference.hz_to_mel(reference.mel_edges(frontend.filterbank), "htk")  # type: ignore[arg-type]
    found = features.corner_error(frontend)
    assert found is not None
    same(found[3], [2.0 * features.CORNER * D * (right + 700.0) / min(center - left, right - center)])


@pytest.mark.parametrize(
    "frontend",
    [
        narrow(4.5, 5.5),  # no bin near
        narrow(3.0, 6.0),  # another bin weighs so much that rounding counts for nothing
        narrow(4.5, 6.0, triangles="bins"),  # corners are whole bins
        POOLED,
    ],
)
def test_elsewhere_corners_move_nothing(frontend: fe.Frontend) -> None:
    assert features.corner_error(frontend) is None


# ---- The walk ----


def wide(*, arithmetic: Arithmetic = "float32", samples: Array | None = None, **stages: object) -> dict[str, Interval]:
    frontend = replace(POOLED, **stages)
    x = array(0.5, -0.25, 0.125, 1.0, 0.5, -0.5, 0.25, 0.0) if samples is None else samples
    return bounds(frontend, reference.run(frontend, x), arithmetic)


def test_taps_come_in_flow_order_as_far_as_the_oracle_goes() -> None:
    arrays = reference.run(POOLED, array(*range(8)))
    assert list(bounds(POOLED, arrays)) == list(POOLED.taps)
    del arrays["features/spectrum"]
    assert list(bounds(POOLED, arrays)) == ["features/audio", "features/frames", "features/windowed"]
    assert bounds(POOLED, {}) == {}


@pytest.mark.parametrize("arithmetic", ["float32", "float64-rounded"])
def test_each_stage_hands_its_bound_to_the_next(arithmetic: Arithmetic) -> None:
    emphasized = replace(PLAIN, pre_emphasis=0.5)
    frontend = replace(POOLED, input=emphasized)
    arrays = reference.run(frontend, array(0.5, -0.25, 0.125, 1.0, 0.5, -0.5, 0.25, 0.125))
    found = bounds(frontend, arrays, arithmetic)
    for tap, x in found.items():
        assert x.value.dtype == np.float64
        np.testing.assert_array_equal(x.value, arrays[tap])
    error = features._input_error(arrays["features/audio"], emphasized)
    assert error is not None
    same(found["features/audio"].hi - found["features/audio"].value, error.round(20))
    framed = reference.frames(error, fe.Frame(length=4, hop=2))
    values = arrays["features/frames"]
    within(found["features/frames"], values - framed, values + framed)
    half, drift = features._window(arrays["features/windowed"], HANN, arrays["features/frames"], arithmetic)
    inside = reference.window(HANN, 4) * framed
    values = arrays["features/windowed"]
    within(found["features/windowed"], values - (half + inside), values + half + inside)
    spectrum = features._spectrum(
        arrays["features/spectrum"], fe.Spectrum(n_fft=4), arrays["features/windowed"], drift, inside, arithmetic
    )
    values = arrays["features/spectrum"]
    within(found["features/spectrum"], values - spectrum, values + spectrum)
    bank = features._bank(arrays["features/filterbank"], frontend, spectrum, arrays["features/spectrum"])
    values = arrays["features/filterbank"]
    within(found["features/filterbank"], values - bank, values + bank)


def test_the_usual_class_is_float32() -> None:
    arrays = reference.run(POOLED, array(*range(8)))
    usual, rounded = bounds(POOLED, arrays), bounds(POOLED, arrays, "float64-rounded")
    for tap, x in bounds(POOLED, arrays, "float32").items():
        np.testing.assert_array_equal(x.hi, usual[tap].hi)
    assert np.all(rounded["features/spectrum"].hi < usual["features/spectrum"].hi)


def test_samples_that_are_exact_stay_so_until_the_window() -> None:
    found = wide()
    for tap in ("features/audio", "features/frames"):
        assert found[tap].lo is found[tap].hi is found[tap].value, tap


def test_levels_are_of_what_came_before_them() -> None:
    log, dct = fe.Log(base="e", offset=0.5), fe.Cepstrum(count=2)
    normalize = fe.Normalize(mean=(1.0,), spread=(2.0,))
    quantize = fe.Quantize(dtype="int8", scale=0.01)
    found = wide(compress=log, cepstrum=dct, normalize=normalize, quantize=quantize)
    frontend = replace(POOLED, compress=log, cepstrum=dct)
    for tap, expected in (
        ("features/compressed", levels.log(found["features/compressed"].value, log, found["features/filterbank"])),
        ("features/cepstrum",
         levels.cepstrum(found["features/cepstrum"].value, dct, frontend, found["features/compressed"])),
        ("features/normalized",
         levels.normalize(found["features/normalized"].value, normalize, found["features/cepstrum"])),
        ("features/quantized",
         levels.quantized(found["features/quantized"].value, quantize, found["features/normalized"])),
    ):  # fmt: skip
        within(found[tap], expected.lo, expected.hi)
        assert found[tap].value.shape == found[tap].lo.shape
    decibel = fe.Decibel()
    found = wide(compress=decibel, filterbank=None)
    expected = levels.decibel(found["features/compressed"].value, decibel, found["features/spectrum"])
    within(found["features/compressed"], expected.lo, expected.hi)
    assert found["features/compressed"].value.shape == expected.lo.shape


def test_bounds_are_in_double_whatever_the_arrays_are_in() -> None:
    frontend = replace(POOLED, compress=fe.Log(base="e", offset=0.5))
    single = {t: a.astype(np.float32) for t, a in reference.run(frontend, array(*range(1, 9)) / 16.0).items()}
    double = {t: a.astype(np.float64) for t, a in single.items()}
    for start in (None, "features/frames", "features/filterbank"):
        expected = bounds(frontend, double, start=start)
        for tap, x in bounds(frontend, single, start=start).items():
            within(x, expected[tap].lo, expected[tap].hi)
            assert x.value.dtype == np.float64


def test_integers_are_met_exactly() -> None:
    micro = fe.Frontend(input=fe.Input(rate=16000, scale="int16"), micro=fe.Micro(length=480, hop=320, bands=4))
    arrays = reference.run(micro, np.full(1000, 0.25))
    x = bounds(micro, arrays)["features/micro"]
    assert x.lo is x.hi is x.value
    np.testing.assert_array_equal(x.value, arrays["features/micro"])


# ---- From a candidate's own array on ----


def test_from_a_tap_on_what_is_there_is_known_as_float32_knows_it() -> None:
    x = array(0.5, -0.25, 0.125, 1.0, 0.5, -0.5, 0.25, 0.125)
    frontend = replace(POOLED, compress=fe.Log(base="e", offset=0.5))
    arrays = reference.run(frontend, x)
    found = bounds(frontend, arrays, start="features/filterbank")
    assert list(found) == ["features/compressed"]
    value = arrays["features/filterbank"]
    expected = levels.log(arrays["features/compressed"], fe.Log(base="e", offset=0.5), around(value, U * np.abs(value)))
    within(found["features/compressed"], expected.lo, expected.hi)
    found = bounds(frontend, arrays, start="features/spectrum")
    before = arrays["features/spectrum"]
    bank = features._bank(value, frontend, U * np.abs(before), before)
    within(found["features/filterbank"], value - bank, value + bank)


X = array(0.5, -0.25, 0.125, 1.0, 0.5, -0.5, 0.25, 0.125)


def spectrum_from(frontend: fe.Frontend, arrays: dict[str, Array], error: Array | None) -> Array:
    """The bound of a spectrum whose frames err by `error`, of a window in float32."""
    _, drift = features._window(arrays["features/windowed"], HANN, arrays["features/frames"], "float32")
    inside = None if error is None else reference.window(HANN, 4) * error
    return features._spectrum(
        arrays["features/spectrum"], fe.Spectrum(n_fft=4), arrays["features/windowed"], drift, inside, "float32"
    )


@pytest.mark.parametrize(
    "samples",
    [replace(PLAIN, pre_emphasis=0.5), PEAK, replace(PEAK, pre_emphasis=0.5)],
    ids=["emphasis", "peak", "both"],
)
def test_from_computed_samples_on_each_stage_errs_by_what_they_bring(samples: fe.Input) -> None:
    frontend = replace(POOLED, input=samples)
    arrays = reference.run(frontend, X)
    found = bounds(frontend, arrays, start="features/audio")
    assert list(found) == list(POOLED.taps[1:])
    framed = reference.frames(U * np.abs(arrays["features/audio"]), fe.Frame(length=4, hop=2))
    values = arrays["features/frames"]
    within(found["features/frames"], values - framed, values + framed)
    spectrum, values = spectrum_from(frontend, arrays, framed), arrays["features/spectrum"]
    within(found["features/spectrum"], values - spectrum, values + spectrum)
    frames = bounds(frontend, arrays, start="features/frames")
    assert list(frames) == list(POOLED.taps[2:])
    within(frames["features/spectrum"], values - spectrum, values + spectrum)


@pytest.mark.parametrize("start", ["features/audio", "features/frames"])
def test_copied_samples_bring_nothing(start: str) -> None:
    arrays = reference.run(POOLED, X)
    found = bounds(POOLED, arrays, start=start)
    if start == "features/audio":
        assert found["features/frames"].lo is found["features/frames"].hi is found["features/frames"].value
    spectrum, values = spectrum_from(POOLED, arrays, None), arrays["features/spectrum"]
    within(found["features/spectrum"], values - spectrum, values + spectrum)


def test_from_windowed_frames_on_no_window_errs_any_more() -> None:
    arrays = reference.run(POOLED, X)
    values = arrays["features/spectrum"]
    found = bounds(POOLED, arrays, start="features/windowed")
    windowed = arrays["features/windowed"]
    spectrum = features._spectrum(
        values, fe.Spectrum(n_fft=4), windowed, np.zeros((3, 1)), U * np.abs(windowed), "float32"
    )
    within(found["features/spectrum"], values - spectrum, values + spectrum)


def test_integers_that_a_stage_starts_from_are_exact() -> None:
    micro = fe.Frontend(
        input=fe.Input(rate=16000, scale="int16"), micro=fe.Micro(length=480, hop=320, bands=4),
        quantize=fe.Quantize(dtype="int8", scale=2.5, zero_point=-128),
    )  # fmt: skip
    arrays = reference.run(micro, np.full(1000, 0.25))
    found = bounds(micro, arrays, start="features/micro")
    value = arrays["features/micro"].astype(np.float64)
    expected = levels.quantized(arrays["features/quantized"].astype(float), micro.quantize, around(value, None))  # type: ignore[arg-type]
    within(found["features/quantized"], expected.lo, expected.hi)
    # A whole number that is an edge stays on its side.
    coarse = replace(micro, quantize=fe.Quantize(dtype="int8", scale=2.0))
    edge = {"features/micro": np.array([[3]], np.uint16), "features/quantized": np.array([[2]], np.int8)}
    within(bounds(coarse, edge, start="features/micro")["features/quantized"], [[2.0]], [[2.0]])


# ---- Logarithms ----


@pytest.mark.parametrize("base", ["e", "10"])
@pytest.mark.parametrize(("floor", "offset"), [(0.0, 0.0), (0.0, 0.25), (0.5, 0.25), (-0.5, 0.0)])
def test_logarithms(base: str, floor: float, offset: float) -> None:
    log = math.log if base == "e" else math.log10
    x = Interval(array(1.0, 2.0, 0.25), array(0.75, 1.5, -0.125), array(1.5, 2.25, 0.375))
    value = array(0.5, -3.0, 0.125)
    found = levels.log(value, fe.Log(base=base, floor=floor, offset=offset), x)  # type: ignore[arg-type]
    own = 6.0 * U * np.abs(value)
    # Nothing below zero has a logarithm: a floor below it counts as zero where the lower end is.
    lo = [(max(end, floor, 0.0) + offset) * (1.0 - 2.0 * U) for end in x.lo]
    hi = [(max(end, floor) + offset) * (1.0 + 2.0 * U) for end in x.hi]
    same(found.lo, [log(end) - o if end > 0 else -INF for end, o in zip(lo, own, strict=True)])
    same(found.hi, [log(end) + o for end, o in zip(hi, own, strict=True)])
    assert found.value is value


def test_the_logarithm_of_zero_has_no_rounding_of_its_own() -> None:
    x = Interval(array(0.0), array(-1.0), array(1.0))
    found = levels.log(array(-INF), fe.Log(base="e"), x)
    assert found.lo[0] == -INF
    same(found.hi, [math.log(1.0 + 2.0 * U)])


def decibels(x: Interval, ref_lo: float, ref_hi: float, amin: float, top: float | None) -> tuple[Array, Array]:
    """The two ends of dB, as the docstring says it."""

    def end(levels_: Array, ref: float, sign: float) -> Array:
        level = 10.0 * np.log10(np.maximum(levels_, amin))
        of_ref = 10.0 * math.log10(max(ref, amin))
        db = level - of_ref + sign * 6.0 * U * (np.abs(level) + abs(of_ref) + 10.0)
        return db if top is None else np.maximum(db, db.max() - top)

    return end(x.lo, ref_hi, -1.0), end(x.hi, ref_lo, 1.0)


@pytest.mark.parametrize("top", [None, 10.0])
@pytest.mark.parametrize("ref", [1.0, -4.0, 1e-9, "max"])
def test_decibels(ref: float | str, top: float | None) -> None:
    x = Interval(array(1.0, 8.0, 0.01), array(0.75, 7.0, 0.0), array(1.5, 9.0, 0.02))
    s = fe.Decibel(ref=ref, amin=1e-3, top_db=top)  # type: ignore[arg-type]
    ref_lo, ref_hi = (7.0, 9.0) if ref == "max" else (abs(float(ref)),) * 2
    lo, hi = decibels(x, ref_lo, ref_hi, 1e-3, top)
    value = array(1.0, 2.0, 3.0)
    found = levels.decibel(value, s, x)
    within(found, lo, hi)
    assert found.value is value


def test_decibels_of_silence_and_of_nothing() -> None:
    silence = Interval(array(0.0), array(-1.0), array(-0.5))
    lo, hi = decibels(silence, 0.0, 0.0, 1e-3, 80.0)
    within(levels.decibel(array(0.0), fe.Decibel(ref="max", amin=1e-3), silence), lo, hi)
    nothing = Interval(*[np.zeros((0, 3))] * 3)
    for s in (fe.Decibel(), fe.Decibel(ref="max")):
        assert levels.decibel(np.zeros((0, 3)), s, nothing).lo.shape == (0, 3)


# ---- The DCT ----


def matrix(s: fe.Cepstrum, bands: int) -> Array:
    return reference.dct_matrix(s, bands)


def recipe(compress: fe.Log | fe.Decibel | None) -> fe.Frontend:
    return replace(POOLED, compress=compress)


def own_rounding(value: Array, m: Array) -> Array:
    return 8.0 * U * math.sqrt(m.shape[1]) * np.sqrt(np.square(value[:, None, :] * m).sum(axis=-1))


DCT = fe.Cepstrum(count=3)


def test_bands_that_err_each_for_itself() -> None:
    value = array(1.0, 2.0, 4.0, -8.0).reshape(1, 4)
    below, above = array(1e-6, 3e-6, 2e-6, 4e-6), array(2e-6, 1e-6, 3e-6, 5e-6)
    x, m = Interval(value, value - below, value + above), matrix(DCT, 4)
    out = (value[:, None, :] * m).sum(axis=-1)
    half = np.maximum(x.hi - value, value - x.lo)
    free = 2.0 * np.sqrt(np.square(half[:, None, :] * m).sum(axis=-1))
    total = free + own_rounding(value, m)
    for compress in (fe.Log(base="e"), fe.Decibel(top_db=None), fe.Decibel(top_db=99.0)):
        found = levels.cepstrum(out, DCT, recipe(compress), x)
        within(found, out - total, out + total)


def test_bands_at_the_threshold_err_together() -> None:
    # The last two lie at the clip's maximum less 10 dB; the top errs by 3e-6 at most, which they share.
    value = array(20.0, 15.0, 10.0, 10.0).reshape(1, 4)
    below, above = array(2e-6, 5e-6, 3e-6, 3e-6), array(3e-6, 5e-6, 1e-6, 9e-6)
    x, m = Interval(value, value - below, value + above), matrix(DCT, 4)
    out = (value[:, None, :] * m).sum(axis=-1)
    half = np.maximum(x.hi - value, value - x.lo)
    threshold = max(x.hi.max() - 20.0, 20.0 - x.lo.max())
    clamped = value <= 10.0
    free = 2.0 * np.sqrt(np.square(np.where(clamped, np.maximum(half - threshold, 0.0), half)[:, None, :] * m).sum(-1))
    together = np.abs((np.where(clamped, half, 0.0)[:, None, :] * m).sum(axis=-1))
    total = free + together + own_rounding(value, m)
    found = levels.cepstrum(out, DCT, recipe(fe.Decibel(top_db=10.0)), x)
    np.testing.assert_allclose(found.hi - out, total, rtol=1e-6)
    np.testing.assert_allclose(out - found.lo, total, rtol=1e-6)
    # Where the top's lower end moves further than its upper one, that is the threshold's error.
    lower = Interval(value, x.lo - np.array([[6e-6, 0.0, 0.0, 0.0]]), x.hi)
    assert np.all(levels.cepstrum(out, DCT, recipe(fe.Decibel(top_db=10.0)), lower).hi != found.hi)


@pytest.mark.parametrize("level", [0.0, -11.5])
def test_bands_that_are_equal_round_alike(level: float) -> None:
    # Three bands at the least level: the smallest of their roundings is shared. Two are no group.
    value = array(level, level, level + 2.0 * U, 5.0).reshape(1, 4)
    half, m = array(4e-6, 3e-6, 6e-6, 1e-6).reshape(1, 4), matrix(DCT, 4)
    x = Interval(value, value - half, value + half)
    out = (value[:, None, :] * m).sum(axis=-1)
    free = 2.0 * np.sqrt(np.square((x.hi - value)[:, None, :] * m).sum(axis=-1))
    group = np.abs((array(1.0, 1.0, 1.0, 0.0) * m).sum(axis=-1)) * 3e-6
    total = free + group + own_rounding(value, m)
    found = levels.cepstrum(out, DCT, recipe(fe.Log(base="e")), x)
    np.testing.assert_allclose(found.hi - out, total, rtol=1e-6)
    np.testing.assert_allclose(out - found.lo, total, rtol=1e-6)
    apart = value + array(0.0, 0.0, 1.0, 0.0)
    x, out = Interval(apart, apart - half, apart + half), (apart[:, None, :] * m).sum(axis=-1)
    free = 2.0 * np.sqrt(np.square((x.hi - apart)[:, None, :] * m).sum(axis=-1))
    found = levels.cepstrum(out, DCT, recipe(fe.Log(base="e")), x)
    np.testing.assert_allclose(found.hi - out, free + own_rounding(apart, m), rtol=1e-6)


def test_equal_means_within_four_roundoffs_of_the_least_and_one() -> None:
    m, half = matrix(DCT, 4), np.full((1, 4), 1e-6)
    for step, together in ((4.0 * U * 9.0, True), (4.0 * U * 9.0 * 1.01, False)):
        value = array(-8.0, -8.0, -8.0 + step, 5.0).reshape(1, 4)
        out = (value[:, None, :] * m).sum(axis=-1)
        found = levels.cepstrum(out, DCT, recipe(fe.Log(base="e")), Interval(value, value - half, value + half))
        free = 2.0 * np.sqrt(np.square(half[:, None, :] * m).sum(axis=-1)) + own_rounding(value, m)
        assert np.allclose(found.hi - out, free, rtol=1e-6) is not together


def test_equal_bands_at_the_threshold_are_counted_once() -> None:
    # All but the top are clamped: they share the threshold's error, and aren't a group of equal bands besides.
    value = array(20.0, 10.0, 10.0, 10.0).reshape(1, 4)
    half, m = np.full((1, 4), 1e-6), matrix(DCT, 4)
    x = Interval(value, value - half, value + half)
    out = (value[:, None, :] * m).sum(axis=-1)
    own = np.where(value <= 10.0, np.maximum(1e-6 - (x.hi.max() - 20.0), 0.0), 1e-6)
    free = 2.0 * np.sqrt(np.square(own[:, None, :] * m).sum(axis=-1))
    together = np.abs((np.where(value <= 10.0, 1e-6, 0.0)[:, None, :] * m).sum(axis=-1))
    found = levels.cepstrum(out, DCT, recipe(fe.Decibel(top_db=10.0)), x)
    np.testing.assert_allclose(found.hi - out, free + together + own_rounding(value, m), rtol=1e-6)


def test_each_frame_has_a_least_level_and_a_group_of_its_own() -> None:
    value = array(0.0, 0.0, 0.0, 5.0, 3.0, 3.0, 4.0, 4.0, -1.0, -1.0, -1.0, 2.0).reshape(3, 4)
    half = array(4e-6, 3e-6, 6e-6, 1e-6, 1e-6, 1e-6, 1e-6, 1e-6, 2e-6, 2e-6, 2e-6, 1e-6).reshape(3, 4)
    m = matrix(DCT, 4)
    out = (value[:, None, :] * m).sum(axis=-1)
    together = np.abs((array(1.0, 1.0, 1.0, 0.0) * m).sum(axis=-1))
    groups = np.stack([together * 3e-6, 0.0 * together, together * 2e-6])  # the second frame has two pairs, no group
    free = 2.0 * np.sqrt(np.square(half[:, None, :] * m).sum(axis=-1))
    found = levels.cepstrum(out, DCT, recipe(fe.Log(base="e")), Interval(value, value - half, value + half))
    np.testing.assert_allclose(found.hi - out, free + groups + own_rounding(value, m), rtol=1e-6)


def test_a_cosine_that_is_zero_but_for_rounding() -> None:
    three, m = fe.Cepstrum(count=2), matrix(fe.Cepstrum(count=2), 3)
    value = array(0.0, 8.0, 0.0, 0.0, 2.0, 0.0).reshape(2, 3)
    x = Interval(value, value, value)
    found = levels.cepstrum(np.zeros((2, 2)), three, recipe(fe.Decibel(top_db=None)), x)
    assert abs(m[1, 1]) < 1e-15
    np.testing.assert_allclose(found.hi[:, 1], 4.0 * D * np.abs(m).max() * array(8.0, 2.0), rtol=1e-6)


def test_bands_that_can_only_be_raised_are_raised_together() -> None:
    value = array(-3.0, 1.0, 2.0, 0.5).reshape(1, 4)
    # The third may rise four times as far as it may fall, and no more.
    lo, hi = value - array(0.25, 0.5, 0.0625, 0.0), value + array(4.25, 0.5, 0.25, 0.125)
    found = levels.cepstrum(np.zeros((1, 3)), DCT, recipe(fe.Log(base="e")), Interval(value, lo, hi))
    m = matrix(DCT, 4)
    raised = np.abs(4.0 * m[:, 0] + 0.125 * m[:, 3])
    free = 2.0 * np.sqrt(np.square(array(4.25, 0.5, 0.25, 0.125)) @ np.square(m).T)
    zero = 4.0 * D * np.abs(m).max() * 6.5
    same(found.hi, free + raised + own_rounding(value, m) + zero)


@pytest.mark.parametrize(
    ("compress", "doubled"),
    [
        (fe.Log(base="e"), math.log(2.0)), (fe.Log(base="10"), math.log(2.0) / math.log(10.0)),
        (fe.Decibel(top_db=None), 10.0 * math.log10(2.0)), (None, INF),
    ],
)  # fmt: skip
def test_noise_that_doubles_a_band_raises_it_though_its_floor_is_far(
    compress: fe.Log | fe.Decibel | None, doubled: float
) -> None:
    rise = 1.0 if compress is None else doubled
    # More than twice, down as far; just less than twice; more, and less far down; twice, and no more.
    up = rise * array(1.01, 0.99, 1.5, 1.0)
    down = rise * array(1.01, 5.0, 1.4, 5.0)
    value, m = np.zeros((1, 4)), matrix(DCT, 4)
    x = Interval(value, value - down, value + up)
    free = 2.0 * np.sqrt(np.square(np.maximum(up, down)) @ np.square(m).T)
    raised = 0.0 if compress is None else np.abs(1.01 * rise * m[:, 0])
    # They are equal as well, and the least of their errors is shared.
    together = np.abs(m.sum(axis=1)) * np.maximum(up, down).min()
    same(levels.cepstrum(np.zeros((1, 3)), DCT, recipe(compress), x).hi[0], free + raised + together)


def test_the_sine_of_a_lifter_is_of_a_rounded_argument() -> None:
    value = array(1.0, -2.0, 3.0, 0.5).reshape(1, 4)
    x, frontend = Interval(value, value, value), recipe(fe.Log(base="e"))
    lifted = levels.cepstrum(np.zeros((1, 3)), replace(DCT, lifter=4.0), frontend, x)
    m, raw = matrix(replace(DCT, lifter=4.0), 4), np.abs(value @ matrix(DCT, 4).T)
    argument = math.pi / 4.0 * array(1.0, 2.0, 3.0)
    zero = 4.0 * D * np.abs(m).max() * 6.5
    same(lifted.hi, own_rounding(value, m) + zero + 2.0 * U * (3.0 * argument + 2.0) * raw)
    weak = levels.cepstrum(np.zeros((1, 3)), replace(DCT, lifter=0.75), frontend, x)
    m, argument = matrix(replace(DCT, lifter=0.75), 4), math.pi / 0.75 * array(1.0, 2.0, 3.0)
    zero = 4.0 * D * np.abs(m).max() * 6.5
    same(weak.hi, own_rounding(value, m) + zero + 0.375 * U * (3.0 * argument + 2.0) * raw)


def test_a_dct_of_nothing() -> None:
    nothing = Interval(*[np.zeros((0, 4))] * 3)
    for compress in (fe.Decibel(), fe.Log(base="e")):
        found = levels.cepstrum(np.zeros((0, 3)), DCT, recipe(compress), nothing)
        assert found.lo.shape == found.hi.shape == (0, 3)


def test_behind_a_band_without_end_no_coefficient_is_right_or_wrong() -> None:
    value = np.array([[-INF, -INF, -INF, 1.0], [1.0, 1.5, 2.0, 3.0], [1.0, 1.5, 2.0, 3.0]])
    lo = np.array([[-INF, -INF, -INF, 0.5], [0.5, 1.0, 1.5, 2.5], [-INF, 1.0, 1.5, 2.5]])
    hi = np.array([[-3.0, -3.0, -3.0, 1.5], [1.5, 2.0, 2.5, 3.5], [1.5, 2.0, 2.5, 3.5]])
    given, frontend = array(*[-INF] * 3, *[2.0] * 6).reshape(3, 3), recipe(fe.Log(base="e"))
    found = levels.cepstrum(given, DCT, frontend, Interval(value, lo, hi))
    for row in (0, 2):
        same(found.value[row], [math.nan] * 3)
        same(found.lo[row], [-INF] * 3)
        same(found.hi[row], [INF] * 3)
    # And what is made of them is neither: NaN, infinite less infinite, is as good as any number.
    further = levels.normalize(given, fe.Normalize(mean=(1.0,), spread=(2.0,)), found)
    same(further.value[2], [math.nan] * 3)
    within(Interval(further.value[2], further.lo[2], further.hi[2]), [-INF] * 3, [INF] * 3)
    # The others are what they are by themselves.
    alone = levels.cepstrum(given[1:2], DCT, frontend, Interval(value[1:2], lo[1:2], hi[1:2]))
    same(found.value[1:2], given[1:2])
    within(Interval(given[1:2], found.lo[1:2], found.hi[1:2]), alone.lo, alone.hi)


# ---- Normalization and quantization ----


def test_a_normalization_rounds_by_what_it_subtracts() -> None:
    s = fe.Normalize(mean=(3.0, -0.5), spread=(2.0, -4.0))
    x = Interval(array(1.0, 2.0), array(0.75, 1.0), array(1.125, 4.0))
    value = array(-1.0, -0.625)
    half = array(0.25, 2.0) / array(2.0, 4.0) + 2.0 * U * (
        np.abs(value) + (array(1.0, 2.0) + array(3.0, 0.5)) / array(2.0, 4.0)
    )
    within(levels.normalize(value, s, x), value - half, value + half)


def test_an_end_of_the_logarithm_of_zero_leaves_the_other_where_it_is() -> None:
    # Zero, perhaps zero, and neither; then exactly zero.
    x = Interval(array(-INF, 1.0, 2.0, -INF), array(-INF, -INF, 1.5, -INF), array(0.5, 3.0, 2.5, -INF))
    for spread in (2.0, -2.0):  # and then as small as others count as nothing
        half = fe.Normalize(mean=(1.0,), spread=(0.25 * spread,))
        ends = levels.normalize((x.value - 1.0) / (0.25 * spread), half, x)
        assert np.all(ends.lo <= ends.hi)
        s = fe.Normalize(mean=(1.0,), spread=(spread,))
        ends = array(-INF, -INF, 0.25, -INF), array(-0.25, 1.0, 0.75, -INF)
        own = 2.0 * U * array(0.25 + 1.5 / 2.0, 1.0 + 4.0 / 2.0, 0.5 + 3.0 / 2.0, 0.0)
        lo, hi = (ends[0] - own, ends[1] + own) if spread > 0.0 else (-ends[1] - own, -ends[0] + own)
        value = (x.value - 1.0) / spread
        within(levels.normalize(value, s, x), lo, hi)


def test_an_end_of_the_logarithm_of_zero_is_the_last_integer() -> None:
    s = fe.Quantize(dtype="int8", scale=0.3, zero_point=3, rounding="half-away")
    x = Interval(array(-INF, -INF, 1.0), array(-INF, -INF, -INF), array(-INF, 1.0, 1.0))
    within(levels.quantized(array(-128.0, -128.0, 6.0), s, x), [-128.0] * 3, [-128.0, 6.0, 6.0])


@pytest.mark.parametrize("rounding", ["half-even", "half-away", "floor"])
@pytest.mark.parametrize("scale", [0.5, 0.3])
def test_a_step_where_an_end_may_round_to_it(rounding: str, scale: float) -> None:
    s = fe.Quantize(dtype="int8", scale=scale, zero_point=3, rounding=rounding)  # type: ignore[arg-type]
    edge = (7.0 + (0.0 if rounding == "floor" else 0.5)) * scale
    # The quotient rounds, but by a power of two it doesn't; and so does the half that is added.
    own = (0.0 if scale == 0.5 else 2.0 * U * edge) + (U * (edge + 0.5 * scale) if rounding == "half-away" else 0.0)
    for reach, step in ((0.95, 1.0), (1.05, 0.0)):  # just within it, and just out of it
        for side in (-1.0, 1.0):
            at = array(edge + side * max(own * reach, 1e-9))
            found = levels.quantized(array(0.0), s, Interval(at, at, at))
            assert found.hi[0] - found.lo[0] == (step if own else 0.0), (reach, side)
            assert found.value[0] == 0.0


def test_an_end_that_is_infinite_says_nothing_of_how_the_other_rounds() -> None:
    s = fe.Quantize(dtype="int8", scale=0.75, zero_point=3, rounding="half-even")
    edge, own = 0.375, 2.0 * U * 0.375
    for reach, high in ((0.95, 4.0), (1.05, 3.0)):
        found = levels.quantized(array(3.0), s, Interval(array(0.0), array(-INF), array(edge - reach * own)))
        assert (found.lo[0], found.hi[0]) == (-128.0, high)


def test_the_ends_of_a_bound_are_quantized() -> None:
    s = fe.Quantize(dtype="uint8", scale=0.5)
    x = Interval(array(1.0, 9.0), array(0.2, -5.0), array(1.3, 500.0))
    within(levels.quantized(array(2.0, 18.0), s, x), [0.0, 0.0], [3.0, 255.0])
    within(levels.quantized(array(0.0), s, Interval(*[array(0.0)] * 3)), [0.0], [0.0])
    # What rounds is the larger end, whichever side of zero it is on.
    coarse = fe.Quantize(dtype="int8", scale=1.0 + 2.0**-10)
    at = -(0.5 + 2.0**-11) * (1.0 + 1e-8)
    assert levels.quantized(array(-1.0), coarse, Interval(array(at), array(at), array(at))).hi[0] == 0.0
