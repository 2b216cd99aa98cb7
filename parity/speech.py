"""Speech laid out like Speech Commands, ``DIR/<word>/<speaker>_nohash_<n>.wav``: labels, and splits by speaker."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parity.audio import SUFFIXES, speaker_of

SPLITS = ("train", "validation", "held_out")
SILENT = {"_silence_", "_background_noise_"}
"""Folders that hold no word: used only where a label says so (`silence`)."""


@dataclass(frozen=True)
class Recording:
    """One clip on disk: its word, its class number, its speaker, and the split the speaker falls into."""

    path: Path
    word: str
    label: int
    speaker: str
    split: str


def split_of(speaker: str) -> str:
    """Return the split of a speaker: 70 % train, 10 % validation, 20 % held out; the same everywhere."""
    share = int.from_bytes(hashlib.sha1(speaker.encode()).digest()[:8], "big") / 2**64
    return "train" if share < 0.7 else "validation" if share < 0.8 else "held_out"


def label_of(word: str, labels: Sequence[str]) -> int | None:
    """Return the class of a folder: its own, or ``unknown`` where there is one; None for a folder to leave out."""
    name = word.strip("_")
    if name in labels:
        return labels.index(name)
    return None if word in SILENT or "unknown" not in labels else labels.index("unknown")


def recordings(data: Path, labels: Sequence[str]) -> list[Recording]:
    """List the clips of every word folder, sorted by path."""
    found = []
    for folder in sorted(p for p in data.iterdir() if p.is_dir()):
        label = label_of(folder.name, labels)
        if label is None:
            continue
        for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES):
            speaker = speaker_of(path.name)
            found.append(Recording(path, folder.name, label, speaker, split_of(speaker)))
    return found
