"""What is wrong on the far side only is caught there, placed, and told with the name of its target."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from parity import pipeline
from parity.plan import Selection
from parity.protocols import Artifact
from parity.records import Run
from parity.targets import bundle as bundles
from parity.targets import channel
from parity.targets.link import PythonLink
from parity.targets.remote import Remote
from parity.targets.workers import WorkersTarget
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole runs

WINDOW = ("parity/backends/reference.py", "n if s.periodic else n - 1", "n - 1")
HALF = ("parity/backends/numpy_.py", "                if tap in taps:",
        "                x = x.astype(np.float16).astype(x.dtype) if tap.endswith('filterbank') else x\n"
        "                if tap in taps:")  # fmt: skip


def spoilt(file: str, old: str, new: str) -> bundles.Bundle:
    """The far side with a line of one of its files changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(bundles.bundle().data)) as right, zipfile.ZipFile(out, "w") as wrong:
        for info in right.infolist():
            text = right.read(info)
            if info.filename == file:
                assert text.count(old.encode()) == 1
                text = text.replace(old.encode(), new.encode())
            wrong.writestr(info, text)
    return bundles.Bundle(out.getvalue(), hashlib.sha256(out.getvalue()).hexdigest())


class OtherFile(Remote):
    """A place that was given another model's file."""

    def artifact(self, artifact: Artifact) -> Artifact:
        other = artifact.path.replace("commands-cnn.onnx", "commands-cnn.int8.onnx")
        return super().artifact(dataclasses.replace(artifact, path=other))


def ran(golden: Path, folder: Path, place: Callable[..., Remote] = Remote) -> tuple[Run, Path]:
    with rig.target() as here:
        link = PythonLink("board", sys.executable, {"XDG_CACHE_HOME": str(folder / "cache")})
        with WorkersTarget(place(link, sys.executable), 1, trusted=here) as board:
            asked: dict[str, Any] = {"backends": ("numpy",), "runtimes": ("onnxrt",), "precisions": ("float32",)}
            return pipeline.run(
                Selection(systems=(str(rig.SYSTEM),), golden=golden, **asked), [here, board], folder / "reports"
            )


def wrong_on(done: Run) -> set[str]:
    return {s.target for s in done.summaries if s.worst.outcome in rig.FAILED}


def page(folder: Path) -> str:
    return (folder / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("change", "tap"), [(WINDOW, "features/windowed"), (HALF, "features/filterbank")])
def test_a_far_side_that_computes_features_otherwise(
    change: tuple[str, str, str], tap: str, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = spoilt(*change)
    monkeypatch.setattr(channel, "bundle", lambda: wrong)
    done, folder = ran(golden, tmp_path)
    assert done.exit_code == 1
    assert wrong_on(done) == {"board"}
    assert rig.failing(done, path="features")[0] == (tap, "fail")
    assert {s.worst.outcome for s in done.summaries if s.target == "local"} == {"pass"}
    assert "board" in page(folder)
    cases = ElementTree.parse(folder / "junit.xml").iter("testcase")
    failing = [c.get("classname") or "" for c in cases if c.find("failure") is not None]
    assert failing
    assert all("board" in name for name in failing)


def test_a_far_side_with_another_file(golden: Path, tmp_path: Path) -> None:
    done, _ = ran(golden, tmp_path, OtherFile)
    assert done.exit_code == 1
    assert wrong_on(done) == {"board"}
    assert rig.failing(done, path="features") == []
    first = rig.failing(done, path="isolated")[0]
    assert first == ("model/relu1", "fail")
