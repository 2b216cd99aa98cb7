"""`parity doctor`: what works on this machine, and what to type where it doesn't."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from parity import golden, registry, system
from parity.errors import CONFIG, GOLDEN, OK, ParityError, worst
from parity.provenance import cpu
from parity.targets.local import LocalTarget


def run() -> int:
    """Print a line a check; returns the exit code."""
    codes = []
    for good, text, code in _checks():
        click.echo(f"{'ok  ' if good else 'FAIL'}  {text}")
        if not good:
            codes.append(code)
    return worst(codes)


def _checks() -> Iterator[tuple[bool, str, int]]:
    yield True, f"Python {platform.python_version()} on {cpu()['model']} ({platform.machine()})", OK
    with LocalTarget() as target:
        for kind, plugins in (("backend", registry.plugins("backend")), ("runtime", registry.plugins("runtime"))):
            for name, plugin in plugins.items():
                if plugin.missing:
                    yield True, f"{kind} {name}: not installed ({plugin.install})", OK
                    continue
                if plugin.takes:
                    yield True, f"{kind} {name}: takes a {plugin.takes}: {name}:{plugin.takes.upper()}", OK
                    continue
                try:
                    versions = target.describe(kind, name, []).versions
                    yield True, f"{kind} {name}: " + ", ".join(f"{k} {v}" for k, v in sorted(versions.items())), OK
                except ParityError as e:
                    yield False, e.message, CONFIG
    for name in system.names():
        yield from _system(name)
    yield _writable(system.root() / "reports")


def _system(name: str) -> Iterator[tuple[bool, str, int]]:
    try:
        found = system.load(system.root() / "reference_models" / name)
        if not found.artifacts:  # nothing of it can run yet, so nothing of it was recorded
            command = system.how_to_build(found.folder)
            yield True, f"system {name}: not built ({command or 'none of its files is there'})", OK
            return
        yield True, f"system {name}: {len(found.artifacts)} models", OK
        opened = golden.load(system.root() / "golden", found)
        problems = list(opened.verify())
        yield (
            not problems,
            f"goldens of {name}: {len(opened.clips)} clips" + "".join(f"; {p}" for p in problems[:1]),
            GOLDEN,
        )
    except ParityError as e:
        yield False, f"system {name}: {e.message}" + (f" (hint: {e.hint})" if e.hint else ""), e.exit_code


def _writable(reports: Path) -> tuple[bool, str, int]:
    try:
        reports.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=reports):
            return True, f"reports can be written to {reports}", OK
    except OSError as e:
        return (
            False,
            f"reports can't be written to {reports}: {e.strerror} (name another: parity run --report DIR)",
            CONFIG,
        )
