"""Makes the project's own clips in `golden/clips/`: spoken by eSpeak NG, and designed from parameters.

    python golden/make_clips.py            # writes the FLAC files and their README.md
    python golden/make_clips.py --check    # makes them again in memory and compares: exit 1 when one differs

The clips are committed: goldens are recorded from the files, never from a synthesizer that happens to be
installed. Needs `espeakng-loader`, soundfile and soxr, and `parity` on the path.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import espeakng_loader  # type: ignore[import-untyped]
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from parity.signals import Signal, describe, render

RATE = 16_000
FOLDER = Path(__file__).parent / "clips"
FULL_SCALE = 32_768
MARGIN = RATE // 40  # a word has to begin and end at least 25 ms inside its clip

# Of eSpeak NG's speak_lib.h.
SYNCHRONOUS_OUTPUT = 2
SPEED_PARAMETER = 1
PITCH_PARAMETER = 3
UTF8_TEXT = 1


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """One utterance and what is done to it, up to the samples of a file."""

    file: str
    text: str
    voice: str
    """eSpeak NG's name: language+variant."""
    speed: int = 165
    """Words a minute."""
    pitch: int = 50
    """0 to 99."""
    peak_dbfs: float
    """Before the gain."""
    gain_db: float = 0.0
    noise_dbfs: float | None = None
    """Peak of a white noise floor."""
    dither: bool = False
    length: int = RATE


SPOKEN = [
    Spoken(file="yes-en-us-f2", text="yes", voice="en-us+f2", peak_dbfs=-6, noise_dbfs=-60),
    Spoken(file="no-en-gb-m3", text="no", voice="en+m3", speed=150, pitch=42, peak_dbfs=-3),
    Spoken(
        file="up-en-gb-scotland-f3",
        text="up",
        voice="en-gb-scotland+f3",
        pitch=60,
        peak_dbfs=-9,
        noise_dbfs=-60,
        length=12_288,
    ),
    Spoken(file="down-en-gb-rp-m1", text="down", voice="en-gb-x-rp+m1", speed=140, pitch=40, peak_dbfs=-4),
    Spoken(file="left-en-us-nyc-m7", text="left", voice="en-us-nyc+m7", peak_dbfs=-8, noise_dbfs=-60),
    Spoken(file="right-en-029-f1", text="right", voice="en-029+f1", speed=155, pitch=58, peak_dbfs=-5),
    Spoken(
        file="on-en-gb-midlands-m5",
        text="on",
        voice="en-gb-x-gbcwmd+m5",
        speed=180,
        peak_dbfs=-12,
        noise_dbfs=-60,
    ),
    Spoken(file="off-en-gb-lancaster-f4", text="off", voice="en-gb-x-gbclan+f4", pitch=64, peak_dbfs=-2),
    Spoken(file="stop-en-us-m4", text="stop", voice="en-us+m4", pitch=38, peak_dbfs=-7, noise_dbfs=-60),
    Spoken(file="go-en-gb-f5", text="go", voice="en+f5", speed=145, pitch=52, peak_dbfs=-10),
    Spoken(
        file="seven-en-us-m2",
        text="seven",
        voice="en-us+m2",
        speed=135,
        pitch=48,
        peak_dbfs=-6,
        noise_dbfs=-60,
        length=17_500,
    ),
    Spoken(file="quiet-yes", text="yes", voice="en-gb-x-rp+f1", peak_dbfs=-60, dither=True),
    Spoken(file="clipped-stop", text="stop", voice="en-gb-scotland+m6", peak_dbfs=-6, gain_db=30),
]

DESIGNED = {
    "silence": Signal(),
    "sine-1khz": Signal(kind="tone", frequency=1_000.0),
    "impulse": Signal(kind="impulse", at=8_000),
    "dc-half": Signal(kind="dc", dc=0.5),
    "white-noise": Signal(kind="white", level_dbfs=-20.0, seed=1),
    "chirp": Signal(kind="chirp", frequency=20.0, end_frequency=8_000.0, level_dbfs=-6.0),
}


