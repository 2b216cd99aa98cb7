"""Building a system: in place when all of it is there and not before, going on where it was interrupted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.plugins_for_tests import rig

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

# What training and export leave behind, without the minutes that they take: the committed files of commands-cnn.
TRAIN = """
import hashlib, json, shutil, sys
from pathlib import Path
here, source = Path(__file__).parent, Path({source!r})
print("training on", sys.argv[1:])
shutil.copyfile(source / "weights.safetensors", here / "weights.safetensors")
shutil.copyfile(source / "training.json", here / "training.json")
"""
EXPORT = """
import json, shutil, sys
from pathlib import Path
here, source = Path(__file__).parent, Path({source!r})
if not Path({allowed!r}).exists():
    sys.exit("interrupted")
listed = json.loads((source / "artifacts.json").read_text())
names = ("weights.safetensors", "commands-cnn.onnx")
shutil.copyfile(source / "commands-cnn.onnx", here / "commands-cnn.onnx")
(here / "artifacts.json").write_text(json.dumps({{name: listed[name] for name in names}}))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of its own with one system that isn't built."""
    folder = rig.system(tmp_path / "reference_models" / "commands-cnn", formats=())
    text = (folder / "system.toml").read_text()
    head, *artifacts = text.split("[[artifacts]]\n")
    kept = [a for a in artifacts if 'format = "torch"' in a or ('format = "onnx"' in a and '"float32"' in a)]
    (folder / "system.toml").write_text("[[artifacts]]\n".join([head, *kept]))
    shutil.copyfile(rig.SYSTEM / "model.py", folder / "model.py")
    (folder / "train.py").write_text(TRAIN.format(source=str(rig.SYSTEM)))
    (folder / "export.py").write_text(EXPORT.format(source=str(rig.SYSTEM), allowed=str(tmp_path / "go")))
    rig.wav(tmp_path / "golden" / "clips" / "yes.wav")
    shutil.copyfile(rig.ROOT / "golden" / "tolerances.toml", tmp_path / "golden" / "tolerances.toml")
    (tmp_path / "speech").mkdir()
    return tmp_path


def built(project: Path) -> list[str]:
    folder = project / "reference_models" / "commands-cnn"
    return sorted(p.name for p in folder.iterdir() if p.suffix not in (".py", ".toml"))


def test_what_was_interrupted_is_not_in_place_and_goes_on_where_it_was(project: Path) -> None:
    command = ("models", "build", "commands-cnn", "--data", "speech", "--epochs", "1")
    before = rig.process("run", "--backend", "numpy", "--runtime", "onnxrt", cwd=project)
    assert before.returncode == 2
    assert "is not built" in before.stderr
    assert "hint: build it: parity models build commands-cnn" in before.stderr
    stopped = rig.process(*command, cwd=project)
    rig.refused(stopped, 3, "export.py of commands-cnn ended in 1")
    assert "training on ['--data', 'speech', '--epochs', '1']" in stopped.stdout
    assert built(project) == []
    assert not (project / "golden" / "commands-cnn").exists()

    (project / "go").touch()
    done = rig.process(*command, cwd=project)
    assert done.returncode == 0, done.stderr
    assert "was trained already" in done.stdout
    assert "training on" not in done.stdout
    assert "of speakers it never heard" in done.stdout
    assert built(project) == ["artifacts.json", "commands-cnn.onnx", "training.json", "weights.safetensors"]
    assert not (project / "build" / "commands-cnn").exists()

    after = rig.process("run", "--backend", "numpy", "--runtime", "onnxrt", cwd=project)
    assert after.returncode == 0, after.stdout + after.stderr
    assert "is built; --again" in rig.process(*command, cwd=project).stdout
    (project / "reference_models" / "commands-cnn" / "commands-cnn.onnx").write_bytes(b"another")
    assert "training on" in rig.process(*command, cwd=project).stdout  # what isn't as it was listed is built anew


def test_speech_that_is_not_there_is_asked_for(project: Path) -> None:
    rig.refused(
        rig.process("models", "build", "commands-cnn", cwd=project, PARITY_DATA=""), 3, "no speech", "--data DIR"
    )
    gone = rig.process("models", "build", "commands-cnn", "--data", "nowhere", cwd=project)
    rig.refused(gone, 3, "no folder nowhere")
    (project / "reference_models" / "commands-cnn" / "train.py").unlink()
    rig.refused(
        rig.process("models", "build", "commands-cnn", "--data", "speech", cwd=project),
        3,
        "commands-cnn has no train.py",
    )
