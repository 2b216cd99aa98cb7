"""`parity report`: every format from the records alone, the same again, and nothing half-written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from junitparser import JUnitXml

from parity.cli.group import cli
from parity.records import read_run
from tests.plugins_for_tests import rig

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("real-run")]


@pytest.fixture
def run(real: Path, tmp_path: Path) -> Path:
    """A copy of the run, with nothing but its records."""
    folder = shutil.copytree(real, tmp_path / real.name)
    for name in ("index.html", "junit.xml"):
        (folder / name).unlink()
    return folder


def report(*arguments: str | Path) -> Result:
    done = CliRunner().invoke(cli, ["report", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done


def digest(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.*")}


def test_what_a_run_writes_is_made_again_byte_for_byte(real: Path, run: Path) -> None:
    done = report(run)
    assert done.output.splitlines() == [f"report: {run / 'index.html'}", f"report: {run / 'junit.xml'}"]
    assert digest(run) == digest(real)
    JUnitXml.fromfile(str(run / "junit.xml"))


@pytest.mark.parametrize(("form", "name"), [("html", "p.html"), ("junit", "j.xml"), ("markdown", "m.md"),
                                            ("json", "r.json"), ("parquet", "v.parquet")])  # fmt: skip
def test_each_format_goes_where_it_is_told(run: Path, tmp_path: Path, form: str, name: str) -> None:
    before = digest(run)
    out = tmp_path / name
    assert report(run, "--format", form, "--output", out).output == f"report: {out}\n"
    assert out.stat().st_size > 1000
    assert digest(run) == before


def test_nothing_takes_the_place_of_a_link_or_a_pipe(run: Path, tmp_path: Path) -> None:
    target, link, pipe = tmp_path / "here.md", tmp_path / "link.md", tmp_path / "pipe"
    target.write_text("older")
    link.symlink_to(target)
    report(run, "--format", "markdown", "--output", link)
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8").startswith("### ")
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        report(run, run, "--format", "markdown", "--output", pipe)
        assert os.read(reader, 4) == b"### "
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert not list(tmp_path.glob(".*.part"))


def test_text_is_printed(run: Path) -> None:
    assert json.loads(report(run, "--format", "json").stdout)["name"] == read_run(run).name
    assert report(run, "--format", "markdown").stdout.startswith("### ❌ parity: FAIL: ")


def test_node_data_goes_into_the_run(run: Path) -> None:
    done = report(run, "--format", "model-explorer")
    assert done.output.startswith(f"node data of 14 graphs: {run / 'model-explorer'}\nlook (pip install ")
    model, _, rest = done.output.partition(": model-explorer ")[2].partition(" --node_data_paths=")
    node_data, *extension = rest.split()
    assert Path(model) == rig.SYSTEM / "commands-cnn.onnx"
    assert Path(node_data).is_file()
    assert extension == ["--extensions=model_explorer_onnx"]
    assert (run / "model-explorer" / "commands-cnn" / "commands-cnn-onnx.onnxrt.isolated.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("{run}", "--format", "junit", "--output", "{run}/absent/j.xml"), "can't be written"),
        (("{run}", "--format", "parquet", "--output", "{run}/absent/v"), "can't be written"),
        (("{run}", "--format", "html", "--output", "{run}"), "can't be written"),
        (("{run}/arrays",), "is not a run"),
        (("{run}", "--format", "pdf"), "'pdf' is not one of"),
        (("{run}", "{run}", "--format", "parquet"), "of two runs there is html, json and markdown"),
    ],
)
def test_what_cant_be_made_is_said(run: Path, arguments: tuple[str, ...], words: str) -> None:
    before = digest(run)
    rig.refused(rig.parity("report", *(a.format(run=run) for a in arguments)), 3, words)
    assert digest(run) == before


def test_a_run_without_a_graph_says_so(run: Path) -> None:
    of = json.loads((run / "run.json").read_bytes())
    of["summaries"] = [s for s in of["summaries"] if not s["runtime"]]
    (run / "run.json").write_text(json.dumps(of))
    rig.refused(
        rig.parity("report", run, "--format", "model-explorer"), 2, "no ONNX or TensorFlow Lite file was compared"
    )
    assert not (run / "model-explorer").exists()


def test_a_run_without_verdicts_is_told(run: Path) -> None:
    (run / "verdicts.jsonl").unlink()
    rig.refused(rig.parity("report", run, "--format", "parquet", "--output", run / "v.parquet"), 3, "verdicts.jsonl")
    assert not (run / "v.parquet").exists()


def test_what_changed_between_two_runs(run: Path, tmp_path: Path) -> None:
    before = json.loads((run / "run.json").read_bytes())
    later = shutil.copytree(run, tmp_path / "later")
    (key,) = [s for s in before["summaries"] if (s["backend"], s["tap"]) == ("numpy", "features/spectrum")]
    after = json.loads(json.dumps(before))
    for s in after["summaries"]:
        if s == key:
            s["worst"] |= {"outcome": "fail", "ratio": 7.5}
    after["name"] = "later"
    (later / "run.json").write_text(json.dumps(after))
    done = report(run, later)
    page = later / f"since-{run.name}.html"
    assert done.output.startswith("1 outcome got worse, 0 got better")
    assert done.output.endswith(f"report: {page}\n")
    assert "features/spectrum" in page.read_text(encoding="utf-8")
    (change,) = json.loads(report(run, later, "--format", "json").stdout)["outcomes"]
    assert (change["tap"], change["was"], change["now"], change["ratio_now"]) == (
        "features/spectrum",
        "pass",
        "fail",
        7.5,
    )
    words = report(run, later, "--format", "markdown").stdout
    assert words.startswith("### parity: FAIL → FAIL: ")
    assert "| commands-cnn · numpy, features | <code>features/spectrum</code> | pass | fail |" in words
    assert "→ 7.5 |" in words
    assert report(run, run).output.startswith("0 outcomes got worse")


def test_what_explain_found_is_told(run: Path) -> None:
    told = {"system": "commands-cnn", "backend": "faulty.backends:SymmetricHann", "lines": ["window symmetric: 100 %"]}
    (run / "explain.json").write_text(json.dumps([told]))
    (row,) = [line for line in report(run, "--format", "markdown").stdout.splitlines() if "features/windowed" in line][
        :1
    ]
    assert "window symmetric: 100 %; made here" in row