def main() -> int:
    """Writes or checks the clips, or speaks one word as the child process that `utter` starts."""
    parser = argparse.ArgumentParser(description="Make the project's own clips.")
    parser.add_argument("--check", action="store_true", help="compare with the files and write nothing")
    parser.add_argument("--say", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.say:
        voice, speed, pitch, text = options.say
        sys.stdout.buffer.write(say(voice, int(speed), int(pitch), text))
        return 0
    clips = {file: (what, samples) for file, what, samples in make()}
    for word in SPOKEN:
        inspect(word, clips[word.file][1])
    if options.check:
        return check({file: samples for file, (_, samples) in clips.items()})
    FOLDER.mkdir(exist_ok=True)
    for file, (_, samples) in clips.items():
        soundfile.write(FOLDER / f"{file}.flac", samples, RATE, subtype="PCM_16")
    (FOLDER / "README.md").write_text(readme(clips), encoding="utf-8")
    return 0


def make() -> Iterator[tuple[str, str, NDArray[np.int16]]]:
    """Each clip: name of its file, what it is, samples (int16)."""
    for number, word in enumerate(SPOKEN):
        what = f'"{word.text}", eSpeak NG voice `{word.voice}`, speed {word.speed}, pitch {word.pitch}'
        what += f", gain +{word.gain_db:g} dB, clipped at full scale" if word.gain_db else ""
        what += f", white noise floor of {word.noise_dbfs:g} dBFS peak" if word.noise_dbfs is not None else ""
        what += ", triangular dither of ±1 step (about -90 dBFS)" if word.dither else ""
        yield word.file, what, speak(word, seed=number + 1)
    for file, signal in DESIGNED.items():
        yield file, describe(signal), to_int16(render(signal).astype(np.float64))


def speak(word: Spoken, seed: int) -> NDArray[np.int16]:
    """The samples of a spoken clip: the utterance in the middle, nothing of it cut off."""
    rate, sound = utter(word)
    room = np.zeros(rate // 100)  # the resampler rings a little before and after the sound
    voice = soxr.resample(np.concatenate([room, sound, room]), rate, RATE, quality="HQ")
    voice *= 10.0 ** (word.peak_dbfs / 20.0) / np.max(np.abs(voice))
    audible = np.flatnonzero(np.abs(voice) > 0.003 * np.max(np.abs(voice)))
    start = (word.length - int(audible[0] + audible[-1])) // 2
    if start < 0 or start + voice.size > word.length:
        raise ValueError(f"{word.file}: {voice.size} samples of speech don't fit into {word.length}")
    samples = np.zeros(word.length)
    samples[start : start + voice.size] = voice * 10.0 ** (word.gain_db / 20.0)
    if word.noise_dbfs is not None:
        samples += render(Signal(noise_dbfs=word.noise_dbfs, length=word.length, seed=seed))
    if word.dither:
        random = np.random.Generator(np.random.PCG64(seed))
        samples += (random.random(word.length) - random.random(word.length)) / FULL_SCALE
    return to_int16(samples)


def to_int16(samples: NDArray[np.float64]) -> NDArray[np.int16]:
    """Rounded to 16 bits; +1.0 is one step above the largest value, so it becomes 32,767."""
    return np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def utter(word: Spoken) -> tuple[int, NDArray[np.float64]]:
    """Rate (Hz) and samples (±1.0) of an utterance, by a fresh process.

    eSpeak NG carries state from one utterance to the next, and clips shouldn't depend on their order.
    """
    command = [sys.executable, __file__, "--say", word.voice, str(word.speed), str(word.pitch), word.text]
    data = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60).stdout
    values = np.frombuffer(data, dtype="<i4")
    return int(values[0]), values[1:] / FULL_SCALE


def say(voice: str, speed: int, pitch: int, text: str) -> bytes:
    """Speaks in this process. Rate and samples as little-endian int32."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(SYNCHRONOUS_OUTPUT, 0, espeakng_loader.get_data_path().encode(), 0)
    if rate <= 0:
        raise RuntimeError("eSpeak NG didn't start")
    # Its voices' breath is random, from the clock unless told otherwise.
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    variant = voice.partition("+")[2]
    # A voice that doesn't exist is an error, but a variant that doesn't is ignored in silence.
    if library.espeak_SetVoiceByName(voice.encode()) != 0 or not (
        Path(espeakng_loader.get_data_path(), "voices", "!v", variant).is_file()
    ):
        raise ValueError(f"eSpeak NG has no voice {voice}")
    library.espeak_SetParameter(SPEED_PARAMETER, speed, 0)
    library.espeak_SetParameter(PITCH_PARAMETER, pitch, 0)
    heard: list[NDArray[np.int16]] = []

    def keep(samples: ctypes._Pointer[ctypes.c_short], count: int, _: int | None) -> int:
        if count > 0:
            heard.append(np.array(samples[:count], dtype=np.int16))
        return 0

    samples_type = ctypes.POINTER(ctypes.c_short)
    # The name keeps it alive: ctypes doesn't own what it hands to C.
    callback = ctypes.CFUNCTYPE(ctypes.c_int, samples_type, ctypes.c_int, ctypes.c_void_p)(keep)
    library.espeak_SetSynthCallback(callback)
    data = text.encode()
    size = ctypes.c_size_t(len(data) + 1)
    if library.espeak_Synth(data, size, 0, 0, 0, UTF8_TEXT, None, None) != 0:
        raise RuntimeError(f"eSpeak NG didn't speak {text!r}")
    return np.concatenate([np.array([rate]), *heard]).astype("<i4").tobytes()


def inspect(word: Spoken, samples: NDArray[np.int16]) -> None:
    """What an ear would notice first. Raises ValueError when a spoken clip doesn't sound like one."""
    sound = samples / FULL_SCALE
    saturated = float(np.mean((samples == FULL_SCALE - 1) | (samples == -FULL_SCALE)))
    power = np.abs(np.fft.rfft(sound - np.mean(sound))) ** 2
    centroid = float(np.sum(np.fft.rfftfreq(sound.size, 1 / RATE) * power) / np.sum(power))
    floor = 10.0 ** ((-85.0 if word.noise_dbfs is None else word.noise_dbfs) / 20.0)
    edges = np.concatenate([sound[:MARGIN], sound[-MARGIN:]])
    facts = {
        "has the wrong peak": abs(decibels(peak(samples)) - min(word.peak_dbfs + word.gain_db, 0.0)) < 0.5,
        "is quieter on the whole than speech": decibels(peak(samples)) - decibels(rms(samples)) < 25.0,
        "is clipped, or isn't, against its plan": saturated > 0.01 if word.gain_db else saturated == 0.0,
        "has no spectrum of speech": 200.0 < centroid < 4_000.0,
        "is cut off": float(np.max(np.abs(edges))) < 1.1 * floor,
    }
    wrong = [fact for fact, holds in facts.items() if not holds]
    print(
        f"{word.file:24} {samples.size:6} samples, peak {decibels(peak(samples)):6.1f} dBFS, "
        f"RMS {decibels(rms(samples)):6.1f} dBFS, centroid {centroid:5.0f} Hz, at full scale {saturated:.1%}"
    )
    if wrong:
        raise ValueError(f"{word.file} {' and '.join(wrong)}")


def peak(samples: NDArray[np.int16]) -> float:
    """Largest magnitude, full scale 1.0."""
    return float(np.max(np.abs(samples.astype(np.float64)))) / FULL_SCALE


def rms(samples: NDArray[np.int16]) -> float:
    """Root of the mean square, full scale 1.0."""
    return float(np.sqrt(np.mean((samples / FULL_SCALE) ** 2)))


def decibels(amplitude: float) -> float:
    """dBFS; minus infinity for 0."""
    return 20.0 * math.log10(amplitude) if amplitude > 0.0 else -math.inf


def check(clips: dict[str, NDArray[np.int16]]) -> int:
    """Exit code: 0 when every file holds exactly these samples and there is no other file."""
    code = 0
    for file in sorted({path.stem for path in FOLDER.glob("*.flac")} ^ clips.keys()):
        print(f"{file}.flac: only among the {'made' if file in clips else 'committed'} clips")
        code = 1
    for file, samples in clips.items():
        path = FOLDER / f"{file}.flac"
        if path.is_file() and not np.array_equal(soundfile.read(path, dtype="int16")[0], samples):
            print(f"{path.name}: differs")
            code = 1
    return code


def readme(clips: dict[str, tuple[str, NDArray[np.int16]]]) -> str:
    """The README of the clips, with their table."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_Info.restype = ctypes.c_char_p
    version = library.espeak_Info(None).decode().split()[0]
    rows = "\n".join(
        f"| `{file}.flac` | {what} | {samples.size:,} | {round(decibels(peak(samples)), 1) + 0.0:.1f} |"
        for file, (what, samples) in clips.items()
    )
    return f"""# The project's own clips

Made so that the project can be tested and shown without anybody's recordings; not for training. All are FLAC,
16 bit, {RATE:,} Hz, mono. Peaks are in dBFS (0 = full scale, 32,768; -inf = nothing but zeros). Speed is in
words a minute, pitch on eSpeak NG's scale of 0 to 99.

| file | what it is | samples | peak |
|---|---|---|---|
{rows}

## How they were made
`python golden/make_clips.py` made them once, and they are committed: goldens are recorded from these files.
`python golden/make_clips.py --check` makes them again and compares sample by sample; with the versions below
it finds no difference, with others it may, and then the files stay what they are.

- **eSpeak NG made the audio** of the spoken clips: version {version}, from `espeakng-loader`, at 22,050 Hz,
  with its random seed set to 1 and each utterance the first of a fresh process. Nobody was recorded for them
  (its synthesis is by formants, with short recorded sounds of its own data for some consonants).
- soxr {soxr.__version__} (quality HQ) converted it to {RATE:,} Hz. The audible part is in the middle of the
  clip; around it is digital silence, or the white noise floor where one is stated (uniform, its peak given).
- The designed clips are signals of `parity/signals.py`, described in its words.
- Samples are rounded to 16 bits without dither, but for the clip that says so. Full scale is 32,768, so +1.0
  becomes 32,767. soundfile {soundfile.__version__} ({soundfile.__libsndfile_version__}) wrote the files.

## Licence
The clips are made by this project and dedicated to the public domain under
[CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/). eSpeak NG is a program under the GPL, version 3
or later; as far as is known, its licence doesn't cover the audio that it puts out.
"""


if __name__ == "__main__":
    sys.exit(main())
