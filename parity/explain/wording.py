"""An explanation in words: a line a divergence."""

from __future__ import annotations

from parity.explain.explanation import Causes, Explanation, Finding
from parity.localize import number, title

ALSO = 6
"""Of settings that can't be told apart so many are named; the rest are counted."""


def lines(e: Explanation, most: int = ALSO) -> list[str]:
    """What explains one candidate: its name, then its findings in flow order."""
    found = [f"{title(e.system, e.backend, e.runtime, e.precision, e.target)} (clips: {', '.join(e.clips[:4])}"
             + (f" and {len(e.clips) - 4} more)" if len(e.clips) > 4 else ")")]  # fmt: skip
    for f in e.findings:
        found += [f"  {line}" for line in _finding(f, most, " so far" if e.interrupted else "")]
    if e.note:
        found.append(f"  {e.note}")
    if e.findings and not e.complete and e.findings[-1].complete:
        found.append("  later taps diverge still, and nothing more was found")
    return found


def _finding(f: Finding, most: int, so_far: str = "") -> list[str]:
    where = f.tap.removeprefix("features/")
    if not f.alternatives:
        return [f"{where}: nothing explains it{so_far}, and nothing close was found ({_before(f)})"]
    if not f.complete and f.after is None:
        return [f"{where}: {words(f.alternatives[0])} ({_before(f)})"]
    if not f.complete:
        share = "" if f.share is None else f"{_percent(f.share)} of the error explained, "
        return [
            f"{where}: nothing explains it{so_far}; closest is {words(f.alternatives[0])}: {share}"
            f"{f.inside:.1%} of the elements within bound ({_before(f)} -> {_size(f.after, f.unit)})"
        ]
    first, *rest = f.alternatives
    found = [f"{where}: {words(first)}: 100 % of the error explained ({_before(f)} -> within bound)"]
    if rest:
        more = f" and {len(rest) - most} more" if len(rest) > most else ""
        told = "; ".join(words(c) for c in rest[:most])
        found.append(f"  can't be told apart at these taps: {words(first)}; {told}{more}")
    return found


def words(causes: Causes) -> str:
    """Settings that explain together."""
    return ", and ".join(c.words for c in causes)


def _percent(share: float) -> str:
    """Rounded towards zero: 100 % is said of what is within bound everywhere, and of nothing else."""
    return f"{int(1000 * min(max(share, 0.0), 0.999)) / 10:g} %"


def _before(f: Finding) -> str:
    return f.shapes or _size(f.before, f.unit)


def _size(x: float | None, unit: str) -> str:
    return "not finite" if x is None else f"{number(x)} {unit}".rstrip()
