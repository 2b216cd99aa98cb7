"""What the README says to copy into continuous integration works: its commands are run as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from parity import __version__
from parity.cli.group import cli
from tests.plugins_for_tests import rig

README = (rig.ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("## In continuous integration\n")[2].partition("\n## ")[0]
GITHUB, GITLAB, PRE_COMMIT = (yaml.safe_load(b) for b in re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL))
GITLAB = GITLAB["parity"]
STEPS = GITHUB["jobs"]["gate"]["steps"]
REPORT = "parity-report"


def scripts() -> dict[str, list[str]]:
    """Each system's shell commands."""
    (hook,) = PRE_COMMIT["repos"][0]["hooks"]
    (defined,) = [h for h in hooks() if h["id"] == hook["id"]]
    return {
        "github": [s["run"] for s in STEPS if "run" in s],
        "gitlab": GITLAB["script"],
        "pre-commit": [shlex.join([*shlex.split(defined["entry"]), *hook["args"]])],
    }


def hooks() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((rig.ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    return found


def step(action: str) -> dict[str, Any]:
    (found,) = [s for s in STEPS if s.get("uses", "").startswith(f"actions/{action}@")]
    return dict(found)


def test_what_is_installed_exists() -> None:
    extras = tomllib.loads((rig.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    for ci in ("github", "gitlab"):
        (install,) = [c for c in scripts()[ci] if c.startswith("pip ")]
        (wanted,) = shlex.split(install)[2:]
        named = re.fullmatch(r"parity\[(.*)\] @ git\+https://example\.com/parity\.git@v(.*)", wanted)
        assert named is not None
        assert named[2] == __version__
        assert set(named[1].split(",")) <= set(extras)
    (hook,) = PRE_COMMIT["repos"][0]["hooks"]
    assert hook["additional_dependencies"] == [*extras["librosa"], *extras["onnxrt"]]


def test_gitlab_runs_what_github_runs() -> None:
    assert scripts()["gitlab"] == scripts()["github"]


def test_caches_artifacts_and_test_reports_are_what_a_run_writes() -> None:
    restored, saved = step("cache/restore"), step("cache/save")
    assert restored["with"]["path"] == saved["with"]["path"]
    assert saved["with"]["path"] in GITLAB["cache"]["paths"]
    assert saved["with"]["key"].startswith(restored["with"]["restore-keys"])
    assert saved["if"] == "always()"
    assert GITLAB["cache"]["when"] == "always"
    assert step("upload-artifact")["with"]["path"] == REPORT
    assert step("upload-artifact")["if"] == "always()"
    assert GITLAB["artifacts"]["paths"] == [REPORT]
    assert GITLAB["artifacts"]["when"] == "always"
    assert GITLAB["artifacts"]["reports"]["junit"] == f"{REPORT}/*/junit.xml"


@pytest.mark.parametrize(
    ("path", "matters"),
    [("my-kws/system.toml", True), ("m/net.int8.tflite", True), ("golden/my-kws/manifest.json", True),
     ("my-kws/golden/manifest.json", True), ("parity.toml", True), ("src/main.py", False), ("goldens.md", False)],
)  # fmt: skip
def test_the_hook_runs_where_something_matters_changes(path: str, matters: bool) -> None:
    (hook,) = hooks()
    assert bool(re.search(hook["files"], path)) is matters
    assert hook["pass_filenames"] is False


@pytest.mark.slow
@pytest.mark.parametrize("ci", ["github", "pre-commit"])
def test_the_commands_run(ci: str, tmp_path: Path) -> None:
    """In a project of one system that is right, and fail where its goldens are those of another recipe."""
    rig.system(tmp_path / "reference_models" / "commands-cnn")
    rig.goldens(tmp_path / "golden")
    (program := tmp_path / "bin" / "parity").parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m parity "$@"\n')
    program.chmod(0o755)
    summary = tmp_path / "summary.md"
    told = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)} if ci == "github" else {}
    environment = rig.environment(PYTHONPATH=str(rig.ROOT), PATH=f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    def run() -> list[int]:
        commands = [c for c in scripts()[ci] if c.startswith("parity ")]
        assert commands
        return [
            subprocess.run(c, shell=True, cwd=tmp_path, env=environment | told, timeout=120, check=False).returncode
            for c in commands
        ]

    assert run() == [0]
    reports = tmp_path / ("reports" if ci == "pre-commit" else REPORT)
    assert len(list(reports.glob("*/junit.xml"))) == 1
    if ci == "github":
        assert summary.read_text(encoding="utf-8").startswith("### ✅ parity: PASS")
    if ci != "pre-commit":
        assert (tmp_path / step("cache/save")["with"]["path"]).is_file()
    system = tmp_path / "reference_models" / "commands-cnn" / "system.toml"
    system.write_text(system.read_text(encoding="utf-8").replace("periodic = true", "periodic = false"))
    assert run() == [5]


def test_the_gate_is_a_command() -> None:
    assert "gate" in cli.commands
