"""Detection and place: the share of cases by mutant, beside what else is in use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from tests.proof import activations, detection, others, speech
from tests.proof.detection import Case, Right
from tests.proof.tables import Line, percent, show

CLIPS = 300
LEVELS = (0.0, -30.0, -60.0)
"""dB: each clip is played at one of them, in turn."""


def lines() -> Iterator[Line]:
    """Every mutant of recipes and of networks on held-out speech."""
    if speech.folder() is None:
        yield Line("mutants on real speech", "PARITY_DATA is not set", None)
        return
    clips = [(path, LEVELS[i % len(LEVELS)]) for i, path in enumerate(speech.held_out()[:CLIPS])]
    right, cases = detection.shared((detection.features, activations.activations), clips)
    yield from table(right, cases)


def table(right: Sequence[Right], cases: Sequence[Case]) -> Iterator[Line]:
    """Print the table by mutant; the lines that are asked for."""
    tolerances = detection.flat(right)
    by_mutant: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_mutant[case.mutant].append(case)
    rows = []
    for name, mine in by_mutant.items():
        counted = [c for c in mine if c.starts]
        seen = [c for c in counted if c.seen]
        rows.append((
            name, percent(len(mine) - len(counted), len(mine)), percent(len(seen), len(counted)),
            percent(sum(c.seen == c.starts for c in seen), len(seen)),
            percent(sum(detection.found_by_flat(c, tolerances) for c in counted), len(counted)),
            *(percent(*_found(counted, other)) for other in others.OTHERS),
        ))  # fmt: skip
    show(("mutant", "left out", "parity", "place", "flat", *others.OTHERS), rows)
    alarms = (f"{other} {percent(*_found(right, other))}" for other in others.OTHERS)
    false = [f"{r.of} {r.who} {r.clip} {r.seen}" for r in right if r.seen]
    yield Line(
        "correct implementations on the same clips that parity fails", f"{len(false)} of {len(right)}", not false
    )
    yield Line("the same of what else is in use (flat: 0 by its setting)", ", ".join(alarms), None)
    counted = [c for c in cases if c.starts]
    seen = [c for c in counted if c.seen]
    place = sum(c.seen == c.starts for c in seen)
    yield Line(
        "at least 99 % of (mutant, clip) cases are found",
        _of(len(seen), len(counted)),
        len(seen) >= 0.99 * len(counted),
    )
    flat = sum(detection.found_by_flat(c, tolerances) for c in counted)
    yield Line("the same by flat tolerances at their best", _of(flat, len(counted)), None)
    yield Line("the first diverging tap is right in at least 98 %", _of(place, len(seen)), place >= 0.98 * len(seen))


def _of(part: int, whole: int) -> str:
    return f"{percent(part, whole)} ({part} of {whole})"


def _found(cases: Sequence[Case] | Sequence[Right], other: str) -> tuple[int, int]:
    asked = [c for c in cases if other in c.asked]
    return sum(other in c.found_by for c in asked), len(asked)
