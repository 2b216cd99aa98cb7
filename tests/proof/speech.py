"""Real speech that nothing was calibrated on, and the sounds that are played beside it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

from parity.protocols import Clip
from parity.search import clip_of
from parity.signals import Signal

RATE = 16000


def folder() -> Path | None:
    """The folder of words that PARITY_DATA holds, if it is there."""
    named = os.environ.get("PARITY_DATA")
    found = Path(named) / "speech_commands" if named else None
    return found if found is not None and found.is_dir() else None


def _speaker(path: Path) -> str:
    return path.stem.partition("_nohash_")[0]


@cache
def held_out() -> Sequence[Path]:
    """Files of words by speakers of the second half, on whom no constant was set, in an order that mixes words."""
    words = folder()
    assert words is not None
    paths = sorted(words.glob("*/*.flac"))
    speakers = sorted({_speaker(p) for p in paths}, key=lambda s: hashlib.sha256(s.encode()).digest())
    second = set(speakers[(len(speakers) + 1) // 2 :])
    kept = [p for p in paths if _speaker(p) in second and p.parent.name != "_silence_"]
    return sorted(kept, key=lambda p: hashlib.sha256(f"{p.parent.name}/{p.name}".encode()).digest())


def clip(path: Path) -> Clip:
    """A clip from a file."""
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    return Clip(f"{path.parent.name}-{path.stem}", samples, rate, "")


def quieter(of: Clip, decibels: float) -> Clip:
    """The same sound at another level, float32."""
    if decibels == 0.0:
        return of
    factor = np.float32(10.0 ** (decibels / 20.0))
    return replace(of, name=f"{of.name}{decibels:g}dB", samples=of.samples * factor)


def at_peak(of: Clip, dbfs: float) -> Clip:
    """The same sound with its largest sample at a level; silence as it is."""
    peak = float(np.abs(of.samples).max(initial=0.0))
    return of if peak == 0.0 else replace(
        of, name=f"{of.name}-at{dbfs:g}dBFS", samples=of.samples * np.float32(10.0 ** (dbfs / 20.0) / peak)
    )  # fmt: skip


def designed() -> Iterator[Clip]:
    """Silence, tones over two octaves of levels, noises, chirps, offsets: what speech isn't."""
    yield replace(clip_of(Signal()), name="silence")
    for i, f in enumerate((50.0, 123.4, 440.0, 1000.0, 2345.6, 7000.0)):
        for level in (-0.5, -20.0, -50.0, -80.0):
            yield replace(clip_of(Signal(kind="tone", frequency=f, level_dbfs=level)), name=f"tone{i}{level:g}")
    for level in (-6.0, -40.0, -80.0):
        for kind in ("white", "pink"):
            for seed in range(3):
                noise = Signal(kind=kind, level_dbfs=level, seed=seed)
                yield replace(clip_of(noise), name=f"{kind}{level:g}-{seed}")
        sweep = Signal(kind="chirp", frequency=50.0, end_frequency=7900.0, level_dbfs=level)
        yield replace(clip_of(sweep), name=f"chirp{level:g}")
        offset = Signal(kind="tone", frequency=300.0, level_dbfs=level, dc=0.25)
        yield replace(clip_of(offset), name=f"offset{level:g}")
