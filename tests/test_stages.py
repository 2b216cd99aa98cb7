"""`parity.stages`: what a stage did with the input that it had, wherever its error came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from parity import frontend as fe
from parity import stages
from parity.backends import reference
from parity.backends.numpy_ import NumpyBackend
from parity.protocols import Array, Clip, Tap
from parity.testing import RECIPES, SOUNDS

CNN = RECIPES["commands-cnn"]
FRAMES, WINDOWED, SPECTRUM = "features/frames", "features/windowed", "features/spectrum"
FILTERBANK, COMPRESSED = "features/filterbank", "features/compressed"
AT_16_KHZ = {name: f for name, f in RECIPES.items() if f.input.rate == 16000}
CLIP = SOUNDS[0]


def given(frontend: fe.Frontend, clip: Clip = CLIP) -> dict[Tap, Array]:
    """What numpy gives at every tap in float32; what it can't honour, the oracle rounded to what a tap is given in."""
    numpy: NumpyBackend = NumpyBackend()
    taken = reference.ReferenceBackend() if numpy.supports(frontend) is not None else numpy
    return dict(taken.features([clip], frontend, taken.taps(frontend))[0])


def outcomes(frontend: fe.Frontend, taps: Mapping[Tap, Array], clip: Clip = CLIP) -> dict[Tap, str]:
    return {tap: own.comparison.outcome for tap, own in stages.isolated(frontend, clip, taps).items()}


def failing(frontend: fe.Frontend, taps: Mapping[Tap, Array], clip: Clip = CLIP) -> list[Tap]:
    return [tap for tap, outcome in outcomes(frontend, taps, clip).items() if outcome != "pass"]


@pytest.mark.parametrize("frontend", AT_16_KHZ.values(), ids=AT_16_KHZ)
def test_what_is_right_is_within_the_bound_of_each_stage_alone(frontend: fe.Frontend) -> None:
    for clip in SOUNDS:
        if len(clip.samples) < 16000 and frontend.input.length is None:
            continue
        found = outcomes(frontend, given(frontend, clip), clip)
        assert found == dict.fromkeys(frontend.taps, "pass"), clip.name


def test_each_class_of_arithmetic_has_its_own_bound() -> None:
    librosa = pytest.importorskip("parity.backends.librosa_").LibrosaBackend()
    (taps,) = librosa.features([CLIP], CNN, librosa.taps(CNN))
    found = stages.isolated(CNN, CLIP, taps, "float64-rounded")
    assert {own.comparison.outcome for own in found.values()} == {"pass"}
    wide = stages.isolated(CNN, CLIP, taps)[SPECTRUM].comparison
    close = found[SPECTRUM].comparison
    assert wide.ratio is not None
    assert close.ratio is not None
    assert wide.ratio < close.ratio


PLANTED: dict[str, tuple[str, fe.Frontend, Tap]] = {
    "symmetric window": ("commands-cnn", replace(CNN, window=replace(CNN.window, periodic=False)), WINDOWED),
    "magnitude": ("commands-cnn", replace(CNN, spectrum=replace(CNN.spectrum, exponent=1)), SPECTRUM),
    "mel scale": ("commands-cnn", replace(CNN, filterbank=replace(CNN.filterbank, scale="slaney")), FILTERBANK),
    "bank's norm": ("commands-cnn", replace(CNN, filterbank=replace(CNN.filterbank, norm="none")), FILTERBANK),
    "offset": ("commands-cnn", replace(CNN, compress=replace(CNN.compress, offset=1e-7)), COMPRESSED),
    "hop": ("commands-cnn", replace(CNN, frame=replace(CNN.frame, hop=161)), FRAMES),
}


@pytest.mark.parametrize(("of", "changed", "tap"), PLANTED.values(), ids=PLANTED)
def test_a_fault_shows_at_its_own_stage_and_at_no_other(of: str, changed: fe.Frontend, tap: Tap) -> None:
    assert failing(RECIPES[of], given(changed)) == [tap]


def test_a_dct_of_another_norm_shows_at_the_cepstrum_alone() -> None:
    mfcc = RECIPES["mfcc"]
    assert mfcc.cepstrum is not None
    changed = replace(mfcc, cepstrum=replace(mfcc.cepstrum, norm="none"))
    assert failing(mfcc, given(changed)) == ["features/cepstrum"]


def test_a_gain_of_float16_mel_weights_is_found_where_it_is_made() -> None:
    taps = given(CNN)
    bank = reference.bank(CNN).astype(np.float16).astype(np.float32)
    taps[FILTERBANK] = taps[SPECTRUM] @ bank.T
    taps[COMPRESSED] = reference.stage(CNN, COMPRESSED, taps[FILTERBANK])
    assert failing(CNN, taps) == [FILTERBANK]


