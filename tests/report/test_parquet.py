"""Parquet: the verdicts as they are in the records, in columns of the same types whatever a run holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from parity.records import Verdict, load_run, read_run, read_verdicts
from parity.report import parquet
from tests.plugins_for_tests import rig

from .made import run, verdict

pa = pytest.importorskip("pyarrow")


def table(folder: Path, *verdicts: Verdict) -> object:
    encode = msgspec.json.Encoder().encode
    (folder / "verdicts.jsonl").write_bytes(b"".join(encode(v) + b"\n" for v in verdicts))
    parquet.write(folder, run(*verdicts), folder / "verdicts.parquet")
    from pyarrow.parquet import read_table

    return read_table(folder / "verdicts.parquet")


def test_columns_have_the_same_types_in_every_run(tmp_path: Path) -> None:
    full = table(tmp_path, verdict("fail", "features/spectrum", step=0.5, integer=3, near_tie=True))
    empty = table(tmp_path)
    assert full.schema == empty.schema  # type: ignore[attr-defined]
    assert (full.num_rows, empty.num_rows) == (1, 0)  # type: ignore[attr-defined]
    kinds = {f.name: str(f.type) for f in full.schema}  # type: ignore[attr-defined]
    assert list(kinds) == [f.name for f in msgspec.structs.fields(Verdict)]
    assert [kinds[k] for k in ("ratio", "frame", "near_tie", "outcome")] == ["double", "int64", "bool", "string"]
    assert kinds["index"].startswith("list<")


def test_rows_are_the_verdicts_across_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS", 2)
    verdicts = [verdict("pass", "features/spectrum", clip=f"c{n}", index=(n, 1)) for n in range(5)]
    rows = table(tmp_path, *verdicts).to_pylist()  # type: ignore[attr-defined]
    assert [tuple(r["index"]) for r in rows] == [v.index for v in verdicts]
    assert [r | {"index": None} for r in rows] == [msgspec.structs.asdict(v) | {"index": None} for v in verdicts]


@pytest.mark.slow
@pytest.mark.xdist_group("real-run")
def test_a_real_run(real: Path, tmp_path: Path) -> None:
    import pandas as pd

    parquet.write(real, read_run(real), tmp_path / "verdicts.parquet")
    frame, records = pd.read_parquet(tmp_path / "verdicts.parquet"), list(read_verdicts(real))
    assert frame.outcome.tolist() == [v.outcome for v in records]
    pd.testing.assert_series_equal(frame.error, load_run(real).error.astype(float))
    assert pa.parquet.read_schema(tmp_path / "verdicts.parquet").metadata[b"parity.run"] == real.name.encode()


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from pathlib import Path; from parity.errors import MissingExtra; from parity.report import parquet\n"
        "try: parquet.write(Path(), None, Path('x'))\nexcept MissingExtra as e: print(e.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=rig.environment(PYTHONPATH=str(rig.ROOT)),
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout == "pip install 'parity[report]'\n"
