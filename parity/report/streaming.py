"""What a stream shows: words as they are heard, and afterwards what a frame cost."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from parity.localize import number
from parity.records import Run
from parity.report.wording import one_line, pair_of
from parity.streaming import Detection


def hearing(console: Console) -> Callable[[Detection], None]:
    """Prints a line a detection, at once: label, time in the clip, confidence, and by whom."""

    def heard(d: Detection) -> None:
        pair = f"{d.pair[0]} → {d.pair[1]} {d.pair[2]}"
        line = f"{d.time:7.2f} s  {d.label:<10} {d.confidence:.2f}  {one_line(d.clip)}  {pair}"
        console.print(line, markup=False, soft_wrap=True)

    return heard


def show_times(run: Run, console: Console) -> None:
    """Mean time a frame of each pair and size of chunks, and its share of the time that a frame lasts."""
    rows = run.streaming.get("times", [])
    if not rows:
        return
    console.print("\nTime a frame (features, network, both) and real-time factor: below 1 it keeps up", style="bold")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in ("system", "pair", "chunk", "features", "network", "a frame", "real-time factor"):
        table.add_column(name, justify="left" if name in ("system", "pair") else "right")
    for r in rows:
        times = [f"{number(r[k])} ms" for k in ("features_ms", "network_ms", "frame_ms")]
        table.add_row(r["system"], pair_of(r, run), str(r["chunk"]), *times, number(r["real_time_factor"]))
    console.print(table)