def test_a_lost_frame_is_lost_where_frames_are_cut_and_the_rest_is_explained() -> None:
    taps = {tap: a if tap == "features/audio" else a[:-1] for tap, a in given(CNN).items()}
    found = stages.isolated(CNN, CLIP, taps)
    assert failing(CNN, taps) == [FRAMES]
    assert "1 frames fewer" in found[FRAMES].comparison.message
    assert found[FRAMES].error(taps[FRAMES]) is None
    for tap in (WINDOWED, SPECTRUM, FILTERBANK, COMPRESSED):
        assert found[tap].since == CNN.taps[CNN.taps.index(tap) - 1]
        error = found[tap].error(taps[tap])
        assert error is not None
        assert error.shape == taps[tap].shape


def test_where_taps_between_are_missing_their_stages_are_applied_together() -> None:
    changed = replace(CNN, window=replace(CNN.window, periodic=False))
    taps = {tap: a for tap, a in given(changed).items() if tap in ("features/audio", SPECTRUM, COMPRESSED)}
    found = stages.isolated(CNN, CLIP, taps)
    assert {tap: own.since for tap, own in found.items()} == {
        "features/audio": "", SPECTRUM: "features/audio", COMPRESSED: SPECTRUM,
    }  # fmt: skip
    assert failing(CNN, taps) == [SPECTRUM]


def test_the_last_tap_alone_is_judged_from_the_samples() -> None:
    changed = replace(CNN, window=replace(CNN.window, periodic=False))
    for frontend, outcome in ((CNN, "pass"), (changed, "fail")):
        found = stages.isolated(CNN, CLIP, {COMPRESSED: given(frontend)[COMPRESSED]})
        assert found[COMPRESSED].since == stages.SAMPLES
        assert found[COMPRESSED].comparison.outcome == outcome


def test_one_wrong_element_is_two_stages_own_error_where_the_next_did_not_use_it() -> None:
    taps = given(CNN)
    taps[SPECTRUM] = taps[SPECTRUM].copy()
    taps[SPECTRUM][40, 100] *= 3.0
    assert failing(CNN, taps) == [SPECTRUM, FILTERBANK]


def test_the_error_is_the_candidate_less_what_the_stage_makes_of_its_input() -> None:
    taps = given(replace(CNN, compress=replace(CNN.compress, offset=1e-7)))
    own = stages.isolated(CNN, CLIP, taps)[COMPRESSED]
    expected = taps[COMPRESSED] - np.log10(taps[FILTERBANK].astype(np.float64) + 1e-6)
    np.testing.assert_allclose(own.error(taps[COMPRESSED]), expected, atol=1e-15)
    c = own.comparison
    assert c.index is not None
    assert c.error == pytest.approx(abs(expected[c.index]))


def test_what_a_stage_cannot_take_is_left_out() -> None:
    taps = given(CNN)
    taps[SPECTRUM] = np.ascontiguousarray(taps[SPECTRUM].T)  # no bank of 257 bins takes 98
    found = stages.isolated(CNN, CLIP, taps)
    assert FILTERBANK not in found
    assert failing(CNN, taps) == [SPECTRUM]
    taps[SPECTRUM] = np.zeros(0, np.float32)
    assert FILTERBANK not in stages.isolated(CNN, CLIP, taps)
    assert stages.isolated(CNN, CLIP, {}) == {}


def test_a_nan_is_found_and_nothing_is_changed() -> None:
    taps = given(CNN)
    taps[SPECTRUM] = taps[SPECTRUM].copy()
    taps[SPECTRUM][3, 4] = np.nan
    before = {tap: a.tobytes() for tap, a in taps.items()}
    samples = CLIP.samples.tobytes()
    assert failing(CNN, taps)[0] == SPECTRUM
    assert {tap: a.tobytes() for tap, a in taps.items()} == before
    assert CLIP.samples.tobytes() == samples


ODD: list[Array] = [
    np.ones(()), np.zeros(0, np.float32), np.zeros((0, 3), np.float32), np.ones((2, 2, 2), np.float32),
    np.full((98, 512), np.nan, np.float32), np.full((98, 512), -np.inf), np.full((3, 50), 1e38, np.float32),
    np.frombuffer(b"\x7f\xa0\x00\x01" * 98 * 512, ">f4").reshape(98, 512), np.full((98, 512), -1, np.int8),
    np.ones((98, 512), complex), np.array([["a"]]), np.ones((98, 512), bool), np.full((98, 50), 1e-45, np.float32),
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=lambda a: f"{a.dtype}{list(a.shape)}")
@pytest.mark.parametrize("name", ["commands-cnn", "mfcc", "tiny-conv", "micro-speech", "raw audio in chunks"])
def test_whatever_comes_nothing_is_raised(name: str, odd: Array) -> None:
    frontend = RECIPES[name]
    right = given(frontend)
    for tap in frontend.taps:
        assert outcomes(frontend, right | {tap: odd}).get(tap, "fail") == "fail"
    stages.isolated(frontend, CLIP, dict.fromkeys(frontend.taps, odd))


def test_integers_are_known_exactly() -> None:
    tiny = RECIPES["tiny-conv"]
    assert tiny.quantize is not None
    taps = given(tiny)
    taps[tiny.output] = np.where(taps[tiny.output] == 3, taps[tiny.output] + 1, taps[tiny.output]).astype(np.uint8)
    assert failing(tiny, taps) == [tiny.output]
