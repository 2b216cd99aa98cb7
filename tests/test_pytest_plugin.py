"""`pytest --parity`, as a project has it: off until asked, a test a tap, one run however many processes test."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from parity.records import read_run
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole sessions of pytest

WRONG = "faulty.backends:SymmetricHann"
TABLE = """\
[test]
systems = ["reference_models/commands-cnn"]
backends = ["numpy"]
runtimes = ["onnxrt"]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one system, three goldens and one test of its own."""
    rig.system(tmp_path / "reference_models" / "commands-cnn")
    rig.goldens(tmp_path / "golden")
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    return tmp_path


def session(project: Path, *more: str, xdist: bool = False) -> subprocess.CompletedProcess[str]:
    """A session of pytest in the project, with this plugin alone (and xdist)."""
    plugins = ("-p", "parity.pytest_plugin", *(("-p", "xdist.plugin") if xdist else ()))
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "-p", "no:cacheprovider", "--junitxml", "out.xml", *more],
        cwd=project, env=rig.environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTHONPATH=f"{rig.ROOT}:{rig.PLUGINS}"),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def cases(project: Path) -> dict[str, str]:
    """Name of each test that ran, with its outcome."""
    root = ElementTree.parse(project / "out.xml").getroot()
    return {f"{c.get('classname')}::{c.get('name')}": next((e.tag for e in c if e.tag != "properties"), "passed")
            for c in root.iter("testcase")}  # fmt: skip


def tree(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_off_it_costs_and_adds_nothing(project: Path) -> None:
    done = session(project)
    assert (done.returncode, list(cases(project))) == (0, ["test_own::test_own"])
    assert not (project / "reports").exists()
    heavy = ("numpy", "msgspec", "rich", "click")
    code = f"import sys, parity.pytest_plugin; print([m for m in {heavy} if m in sys.modules])"
    light = subprocess.run([sys.executable, "-c", code], cwd=rig.ROOT, capture_output=True, text=True, check=True)
    assert light.stdout == "[]\n"


def test_pytest_finds_it_by_its_entry_point() -> None:
    project = tomllib.loads((rig.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"parity": "parity.pytest_plugin"}


def test_a_test_a_tap_under_xdist_too(project: Path) -> None:
    (project / "parity.toml").write_text(TABLE)
    before = tree(project / "golden")
    done = session(project)
    alone = cases(project)
    assert done.returncode == 0, done.stdout
    of = "parity.commands-cnn numpy onnxrt float32 cumulative"
    assert alone["parity::everything that was asked for is compared"] == "passed"
    assert alone[f"{of}::model/logits"] == alone["test_own::test_own"] == "passed"
    (run,) = (read_run(folder) for folder in (project / "reports").iterdir())
    assert len(alone) == len(run.summaries) + len({(s.system, s.runtime) for s in run.skipped}) + 2
    assert "PASS: everything compared is within bounds" in done.stdout
    done = session(project, "-n", "2", "-k", "parity", xdist=True)
    assert done.returncode == 0, done.stdout
    assert cases(project) == {k: v for k, v in alone.items() if k != "test_own::test_own"}
    assert len(list((project / "reports").iterdir())) == 2, "each worker made a run of its own"
    assert tree(project / "golden") == before


def test_failures_say_where_and_why(project: Path) -> None:
    (project / "parity.toml").write_text(TABLE.replace('"numpy"', f'"{WRONG}"'))
    done = session(project, "--parity-report", "out")
    assert done.returncode == 1
    found = cases(project)
    assert {k.partition("::")[2]: v for k, v in found.items() if "features" in k.partition("::")[0]} == {
        "features/audio": "passed", "features/frames": "passed", "features/windowed": "failure",
        "features/spectrum": "failure", "features/filterbank": "failure", "features/compressed": "failure",
    }  # fmt: skip
    assert "Traceback" not in done.stdout
    said = done.stdout.partition("features::features/windowed _")[2].partition("\n_")[0]
    for words in ("fail at features/windowed, features, of commands-cnn", "where: frame ", "error/bound: ",
                  "clips: 3 fail", "made here (own error", f"why: parity explain {project / 'out'}"):  # fmt: skip
        assert words in said, said
    said = done.stdout.partition("cumulative::model/logits _")[2].partition("\n_")[0]
    assert f"follows from features/windowed of commands-cnn · {WRONG}" in said


def test_a_known_gap_is_an_expected_failure(project: Path) -> None:
    (project / "parity.toml").write_text(TABLE.replace('"numpy"', f'"{WRONG}"'))
    gap = '[[gap]]\nkind = "recipe"\noutcome = "fail"\nsystem = "commands-cnn"\nreason = "an older window"\n'
    gaps = [f'{gap}backend = "{WRONG}"\ntap = "{tap}/*"\n' for tap in ("features", "model", "decision")]
    unmet = f'{gap}tap = "model/logits"\npath = "isolated"\n'
    (project / "golden" / "known_gaps.toml").write_text("".join(gaps))
    done = session(project, "-rx")
    assert done.returncode == 0, done.stdout
    assert "known gap: an older window" in done.stdout
    (project / "golden" / "known_gaps.toml").write_text("".join([*gaps, unmet]))
    done = session(project, "-k", "everything")
    assert done.returncode == 1
    assert "known gap that matched no failure: commands-cnn · isolated · model/logits: an older window" in done.stdout


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('[test]\nsystems = ["nope"]\n', "unknown system 'nope'\nhint: systems: commands-cnn"),
        ("[tst]\n", "unknown table 'tst'\nhint: did you mean 'test'?"),
        (TABLE + 'precisions = ["int8"]\n', "no precision int8"),
    ],
)
def test_nothing_compared_is_a_failure(project: Path, table: str, words: str) -> None:
    (project / "parity.toml").write_text(table)
    done = session(project, "--parity")
    assert done.returncode == 1
    assert cases(project) == {
        "test_own::test_own": "passed",
        "parity::everything that was asked for is compared": "failure",
    }
    assert words in done.stdout


def test_what_was_asked_for_and_isnt_compared_fails(project: Path) -> None:
    (project / "parity.toml").write_text(TABLE.replace('"onnxrt"', '"onnxrt", "tflm"'))
    done = session(project)
    assert done.returncode == 1
    assert "asked for and not compared: commands-cnn tflm" in done.stdout
    assert [v for k, v in cases(project).items() if "tflm" in k] == ["skipped"]


def test_a_file_that_is_named_is_tested_alone(project: Path) -> None:
    (project / "pyproject.toml").write_text(TABLE.replace("[test]", "[tool.parity.test]"))
    assert session(project, "test_own.py").returncode == 0
    assert list(cases(project)) == ["test_own::test_own"]
    assert session(project, "test_own.py", "--parity").returncode == 0
    assert len(cases(project)) > 10


def test_settings_that_cant_be_read_are_told(project: Path) -> None:
    (project / "parity.toml").write_text("[test\n")
    done = session(project)
    assert done.returncode == 4
    assert "ERROR: " in done.stderr
    assert "parity.toml can't be read" in done.stderr
