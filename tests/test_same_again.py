"""The same inputs with the same seed: the same records and the same page, byte for byte, but for what is declared."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from parity import gate, settings
from parity.plan import Selection
from parity.records import VARYING, Run, read_run, steady
from parity.report import html
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow


ONE: dict[str, Any] = {"systems": (str(rig.SYSTEM),), "runtimes": ("onnxrt",), "precisions": ("float32",)}
RUNS = {
    "what fails": Selection(**ONE, backends=("numpy", "faulty.backends:SlaneyScale")),
    "what is drawn": Selection(**ONE, backends=("numpy",), examples=2, seed=7),
}


@pytest.mark.parametrize("which", RUNS)
def test_the_same_again_is_the_same(tmp_path: Path, which: str) -> None:
    selection = dataclasses.replace(RUNS[which], golden=rig.goldens(tmp_path / "golden"))
    folders = []
    for jobs in (2, 1):
        with rig.target(jobs=jobs) as local:
            _, folder = gate.gate(selection, local, tmp_path / "reports", settings.Gate(), "", lambda *_: None)
        folders.append(folder)
    one, two = (
        {p.relative_to(f).as_posix(): p.read_bytes() for p in sorted(f.rglob("*")) if p.is_file()} for f in folders
    )
    assert one.keys() == two.keys()
    assert {"run.json", "index.html", "verdicts.jsonl", "policy.json"} < one.keys()
    if not selection.examples:
        assert any(name.startswith("arrays/") for name in one)
        assert any(name.startswith("evidence/") for name in one)
    timed = {"run.json", "index.html", "junit.xml"}
    assert [name for name in one if name not in timed and one[name] != two[name]] == []
    first, second = (steady(read_run(folder)) for folder in folders)
    assert bool(first.examples) == bool(selection.examples)
    assert msgspec.json.encode(first) == msgspec.json.encode(second)
    assert html.render(first, folders[0]) == html.render(second, folders[1])


def test_what_may_vary_is_when_how_fast_and_where_and_nothing_else() -> None:
    run = Run(
        name="a", started="b", seconds=1.0, timings=[{"seconds": 1.0}], environment={"cpu": {}}, commit={"commit": "x"},
        streaming={"times": [{"frame_ms": 1.0}], "detections": [{"label": "yes"}]},
        gate={"verdict": "pass", "history": [{}], "findings": []}, exit_code=1, command="parity run", keep="all",
    )  # fmt: skip
    kept = steady(run)
    assert kept.gate == {"verdict": "pass", "findings": []}
    assert kept.streaming == {"detections": [{"label": "yes"}]}
    same = {f.name for f in msgspec.structs.fields(Run)} - {*VARYING, "gate", "streaming"}
    assert all(getattr(kept, name) == getattr(run, name) for name in same)
