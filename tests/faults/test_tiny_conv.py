"""Faults of tiny-conv: its last group of bins, its rounding, TensorFlow's padding, and the order of its labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from parity import localize, pipeline
from parity.plan import Selection
from parity.protocols import Array
from parity.records import read_verdicts
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole commands and worker processes

NAME = "tiny-conv"
SYSTEM = rig.SYSTEM.parent / NAME
# Those with inner layers among the committed goldens, and one whose features are clipped at 255.
CLIPS = ("chirp.flac", "on-en-gb-midlands-m5.flac", "yes-en-us-f2.flac", "clipped-stop.flac")
PADS = "/pad/Constant_1_output_0"
TAPS = ["model/relu", "model/logits", "model/probabilities"]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed goldens of a few clips; not to be changed."""
    return rig.goldens(tmp_path_factory.mktemp("tiny"), CLIPS, NAME)


@pytest.mark.parametrize(
    ("backend", "tap"),
    [
        ("faulty.tiny:Int16", "features/audio"),
        ("faulty.backends:SymmetricHann", "features/windowed"),
        ("faulty.tiny:NoNyquist", "features/spectrum"),
        ("faulty.tiny:BinsOfTheCCode", "features/filterbank"),
        ("faulty.tiny:RoundedDown", "features/quantized"),
        ("faulty.tiny:NotDoubled", "features/quantized"),
        ("faulty.tiny:WrapsAround", "features/quantized"),
    ],
)
def test_the_first_failing_tap_is_where_the_fault_was_planted(
    backend: str, tap: str, local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    done = rig.run(local, golden, tmp_path, systems=(str(SYSTEM),), backends=(backend,))
    assert done.exit_code == 1
    assert rig.failing(done)[0] == (tap, "fail")
    assert localize.first_failures(done)[0].tap == tap
    assert rig.failing(done, path="isolated") == []


def other_side(pads: Array) -> Array:
    """The odd zero before the first frame and band, not after the last: PyTorch has bands and then frames."""
    return pads[[1, 0, 3, 2]]


def of_tensorflow(weight: Array) -> Array:
    """The rows of the linear layer in TensorFlow's order (time, band, channel), on PyTorch's flattening."""
    return weight.reshape(4, 8, 25, 22).transpose(0, 2, 3, 1).reshape(4, -1)


def change(path: Path, name: str, how: Callable[[Array], Array]) -> None:
    """Change a constant."""
    model = onnx.load(path)
    constants = [n for n in model.graph.node if n.op_type == "Constant" and list(n.output) == [name]]
    (tensor,) = [t for t in model.graph.initializer if t.name == name] + [n.attribute[0].t for n in constants]
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(how(numpy_helper.to_array(tensor))), tensor.name))
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("name", "how", "tap"),
    [(PADS, other_side, "model/relu"), ("fc.weight", of_tensorflow, "model/logits")],
    ids=["padding", "flattening"],
)
def test_a_wrong_layer_fails_at_its_own_tap(
    name: str, how: Callable[[Array], Array], tap: str, local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = rig.system(tmp_path / "system", name=NAME)
    change(folder / f"{NAME}.onnx", name, how)
    done = rig.run(local, golden, tmp_path, systems=(str(folder),))
    assert done.exit_code == 1
    assert rig.failing(done, path="isolated")[0] == (tap, "fail")
    before = {s.tap: set(s.counts) for s in done.summaries if s.path == "isolated" and s.tap in TAPS[: TAPS.index(tap)]}
    assert before == {t: {"pass"} for t in TAPS[: TAPS.index(tap)]}
    assert rig.failing(done, path="features") == []


def test_a_file_saved_again_unchanged_passes(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system", name=NAME)
    change(folder / f"{NAME}.onnx", PADS, lambda pads: pads)
    assert rig.run(local, golden, tmp_path, systems=(str(folder),)).exit_code == 0


def test_logits_for_probabilities_fail_where_they_stand(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    was, becomes = '{ name = "probabilities", layout = "NC" }', '{ name = "/fc/Gemm_output_0", layout = "NC" }'
    text = (SYSTEM / "system.toml").read_text(encoding="utf-8")
    onnx_part = text[text.index('format = "onnx"') : text.index('format = "tflite"')]
    folder = rig.system(tmp_path / "system", (onnx_part, onnx_part.replace(was, becomes)), name=NAME)
    done = rig.run(local, golden, tmp_path, systems=(str(folder),))
    assert done.exit_code == 1
    assert rig.failing(done, path="isolated")[0] == ("model/probabilities", "fail")


def test_labels_in_another_order_fail_at_the_label(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    change = ('"silence", "unknown"', '"unknown", "silence"')
    folder = rig.system(tmp_path / "system", change, name=NAME)
    done = rig.run(local, golden, tmp_path, systems=(str(folder),))
    assert done.exit_code == 1
    assert rig.failing(done) == [("decision/label", "fail")]
    assert "labels are in another order" in rig.messages(done, "fail")


def test_a_feature_on_a_rounding_edge_may_take_the_other_step_and_moves_what_follows_by_what_the_weights_allow(
    local: LocalTarget, tmp_path: Path
) -> None:
    # A search found it: the window is 0.5 there, so the power is 0.25 in every bin and twice that lies on an edge.
    sound = np.zeros(16000, np.float32)
    sound[120] = 1.0
    rig.wav(tmp_path / "wavs" / "edge.wav", sound, subtype="FLOAT")
    asked = {"systems": (str(SYSTEM),), "audio": tmp_path / "wavs", "golden": None}
    done, _ = pipeline.run(
        Selection(backends=("numpy",), runtimes=("onnxrt",), precisions=("float32",), **asked), local, tmp_path
    )  # type: ignore[arg-type]
    assert done.exit_code == 0
    found = {(v.tap, v.path): v for v in read_verdicts(tmp_path / done.name)}
    stepped = found["features/quantized", "features"]
    assert stepped.error == 1.0
    assert {stepped.candidate, stepped.golden} == {0.0, 1.0}
    isolated, cumulative = (found["model/logits", path] for path in ("isolated", "cumulative"))
    assert isolated.error is not None
    assert cumulative.error is not None
    assert cumulative.error > 1000 * isolated.error
