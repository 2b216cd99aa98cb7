"""`make proof`: prints every table; exit 1 when a figure isn't met.

python -m tests.proof [PART ...]; parts: figures, alarms, panel, detection, causes, drift, pi, boards. Needs speech in
PARITY_DATA (see CONTRIBUTING.md); without it, lines say so.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping

from tests.proof.tables import CONSOLE, Line, show_lines


def _figures() -> Iterator[Line]:
    from tests.proof import figures

    return figures.lines()


def _alarms() -> Iterator[Line]:
    from tests.proof import alarms

    return alarms.lines()


def _panel() -> Iterator[Line]:
    from tests.proof import corruptions

    return corruptions.lines()


def _detection() -> Iterator[Line]:
    from tests.proof import mutants

    return mutants.lines()


def _causes() -> Iterator[Line]:
    from tests.proof import causes

    return causes.lines()


def _drift() -> Iterator[Line]:
    from tests.proof import drift

    return drift.lines()


def _pi() -> Iterator[Line]:
    from tests.proof import pi

    return pi.lines()


def _boards() -> Iterator[Line]:
    from tests.proof import boards

    return boards.lines()


PARTS: Mapping[str, Callable[[], Iterator[Line]]] = {
    "figures": _figures, "alarms": _alarms, "panel": _panel, "detection": _detection, "causes": _causes,
    "drift": _drift, "pi": _pi, "boards": _boards,
}  # fmt: skip


def main() -> None:
    """Print the parts that are named, or all."""
    asked = sys.argv[1:] or list(PARTS)
    missed = 0
    for name in asked:
        start = time.monotonic()
        missed += show_lines(PARTS[name]())
        CONSOLE.print(f"{name}: {time.monotonic() - start:.0f} s\n", markup=False, highlight=False)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
