from __future__ import annotations

import dataclasses
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import example, given
from hypothesis import strategies as st

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


def chunk(order: str, name: bytes, content: bytes, says: int | None = None) -> bytes:
    """A chunk of a WAV file; its header says another size where one is given."""
    size = len(content) if says is None else says
    return name + struct.pack(f"{order}I", size) + content + b"\0" * (len(content) % 2)


def riff(
    *, order: str = "<", bits: int = 16, count: int = 1000, before: bytes = b"", after: bytes = b"",
    says: int | None = None, whole: int | None = None, magic: bytes = b"",
) -> bytes:  # fmt: skip
    """A PCM WAV file of `count` samples, byte by byte: other chunks around its data, and what its headers say."""
    numbers = (TONE[:count] * 2.0**31).astype(np.int64) >> (32 - bits)
    if bits == 8:
        numbers += 128  # the only unsigned one
    little = numbers.astype("<i8").view(np.uint8).reshape(-1, 8)[:, : bits // 8]
    content = (little if order == "<" else little[:, ::-1]).tobytes()
    fmt = struct.pack(f"{order}HHIIHH", 1, 1, 16000, 16000 * bits // 8, bits // 8, bits)
    body = b"WAVE" + before + chunk(order, b"fmt ", fmt) + chunk(order, b"data", content, says) + after
    size = len(body) if whole is None else whole
    return (magic or {"<": b"RIFF", ">": b"RIFX"}[order]) + struct.pack(f"{order}I", size) + body


def put(folder: Path, content: bytes, name: str = "x.wav") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("order", ["<", ">"], ids=["RIFF", "RIFX"])
@pytest.mark.parametrize(("bits", "cut", "left"), [(16, 200, 900), (16, 1, 999), (24, 3, 999), (32, 300, 925)])
def test_a_wav_that_was_cut_short_says_how_much_is_there(
    order: str, bits: int, cut: int, left: int, tmp_path: Path
) -> None:
    whole = riff(order=order, bits=bits)
    assert len(read(put(tmp_path, whole))) == 1000
    with pytest.raises(AudioError, match=rf"its header says 1000 samples, {left} are there: truncated") as e:
        read(put(tmp_path, whole[:-cut]))
    assert e.value.hint == "copy it again from where it was recorded"


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "ULAW"])
def test_a_cut_is_noticed_in_every_kind_of_wav(form: str, subtype: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", TONE, 16000, format=form, subtype=subtype)
    whole = (tmp_path / "x.wav").read_bytes()
    assert len(read(tmp_path / "x.wav")) == 16000
    with pytest.raises(AudioError, match=r"its header says 16000 samples, 1\d{4} are there: truncated"):
        read(put(tmp_path, whole[:-800]))


def test_a_compressed_wav_that_was_cut_short_is_counted_in_bytes(tmp_path: Path) -> None:
    path = wav(tmp_path, subtype="IMA_ADPCM")
    assert len(read(path)) >= 16000
    with pytest.raises(AudioError, match=r"its header says \d+ bytes of sound, \d+ are there: truncated"):
        read(put(tmp_path, path.read_bytes()[:-100]))


@pytest.mark.parametrize(
    ("says", "whole"),
    [
        (0, 8),  # a recorder that was never stopped: libsndfile takes what is there
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0),
        (0x7FFFFFFF, 0x7FFFFFFF),
        (0x7FFFFFDC, 0x80000000),
        (0x7FFFF000, 0x7FFFF024),
        (0x7FFF0000, 0x7FFF0024),
        (0x80000000, 0x80000024),
    ],
    ids=hex,
)
@pytest.mark.parametrize("order", ["<", ">"], ids=["RIFF", "RIFX"])
def test_a_size_that_nobody_knew_is_no_cut(order: str, says: int, whole: int, tmp_path: Path) -> None:
    streamed = read(put(tmp_path, riff(order=order, says=says, whole=whole)))
    np.testing.assert_array_equal(streamed, read(put(tmp_path, riff(order=order))))


@pytest.mark.parametrize("says", [2002, 100_000, 0x7FFEFFFF])
def test_a_size_that_somebody_knew_is_a_cut(says: int, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=f"its header says {says // 2} samples, 1000 are there: truncated"):
        read(put(tmp_path, riff(says=says)))


def test_an_rf64_file_streamed_without_its_long_size_is_no_cut(tmp_path: Path) -> None:
    unknown = chunk("<", b"ds64", struct.pack("<QQQI", 0, 0, 1000, 0))
    whole = riff(magic=b"RF64", says=0xFFFFFFFF, whole=0xFFFFFFFF, before=unknown)
    assert audio._cut_short(put(tmp_path, whole)) is None  # what libsndfile makes of it is its own affair


@pytest.mark.parametrize("size", [3, 26, 27])
@pytest.mark.parametrize("order", ["<", ">"], ids=["RIFF", "RIFX"])
def test_other_chunks_around_the_sound_are_stepped_over(order: str, size: int, tmp_path: Path) -> None:
    """A chunk of an odd size is followed by a byte that its size doesn't count."""
    note, sound = chunk(order, b"note", (b"data" * 9)[:size]), read(put(tmp_path, riff(order=order)))
    around = riff(order=order, before=note * 2, after=note)
    np.testing.assert_array_equal(read(put(tmp_path, around)), sound)
    np.testing.assert_array_equal(read(put(tmp_path, around[: -len(note)])), sound)
    with pytest.raises(AudioError, match="its header says 1000 samples, 990 are there: truncated"):
        read(put(tmp_path, around[: -len(note) - 20]))


@given(
    st.sampled_from("<>"), st.sampled_from([8, 16, 24, 32]), st.integers(512, 1500), st.binary(max_size=9),
    st.binary(max_size=9), st.integers(0, 10_000),
)  # fmt: skip
@example("<", 16, 1000, b"", b"", 2043)
@example(">", 8, 1001, b"odd", b"more", 1056)
def test_a_whole_wav_cut_anywhere_is_refused_or_gives_all_it_had(
    order: str, bits: int, count: int, before: bytes, after: bytes, at: int
) -> None:
    whole = riff(order=order, bits=bits, count=count, before=chunk(order, b"PAD ", before),
                 after=chunk(order, b"PAD ", after))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        sound = read(put(Path(folder), whole))
        assert len(sound) == count
        try:
            got = read(put(Path(folder), whole[: at % len(whole)]))
        except AudioError:
            return
    np.testing.assert_array_equal(got, sound)


def test_a_flac_is_no_wav_and_is_refused_by_its_own_reader_where_it_was_cut(tmp_path: Path) -> None:
    path = wav(tmp_path, name="x.flac")
    whole = path.read_bytes()
    assert audio._cut_short(path) is None
    assert len(read(path)) == 16000
    for cut in (1, 100, len(whole) // 2):
        with pytest.raises(AudioError, match="can't be read as audio"):
            read(put(tmp_path, whole[:-cut], "x.flac"))
