"""The explanations of a run: from the evidence in its folder, one a candidate that failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from parity import evidence, records
from parity import frontend as fe
from parity.errors import ConfigError, NothingCompared
from parity.evidence import Evidence
from parity.explain.explanation import Explanation
from parity.explain.features import explain


def explained(
    folder: Path, systems: Sequence[str] = (), backends: Sequence[str] = (), clips: Sequence[str] = ()
) -> Iterator[Explanation]:
    """One explanation a failing candidate, in the order of the evidence; no names mean all.

    ConfigError for a folder that is no run; NothingCompared where nothing of what was asked for was kept.
    """
    run = records.read_run(folder)
    for name in systems:
        if name not in run.systems:
            raise ConfigError(f"{folder} has no system {name!r}", f"it has {', '.join(sorted(run.systems)) or 'none'}")
    kept = [e for e in evidence.read(folder) if e.path == "features"]
    if not kept:
        raise NothingCompared(*_nothing(run, folder))
    asked = [
        e for e in kept
        if (not systems or e.system in systems) and (not backends or e.backend in backends)
        and (not clips or e.clip.name in clips)
    ]  # fmt: skip
    if not asked:
        there = sorted({f"{e.system} · {e.backend} · {e.clip.name}" for e in kept})
        raise NothingCompared("nothing was kept of what was asked for", f"there is {'; '.join(there)}")
    return _each(run, asked)


def _each(run: records.Run, asked: Sequence[Evidence]) -> Iterator[Explanation]:
    for group, members in groupby(asked, key=lambda e: e.group):
        yield explain(fe.from_plain(run.systems[group[0]]["frontend"]), list(members))


def _nothing(run: records.Run, folder: Path) -> tuple[str, str]:
    """Why there is nothing to explain, and what to do."""
    failing = [s for s in run.summaries if s.path == "features" and s.worst.outcome in ("fail", "missing", "error")]
    if not failing:
        return f"no backend's features failed in {folder}: there is nothing to explain", "parity run says what failed"
    return (
        f"{folder} kept no arrays of the features that failed",
        "make the run again with this version of parity, which keeps some of each failing backend",
    )
