"""What a run leaves behind, and the only thing that reports read.

`reports/<run>/run.json` says what ran where, `verdicts.jsonl` has a line a verdict, `arrays/` the arrays of taps that
failed (or of all that were judged), `evidence/` all that was computed for a few failing clips, `policy.json` the rules
that were applied. A run folder appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from parity import evidence
from parity.compare import Outcome
from parity.errors import ConfigError
from parity.protocols import Array

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
ARRAYS = "arrays"

Row = TypeVar("Row")


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One tap of one clip, judged."""

    system: str
    backend: str
    """'' where the network was fed with the golden's features."""
    runtime: str
    """'' for features."""
    precision: str
    target: str
    path: str
    """features, isolated (network on the golden's features), cumulative (on the backend's), or deployment (on the
    golden's features, held to the kernels that say what the file computes)."""
    tap: str
    clip: str
    outcome: Outcome
    message: str = ""
    ratio: float | None = None
    """Error over bound of the worst element; null where nothing was compared or the bound is zero."""
    error: float | None = None
    bound: float | None = None
    unit: str = ""
    rule: str = "derived"
    """derived from the arithmetic, or declared by a policy."""
    index: tuple[int, ...] | None = None
    frame: int | None = None
    time: float | None = None
    """Seconds from the clip's start: the frame's center, or the sample."""
    band: int | None = None
    frequency: float | None = None
    """Hz: the bin, or the center of the band."""
    candidate: float | None = None
    golden: float | None = None
    step: float | None = None
    """Quantization step of the candidate's tensor; null where it isn't quantized."""
    zero_point: int | None = None
    integer: int | None = None
    """The candidate's own integer where its worst element is."""
    saturated: float = 0.0
    """Share of the elements (0 to 1) whose right value leaves what the candidate's tensor of integers can hold."""
    outside: float = 0.0
    near_tie: bool = False
    gap: str = ""
    """The reason of the known gap that covers a failure."""
    covered: str = ""
    """The outcome that the gap covers."""
    own_outcome: str = ""
    """Of features of a clip that fails: what becomes of the stage judged by itself, on the input that it had."""
    own_error: float | None = None
    own_bound: float | None = None
    own_ratio: float | None = None
    """Isolated error over its own bound, of its worst element; null where nothing was compared or the bound is zero."""
    own_from: str = ""
    """The tap that its input was taken from; '' for the clip's samples."""
    since: str | None = None
    """Where this is the first failing tap of its clip and path: the last one before it that is within bounds, '' where
    none was compared. Layers between the two weren't compared on this clip. Null elsewhere."""


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A pair that wasn't compared, and why."""

    system: str
    backend: str = ""
    runtime: str = ""
    precision: str = ""
    target: str = ""
    """Where it wasn't compared; '' for every target."""
    reason: str
    asked: bool = False
    """It was asked for by name."""


class TapSummary(msgspec.Struct, kw_only=True):
    """All clips of one tap of one pair: the worst, and how many of each outcome."""

    system: str
    backend: str
    runtime: str
    precision: str
    target: str
    path: str
    tap: str
    counts: dict[str, int]
    near_ties: int
    worst: Verdict
    """The first failure, or what came closest to its bound."""
    tie: str = ""
    """The first near tie: its clip, the two labels, and the golden's lead."""
    saturated: int = 0
    """Clips on which right values leave what the candidate's tensor of integers can hold, and"""
    most_saturated: float = 0.0
    """the largest share of a clip's elements that do."""
    own: Verdict | None = None
    """The worst by its isolated error, among the clips that fail."""
    since: dict[str, int] = {}
    """By the last tap before it within bounds ('' for none): on how many clips this is the first failing tap."""


class Run(msgspec.Struct, kw_only=True):
    """A run as a whole: `run.json`."""

    format: int = FORMAT
    name: str
    started: str
    seconds: float = 0.0
    command: str = ""
    exit_code: int = 0
    source: str = "golden"
    """golden, or oracle (clips that had no golden)."""
    environment: dict[str, Any] = {}
    """This machine's; and under `targets`, by name, that of each place where something was computed."""
    commit: dict[str, Any] = {}
    systems: dict[str, dict[str, Any]] = {}
    """Name -> labels, frontend, frontend_digest, taps in flow order, clips, artifacts, anchor, backends' arithmetic."""
    summaries: list[TapSummary] = []
    skipped: list[Skipped] = []
    gaps: dict[str, list[str]] = {}
    """declared, met, unmet."""
    timings: list[dict[str, Any]] = []
    """stage, plugin, target, seconds; and by stage what `report.shapes` lists."""
    labels: dict[str, Any] = {}
    """With --labels-from: accuracy and confusion by pair, clips whose label differs between pairs."""
    examples: list[dict[str, Any]] = []
    """With --examples: count, outcome, worst and counter-example by pair."""
    unlike_golden: list[str] = []
    changed: list[str] = []
    """Model files that aren't the ones that their system lists (artifacts.json), one sentence each."""
    streaming: dict[str, list[dict[str, Any]]] = {}
    """With --streaming: `detections`, and by pair and size of chunks the mean `times` a frame."""
    evidence: list[dict[str, Any]] = []
    """What `evidence/` holds: file, candidate (system, backend, runtime, precision, target, path) and clip."""
    keep: str = "failing"
    """Whose arrays are in `arrays/`: failing, all or none."""
    asked: dict[str, list[str]] = {}
    """What was named: systems, backends, runtimes, precisions, targets; empty lists stand for all."""
    gate: dict[str, Any] = {}
    """What `parity gate` says beside the verdicts (see `parity.gate`): verdict, findings, baselines, history, limits.
    Empty for a plain run."""
    recheck: dict[str, Any] = {}
    """Where the arrays of another run were judged again: `of`, and how many verdicts were `judged`, `stand` as they
    were, or are `open`."""


