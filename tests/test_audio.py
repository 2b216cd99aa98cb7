from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile

from parity import audio
from parity import frontend as fe
from parity.errors import AudioError, NothingCompared
from parity.protocols import Array

FRONTEND = fe.Frontend(
    input=fe.Input(rate=16000), frame=fe.Frame(length=512, hop=160), window=fe.Window(name="hann"),
    spectrum=fe.Spectrum(n_fft=512),
)  # fmt: skip
RESAMPLED = dataclasses.replace(FRONTEND, input=fe.Input(rate=16000, resample="soxr-hq"))
TONE = (0.5 * np.sin(np.arange(16000) * 0.3)).astype(np.float32)


def wav(folder: Path, samples: Array = TONE, rate: int = 16000, subtype: str = "PCM_16", name: str = "x.wav") -> Path:
    soundfile.write(folder / name, samples, rate, subtype=subtype)
    return folder / name


def read(path: Path, frontend: fe.Frontend = FRONTEND) -> Array:
    clip = audio.read(path, "x", frontend)
    assert clip.samples.dtype == np.float32
    assert clip.samples.flags.c_contiguous
    assert clip.rate == frontend.input.rate
    assert clip.sha256 == audio.digest(clip.samples, clip.rate)
    return clip.samples


def test_16_bit_is_divided_by_32768(tmp_path: Path) -> None:
    whole = np.array([-32768, -1, 0, 1, 32767] * 200, np.int16)
    np.testing.assert_array_equal(read(wav(tmp_path, whole)), whole.astype(np.float32) / 32768)


def test_24_bit_keeps_its_bits(tmp_path: Path) -> None:
    got = read(wav(tmp_path, subtype="PCM_24"))
    assert np.abs(got - TONE).max() <= 2.0**-23
    assert not np.array_equal(got, read(wav(tmp_path)))


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_files_are_taken_as_they_are_beyond_full_scale_too(tmp_path: Path, subtype: str) -> None:
    loud = TONE * 3
    np.testing.assert_array_equal(read(wav(tmp_path, loud, subtype=subtype)), loud)


def test_flac_is_what_the_wav_is(tmp_path: Path) -> None:
    whole = (TONE * 32767).astype(np.int16)
    soundfile.write(tmp_path / "x.flac", whole, 16000, subtype="PCM_16")
    flac, pcm = audio.read(tmp_path / "x.flac", "a", FRONTEND), audio.read(wav(tmp_path, whole), "b", FRONTEND)
    assert flac.sha256 == pcm.sha256


def test_the_digest_knows_rate_and_samples() -> None:
    seen = {
        audio.digest(TONE, 16000),
        audio.digest(TONE, 8000),
        audio.digest(TONE[:-1], 16000),
        audio.digest(-TONE, 16000),
    }
    assert len(seen) == 4
    assert audio.digest(TONE.astype(">f4"), 16000) in seen


def test_stereo_is_refused_with_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="2 channels; a clip is mono") as e:
        read(wav(tmp_path, np.stack([TONE, TONE], axis=1)))
    assert "sox" in (e.value.hint or "")


def test_another_rate_is_refused_unless_the_recipe_converts(tmp_path: Path) -> None:
    time = np.arange(44100) / 44100
    path = wav(tmp_path, (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32), 44100)
    with pytest.raises(AudioError, match="at 44100 Hz; the frontend wants 16000 Hz") as e:
        read(path)
    assert "soxr-hq" in (e.value.hint or "")
    got = read(path, RESAMPLED)
    assert len(got) == 16000
    right = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert np.abs(got - right)[500:-500].max() < 1e-3


@pytest.mark.parametrize("name", ["empty.wav", "text.wav", "cut.wav", "text.flac"])
def test_what_isnt_audio_is_an_audio_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    content = {"empty.wav": b"", "cut.wav": wav(tmp_path).read_bytes()[:20]}.get(name, b"hello, I am no sound\n" * 50)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=name):
        read(tmp_path / name)


def test_a_file_that_isnt_there_is_an_audio_error(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="absent"):
        read(tmp_path / "absent.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_arent_finite_are_refused(tmp_path: Path, bad: float) -> None:
    samples = TONE.copy()
    samples[77] = bad
    with pytest.raises(AudioError, match="NaN or infinite"):
        read(wav(tmp_path, samples, subtype="FLOAT"))


def test_a_clip_of_less_than_a_frame_says_how_long_it_must_be(tmp_path: Path) -> None:
    assert len(read(wav(tmp_path, TONE[:512]))) == 512
    with pytest.raises(AudioError, match="511 samples, less than one frame of 512") as e:
        read(wav(tmp_path, TONE[:511]))
    assert "at least 32 ms" in (e.value.hint or "")
    with pytest.raises(AudioError, match="0 samples"):
        read(wav(tmp_path, TONE[:0]))


def test_a_recipe_of_one_length_can_refuse_the_others(tmp_path: Path) -> None:
    strict = dataclasses.replace(FRONTEND, input=fe.Input(rate=16000, length=16000, fit="refuse"))
    assert len(read(wav(tmp_path), strict)) == 16000
    with pytest.raises(AudioError, match="15999 samples; the frontend wants exactly 16000") as e:
        read(wav(tmp_path, TONE[:-1]), strict)
    assert "pad-or-cut" in (e.value.hint or "")


def test_clips_of_a_folder_are_found_in_order_by_their_suffix(tmp_path: Path) -> None:
    for name in ("b/2.WAV", "b/10.wav", "a.flac", "c/x.txt", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, TONE, 16000, format="FLAC" if name.endswith("flac") else "WAV")
    (tmp_path / "d.wav").mkdir()
    names = [c.name for c in audio.folder_clips(tmp_path, FRONTEND)]
    assert names == ["a.flac", "b/10.wav", "b/2.WAV"]
    assert [c.name for c in audio.folder_clips(tmp_path / "b" / "10.wav", FRONTEND)] == ["10.wav"]


def test_no_audio_is_nothing_compared_and_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NothingCompared, match="no audio in"):
        audio.find(tmp_path)
    with pytest.raises(AudioError, match="no such folder"):
        audio.find(tmp_path / "absent")
