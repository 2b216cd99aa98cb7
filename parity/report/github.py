"""What a GitHub Actions job is told of a run: a summary of the job, and annotations on the systems' files.

Nothing here happens elsewhere. What comes from outside can't become a command of the runner: values are escaped as its
toolkit escapes them, and while a run is printed the runner is told to look for no commands at all.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from parity.records import Run

SUMMARY_LIMIT = 1024 * 1024
"""Bytes that the summary of a step may have; with more the runner drops all of it."""
MOST = 10
"""Annotations of a kind that GitHub shows of a step."""


def inside() -> bool:
    """Whether a GitHub Actions runner reads what is printed."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


@contextlib.contextmanager
def no_commands() -> Iterator[None]:
    """Whatever is written to stdout meanwhile, none of it is a command."""
    if not inside():
        yield
        return
    import secrets

    token = secrets.token_hex(16)
    print(f"::stop-commands::{token}", flush=True)
    try:
        yield
    finally:
        print(f"::{token}::", flush=True)


def harmless(text: str) -> str:
    """Words of an error as they can be printed: nothing steers the terminal, and for a runner nothing begins a line."""
    from parity.report.wording import clean, one_line

    return one_line(text) if inside() else clean(text)


def annotation(kind: str, message: str, title: str = "", file: str = "") -> str:
    """An annotation (error, warning or notice) as the runner reads it."""
    properties = ",".join(f"{k}={_property(v)}" for k, v in (("file", file), ("title", title)) if v)
    return f"::{kind} {properties}".rstrip() + f"::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def tell(run: Run, stream: TextIO) -> None:
    """Append the run to the job's summary where there is one, and annotate what failed.

    On the stream that `no_commands` was on: the runner reads two streams in no order.
    """
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        from parity.report import markdown

        try:
            _append(Path(summary), markdown.render(run))
        except OSError as e:
            print(f"parity: the job's summary can't be written: {e.strerror}", file=sys.stderr)
    if inside():
        for line in marks(run):
            print(line, file=stream)
        stream.flush()


def _append(path: Path, words: str) -> None:
    """What would be too much is left out: an older summary isn't lost for a newer one."""
    written = path.stat().st_size if path.exists() else 0
    if written + len(words.encode()) + 1 <= SUMMARY_LIMIT:
        with path.open("a", encoding="utf-8") as file:
            file.write(words + "\n")


def marks(run: Run) -> list[str]:
    """An annotation a first failing tap and a finding of the gate that fails; the last of them counts the rest."""
    from parity.localize import first_failures, follows_from, several, title_of
    from parity.report.wording import clean, failure, finding_of, judgement, made

    found = []
    for v in first_failures(run):
        if follows_from(run, v) is None:
            lines = filter(None, (*failure(run, v), made(run, v)))
            found.append((clean("\n".join(lines)), f"parity: {title_of(v, run)}", _file(run, v.system)))
    for f in run.gate.get("findings", ()):
        if f["fails"]:
            of = finding_of(f, several(run))
            found.append((clean(f"{of}: {f['text']}"), f"parity gate: {f['kind']}", _file(run, f.get("system") or "")))
    found += [
        (clean(f"{gap}: known gap that matched no failure"), "parity: known gap", "")
        for gap in run.gaps.get("unmet", ())
    ]
    word, why = judgement(run)
    if not found and run.exit_code:
        return [annotation("error" if word == "FAIL" else "warning", clean(f"{word}: {why}"), "parity")]
    if len(found) > MOST:
        rest = f"and {len(found) - MOST + 1} more: {word}: {why}"
        found = [*found[: MOST - 1], (clean(rest), "parity", "")]
    return [annotation("error", message, clean(title), file) for message, title, file in found]


def _file(run: Run, system: str) -> str:
    """The system's description, from the workspace, where the runner looks for it; '' where it is elsewhere."""
    folder = run.systems.get(system, {}).get("folder")
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if not folder or not workspace:
        return ""
    path = Path(folder, "system.toml")
    return path.relative_to(workspace).as_posix() if path.is_relative_to(workspace) else ""
