"""The verdicts of a run as Parquet: a row a verdict, a column a field, of the same types in every run."""

from __future__ import annotations

import types
import typing
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from parity.errors import MissingExtra
from parity.records import FORMAT, Run, Verdict, read_verdicts

ROWS = 65_536
"""Rows that are in memory at a time: a row group of the file."""


def write(folder: Path, run: Run, out: Path) -> None:
    """Write the verdicts of a run folder to `out`; MissingExtra without pyarrow."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("Parquet needs pyarrow, which is not installed", "pip install 'parity[report]'") from None
    columns = [pa.field(name, _arrow(kind)) for name, kind in typing.get_type_hints(Verdict).items()]
    about = {"parity.format": str(FORMAT), "parity.run": run.name, "parity.exit_code": str(run.exit_code)}
    schema = pa.schema(columns, metadata=about)
    with parquet.ParquetWriter(out, schema, compression="zstd") as file:
        verdicts = read_verdicts(folder)
        while rows := list(islice(verdicts, ROWS)):
            file.write_table(pa.Table.from_pylist([msgspec.structs.asdict(v) for v in rows], schema=schema))


def _arrow(kind: Any) -> Any:
    """The Arrow type of a field: `float | None` is a column of doubles."""
    import pyarrow as pa

    if isinstance(kind, types.UnionType):
        (kind,) = (k for k in typing.get_args(kind) if k is not types.NoneType)
    if typing.get_origin(kind) is tuple:
        return pa.list_(_arrow(typing.get_args(kind)[0]))
    if typing.get_origin(kind) is typing.Literal:
        return pa.string()
    return {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}[kind]
