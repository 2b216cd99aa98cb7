"""JSON Schemas of what a run leaves behind, made from the types that write it.

They are published in `schemas/`: `run.schema.json` of run.json, `verdict.schema.json` of a line of verdicts.jsonl.
`python -m parity.report.schema` writes them anew.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import msgspec

from parity.records import FORMAT, Run, Skipped, TapSummary, Verdict
from parity.report.shapes import FIELDS

FOLDER = Path(__file__).parent / "schemas"
_TYPES = {"run": Run, "verdict": Verdict}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(of: str) -> dict[str, Any]:
    """The schema of `run` or `verdict`, with what each field means."""
    kinds = [_TYPES[of], *(FIELDS.values() if of == "run" else ())]
    (root, *fields), definitions = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    for kind in (Run, Skipped, TapSummary, Verdict):
        if kind.__name__ in definitions:
            properties = definitions[kind.__name__]["properties"]
            for field, words in _field_docstrings(kind).items():
                properties[field]["description"] = " ".join(words.split())
    if of == "run":
        run = definitions[Run.__name__]["properties"]
        for name, shape in zip(FIELDS, fields, strict=True):
            run[name] = {k: v for k, v in run[name].items() if k in ("default", "description")} | shape
    head = {"$schema": _DIALECT, "$id": f"urn:parity:{of}:{FORMAT}"}
    return {**head, **root, "$defs": dict(sorted(definitions.items()))}


def _field_docstrings(kind: type) -> dict[str, str]:
    """The texts that stand below the fields of a class."""
    (body,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(words.value.value)
        for field, words in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        and isinstance(words, ast.Expr) and isinstance(words.value, ast.Constant) and isinstance(words.value.value, str)
    }  # fmt: skip


def published(of: str) -> Path:
    """Where the schema is published."""
    return FOLDER / f"{of}.schema.json"


def text(of: str) -> bytes:
    """The published file."""
    return msgspec.json.format(msgspec.json.encode(schema(of)), indent=1) + b"\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in _TYPES:
        published(name).write_bytes(text(name))
