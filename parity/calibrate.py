"""Calibration: error over bound of every pair at every tap, on two halves of the speakers of a folder of speech.

The constants in the bounds come from the one half, and the other, which set nothing, shows what they are worth: no
false alarm, and a median that says how much narrower a bound could be. Everything is judged as `parity run --audio`
judges it; here the arrays are kept, element by element.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from parity import audio, plan, sources
from parity.errors import NothingCompared
from parity.expected import Expected
from parity.judge import Judge, Judged
from parity.plan import Plan, Selection
from parity.protocols import Array, Clip, Job, Target
from parity.records import Skipped, Verdict

HALVES = ("calibration", "check")
_LOWEST, _HIGHEST, _STEPS = -40, 24, 64
"""Ratios are counted in steps of a 64th of a factor of two, from 2^-40 to 2^24: the median is known to one percent."""


@dataclass(frozen=True, kw_only=True)
class Speech:
    """What is calibrated on: up to `clips` clips of each half of the speakers, at each of `levels` in dB."""

    folder: Path
    clips: int = 100
    levels: tuple[float, ...] = (0.0,)


@dataclass
class Row:
    """One tap of one pair on one half: how many clips and elements were judged, and how near to their bounds."""

    system: str
    pair: str
    path: str
    tap: str
    half: str
    clips: int = 0
    elements: int = 0
    false_alarms: int = 0
    """Clips on which the tap failed, and no known gap says why."""
    gaps: int = 0
    largest: float | None = None
    """Error over bound of the worst element; None where nothing may move, or no number is judged."""
    _counts: Array = field(default_factory=lambda: np.zeros((_HIGHEST - _LOWEST) * _STEPS + 1, np.int64), repr=False)

    def add(self, v: Verdict, ratios: Array) -> None:
        """Count a verdict, and the error over bound of its elements that may move (see `ratios`)."""
        self.clips += 1
        self.false_alarms += v.outcome in ("fail", "missing", "error")
        self.gaps += v.outcome == "gap"
        if ratios.size:
            with np.errstate(divide="ignore"):
                steps = np.clip(np.log2(ratios), _LOWEST, _HIGHEST)
            self._counts += np.bincount(((steps - _LOWEST) * _STEPS).astype(np.intp), minlength=self._counts.size)
            self.largest = max(self.largest or 0.0, float(ratios.max()))

    @property
    def median(self) -> float | None:
        """Of error over bound, over the elements that may move; 0 where more than half are met exactly."""
        if not (total := int(self._counts.sum())):
            return None
        step = int(np.searchsorted(np.cumsum(self._counts), (total + 1) // 2))
        return 0.0 if step == 0 else float(2.0 ** (_LOWEST + (step + 0.5) / _STEPS))

    def plain(self) -> dict[str, Any]:
        """The row as JSON types."""
        keys = ("system", "pair", "path", "tap", "half", "clips", "elements", "false_alarms", "gaps")
        return {k: getattr(self, k) for k in keys} | {"median": self.median, "largest": self.largest}


def ratios(candidate: Array, value: Array, lo: Array, hi: Array) -> Array:
    """Error over bound of the elements that may move, float64 `[n]`; infinite where a number isn't finite."""
    c = np.asarray(candidate, np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        difference = c - value
        room = np.where(difference > 0, hi - value, value - lo)
        ratio = np.abs(difference) / room
    return np.asarray(ratio[(room > 0) & np.isfinite(room)])


def halves(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Files by half. Each speaker's are in one; which it is hangs on nothing but the speakers' names."""
    speakers = sorted({audio.speaker_of(p.name) for p in paths}, key=lambda s: hashlib.sha256(s.encode()).digest())
    first = set(speakers[: (len(speakers) + 1) // 2])
    return {half: [p for p in paths if (audio.speaker_of(p.name) in first) == (half == HALVES[0])] for half in HALVES}


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    """Up to `count` files, spread evenly over the sorted list."""
    return [paths[int(i)] for i in np.linspace(0, len(paths) - 1, min(count, len(paths))).round()]


def _clips(speech: Speech, paths: Sequence[Path], p: Plan) -> Iterator[Clip]:
    for path in paths:
        clip = audio.read(path, audio.name_of(path, speech.folder), p.system.frontend)
        for level in speech.levels:
            if level == 0.0:
                yield clip
                continue
            samples = (clip.samples * np.float64(10.0 ** (level / 20.0))).astype(np.float32)
            yield dataclasses.replace(
                clip, name=f"{clip.name} at {level:g} dB", samples=samples, sha256=audio.digest(samples, clip.rate)
            )


def calibrate(
    selection: Selection, speech: Speech, target: Target, progress: sources.Progress
) -> tuple[list[Row], list[Skipped]]:
    """Rows by system, pair, tap and half, in the order in which they are judged, and what isn't compared.

    NothingCompared where nothing is, or where there is one speaker only.
    """
    chosen = {half: _spread(paths, speech.clips) for half, paths in halves(audio.find(speech.folder)).items()}
    if not all(chosen.values()):
        raise NothingCompared(
            f"all clips in {speech.folder} are of one speaker",
            "give clips of two speakers at least: a speaker is what stands before _nohash_ in a file's name",
        )
    plans, skipped, _ = plan.make(selection, target)
    runnable = [p for p in plans if p.pairs]
    if not runnable:
        reasons = "; ".join(dict.fromkeys(s.reason for s in skipped)) or "no pair was selected"
        raise NothingCompared(f"nothing to calibrate: {reasons}", "see `parity list` for what is there")
    rows: dict[tuple[str, ...], Row] = {}
    for p in runnable:
        for half, paths in chosen.items():
            total, done = len(paths) * len(speech.levels), 0
            what = f"{p.system.name}, {half}"
            for judged in _judged(p, _clips(speech, paths, p), selection, target):
                for j in judged:
                    _count(rows, half, j)
                done += len({j.verdict.clip for j in judged})
                progress(what, done, total)
        target.release()
    order = {key[:-1]: i for i, key in reversed(list(enumerate(rows)))}
    return [row for _, row in sorted(rows.items(), key=lambda item: order[item[0][:-1]])], skipped


def _judged(p: Plan, clips: Iterator[Clip], selection: Selection, target: Target) -> Iterator[list[Judged]]:
    """The verdicts of each job, with the arrays that they were made from."""
    own_judge = plan.reference(p, plan.asking(target))
    rules = sources.rules_for(selection, p.system).on(plan.machine_of(target))
    judge = Judge(p.system, rules, target.name, own_judge=own_judge, arithmetic=p.arithmetic, alone=False)
    pending: list[list[Expected]] = []

    def jobs() -> Iterator[Job]:
        for part in sources.judged_live(p, clips, target, selection.layers, own_judge):
            pending.append(part)
            yield sources.job_of(p, part)

    for result in target.run(jobs()):
        yield list(judge.judge(result, pending.pop(0), p.backends))


def _count(rows: dict[tuple[str, ...], Row], half: str, judged: Judged) -> None:
    v, arrays = judged.verdict, judged.arrays
    if v.outcome in ("unavailable", "unsupported"):
        return
    pair = " → ".join(filter(None, (v.backend, f"{v.runtime} {v.precision}".strip())))
    key = (v.system, pair, v.path, v.tap, half)
    row = rows.setdefault(key, Row(*key))
    moved = np.zeros(0)
    if arrays is not None and "candidate" in arrays and arrays["candidate"].shape == arrays["golden"].shape:
        row.elements += arrays["candidate"].size
        moved = ratios(arrays["candidate"], arrays["golden"], arrays["lo"], arrays["hi"])
    elif v.ratio is not None:  # the margin of a decision: one number
        row.elements, moved = row.elements + 1, np.array([v.ratio])
    row.add(v, moved)
