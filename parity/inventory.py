"""What is there, as tables: plugins, systems and their models, goldens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from parity import registry
from parity.golden import GoldenSet
from parity.protocols import Target, Unsupported
from parity.report import wording
from parity.system import System, how_to_build

if TYPE_CHECKING:
    from parity.cost import Cost
    from parity.readiness import Report
    from parity.settings import TargetSettings
    from parity.weights.check import Checked

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


def _title(console: Console, s: System) -> None:
    f = s.frontend
    length = f.input.length
    shape = f"{f.frames(length)} frames x {f.bands} bands" if length else f"any frames x {f.bands} bands"
    console.print(f"{s.name}: {s.description}", markup=False)
    console.print(f"  features {shape}, recipe {f.digest[:12]}; {len(s.labels)} labels", markup=False)


def show_systems(systems: Sequence[System]) -> None:
    """Each system's recipe and model files."""
    console = _console()
    for s in systems:
        _title(console, s)
        table = Table("", "format", "precision", "file", "sha256", box=None, pad_edge=False)
        for a in s.artifacts:
            table.add_row("", a.format, a.precision, a.path.rpartition("/")[2], a.sha256[:12])
        command = how_to_build(s.folder)
        for a in s.unbuilt:
            table.add_row("", a.format, a.precision, a.path.rpartition("/")[2], "not built" if command else "not there")
        console.print(table, markup=False)
        if s.unbuilt and command:
            console.print(f"  to build: {command}", markup=False, soft_wrap=True)


def show_matrix(systems: Sequence[System], target: Target) -> None:
    """Every system by what can compute it: backends for its recipe, runtimes for each of its files, and why not."""
    names = {kind: [n for n, p in registry.plugins(kind).items() if not (p.missing or p.takes)] for kind in _KINDS}
    target.load([(kind, name) for kind in _KINDS for name in names[kind]])
    frontends = [s.frontend for s in systems]
    artifacts = [a for s in systems for a in s.files]
    backends = {name: target.describe("backend", name, frontends).answers for name in names["backend"]}
    runtimes = {name: target.describe("runtime", name, artifacts).answers for name in names["runtime"]}
    console = _console()
    for i, s in enumerate(systems):
        _title(console, s)
        told = {name: answers[i] for name, answers in backends.items()}
        able = [name for name, answer in told.items() if not isinstance(answer, Unsupported)]
        console.print(f"  backends: {', '.join(able) or 'none'}", markup=False)
        for name, answer in told.items():
            if isinstance(answer, Unsupported):
                console.print(f"    not {name}: {answer.reason}", markup=False)
        table = Table("", "file", "format", "precision", "runtimes", box=None, pad_edge=False)
        for a in s.files:
            n = artifacts.index(a)
            run = [name for name, answers in runtimes.items() if not isinstance(answers[n], Unsupported)]
            table.add_row("", Path(a.path).name, a.format, a.precision, ", ".join(run) or "none installed")
        for a in s.unbuilt:
            table.add_row(
                "", Path(a.path).name, a.format, a.precision, "not built" if how_to_build(s.folder) else "not there"
            )
        console.print(table, markup=False)
    missing = [f"{n} ({p.install})" for kind in _KINDS for n, p in registry.plugins(kind).items() if p.missing]
    if missing:
        console.print(f"not installed: {', '.join(missing)}", markup=False)


def show_costs(
    systems: Sequence[System],
    costs: Sequence[Cost | None],
    arenas: Sequence[Mapping[str, int]],
    rule: str,
    published: Sequence[str] = (),
) -> None:
    """What each system's network costs, how large its files are and what they work in, how that was counted, and what
    was published.
    """
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
    for words in published:
        console.print(words, markup=False)


def show_weights(checked: Sequence[tuple[System, Sequence[Checked]]], verbose: bool) -> None:
    """A row a file: how many of its tensors are explained, and how; below it every one that isn't (or every one)."""
    console = _console()
    table = Table("system", "file", "format", "precision", "weights", box=None, pad_edge=False)
    below: list[str] = []
    for s, files in checked:
        below += [f"{s.name}: {words}" for words in s.changed]
        name = s.name
        for c in files:
            file = Path(c.artifact.path).name
            wrong = [f for f in c.findings if not f.ok]
            words = c.why or f"{len(c.findings)} tensors: " + (f"{len(wrong)} WRONG" if wrong else "all explained")
            table.add_row(name, file, c.artifact.format, c.artifact.precision, words)
            name = ""
            for f in c.findings if verbose else wrong:
                what = " = ".join(filter(None, (f.trained, f.constant)))
                numbers = f"; largest difference {f.error:.2g} of {f.bound:.2g} allowed" if f.ok else ""
                below.append(f"{'ok' if f.ok else 'WRONG'} {file}: {what}: {f.how}{numbers}")
        if not files:
            table.add_row(name, "none is built", "", "", "")
    console.print(table, markup=False)
    for words in below:
        console.print(words, markup=False, soft_wrap=True)


def show_targets(named: Mapping[str, TargetSettings], form: str) -> None:
    """Targets by name: where, by which Python, with how many threads."""
    rows = [{"name": name, "where": t.ssh or "this machine", "python": t.python or "its own, or parity's there",
             "threads": t.threads} for name, t in named.items()]  # fmt: skip
    rows += [
        {"name": "local", "where": "this machine", "python": "parity's own", "threads": None},
        {
            "name": "emulated-pi",
            "where": "this machine",
            "python": "Debian's for ARM, emulated by QEMU",
            "threads": None,
        },
        {"name": "emulated-pi32", "where": "this machine", "python": "the same, of 32 bits", "threads": None},
    ]
    if form == "json":
        _print_json(rows)
        return
    table = Table("target", "where", "python", "threads", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text("" if v is None else str(v)) for v in row.values()))
    console = _console()
    console.print(table)
    console.print("also: ssh://[user@]host[:port], python:/path/to/python", markup=False)


def show_readiness(report: Report, form: str) -> None:
    """What a target has and lacks, a line each, and what to type."""
    if form == "json":
        _print_json(report)
        return
    console = _console()
    words = {"ok": "ok", "note": "note", "missing": "MISSING", "wrong": "WRONG", "absent": "–"}
    styles = {"ok": "green", "note": "yellow", "missing": "bold red", "wrong": "bold red", "absent": "dim"}
    marks, names = (max(len(words[c.state]) for c in report.checks), max(len(c.what) for c in report.checks))
    told: set[str] = set()
    console.print(Text(f"{report.target} ({report.address})"), soft_wrap=True)
    for c in report.checks:
        # Lines aren't folded: what is to be typed must be copied whole.
        mark = Text(words[c.state].ljust(marks), styles[c.state])
        console.print(mark, Text(f" {c.what.ljust(names)}  {c.found}"), soft_wrap=True)
        if c.to_do and c.to_do not in told:
            console.print(Text(f"{'':{marks + names + 4}}-> {c.to_do}"), soft_wrap=True)
            told.add(c.to_do)
    if report.ready:
        console.print(Text(f"ready: parity run --target {report.target} --backend numpy"))
    else:
        console.print("not ready: mend what is MISSING or WRONG", markup=False)


def _print_json(value: object) -> None:
    import sys

    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=1).decode() + "\n")


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
