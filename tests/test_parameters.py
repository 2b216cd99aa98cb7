"""Parameters of a clip: what they render to, how they are told, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.errors import AudioError
from parity.parameters import Parameters, Sound, clip_of, describe, from_plain, named, render, to_plain
from parity.signals import Signal
from parity.signals import render as rendered
from tests.conftest import PROJECT

CLIPS = PROJECT / "golden" / "clips"
YES = Sound(kind="recording", file="yes-en-us-f2.flac")


def test_nothing_is_a_second_of_silence() -> None:
    assert named(Parameters()) == ["silence"]
    assert not render(Parameters()).any()
    assert render(Parameters(rate=8000)).shape == (8000,)


@pytest.mark.parametrize("kind", ["tone", "chirp", "impulse", "impulses", "step"])
def test_one_sound_is_the_signal_of_that_name(kind: Any) -> None:
    one = Parameters(sounds=(Sound(kind=kind, level_dbfs=-6.0, frequency=500.0),), dc=0.25, length=999, fade=30)
    signal = Signal(kind=kind, level_dbfs=-6.0, frequency=500.0, dc=0.25, length=999, fade=30)
    np.testing.assert_array_equal(render(one), rendered(signal))
    assert named(one)[:2] == describe(one).split(", ")[:2]


def test_sounds_add_up_each_from_its_place() -> None:
    both = render(
        Parameters(sounds=(Sound(kind="impulse", at=5), Sound(kind="step", at=7, level_dbfs=-20.0)), length=9)
    )
    np.testing.assert_allclose(both, [0, 0, 0, 0, 0, 1, 0, 0.1, 0.1], atol=1e-7)
    late = render(Parameters(sounds=(Sound(kind="tone", at=400),)))
    np.testing.assert_array_equal(late[400:], render(Parameters(sounds=(Sound(kind="tone"),)))[: 16000 - 400])
    assert not late[:400].any()


def test_a_recording_is_shifted_both_ways_and_its_gain_is_in_db() -> None:
    whole = render(Parameters(sounds=(YES,)), CLIPS)
    early = render(Parameters(sounds=(Sound(kind="recording", file=YES.file, at=-3000, level_dbfs=-20.0),)), CLIPS)
    np.testing.assert_allclose(early[:-3000], 0.1 * whole[3000:], rtol=1e-6)
    assert not early[-3000:].any()
    late = Parameters(sounds=(Sound(kind="recording", file=YES.file, at=3000),))
    np.testing.assert_array_equal(render(late, CLIPS)[3000:], whole[:-3000])
    assert named(late) == ["yes-en-us-f2.flac", "from 3000"]


def test_played_twice_as_fast_every_other_sample_is_left() -> None:
    whole, fast = (render(Parameters(sounds=(YES,), speed=s), CLIPS) for s in (1.0, 2.0))
    np.testing.assert_array_equal(fast[:8000], whole[::2])
    assert not fast[8000:].any()


def test_padding_noise_offset_and_clipping_come_last() -> None:
    p = Parameters(sounds=(Sound(kind="step"),), after=4, dc=-0.5, clip_at=0.25, length=8)
    np.testing.assert_array_equal(render(p), [0.25] * 4 + [-0.25] * 4)
    noisy = Parameters(noise_dbfs=-20.0, seed=3, length=1000)
    assert 0.09 < np.abs(render(noisy)).max() <= 0.1
    assert named(noisy) == ["noise -20 dBFS", "seed 3", "length 1000"]
    assert (render(noisy) != render(Parameters(noise_dbfs=-20.0, length=1000))).all()


def test_a_description_names_what_matters() -> None:
    p = Parameters(sounds=(Sound(frequency=1000.0, level_dbfs=-80.0),), dc=0.3, length=511, seed=4)
    assert describe(p) == "tone 1000 Hz, -80 dBFS, DC 0.3, length 511"
    chirp = Parameters(sounds=(Sound(kind="chirp", frequency=20.0, end_frequency=400.0, at=3),), rate=8000)
    assert named(chirp) == ["chirp 20 to 400 Hz", "from 3", "rate 8000 Hz"]
    assert clip_of(p).name == describe(p)


def test_what_is_written_down_is_what_it_was() -> None:
    p = Parameters(sounds=(YES, Sound(kind="white", level_dbfs=-6.5)), speed=0.5, length=77, noise_dbfs=-60.0)
    assert from_plain(to_plain(p)) == p
    assert to_plain(Parameters()) == {}


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"sounds": [{"kind": "hum"}]}, "kind must be one of"),
        ({"sounds": [{"kind": "recording"}]}, "needs a file"),
        ({"sounds": [{"kind": "recording", "file": "../x.wav"}]}, "not below the clips"),
        ({"sounds": [{"kind": "recording", "file": "/etc/x.wav"}]}, "not below the clips"),
        ({"sounds": [{"kind": "tone", "at": -1}]}, "at must be 0 or more"),
        ({"sounds": [{"kind": "tone", "at": 9}], "length": 9}, "at must be below 9"),
        ({"sounds": [{"kind": "tone", "frequency": 9000.0}]}, "frequency"),
        ({"sounds": [{"kind": "tone", "level_dbfs": 1000.0}]}, "dBFS"),
        ({"sounds": [{}] * 5}, "at most 4 sounds"),
        ({"sounds": 3}, "sounds must be a list"),
        ({"sounds": [3]}, "must be a table"),
        ({"speed": 9.0}, "speed must be"),
        ({"after": 17000}, "after must be"),
        ({"fade": 9000}, "fade must be"),
        ({"length": 0}, "length must be"),
        ({"length": -1}, "length must be 1 to 16777216 samples, not -1"),
        ({"length": 10**12}, "length must be 1 to 16777216 samples"),
        ({"length": 2**23, "speed": 4.0}, "length times speed must be at most 16777216 samples, not 33554432"),
        ({"rate": 10**12}, "rate must be 1 to 16777216 Hz"),
        ({"sounds": [{"kind": "recording", "file": "a\0b"}]}, "can't be the name of a file"),
        ({"sounds": [{"kind": 3}]}, "kind must be a word"),
        ({"dc": 10**400}, "dc must be a finite number"),
        ({"speed": 10**400}, "speed must be a finite number"),
        ({"dc": True}, "dc must be a finite number"),
        ({"length": 1.5}, "length must be a whole number"),
        ({"dc": float("nan")}, "dc must be a finite number"),
        ({"seed": True}, "seed must be a whole number"),
        ({"loudness": 3}, "unknown in the clip: loudness"),
    ],
)  # fmt: skip
def test_what_is_impossible_is_refused_by_name(plain: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_plain(plain)


def test_a_recording_that_is_not_there_is_an_audio_error(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        with pytest.raises(AudioError, match=r"yes-en-us-f2\.flac"):
            render(Parameters(sounds=(YES,)), folder)
