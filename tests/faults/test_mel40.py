"""What goes wrong with decibels below the clip's maximum, reflected edges and folded statistics starts where it is."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import pytest
import torch

from parity import localize
from parity import system as systems
from parity.runtimes.torch_ import build
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole commands and worker processes

# Each system, and a batch normalization in the middle of it with the tap that shows it first.
SYSTEMS = {
    "mel40-mobilenetv2": ("block9.depthwise.bn", "model/block9"),
    "mel40-shufflenetv2": ("unit6.right.depthwise.bn", "model/unit6"),
    "mel40-resnet18": ("block4.bn2", "model/block4"),
}
PLANTED = [
    ("ZeroPadding", "features/frames"),
    ("NoTopDb", "features/compressed"),
    ("RefOne", "features/compressed"),
]


@pytest.fixture(scope="module", params=SYSTEMS)
def name(request: pytest.FixtureRequest) -> str:
    system: str = request.param
    if not (rig.MODELS / system / "weights.safetensors").is_file():
        pytest.skip(f"{system} is not built (parity models build {system})")
    return system


@pytest.fixture(scope="module")
def golden(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed goldens of three clips; not to be changed."""
    return rig.goldens(tmp_path_factory.mktemp("golden"), name=name)


@pytest.mark.parametrize(("backend", "tap"), PLANTED, ids=[backend for backend, _ in PLANTED])
def test_a_recipe_of_another_library_version_fails_where_it_differs(
    backend: str, tap: str, name: str, local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    wanted = (str(rig.MODELS / name),)
    done = rig.run(local, golden, tmp_path, systems=wanted, backends=(f"faulty.backends:{backend}",))
    assert done.exit_code == 1
    assert rig.failing(done)[0] == (tap, "fail")
    assert localize.first_failures(done)[0].tap == tap  # what the reports blame
    assert rig.failing(done, path="isolated") == []
    assert rig.failing(done, path="cumulative")


def lose_statistics(folder: Path, name: str, module: str) -> None:
    """Export the trained network again, with one batch normalization's running mean and variance back at 0 and 1."""
    of = systems.load(folder)
    (trained,) = (a for a in of.artifacts if a.format == "torch")
    assert trained.network is not None
    network = build(trained.network, Path(trained.path))
    bn = network.get_submodule(module)
    assert isinstance(bn, torch.nn.BatchNorm2d)
    bn.reset_running_stats()
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is deprecated, and traces fixed shapes
        torch.onnx.export(
            network, (torch.zeros(1, 1, 40, 32),), file, dynamo=False, opset_version=17, input_names=["features"],
            output_names=["logits"], dynamic_axes={"features": {0: "batch"}, "logits": {0: "batch"}},
        )  # fmt: skip
    (folder / f"{name}.onnx").write_bytes(file.getvalue())


def test_lost_statistics_of_a_batch_normalization_fail_at_its_own_block(
    name: str, local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = rig.system(tmp_path / "system", formats=("onnx", "torch"), name=name)
    module, tap = SYSTEMS[name]
    lose_statistics(folder, name, module)
    done = rig.run(local, golden, tmp_path, systems=(str(folder),))
    assert done.exit_code == 1
    assert rig.failing(done, path="features") == []
    assert rig.failing(done, path="isolated")[0] == (tap, "fail")
    taps = systems.load(folder).taps
    earlier = taps[: taps.index(tap)]
    before = {s.tap: set(s.counts) for s in done.summaries if s.path == "isolated" and s.tap in earlier}
    assert before == {t: {"pass"} for t in earlier}


def test_silence_and_unknown_swapped_fail_at_the_label(
    name: str, local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = rig.system(tmp_path / "system", ('"unknown", "silence",', '"silence", "unknown",'), name=name)
    done = rig.run(local, golden, tmp_path, systems=(str(folder),))
    assert done.exit_code == 1
    assert rig.failing(done) == [("decision/label", "fail")]
    assert "labels are in another order" in rig.messages(done, "fail")


def test_nothing_planted_passes(name: str, local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    done = rig.run(local, golden, tmp_path, systems=(str(rig.MODELS / name),), backends=("numpy", "librosa"))
    assert rig.failing(done) == []
    assert done.exit_code == 0
