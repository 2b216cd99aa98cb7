"""What the places where a run computed tell of themselves: latency, load and open times, memory, heat, bytes sent.

Measurements, never verdicts. Times of an emulated CPU are marked: they are no device's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from parity.localize import number, several
from parity.records import LOCAL, Run, environment_of, targets
from parity.report.places import about, emulated

EMULATED = "emulated: not a device's speed"


def costs(run: Run) -> list[dict[str, Any]]:
    """A row a target, system, plugin and precision: what a clip and a frame take, in milliseconds, and of networks the
    file, its size in bytes and the seconds that opening it took.

    `ms` is the median of a clip, or the mean where the records have no median (`p95` is then None).
    """
    opened: dict[tuple[str, ...], float] = {}
    for t in run.timings:
        if t.get("stage") == "open":
            key = _key(t)
            opened[key] = max(t.get("seconds", 0.0), opened.get(key, 0.0))
    found = []
    for t in run.timings:
        if t.get("stage") not in ("features", "model") or not t.get("clips"):
            continue
        about = run.systems.get(t.get("system", ""), {})
        ran = [*about.get("models", []), *about.get("kernels", [])]
        file = next((m["file"] for m in ran if t["stage"] == "model"
                     and (m["runtime"], m["precision"]) == (t["plugin"], t.get("precision", ""))), "")  # fmt: skip
        sizes = {a["file"]: a.get("bytes") for a in about.get("artifacts", [])}
        clip = list(t.get("clip_ms") or ())
        target = t.get("target") or LOCAL
        found.append({
            "system": t.get("system", ""), "what": "network" if t["stage"] == "model" else "features",
            "plugin": t["plugin"], "precision": t.get("precision", ""), "target": target,
            "emulated": emulated(run, target), "clips": t["clips"],
            "ms": clip[0] if clip else 1000.0 * t["seconds"] / t["clips"], "p95": clip[1] if len(clip) > 1 else None,
            "frame": t.get("frame_ms"), "frame_median": t.get("frame_median_ms"), "frame_p95": t.get("frame_p95_ms"),
            "rtf": t.get("rtf"), "threads": t.get("threads"), "warm_up": t.get("warm_up", 0),
            "open": opened.get(_key(t)) if t["stage"] == "model" else None, "file": file, "bytes": sizes.get(file),
        })  # fmt: skip
    return sorted(found, key=lambda c: [c[k] for k in ("system", "what", "plugin", "precision", "target")])


def _key(t: Mapping[str, Any]) -> tuple[str, ...]:
    return t.get("target") or LOCAL, t.get("system", ""), t.get("plugin", ""), t.get("precision", "")


def plugins(run: Run) -> list[dict[str, Any]]:
    """A row a target and plugin that told something: the seconds that loading it took, and its peak memory in bytes."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for t in run.timings:
        if t.get("stage") in ("load", "memory") and t.get("plugin"):
            target = t.get("target") or LOCAL
            row = found.setdefault((target, t["plugin"]), {"load": None, "peak": None})
            what, value = ("load", t.get("seconds")) if t["stage"] == "load" else ("peak", t.get("peak_bytes"))
            row[what] = max(value or 0, row[what] or 0)
    order = {target: i for i, target in enumerate(targets(run))}
    keys = sorted(found, key=lambda k: (order.get(k[0], len(order)), k))
    return [{"target": t, "emulated": emulated(run, t), "plugin": p} | found[t, p] for t, p in keys]


def places(run: Run) -> list[dict[str, Any]]:
    """What each target says of its state and its link: words by target, those that say nothing left out."""
    found = []
    for target in targets(run):
        e = environment_of(run, target)
        which = about(run, target) if target != LOCAL and not several(run) else ""  # said elsewhere
        words = [*filter(None, [which]), *_state(e), *_link(e)]
        if words and (threads := _amount(e.get("threads"))):
            words.append(f"{threads:.0f} thread{'s' if threads != 1 else ''}")
        if words:
            found.append({"target": target, "emulated": emulated(run, target), "words": words})
    return found


def _state(e: Mapping[str, Any]) -> list[str]:
    words = []
    if memory := _amount(e.get("memory_bytes")):
        words.append(f"{size(memory)} of memory")
    if e.get("governor"):
        words.append(f"governor {e['governor']}")
    heat = e.get("temperature_c")
    degrees = [_amount(x) for x in heat] if isinstance(heat, list | tuple) else []
    if any(x is not None for x in degrees):
        words.append(" → ".join("?" if x is None else f"{number(x)} °C" for x in degrees))
    return words


def _amount(x: Any) -> float | None:
    """A number that a device told; None where it is none."""
    return x if isinstance(x, int | float) and math.isfinite(x) else None


def _link(e: Mapping[str, Any]) -> list[str]:
    link = e.get("link")
    if not isinstance(link, Mapping):
        return []
    sent, received, arrays, connections, again = (
        _amount(link.get(k)) or 0 for k in ("sent", "received", "arrays", "connections", "reconnects")
    )
    share = f" ({number((sent + received) / arrays)} times the arrays' own {size(arrays)})" if arrays else ""
    words = [f"{size(sent)} sent and {size(received)} received{share}"]
    if connections:
        words.append(f"{connections} connection{'s' if connections != 1 else ''}")
    return words + ([f"{again} reconnect{'s' if again != 1 else ''}"] if again else [])


def size(n: float | None) -> str:
    """Bytes in words: `51.2 kB`."""
    if n is None:
        return "–"
    for unit, digits, least in (("GB", 2, 1e9), ("MB", 2, 1e6), ("kB", 1, 1e3)):
        if n >= least:
            return f"{n / least:.{digits}f} {unit}"
    return f"{n:.0f} B"
