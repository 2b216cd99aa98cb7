"""Reading clips: mono float32 at full scale ±1.0, found in a folder in sorted order."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from parity.errors import AudioError, NothingCompared
from parity.frontend import Frontend
from parity.protocols import Array, Clip

SUFFIXES = frozenset({".wav", ".flac"})
_STREAMED = 0x7FFF0000
"""A size from here on stands for an unknown one in a WAV file's header."""


def digest(samples: Array, rate: int) -> str:
    """sha256 of the rate and the little-endian float32 samples: what a clip *is*, whatever its container."""
    return hashlib.sha256(rate.to_bytes(4, "little") + samples.astype("<f4", copy=False).tobytes()).hexdigest()


def find(folder: Path) -> list[Path]:
    """Audio files below `folder`, sorted. A single file is a folder of one. NothingCompared when there are none."""
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise AudioError(f"no audio at {folder}: there is no such folder", "check --audio")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise NothingCompared(f"no audio in {folder}", "put .wav or .flac files there, or name another folder")
    return found


def name_of(path: Path, folder: Path) -> str:
    """A clip's name: its path below the folder, with forward slashes."""
    return path.name if path == folder else path.relative_to(folder).as_posix()


def speaker_of(name: str) -> str:
    """The speaker named by a file: ``a591c2ea`` for ``a591c2ea_nohash_0.wav``; else the name itself.

    A folder that mixes words puts the word before the speaker (``wow_a591c2ea_nohash_0.wav``): it is cut off,
    or the same voice would land in two splits.
    """
    before, mark, _ = name.partition("_nohash_")
    return before.rpartition("_")[2] if mark else name


def _is_text(name: str) -> bool:
    """A name of stray bytes can't be written into any record."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cut_short(path: Path) -> str | None:
    """What a truncated WAV file lacks, in words: libsndfile silently gives what is left. None for any other file."""
    with path.open("rb") as f:
        head = f.read(12)
        order = {b"RIFF": "<", b"RIFX": ">", b"RF64": "<"}.get(head[:4])
        if order is None or head[8:] != b"WAVE":
            return None
        one, unit, long = 1, "bytes of sound", 0
        while len(chunk := f.read(8)) == 8:
            name, size = struct.unpack(f"{order}4sI", chunk)
            start = f.tell()
            if name == b"data":
                there = path.stat().st_size - start
                # Who writes to a pipe can't know the size: 0, 0xFFFFFFFF (FFmpeg) or just below 0x80000000 (SoX).
                if size == 0xFFFFFFFF and long:
                    size = long
                elif size >= _STREAMED:
                    return None
                if size <= there:
                    return None
                return f"its header says {size // one} {unit}, {there // one} are there"
            if name == b"ds64" and size >= 16:  # RF64: the sizes that 32 bits can't hold
                _, long = struct.unpack("<QQ", f.read(16).ljust(16, b"\0"))
            if name == b"fmt " and size >= 16:
                _, channels, _, _, block, bits = struct.unpack(f"{order}HHIIHH", f.read(16).ljust(16, b"\0"))
                if block and block * 8 == channels * bits:  # else compressed
                    one, unit = block, "samples"
            f.seek(start + size + size % 2)
    return None


def read(path: Path, name: str, frontend: Frontend) -> Clip:
    """A clip as the recipe takes it. AudioError says what doesn't fit and how to mend it."""
    import soundfile

    if not _is_text(str(path)):
        raise AudioError(f"the name of {str(path)!a} is not UTF-8, so that no report can show it", "rename it")
    try:
        size = path.stat().st_size
    except OSError as e:
        raise AudioError(f"{path} can't be read: {e.strerror}", "check its name and its permissions") from None
    if size == 0:
        raise AudioError(f"{path} is empty", "record it again, or take it out of the folder")
    try:
        cut = _cut_short(path)
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError) as e:
        raise AudioError(f"{path} can't be read as audio: {e}", "is it a WAV or FLAC file, and whole?") from None
    if cut is not None:
        raise AudioError(f"{path}: {cut}: truncated", "copy it again from where it was recorded")
    if samples.shape[1] != 1:
        raise AudioError(
            f"{path} has {samples.shape[1]} channels; a clip is mono",
            f"mix it down yourself, so that you know how: sox '{path.name}' -c 1 mono.wav",
        )
    mono: Array = np.ascontiguousarray(samples[:, 0])
    wanted = frontend.input.rate
    if rate != wanted:
        if frontend.input.resample == "refuse":
            raise AudioError(
                f"{path} is at {rate} Hz; the frontend wants {wanted} Hz",
                "convert it, or set resample = 'soxr-hq' under [frontend.input]",
            )
        import soxr

        mono = soxr.resample(mono, rate, wanted, quality="HQ").astype(np.float32)
    if not np.isfinite(mono).all():
        raise AudioError(f"{path} holds NaN or infinite samples", "record or convert it again")
    need = 1 if frontend.framing is None else frontend.framing.length
    if len(mono) < need:
        raise AudioError(
            f"{path} has {len(mono)} samples, less than one frame of {need}",
            f"take it out of the folder, or record at least {need / wanted * 1000:.0f} ms",
        )
    if frontend.input.fit == "refuse" and len(mono) != frontend.input.length:
        raise AudioError(
            f"{path} has {len(mono)} samples; the frontend wants exactly {frontend.input.length}",
            "cut or pad it, or set fit = 'pad-or-cut' under [frontend.input]",
        )
    return Clip(name, mono, wanted, digest(mono, wanted))


def folder_clips(folder: Path, frontend: Frontend) -> Iterator[Clip]:
    """The clips of a folder, one at a time, in sorted order."""
    for path in find(folder):
        yield read(path, name_of(path, folder), frontend)
