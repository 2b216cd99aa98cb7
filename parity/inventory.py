"""What is there, as tables: plugins, systems and their models, goldens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table

from parity import registry
from parity.golden import GoldenSet
from parity.report import wording
from parity.system import System

if TYPE_CHECKING:
    from parity.cost import Cost

_KINDS: tuple[Literal["backend", "runtime"], ...] = ("backend", "runtime")


def _console(width: int = 120) -> Console:
    import sys

    return Console(highlight=False, width=None if sys.stdout.isatty() else width)


def show_plugins() -> None:
    """Every plugin: installed or not, versions, and what to type. Imports none of them."""
    table = Table("kind", "name", "installed", "versions, or what to install", box=None, pad_edge=False)
    for kind in _KINDS:
        for name, plugin in registry.plugins(kind).items():
            versions = ", ".join(f"{d} {v}" for d, v in plugin.versions().items())
            table.add_row(kind, name, "no" if plugin.missing else "yes", plugin.install if plugin.missing else versions)
    _console().print(table, markup=False)


def show_systems(systems: Sequence[System]) -> None:
    """Each system's recipe and model files."""
    console = _console()
    for s in systems:
        f = s.frontend
        length = f.input.length
        shape = f"{f.frames(length)} frames x {f.bands} bands" if length else f"any frames x {f.bands} bands"
        console.print(f"{s.name}: {s.description}", markup=False)
        console.print(f"  features {shape}, recipe {f.digest[:12]}; {len(s.labels)} labels", markup=False)
        table = Table("", "format", "precision", "file", "sha256", box=None, pad_edge=False)
        for a in s.artifacts:
            table.add_row("", a.format, a.precision, a.path.rpartition("/")[2], a.sha256[:12])
        for reason in s.not_built:
            table.add_row("", "not built", "", reason, "")
        console.print(table, markup=False)


def show_costs(
    systems: Sequence[System], costs: Sequence[Cost | None], arenas: Sequence[Mapping[str, int]], rule: str
) -> None:
    """What each system's network costs, how large its files are and what they work in, and how that was counted."""
    console = _console(150)
    columns = ["system", "input", "parameters", "multiply-adds", "file", "format", "precision", "bytes"]
    columns += ["arena"] * any(arenas)
    table = Table(box=None, pad_edge=False)
    for name in columns:
        number = name in ("parameters", "multiply-adds", "bytes", "arena")
        table.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=name == "file")
    for s, cost, arena in zip(systems, costs, arenas, strict=True):
        shape = "x".join(map(str, cost.shape)) if cost else "–"
        numbers = (f"{cost.parameters:,}", f"{cost.multiply_adds:,}") if cost else ("no PyTorch network", "–")
        first = (s.name, shape, *numbers)
        for a in s.artifacts:
            path = Path(a.path)
            working = [f"{arena[a.path]:,}" if a.path in arena else ""] * any(arenas)
            table.add_row(*first, path.name, a.format, a.precision, f"{path.stat().st_size:,}", *working)
            first = ("",) * 4
        if not s.artifacts:
            table.add_row(*first, "none is built", "", "", "")
    console.print(table, markup=False)
    console.print(rule, markup=False)
    if any(arenas):
        console.print("Arena: the fewest bytes of memory in which tflite-micro answers here, by trial.", markup=False)


def show_golden(goldens: GoldenSet) -> None:
    """Clips with their decisions and arrays, the anchor, and where they were recorded."""
    console, m = _console(), goldens.manifest
    anchor, recorder = m["anchor"], m["recorder"]
    worst = max(anchor["worst_error_over_bound"].values(), default=None)
    agrees = f", at most {worst:.2g} of the bound from the oracle" if worst is not None else ""
    versions = ", ".join(f"{k} {v}" for k, v in sorted(anchor["versions"].items()))
    proof = " ".join(filter(None, (anchor["backend"], f"({versions})" if versions else "")))
    console.print(f"{m['system']}: {len(m['clips'])} clips, recipe {m['frontend_digest'][:12]}", markup=False)
    console.print(f"  anchor: {proof}{agrees}", markup=False)
    if told := wording.published(anchor):
        console.print(f"  anchor: {told}", markup=False)
    console.print(
        f"  activations: {recorder['runtime']} on {recorder['format']} {recorder['precision']} "
        f"(sha256 {recorder['model_sha256'][:12]})", markup=False,
    )  # fmt: skip
    console.print(f"  recorded {m['recorded']} on {m['environment']['cpu']['model']}: {m['command']}", markup=False)
    table = Table("clip", "samples", "label", "margin", "arrays", box=None, pad_edge=False)
    for entry in m["clips"]:
        arrays = defaultdict(list)
        for tap in [*entry["features"]["arrays"], *entry["model"]["arrays"]]:
            if ":" not in tap:
                arrays[tap.split("/")[0]].append(tap.split("/")[1])
        what = "; ".join(f"{k}: {', '.join(v)}" for k, v in arrays.items())
        table.add_row(
            entry["name"], str(entry["samples"]), entry["decision"]["label"], f"{entry['decision']['margin']:.3g}", what
        )
    console.print(table, markup=False)
