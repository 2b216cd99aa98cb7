"""Which system has which file: the table is what is there, every empty cell has a reason, the README is up to date."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from parity import matrix
from parity import system as systems
from parity.errors import CONFIG, ConfigError
from tests.plugins_for_tests import rig

README = rig.MODELS / "README.md"
MARK = "<!-- table -->\n"


def committed() -> list[systems.System]:
    """The systems with the files that are committed: one that was built here is as if it weren't."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", str(rig.MODELS)], cwd=rig.ROOT, capture_output=True, text=True, check=True
    ).stdout
    kept = {str(rig.ROOT / name) for name in listed.split("\0")}
    found = []
    for s in (systems.load(p) for p in sorted(rig.MODELS.glob("*/system.toml"))):
        there = tuple(a for a in s.artifacts if str(Path(a.path).resolve()) in kept)
        rest = tuple(a for a in s.artifacts if a not in there)
        found.append(dataclasses.replace(s, artifacts=there, unbuilt=(*s.unbuilt, *rest)))
    return found


def test_the_readmes_table_is_what_is_there() -> None:
    now = matrix.markdown(committed(), matrix.absent(rig.MODELS))
    _, _, shown = README.read_text(encoding="utf-8").partition(MARK)
    assert shown == now, "put what `parity list systems --format markdown` prints behind the mark"


def test_every_empty_cell_has_a_reason() -> None:
    assert matrix.unexplained(committed(), matrix.absent(rig.MODELS)) == []
    assert "?" not in matrix.markdown(committed(), matrix.absent(rig.MODELS))


def test_a_file_that_is_there_is_yes_and_one_that_isnt_says_why(tmp_path: Path) -> None:
    one = systems.load(rig.system(tmp_path / "a"))
    other = dataclasses.replace(one, name="other", artifacts=(), unbuilt=())
    reasons = [matrix.Absent(file="onnx *", system="other", why="It was lost.")]
    lines = matrix.markdown([one, other], reasons).splitlines()
    assert "| onnx float32 | yes | – 1 |" in lines
    assert "| tflite float32 | not built | ? |" in lines
    assert lines[-1] == "1. It was lost."
    assert "other tflite float32" in matrix.unexplained([one, other], reasons)
    assert "other onnx float32" not in matrix.unexplained([one, other], reasons)


def test_reasons_that_cannot_be_read(tmp_path: Path) -> None:
    assert matrix.absent(tmp_path) == []
    (tmp_path / "absent.toml").write_text('[[absent]]\nfile = "onnx int8"\n')
    with pytest.raises(ConfigError, match=r"absent.toml: .*`why`"):
        matrix.absent(tmp_path)


@pytest.mark.slow
def test_the_command_prints_backends_files_and_runtimes() -> None:
    done = rig.parity("list", "systems")
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "commands-cnn.onnx onnx float32 onnxrt, onnx-reference" in lines
    assert any(line.startswith("backends: reference, numpy, librosa") for line in lines)
    assert "mel40-resnet18.onnx onnx float32 not built" in lines or "mel40-resnet18.onnx onnx float32 onnxrt" in lines
    rig.refused(rig.parity("list", "plugins", "--format", "markdown"), CONFIG, "list systems")
