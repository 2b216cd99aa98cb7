"""Faults of micro-speech: its stateful fixed-point front end, and a network of integers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

from parity import localize
from parity.records import read_verdicts
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole commands and worker processes

NAME = "micro-speech"
SYSTEM = rig.SYSTEM.parent / NAME
# Those with inner layers among the committed goldens, and one without.
CLIPS = ("chirp.flac", "no-en-gb-m3.flac", "on-en-gb-midlands-m5.flac", "yes-en-us-f2.flac")


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed goldens of a few clips; not to be changed."""
    return rig.goldens(tmp_path_factory.mktemp("micro"), CLIPS, NAME)


@pytest.mark.parametrize(
    ("fault", "tap"),
    [
        ("StateKept", "features/micro"),
        ("WithoutPcan", "features/micro"),
        ("Every10Milliseconds", "features/micro"),
        ("HighestBandFirst", "features/micro"),
        ("SmoothingSwapped", "features/micro"),
        ("ZeroPointOffByOne", "features/quantized"),
        ("Truncated", "features/quantized"),
    ],
)
def test_the_first_failing_tap_is_where_the_fault_was_planted(
    fault: str, tap: str, local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    done = rig.run(local, golden, tmp_path, systems=(str(SYSTEM),), backends=(f"faulty.micro:{fault}",))
    assert done.exit_code == 1
    assert rig.failing(done)[0] == (tap, "fail")
    assert localize.first_failures(done)[0].tap == tap
    assert rig.failing(done, path="isolated") == []


def test_the_first_clip_hears_nothing_from_before(golden: Path, tmp_path: Path) -> None:
    """A state that is kept is seen from the second clip on: what a test of one clip would miss."""
    with rig.target() as fresh:
        done = rig.run(fresh, golden, tmp_path, systems=(str(SYSTEM),), backends=("faulty.micro:StateKept",))
    found = [v for v in read_verdicts(tmp_path / done.name) if v.tap == "features/micro"]
    assert {v.clip: v.outcome for v in found} == {CLIPS[0]: "pass"} | dict.fromkeys(CLIPS[1:], "fail")


def test_labels_in_another_order_fail_at_the_label(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    folder = rig.system(
        tmp_path / "system", ('"silence", "unknown", "yes", "no"', '"silence", "unknown", "no", "yes"'), name=NAME
    )
    done = rig.run(local, golden, tmp_path, systems=(str(folder),), backends=("reference",))
    assert done.exit_code == 1
    assert rig.failing(done) == [("decision/label", "fail")]
    assert "labels are in another order" in rig.messages(done, "fail")


def zero_point_of_the_input(graph: Any, by: int) -> None:
    graph.tensors[graph.inputs[0]].quantization.zeroPoint = np.array([by])


def scale_of_the_last_weights(graph: Any, by: int) -> None:
    linear = graph.operators[-2]
    graph.tensors[linear.inputs[1]].quantization.scale *= np.float32(1 + by / 100)


@pytest.mark.parametrize(
    ("change", "by", "tap"),
    [
        (zero_point_of_the_input, 0, None),
        (zero_point_of_the_input, 6, "model/relu"),
        (scale_of_the_last_weights, 10, "model/logits"),
    ],
)
def test_wrong_steps_inside_the_int8_file_fail_at_their_own_tap(
    change: Callable[[Any, int], None], by: int, tap: str | None, local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = rig.system(tmp_path / "system", formats=("tflite",), name=NAME, fewer_bits=True)
    file = f"{NAME}.int8.tflite"
    model = schema.ModelT.InitFromPackedBuf(bytearray((SYSTEM / file).read_bytes()), 0)
    change(model.subgraphs[0], by)
    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    (folder / file).write_bytes(bytes(builder.Output()))
    done = rig.run(local, golden, tmp_path, systems=(str(folder),), backends=("reference",), runtimes=("tflite",),
                   precisions=("int8",))  # fmt: skip
    if tap is None:
        assert done.exit_code == 0, "the file written again unchanged"
        return
    assert done.exit_code == 1
    assert rig.failing(done, path="isolated")[0] == (tap, "fail")
