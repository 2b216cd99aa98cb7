"""A pair as a row of the page: its link, how near its bound it came, and the command that makes it again."""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from parity.localize import FAILED, NOT_COMPARED, Pair, badness, number
from parity.records import LOCAL, Run, TapSummary
from parity.taps import LABEL

_DROPPED = {
    "--system", "--backend", "--runtime", "--precision", "--target", "--report", "--jobs", "--limit", "--format",
    "--keep",
}  # fmt: skip
_FLAGS = {"--verbose", "-v", "--require-baseline"}


def row_id(system: str, backend: str, runtime: str, precision: str, target: str) -> str:
    """What a link to a pair ends in, the same in every run: `row-commands-cnn~librosa~onnxrt~float32~local`.

    What doesn't belong into a link is left out, and a digest of the whole name added.
    """
    name = "~".join((system, backend, runtime, precision, target))
    plain = re.sub(r"[^A-Za-z0-9_.:=~,+-]+", "-", name)
    return "row-" + (plain if plain == name else f"{plain[:120]}-{_digest(name)}")


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]


@dataclass(frozen=True)
class Row:
    """A pair, and what its row says."""

    pair: Pair
    id: str
    ratio: float | None
    """The largest error over bound of its taps, of those that fail where some do; None where none has a number."""
    at: str
    """The tap that it is of, in words."""
    room: str
    """Its head-room in words; empty where it failed."""
    command: str

    @property
    def rank(self) -> int:
        """Order of its outcome, the worst the highest."""
        return badness(self.pair.worst.worst)[0]


def rows(run: Run, found: list[Pair]) -> list[Row]:
    """A row a pair, in their order."""
    made = []
    for p in found:
        name = row_id(p.system, p.backend, p.runtime, p.precision, p.target)
        largest = nearest(p)
        number_of = None if largest is None else largest.worst.ratio
        made.append(Row(p, name, number_of, _at(p, largest), room(p), command(run, p)))
    return made


def _at(pair: Pair, largest: TapSummary | None) -> str:
    tap = (pair.worst.worst if largest is None else largest.worst).tap
    return f"worst at {tap}" + ("; labels flip" if flips(_summaries(pair)) and tap != LABEL else "")


def flips(summaries: list[TapSummary]) -> bool:
    """Whether a label among these is another one, and counts as a failure."""
    labels = [s.worst for s in summaries if s.tap == LABEL and s.worst.outcome == "fail"]
    return any(v.message.startswith("label flipped") for v in labels)  # not: "the logits aren't finite"


def _summaries(pair: Pair) -> list[TapSummary]:
    return [s for row in pair.rows for s in (row.cumulative, row.isolated, row.deployment) if s is not None]


def nearest(pair: Pair) -> TapSummary | None:
    """The tap with the largest error over bound, among those that fail where some do; None where none has a number."""
    found = _summaries(pair)
    if pair.outcome in FAILED:
        found = [s for s in found if s.worst.outcome in FAILED]
    return max((s for s in found if s.worst.ratio is not None), key=lambda s: badness(s.worst), default=None)


def room(pair: Pair) -> str:
    """How many times its error would fit into its bound, where it is the largest: `1.5 times`, or `exact`."""
    if pair.outcome in FAILED or pair.outcome in NOT_COMPARED or pair.outcome == "gap":
        return ""
    found = nearest(pair)
    if found is None or not found.worst.ratio:
        return "exact"
    return f"{number(1.0 / found.worst.ratio)} times"


def command(run: Run, pair: Pair) -> str:
    """The command that compares this pair alone, on the same clips; the run's own where it was no `parity run`."""
    try:
        words = shlex.split(run.command)
    except ValueError:
        return run.command
    if words[:2] not in (["parity", "run"], ["parity", "gate"]):
        return run.command
    system, kept, rest = pair.system, [], iter(words[2:])
    for word in rest:
        option, _, value = word.partition("=")
        if option in _DROPPED:
            value = value or next(rest, "")
            if option == "--system" and Path(value).name == pair.system:
                system = value
        elif word not in _FLAGS:
            kept.append(word)
    chosen = [("--system", system), ("--backend", pair.backend), ("--runtime", pair.runtime)]
    chosen += [("--precision", pair.precision), ("--target", pair.target if pair.target != LOCAL else "")]
    asked = [word for option, value in chosen if value for word in (option, value)]
    return shlex.join(["parity", "run", *asked, *kept])
