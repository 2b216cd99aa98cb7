"""False alarms: every legitimate pair on sounds that set no constant, through the command itself.

The sounds are speech of held-out speakers, as it was recorded and down to -80 dBFS, silence, tones and noise. A
comparison is one clip under one column of the report: a backend's features; a runtime's activations on the golden's
features (isolated) or on a backend's (cumulative), or against the kernels that say what its file computes (deployment).
It is a false alarm where any of its taps fails. A known gap is a divergence that is there, measured and declared
(`golden/known_gaps.toml`): it is counted apart. So is a label that a file of integers gives in another way than the
trained network, by more than the margin declared for it, with its activations within bounds: it does decide otherwise.
"""

from __future__ import annotations

import itertools
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile

from parity.taps import LABEL
from tests.proof import figures, speech
from tests.proof.tables import Line, show

SYSTEMS = (
    "commands-cnn",
    "logmel-gru",
    "mel40-mobilenetv2",
    "mel40-shufflenetv2",
    "mfcc-lstm",
    "micro-speech",
    "tiny-conv",
)
SPOKEN = 60
LEVELS = (None, -40.0, None, -60.0, None, -80.0)
"""dBFS of the largest sample, in turn; None: as it was recorded."""
LAYERS = 20
"""Clips whose inner layers are compared too; the first of them are speech."""
KINDS = {"floats": 10_000, "fewer bits": 0}
"""Kind of pair -> the comparisons that it takes at least; front ends are with the floats."""
FLOATS = ("", "float32", "float16", "bfloat16")

Column = tuple[str, str, str, str]
FAILED = ("fail", "missing", "error")


def sounds(folder: Path) -> int:
    """Write them as 32-bit floats, which know no smallest step; how many there are."""
    spoken = [speech.clip(path) for path in speech.held_out()[:SPOKEN]]
    levels = [LEVELS[i % len(LEVELS)] for i in range(len(spoken))]
    clips = [c if dbfs is None else speech.at_peak(c, dbfs) for c, dbfs in zip(spoken, levels, strict=True)]
    folder.mkdir(parents=True)
    clips += speech.designed()
    for i, clip in enumerate(clips):
        soundfile.write(folder / f"{i:03}-{clip.name}.wav", clip.samples, clip.rate, subtype="FLOAT")
    return len(clips)


def kind_of(column: Column) -> str:
    """Of which kind a column is."""
    return "floats" if column[2] in FLOATS else "fewer bits"


@dataclass
class Counted:
    """A column: clips judged, verdicts that fail, that are known gaps, labels that flip, largest error over bound."""

    judged: int = 0
    failed: int = 0
    gaps: int = 0
    flips: int = 0
    worst: float = 0.0


def compared(record: Mapping[str, Any]) -> dict[Column, Counted]:
    """What a run compared, by column."""
    found: dict[Column, Counted] = defaultdict(Counted)
    for s in record["summaries"]:
        counts, c = s["counts"], found[s["backend"], s["runtime"], s["precision"], s["path"]]
        failing, gaps = sum(counts.get(o, 0) for o in FAILED), counts.get("gap", 0)
        c.judged = max(c.judged, counts.get("pass", 0) + failing + gaps)
        c.gaps += gaps
        if _flips(s):
            c.flips += failing
        else:
            c.failed += failing
        if not gaps:  # the worst of a gap's tap is the gap
            c.worst = max(c.worst, s["worst"].get("ratio") or 0.0)
    return dict(found)


def _flips(summary: Mapping[str, Any]) -> bool:
    """Whether what fails in a summary is labels of a file of fewer bits."""
    counts = summary["counts"]
    lost = counts.get("error", 0) + counts.get("missing", 0)
    return summary["tap"] == LABEL and summary["precision"] not in FLOATS and not lost


def failing(record: Mapping[str, Any]) -> Iterator[str]:
    """Each tap of each column that fails somewhere, with its worst clip."""
    for s in record["summaries"]:
        if (n := sum(s["counts"].get(o, 0) for o in FAILED)) and (w := s["worst"]) and not _flips(s):
            who = " ".join(filter(None, (s["system"], s["backend"], s["runtime"], s["precision"], s["path"])))
            yield f"{who} {s['tap']}: {n} clips, worst {w['clip']} at {w.get('ratio')} of its bound"


def lines(systems: Sequence[str] = SYSTEMS) -> Iterator[Line]:
    """Every pair of every system; a table of the columns by runtime."""
    if speech.folder() is None:
        yield Line("false alarms on real speech", "PARITY_DATA is not set", None)
        return
    total: dict[str, int] = dict.fromkeys(KINDS, 0)
    alarms, flips_of = dict(total), dict(total)
    rows: list[tuple[str, ...]] = []
    told: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        clips = Path(name) / "clips"
        count = sounds(clips)
        for system in systems:
            record = figures.run(
                f"--system={system}", f"--audio={clips}", f"--layers={LAYERS}", reports=Path(name) / "reports"
            )  # fmt: skip
            columns = compared(record)
            told += failing(record)
            for kind, path in itertools.product(KINDS, ("features", "isolated", "cumulative", "deployment")):
                mine = {c: v for c, v in columns.items() if (kind_of(c), c[3]) == (kind, path) and v.judged}
                if not mine:
                    continue
                who = sorted({c[0] if path == "features" else c[1] for c in mine})
                judged, wrong = sum(v.judged for v in mine.values()), sum(v.failed for v in mine.values())
                total[kind], alarms[kind] = total[kind] + judged, alarms[kind] + wrong
                gaps, flips = sum(v.gaps for v in mine.values()), sum(v.flips for v in mine.values())
                flips_of[kind] += flips
                worst = max(v.worst for v in mine.values())
                numbers = (str(n) for n in (len(mine), judged, wrong, gaps, flips))
                rows.append((system, kind, path, " ".join(who), *numbers, f"{worst:.2f}"))
    show(
        ("system", "kind", "path", "who", "pairs", "clips x pairs", "alarms", "gaps", "flips", "largest error/bound"),
        rows,
    )
    for line in told:
        yield Line("a false alarm", line, False)
    for kind, least in KINDS.items():
        figure = f"{alarms[kind]} of {total[kind]} over {count} sounds"
        if flips_of[kind]:
            figure += f", {flips_of[kind]} labels flip"
        if total[kind] and not alarms[kind]:
            figure += f"; 95 % upper limit {3.0 / total[kind]:.1e}"
        what = f"{least:,} (clip, pair) comparisons, {kind}" if least else f"(clip, pair) comparisons, {kind}"
        yield Line(f"no false alarm in {what}", figure, alarms[kind] == 0 and total[kind] >= least)
