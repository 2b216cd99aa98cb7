"""Accepting a run as the baseline of its environment: what differs from what was accepted before, and the new file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from parity import baseline, errors, gate, localize, pipeline, records
from parity.baseline import Accepted, Baseline, Key
from parity.errors import ConfigError, NotAccepted
from parity.records import Run
from parity.standing import Standing, asked_of

SAME = 1e-3
"""Relative difference up to which two errors over bound are called the same."""


@dataclass(frozen=True)
class Proposal:
    """What would be accepted for a system, beside what was."""

    standing: Standing
    new: Baseline
    golden: Path

    @property
    def fresh(self) -> bool:
        """Whether its environment has no baseline yet."""
        return not self.standing.held


def newest(reports: Path) -> Path:
    """The newest run of `parity gate` under a reports folder. ConfigError where there is none."""
    for path in sorted(reports.glob("*/run.json"), reverse=True):
        try:
            if records.read_run(path.parent).gate:
                return path.parent
        except ConfigError as e:  # it may be the newest of all: an older one isn't taken for it
            raise ConfigError(e.message, "take it away, or name a run: parity accept RUN --reason TEXT") from None
    raise ConfigError(f"no run of `parity gate` in {reports}", "name a run: parity accept RUN --reason TEXT")


def refuse(run: Run, folder: Path) -> None:
    """NotAccepted where a run can't be a baseline: what failed in it is to be mended, not accepted."""
    kind = (
        "it judged clips without goldens (--audio)" if run.source != "golden"
        else "it is of a stream (--streaming)" if run.streaming
        else "it has drawn clips (--examples)" if run.examples
        else "nothing was run in it (parity recheck)" if run.recheck
        else "it is of a dump (parity compare)" if "sha256" in run.environment["plugins"].get("recorded", {})
        else ""
    )  # fmt: skip
    if kind:
        raise NotAccepted(f"{folder} can't be a baseline: {kind}", "accept a run of `parity gate`")
    code = pipeline.exit_code(run)  # without what the gate added: drift may be accepted, a failure may not
    if code == errors.MISMATCH:
        raise NotAccepted(
            f"{folder} can't be a baseline: something failed in it", "mend it, and run `parity gate` again"
        )
    if code:
        raise NotAccepted(
            f"{folder} can't be a baseline: not everything that was asked for was compared",
            "see 'Not compared' in its report; then run `parity gate` again",
        )


def proposals(run: Run, folder: Path, golden: Path | None, afresh: bool) -> list[Proposal]:
    """What accepting a run would write, a system at a time.

    ConfigError where the goldens' folder isn't there, or not all that the run found is in its folder.
    """
    baseline.whole(run, folder)
    goldens = dict.fromkeys(run.systems, golden) if golden is not None else gate.goldens_of(run)
    for root in dict.fromkeys(goldens.values()):
        if root is None or not root.is_dir():
            raise ConfigError(f"the goldens of this run were in {root}, which isn't here", "name them: --golden DIR")
    asked, found = asked_of(run), []
    where = {name: root for name, root in goldens.items() if root is not None}
    for s in gate.standings(run, folder, where):
        outside = [(b, r) for b in s.held for r in b.rows if not asked.covers(r)]
        found.append(Proposal(s, baseline.joined(s.held, s.now, outside, afresh), where[s.now.system]))
    return found


def accept(proposal: Proposal, run: Run, reason: str) -> Path:
    """Write the new baseline; what it takes the place of goes after it is there."""
    new = proposal.new
    word = Accepted(baseline.today(), run.name, reason)
    new = msgspec.structs.replace(new, accepted=[*new.accepted, word])
    path = baseline.write(proposal.golden, new)
    for old in proposal.standing.held:  # with other plugins, it had another name
        former = baseline.folder_of(proposal.golden, old.system) / f"{old.fingerprint}.json"
        if former != path:
            former.unlink(missing_ok=True)
    return path


def changes(proposal: Proposal) -> Iterator[tuple[str, Sequence[str]]]:
    """What accepting would change, a heading with its lines; nothing where it is what was accepted."""
    s, new = proposal.standing, proposal.new.by_key()
    if proposal.fresh:
        return
    was: dict[Key, float] = {}
    for b in s.held:
        for key, row in b.by_key().items():
            was[key] = max(row.ratio or 0.0, was.get(key, 0.0))
    grew: list[tuple[float, str]] = []
    fell: list[tuple[float, str]] = []
    for key in sorted(new.keys() & was.keys()):
        then, now = was[key], new[key].ratio or 0.0
        if abs(now - then) > SAME * max(then, now):
            line = f"{title(key)}: {localize.number(then)} -> {localize.number(now)}"
            (grew if now > then else fell).append((abs(now - then), line))
    for head, lines in (("error over bound grew", grew), ("error over bound fell", fell)):
        if lines:
            yield f"{head} at {_taps(len(lines))}", [line for _, line in sorted(lines, key=lambda x: (-x[0], x[1]))]
    for head, keys in (("new", new.keys() - was.keys()), ("not compared any more", was.keys() - new.keys())):
        if keys:
            yield f"{head}: {_taps(len(keys))}", [title(key) for key in sorted(keys)]
    yield from _others(proposal)


def _others(proposal: Proposal) -> Iterator[tuple[str, Sequence[str]]]:
    s, new = proposal.standing, proposal.new
    before: dict[Key, frozenset[str]] = {}
    for b in s.held:
        before = {key: b.clips_of(row) for key, row in b.by_key().items()} | before  # the closest says it
    after = {key: new.clips_of(row) for key, row in new.by_key().items()}
    both = before.keys() & after.keys()
    for head, one, other in (("more clips", after, before), ("fewer clips", before, after)):
        clips = {key: found for key in both if (found := one[key] - other[key])}
        if clips:
            yield f"{head} at {_taps(len(clips))}", sorted(frozenset[str]().union(*clips.values()))
    sizes = {(m.format, m.precision, m.file): m.bytes for b in s.held for m in b.models}
    grown = [
        f"{m.file}: {was:,} -> {m.bytes:,} bytes"
        for m in new.models
        if (was := sizes.get((m.format, m.precision, m.file))) not in (None, m.bytes)
    ]
    if grown:
        yield "files of another size", grown


def _taps(n: int) -> str:
    return f"{n} tap{'s' if n != 1 else ''}"


def title(key: Key) -> str:
    """`librosa -> onnxrt float32, cumulative, model/logits`."""
    backend, runtime, precision, target, path, tap = key
    who = localize.title("", backend, runtime, precision, target)
    return ", ".join((who, path, tap) if runtime else (who, tap))
