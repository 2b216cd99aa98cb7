"""`parity target`, typed: what is listed, what a check prints and how it ends, what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.plugins_for_tests import rig


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "reference_models").mkdir()
    text = f'[targets.pi]\nssh = "pi@raspberrypi"\nthreads = 4\n[targets.here]\npython = "{sys.executable}"\n'
    (tmp_path / "parity.toml").write_text(text + '[targets.nowhere]\nssh = "pi@localhost:1"\n')
    return tmp_path


def test_targets_are_listed(project: Path) -> None:
    listed = rig.parity("target", "list", cwd=project)
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [
        "target", "pi", "here", "nowhere", "local", "emulated-pi", "emulated-pi32", "also:",
    ]  # fmt: skip
    rows = json.loads(rig.parity("target", "list", "--format", "json", cwd=project).stdout)
    assert rows[0] == {"name": "pi", "where": "pi@raspberrypi", "python": "its own, or parity's there", "threads": 4}


def test_a_check_prints_a_line_each_and_ends_in_0_when_plugins_can_run(project: Path) -> None:
    done = rig.parity("target", "check", "here", cwd=project)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "ready: parity run --target here --backend numpy"
    assert "ok  NumPy" in done.stdout
    told = json.loads(rig.parity("target", "check", "local", "--format", "json", cwd=project).stdout)
    assert (told["target"], told["ready"], told["machine"]["bits"]) == ("local", True, 64)
    assert {c["state"] for c in told["checks"]} <= {"ok", "note"}


@pytest.mark.parametrize("command", ["check", "setup", "clean"])
def test_what_cannot_be_reached_ends_in_4_and_what_is_none_in_3(project: Path, command: str) -> None:
    lost = rig.parity("target", command, "nowhere", cwd=project)
    assert (lost.returncode, lost.stdout) == (4, "")
    assert lost.stderr.startswith("parity: nowhere: pi@localhost can't be reached")
    assert "hint: " in lost.stderr
    none = rig.parity("target", command, "pie", cwd=project)
    assert none.returncode == 3
    assert "unknown target 'pie'" in none.stderr
    assert "did you mean 'pi'?" in none.stderr


def test_a_python_here_is_not_set_up_but_told_what_to_install(project: Path) -> None:
    done = rig.parity("target", "setup", "here", cwd=project)
    assert done.returncode == 3
    assert f"hint: {sys.executable} -m pip install numpy==" in done.stderr


def test_clean_says_what_it_took_away(project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "parity/content").mkdir(parents=True)
    (cache / "parity/content/model").write_bytes(bytes(50_000))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    done = rig.parity("target", "clean", "here", cwd=project)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"here: removed {cache}/parity/content (5")
    assert not (cache / "parity").exists()
    assert rig.parity("target", "clean", "here", cwd=project).stdout == "here: parity keeps nothing there\n"
