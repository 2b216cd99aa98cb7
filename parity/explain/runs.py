"""The explanations of a run: from the evidence in its folder, one a candidate that failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from pathlib import Path
from typing import Any

from parity import evidence, records, registry
from parity import frontend as fe
from parity import system as known
from parity.errors import ConfigError, NothingCompared
from parity.evidence import Evidence
from parity.explain.explanation import Explanation
from parity.explain.features import explain
from parity.localize import title
from parity.sources import Progress, silent

Shown = Callable[[], AbstractContextManager[Progress]]
"""Shows how far a search is, while it goes on."""


def _unseen() -> AbstractContextManager[Progress]:
    return nullcontext(silent)


def explained(
    folder: Path, systems: Sequence[str] = (), backends: Sequence[str] = (), clips: Sequence[str] = (),
    runtimes: Sequence[str] = (), warn: Callable[[str], None] = lambda _: None, shown: Shown = _unseen,
    targets: Sequence[str] = (),
) -> Iterator[Explanation]:  # fmt: skip
    """One explanation a failing candidate, in the order of the evidence; no names mean all.

    A network that is wrong on the golden's features isn't explained once more on each backend's. `warn` hears of
    evidence that run.json lists and the folder lacks. A search that is interrupted is the last: it says what it found.

    ConfigError for a folder that is no run, or lacks all the evidence that it should have of what was asked for;
    NothingCompared where nothing of it was kept.
    """

    def wanted(system: str, backend: str, runtime: str, target: str, clip: str) -> bool:
        named = ((system, systems), (backend, backends), (runtime, runtimes), (target, targets), (clip, clips))
        return all(not names or name in names for name, names in named)

    run = records.read_run(folder)
    for name in systems:
        if name not in run.systems:
            raise ConfigError(f"{folder} has no system {name!r}", f"it has {', '.join(sorted(run.systems)) or 'none'}")
    places = records.targets(run)
    for name in targets:
        if name not in places:
            raise ConfigError(f"{folder} has no target {name!r}", f"it has {', '.join(places)}")
    kept = list(evidence.read(folder))
    alone = {(e.system, e.runtime, e.precision, e.target) for e in kept if e.path == "isolated"}
    kept = [
        e for e in kept
        if e.path in ("features", "isolated") or (e.system, e.runtime, e.precision, e.target) not in alone
    ]  # fmt: skip
    asked = [e for e in kept if wanted(e.system, e.backend, e.runtime, e.target, e.clip.name)]
    listed = [{"target": records.LOCAL, **r} for r in run.evidence]
    if lost := [r for r in listed if not (folder / r["file"]).is_file()
                and wanted(*(r[k] for k in ("system", "backend", "runtime", "target", "clip")))]:  # fmt: skip
        files = f"{', '.join(r['file'] for r in lost[:3])}{f' and {len(lost) - 3} more' if len(lost) > 3 else ''}"
        if not asked:
            raise ConfigError(f"{folder} is not whole: it lacks {files}", "copy all of it, or make the run again")
        whose = "; ".join(dict.fromkeys(title(*(r[k] for k in evidence.WHO[:-1])) for r in lost))
        warn(f"{folder} lacks {files}, which run.json lists ({whose}): explained from what is left")
    if not kept:
        raise NothingCompared(*_nothing(run, folder))
    if not asked:
        there = sorted({f"{title(*e.group[:-1])} · {e.clip.name}" for e in kept})
        raise NothingCompared("nothing was kept of what was asked for", f"there is {'; '.join(there)}")
    return _each(run, asked, shown)


def _each(run: records.Run, asked: Sequence[Evidence], shown: Shown) -> Iterator[Explanation]:
    for group, members in groupby(asked, key=lambda e: e.group):
        about, held = run.systems[group[0]], list(members)
        with shown() as step:
            if group[-1] == "features":
                arithmetic = about.get("arithmetic", {}).get(held[0].backend, "float32")
                found = explain(fe.from_plain(about["frontend"]), held, arithmetic, step)
            else:
                found = _network(about, held, step)
        yield found
        if found.interrupted:
            break


def _network(about: Mapping[str, Any], members: Sequence[Evidence], step: Progress) -> Explanation:
    """A network's, by the graph of its system as it is now. ConfigError where the system has changed since."""
    registry.find("runtime", "monte-carlo")  # MissingExtra says what to install
    from parity.explain import networks  # imports onnx, which the features' explanations do without

    system = known.load(Path(about["folder"]))
    if system.frontend.digest != fe.from_plain(about["frontend"]).digest:
        raise ConfigError(f"{system.name} has another recipe now than in the run", "make the run again")
    run = {str(a["file"]): str(a["sha256"]) for a in about.get("artifacts", ())}
    return networks.explain(system, members, run, step)


def _nothing(run: records.Run, folder: Path) -> tuple[str, str]:
    """Why there is nothing to explain, and what to do."""
    failing = [s for s in run.summaries if s.worst.outcome in ("fail", "missing", "error")]
    if not failing:
        return f"nothing failed in {folder}: there is nothing to explain", "parity run says what was compared"
    if of := run.recheck.get("of"):
        return f"{folder} is a recheck, which keeps no arrays", f"explain the run that it judged: {of}"
    return (
        f"{folder} kept no arrays of what failed",
        "make the run again with this version of parity, which keeps some of all that fails",
    )
