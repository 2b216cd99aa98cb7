"""Faults of logmel-gru: its window, bank and logarithm, and the two forms and orders that a GRU is written in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from parity import localize
from parity.protocols import Array
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole commands and worker processes

NAME = "logmel-gru"
SYSTEM = rig.MODELS / NAME
# Inner layers are among the committed goldens of the first and the last.
CLIPS = ("chirp.flac", "off-en-gb-lancaster-f4.flac", "yes-en-us-f2.flac")
TAPS = ["model/gru1", "model/gru2", "model/frames", "model/logits"]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed goldens of a few clips; not to be changed."""
    return rig.goldens(tmp_path_factory.mktemp("gru"), CLIPS, NAME)


@pytest.mark.parametrize(
    ("backend", "tap"),
    [
        ("faulty.backends:PeriodicWindow", "features/windowed"),
        ("faulty.backends:ExactEdges", "features/filterbank"),
        ("faulty.backends:SmallOffset", "features/compressed"),
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


def gates_unturned(w: Array) -> Array:
    """PyTorch's order r, z, n where ONNX has z, r, h."""
    z, r, h = np.split(w, 3, axis=1)
    return np.concatenate([r, z, h], axis=1)


def in_half_precision(w: Array) -> Array:
    return w.astype(np.float16).astype(np.float32)


def change(path: Path, layer: int, how: Callable[[Array], Array] | None) -> None:
    """Change all weights of a GRU node by `how`; where that is None, apply the reset gate before the product."""
    model = onnx.load(path)
    node = [n for n in model.graph.node if n.op_type == "GRU"][layer]
    if how is None:
        (flag,) = (a for a in node.attribute if a.name == "linear_before_reset")
        assert flag.i == 1
        flag.i = 0
    else:
        for tensor in (t for t in model.graph.initializer if t.name in node.input[1:3]):
            w = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(how(w)), tensor.name))
    onnx.save(model, path)


@pytest.mark.parametrize("how", [None, gates_unturned, in_half_precision], ids=["linear_before_reset", "gates", "half"])
@pytest.mark.parametrize("layer", range(2), ids=TAPS[:2])
def test_a_wrong_layer_fails_at_its_own_tap(
    layer: int, how: Callable[[Array], Array] | None, local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = rig.system(tmp_path / "system", name=NAME)
    change(folder / f"{NAME}.onnx", layer, how)
    done = rig.run(local, golden, tmp_path, systems=(str(folder),))
    assert done.exit_code == 1
    assert rig.failing(done, path="isolated")[0] == (TAPS[layer], "fail")
    before = {s.tap: set(s.counts) for s in done.summaries if s.path == "isolated" and s.tap in TAPS[:layer]}
    assert before == {tap: {"pass"} for tap in TAPS[:layer]}
    assert rig.failing(done, path="features") == []


def test_layers_saved_again_unchanged_pass(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system", name=NAME)
    change(folder / f"{NAME}.onnx", 1, lambda w: w)
    assert rig.run(local, golden, tmp_path, systems=(str(folder),)).exit_code == 0


def test_labels_in_another_order_fail_at_the_label(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    folder = rig.system(
        tmp_path / "system", ('labels = ["unknown", "silence",', 'labels = ["silence", "unknown",'), name=NAME
    )
    done = rig.run(local, golden, tmp_path, systems=(str(folder),))
    assert done.exit_code == 1
    assert rig.failing(done) == [("decision/label", "fail")]


@pytest.mark.parametrize(
    "change_of", [("periodic = false", "periodic = true "), ('triangles = "bins"', 'triangles = "hz"')]
)
def test_a_recipe_that_was_not_published_is_not_recorded(change_of: tuple[str, str], tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system", change_of, name=NAME)
    (folder / "ell-dsp.npz").write_bytes((SYSTEM / "ell-dsp.npz").read_bytes())
    where = ("--audio", rig.wav(tmp_path / "yes.wav"), "--out", tmp_path / "golden", "--runtime", "onnxrt")
    done = rig.parity("golden", "record", "--system", folder, *where)
    rig.refused(done, 1, "the oracle doesn't reproduce ell-dsp.npz:")
    assert not (tmp_path / "golden").exists()
