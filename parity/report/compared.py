"""What changed between two runs: outcomes, error over bound, what only one of them has, and where they ran.

`changes` is data for people and machines; `write` makes a page of it that asks for nothing, as a run's own does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from parity import records
from parity.errors import ConfigError
from parity.localize import FAILED, NOT_COMPARED, number, title
from parity.records import RANK, Run, TapSummary, read_run, read_verdicts
from parity.report import html, inline, wording

_PASSING = frozenset({"temperature_c", "link", "memory_bytes"})
"""What of a target is another every time."""
NOTED = 1.01
"""An error over bound that changed by less than this factor is counted, not listed."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A tap of a pair in both runs."""

    system: str
    backend: str
    runtime: str
    precision: str
    target: str
    path: str
    tap: str
    was: str
    """Its outcome in the first run."""
    now: str
    ratio_was: float | None
    """Its largest error over bound in the first run."""
    ratio_now: float | None
    clip: str
    """Where the second run's worst element is."""

    @property
    def name(self) -> str:
        """The pair, in words."""
        name = title(self.system, self.backend, self.runtime, self.precision, self.target)
        return name + (" (reference kernels)" if self.path == "deployment" else "")

    @property
    def factor(self) -> float | None:
        """How many times the error over bound grew; None where a run has no number, infinite from zero."""
        if self.ratio_was is None or self.ratio_now is None or self.ratio_was == self.ratio_now:
            return None if self.ratio_was is None or self.ratio_now is None else 1.0
        return self.ratio_now / self.ratio_was if self.ratio_was else float("inf")

    @property
    def worse(self) -> bool:
        """Whether its outcome got worse."""
        return RANK.get(self.now, 0) > RANK.get(self.was, 0)


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """All that differs; lists are sorted, the worst first."""

    a: str
    """The first run's name."""
    b: str
    was: tuple[str, str]
    """The first run's verdict: its word and its reason."""
    now: tuple[str, str]
    outcomes: list[Change]
    """Taps whose outcome changed, those that got worse first."""
    grew: list[Change]
    """Taps of the same outcome whose error over bound grew, by most first."""
    shrank: list[Change]
    little: int
    """Taps whose error over bound changed by less than one in a hundred."""
    same: int
    only_a: list[str]
    """Taps of pairs, and clips, that only the first run compared; what failed first, and how."""
    only_b: list[str]
    failed_only: tuple[int, int]
    """How many lines of `only_a` and of `only_b` failed."""
    environment: list[tuple[str, str, str]]
    """What, in the first, in the second: machine, versions, commit, recipes and files."""

    @property
    def any(self) -> bool:
        """Whether anything changed that was compared."""
        return bool(self.outcomes or self.grew or self.shrank or self.little or self.only_a or self.only_b)


def changes(
    a: Run, b: Run, clips_a: Mapping[str, frozenset[str]] | None = None,
    clips_b: Mapping[str, frozenset[str]] | None = None,
) -> Changes:  # fmt: skip
    """What changed from `a` to `b`; `clips_a` and `clips_b` are the clips by system, where they are known."""
    then, now = ({_key(s): s for s in run.summaries if s.worst.outcome not in NOT_COMPARED} for run in (a, b))
    both = [_change(then[k], now[k]) for k in sorted(then.keys() & now.keys())]
    moved = [c for c in both if c.was != c.now]
    still = [(c, c.factor) for c in both if c.was == c.now]
    grew = [(c, f) for c, f in still if f is not None and f >= NOTED]
    shrank = [(c, f) for c, f in still if f is not None and f <= 1.0 / NOTED]
    little = sum(f is not None and f != 1.0 and 1.0 / NOTED < f < NOTED for _, f in still)
    clips = _clips(clips_a or {}, clips_b or {})
    (only_a, failed_a), (only_b, failed_b) = _only(then, now), _only(now, then)
    return Changes(
        a=a.name, b=b.name, was=wording.judgement(a), now=wording.judgement(b),
        outcomes=sorted(moved, key=lambda c: (not c.worse, -RANK.get(c.now, 0), -RANK.get(c.was, 0))),
        grew=[c for c, _ in sorted(grew, key=lambda g: -g[1])],
        shrank=[c for c, _ in sorted(shrank, key=lambda g: g[1])],
        little=little, same=len(both) - len(moved) - len(grew) - len(shrank) - little,
        only_a=only_a + clips[0], only_b=only_b + clips[1], failed_only=(failed_a, failed_b),
        environment=_environments(a, b),
    )  # fmt: skip


def _key(s: TapSummary) -> tuple[str, ...]:
    return s.system, s.backend, s.runtime, s.precision, s.target, s.path, s.tap


