"""Which system has which file, and why a cell is empty: the table of reference_models/README.md.

What isn't there is explained in `absent.toml` beside the systems; an empty cell without a reason shows a question mark.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from parity.errors import ConfigError
from parity.system import System

ABSENT = "absent.toml"
_FORMATS = ("torch", "torchscript", "torchscript-int8", "torch-export", "onnx", "tflite")
_PRECISIONS = ("float32", "float16", "dynamic", "int8", "uint8")


class Absent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Why systems have no file of a kind; both are patterns, and the first that fits counts."""

    file: str
    """Format and precision: `onnx int8`."""
    why: str
    system: str = "*"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    absent: list[Absent] = []


def absent(folder: Path) -> list[Absent]:
    """The reasons in a folder of systems; none where it has no such file. ConfigError for anything wrong in it."""
    path = folder / ABSENT
    if not path.is_file():
        return []
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File).absent
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as e:
        raise ConfigError(f"{path}: {e}", 'write [[absent]] with file = "onnx int8", system and why') from None


def _place(kind: tuple[str, str]) -> tuple[int, str, int, str]:
    """Formats and precisions in the order of the stack, unknown ones after them by name."""
    form, precision = kind
    return (
        _FORMATS.index(form) if form in _FORMATS else len(_FORMATS), form,
        _PRECISIONS.index(precision) if precision in _PRECISIONS else len(_PRECISIONS), precision,
    )  # fmt: skip


def kinds(systems: Sequence[System]) -> list[tuple[str, str]]:
    """(format, precision) of every file that any system has, or would have if it were built."""
    return sorted({(a.format, a.precision) for s in systems for a in (*s.artifacts, *s.unbuilt)}, key=_place)


def reason(of: System, kind: tuple[str, str], reasons: Sequence[Absent]) -> str:
    """Why a system has no file of a kind; '' where nobody said."""
    file = " ".join(kind)
    return next((r.why for r in reasons if fnmatchcase(of.name, r.system) and fnmatchcase(file, r.file)), "")


def markdown(systems: Sequence[System], reasons: Sequence[Absent]) -> str:
    """The table as Markdown, a row a kind of file, with a numbered line for each reason below it."""
    notes: dict[str, int] = {}

    def cell(of: System, kind: tuple[str, str]) -> str:
        if any((a.format, a.precision) == kind for a in of.artifacts):
            return "yes"
        why = reason(of, kind, reasons)
        number = f" {notes.setdefault(why, len(notes) + 1)}" if why else ""
        if any((a.format, a.precision) == kind for a in of.unbuilt):
            return f"not built{number}"
        return f"–{number}" if why else "?"

    rows = [["file", *(f"[{s.name}]({s.name}/README.md)" for s in systems)], ["---"] * (len(systems) + 1)]
    rows += [[" ".join(kind), *(cell(s, kind) for s in systems)] for kind in kinds(systems)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return table + "\n\n" + "\n".join(f"{number}. {why}" for why, number in notes.items()) + "\n"


def unexplained(systems: Sequence[System], reasons: Sequence[Absent]) -> list[str]:
    """Empty cells that nobody gave a reason for, as `system format precision`."""
    return [
        f"{s.name} {' '.join(kind)}"
        for s in systems
        for kind in kinds(systems)
        if kind not in {(a.format, a.precision) for a in s.artifacts} and not reason(s, kind, reasons)
    ]