LOCAL = "local"
"""The name of the target that is this machine."""


def targets(run: Run) -> list[str]:
    """The targets that a run went to, in the order in which they were named."""
    named = run.environment.get("targets", {})
    return list(dict.fromkeys([*named, *(s.target for s in run.summaries)])) or [LOCAL]


def environment_of(run: Run, target: str) -> Mapping[str, Any]:
    """Where the rows of a target were computed."""
    found: Mapping[str, Any] = run.environment.get("targets", {}).get(target, run.environment)
    return found


VARYING = ("name", "started", "seconds", "timings", "environment", "commit")
"""Fields of a run in which two runs of the same inputs with the same seed may differ: when, how fast, where."""


def steady(run: Run) -> Run:
    """A run without what varies: `VARYING`, times of streams, the gate's history. All else is the same again."""
    kept = {f.name: getattr(Run(name="", started=""), f.name) for f in msgspec.structs.fields(Run) if f.name in VARYING}
    return msgspec.structs.replace(
        run, **kept, streaming={k: v for k, v in run.streaming.items() if k != "times"},
        gate={k: v for k, v in run.gate.items() if k != "history"},
    )  # fmt: skip


RANK = {"error": 5, "missing": 4, "fail": 3, "gap": 2, "pass": 1, "unavailable": 0, "unsupported": 0}
"""Outcomes by how bad they are."""


def severity(verdict: Verdict) -> tuple[int, float]:
    """Order of badness: failures before passes, then error over bound."""
    rank = RANK[verdict.outcome]
    ratio = verdict.ratio if verdict.ratio is not None else (float("inf") if rank > 2 else -1.0)
    return rank, ratio


def own_severity(verdict: Verdict) -> tuple[int, float]:
    """The same of the isolated error: nothing to say of it comes last."""
    rank = {"missing": 3, "fail": 3, "pass": 1}.get(verdict.own_outcome, 0)
    ratio = verdict.own_ratio if verdict.own_ratio is not None else (float("inf") if rank > 2 else -1.0)
    return rank, ratio


def key_of(v: Verdict) -> tuple[str, ...]:
    """What a verdict is of; no two of a run are of the same."""
    return v.system, v.backend, v.runtime, v.precision, v.target, v.path, v.tap, v.clip


def array_path(run: Path, what: str) -> Path:
    """Where the arrays of a verdict are, `what` being its key joined by `|`."""
    return run / ARRAYS / f"{hashlib.sha256(what.encode()).hexdigest()[:16]}.npz"


class _Flow:
    """Follows verdicts, which come clip by clip in flow order, and says which is the first that fails of its clip."""

    def __init__(self) -> None:
        self._at: tuple[str, ...] = ()
        self._within, self._failed = "", False

    def follow(self, v: Verdict) -> Verdict:
        """The verdict, with `since` where it is the first failing one."""
        at = (v.system, v.backend, v.runtime, v.precision, v.target, v.path, v.clip)
        if at != self._at:
            self._at, self._within, self._failed = at, "", False
        if v.outcome == "pass":
            self._within = v.tap
        elif v.outcome in ("fail", "missing", "error"):
            first, self._failed = not self._failed, True
            return msgspec.structs.replace(v, since=self._within if first else None)
        return v