def _change(was: TapSummary, now: TapSummary) -> Change:
    return Change(
        system=now.system, backend=now.backend, runtime=now.runtime, precision=now.precision, target=now.target,
        path=now.path, tap=now.tap, was=was.worst.outcome, now=now.worst.outcome, ratio_was=was.worst.ratio,
        ratio_now=now.worst.ratio, clip=now.worst.clip,
    )  # fmt: skip


def _only(
    one: Mapping[tuple[str, ...], TapSummary], other: Mapping[tuple[str, ...], TapSummary]
) -> tuple[list[str], int]:
    """Pairs that the other run lacks, and taps of those that it has; what failed first, and how many did."""
    there = {k[:6] for k in other}
    lines: dict[str, str] = {}
    for k in sorted(one.keys() - other.keys()):
        s = one[k]
        pair = title(s.system, s.backend, s.runtime, s.precision, s.target)
        line = f"{pair} ({s.path})" if k[:6] not in there else f"{pair} ({s.path}): {s.tap}"
        lines[line] = max(lines.get(line, ""), s.worst.outcome, key=lambda outcome: RANK.get(outcome, 0))
    failed = [f"{line}: {wording.WORDS[outcome]}" for line, outcome in lines.items() if outcome in FAILED]
    return failed + [line for line, outcome in lines.items() if outcome not in FAILED], len(failed)


def _clips(a: Mapping[str, frozenset[str]], b: Mapping[str, frozenset[str]]) -> tuple[list[str], list[str]]:
    lost, new = [], []
    for system in sorted(a.keys() & b.keys()):
        lost += [f"{system}: clip {name}" for name in sorted(a[system] - b[system])]
        new += [f"{system}: clip {name}" for name in sorted(b[system] - a[system])]
    return lost, new


def _environments(a: Run, b: Run) -> list[tuple[str, str, str]]:
    told = [dict(html.flat(_about(run))) for run in (a, b)]
    names = dict.fromkeys([*told[0], *told[1]])
    return [(n, told[0].get(n, "–"), told[1].get(n, "–")) for n in names if told[0].get(n) != told[1].get(n)]


def _about(run: Run) -> dict[str, Any]:
    systems = {
        name: {"recipe": str(about.get("frontend_digest", ""))[:16]}
        | {str(f.get("file")): str(f.get("sha256", ""))[:16] for f in about.get("artifacts", [])}
        for name, about in sorted(run.systems.items())
    }
    own = {k: v for k, v in run.environment.items() if k != "targets"}
    places = {
        name: {k: v for k, v in records.environment_of(run, name).items() if k not in _PASSING}
        for name in records.targets(run) if name != records.LOCAL
    }  # fmt: skip
    return {"command": run.command, "commit": run.commit, **own, "targets": places, "systems": systems}


def clips_of(folder: Path) -> dict[str, frozenset[str]]:
    """The clips of a run by system, from its verdicts."""
    found: dict[str, set[str]] = {}
    for v in read_verdicts(folder):
        found.setdefault(v.system, set()).add(v.clip)
    return {system: frozenset(names) for system, names in found.items()}


def read(a: Path, b: Path) -> Changes:
    """What changed between two run folders. ConfigError where one isn't a run."""
    return changes(read_run(a), read_run(b), clips_of(a), clips_of(b))


def write(a: Path, b: Path, out: Path) -> Path:
    """Write the page of what changed between two run folders to `out`; returns it."""
    text = render(read(a, b))
    part = out.with_name(f".{out.name}.part")
    try:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(part, out)
    except OSError as e:
        raise ConfigError(f"{out} can't be written: {e.strerror}", "name another file: --output FILE") from None
    finally:
        part.unlink(missing_ok=True)
    return out


def render(found: Changes) -> str:
    """The page."""
    environment = html.environment()
    environment.filters["factor"] = _factor
    page = environment.get_template("compared.html.j2").render(
        c=found, counts=counts(found), failed=FAILED, **inline.parts(charts=False)
    )
    return str(page) + "\n"


def counts(found: Changes) -> list[str]:
    """The numbers of a comparison."""
    worse = sum(c.worse for c in found.outcomes)
    return [
        f"{wording.count(worse, 'outcome')} got worse", f"{len(found.outcomes) - worse} got better",
        f"{wording.count(len(found.grew), 'error')} grew", f"{len(found.shrank)} shrank",
        f"{found.little} changed by less than 1 %", f"{found.same} the same",
        *(f"{len(lines)} only in the {which}" + (f", {failed} of them failed" if failed else "")
          for which, lines, failed in zip(("first", "second"), (found.only_a, found.only_b), found.failed_only,
                                          strict=True)),
    ]  # fmt: skip


def _factor(c: Change) -> str:
    f = c.factor
    if f is None:
        return "–"
    if f == float("inf"):
        return "was exact"
    return "is exact" if f == 0.0 else f"{number(f)} times"