class Recorder:
    """Writes a run folder: verdicts as they come, the rest at the end. Leaves nothing behind when it isn't finished."""

    def __init__(self, reports: Path, name: str) -> None:
        self.final = reports / name
        self._folder = reports / f".{name}.part"
        try:
            self._folder.mkdir(parents=True)
            self._lines = (self._folder / "verdicts.jsonl").open("wb")
        except OSError as e:
            raise ConfigError(
                f"reports can't be written to {reports}: {e.strerror}", "name another: --report DIR"
            ) from None
        self._encoder = msgspec.json.Encoder()
        self._flow = _Flow()
        self.evidence = evidence.Keeper(self._folder)
        self._summaries: dict[tuple[str, ...], TapSummary] = {}
        self._kept = 0

    def add(self, verdict: Verdict) -> None:
        """Write a verdict, and count it into its tap's summary. Those of a clip and path come in flow order."""
        verdict = self._flow.follow(verdict)
        self._lines.write(self._encoder.encode(verdict) + b"\n")
        v = verdict
        key = (v.system, v.backend, v.runtime, v.precision, v.target, v.path, v.tap)
        summary = self._summaries.get(key)
        if summary is None:
            summary = self._summaries[key] = TapSummary(
                system=v.system, backend=v.backend, runtime=v.runtime, precision=v.precision, target=v.target,
                path=v.path, tap=v.tap, counts={}, near_ties=0, worst=v,
            )  # fmt: skip
        elif severity(v) > severity(summary.worst):
            summary.worst = v
        summary.counts[v.outcome] = summary.counts.get(v.outcome, 0) + 1
        summary.near_ties += v.near_tie
        summary.saturated += v.saturated > 0.0
        summary.most_saturated = max(summary.most_saturated, v.saturated)
        if v.near_tie and not summary.tie:
            summary.tie = f"{v.clip}: {v.message.removeprefix('near tie: ')}"
        if v.own_outcome and (summary.own is None or own_severity(v) > own_severity(summary.own)):
            summary.own = v
        if v.since is not None:
            summary.since[v.since] = summary.since.get(v.since, 0) + 1

    def keep_arrays(self, verdict: Verdict, arrays: Mapping[str, Array], most: int | None = 200) -> None:
        """Keep the arrays of a tap (candidate, golden, lo, hi, ...), of the first `most`; None for all."""
        if most is not None and self._kept >= most:
            return
        self._kept += 1
        text = "|".join(key_of(verdict))
        (self._folder / ARRAYS).mkdir(exist_ok=True)
        np.savez_compressed(array_path(self._folder, text), **arrays, what=np.array(text))  # type: ignore[arg-type]

    @property
    def summaries(self) -> list[TapSummary]:
        """A summary a tap and pair, in the order in which they were first seen."""
        return list(self._summaries.values())

    def finish(
        self, run: Run, reports: Iterable[Callable[[Path, Run], None]],
        hold: Callable[[Path, Run], None] | None = None,
    ) -> Path:  # fmt: skip
        """Write what is left and each of `reports`, then give the folder its name; returns it.

        `hold` may still change the run, with all its verdicts in the folder that it is given.
        """
        self._lines.close()
        run.summaries = self.summaries
        run.evidence = self.evidence.index()
        if hold is not None:
            hold(self._folder, run)
        (self._folder / "run.json").write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
        for write in reports:
            write(self._folder, run)
        os.replace(self._folder, self.final)
        return self.final

    def abandon(self) -> None:
        """Take the unfinished folder away."""
        self._lines.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def new_name(reports: Path) -> str:
    """A name for a run: when it started, and a number where that is taken."""
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
    names = [stamp] + [f"{stamp}-{n}" for n in range(2, 1000)]
    return next(n for n in names if not (reports / n).exists() and not (reports / f".{n}.part").exists())


def read_run(folder: Path) -> Run:
    """`run.json` of a run folder. ConfigError where it isn't one."""
    try:
        data = (folder / "run.json").read_bytes()
        if (of := msgspec.json.decode(data, type=_Format).format) != FORMAT:
            raise ConfigError(f"{folder} has format {of}, this parity reads {FORMAT}", "make the run again")
        return msgspec.json.decode(data, type=Run)
    except (OSError, ValueError) as e:
        raise ConfigError(f"{folder} is not a run: {e}", "name a folder under reports/") from None


class _Format(msgspec.Struct):
    """What `run.json` has, of whichever parity."""

    format: int = FORMAT


def read_verdicts(folder: Path) -> Iterator[Verdict]:
    """The verdicts of a run folder, one at a time. ConfigError where they aren't there, or aren't verdicts."""
    return read_as(Verdict, folder)


def read_as(kind: type[Row], folder: Path) -> Iterator[Row]:
    """The same with the fields of another struct only."""
    decoder = msgspec.json.Decoder(kind)
    path = folder / "verdicts.jsonl"
    try:
        with path.open("rb") as lines:
            for line in lines:
                yield decoder.decode(line)
    except (OSError, ValueError) as e:
        why = e.strerror if isinstance(e, OSError) else e
        raise ConfigError(f"{path} can't be read: {why}", "make the run again") from None


def load_run(path: str | os.PathLike[str]) -> pd.DataFrame:
    """The verdicts of a run folder as a DataFrame, a row a verdict; its columns are the fields of `Verdict`."""
    try:
        import pandas as pd
    except ImportError:
        from parity.errors import MissingExtra

        raise MissingExtra("load_run needs pandas, which is not installed", "pip install 'parity[report]'") from None
    columns = [f.name for f in msgspec.structs.fields(Verdict)]
    rows = [[getattr(v, c) for c in columns] for v in read_verdicts(Path(path))]
    return pd.DataFrame(rows, columns=columns)
