"""Where a planted fault was made: of features by each stage's own error, of networks by the first layer that is off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parity import evidence, localize, pipeline, stages, system
from parity.plan import Selection
from parity.records import Run
from parity.report import wording
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

from .test_models import LAYERS, change_weight

pytestmark = pytest.mark.slow  # whole commands and worker processes

FAULTY = "faulty.backends:"
PLANTED = [
    (FAULTY + "SymmetricHann", "features/windowed"),
    (FAULTY + "SlaneyScale", "features/filterbank"),
    (FAULTY + "Magnitude", "features/spectrum"),
    (FAULTY + "LogOffset", "features/compressed"),
    (FAULTY + "Shifted", "features/frames"),
    (FAULTY + "LastFrameLost", "features/frames"),
    (FAULTY + "Transposed", "features/filterbank"),
    ("faulty.with_librosa:SymmetricHann", "features/spectrum"),
    ("faulty.with_torch:UnitTriangles", "features/filterbank"),
]


@pytest.mark.parametrize(("backend", "tap"), PLANTED, ids=[b.partition(":")[2] for b, _ in PLANTED])
def test_only_the_stage_with_the_fault_is_out_of_bounds_by_itself(
    backend: str, tap: str, local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    done = rig.run(local, golden, tmp_path, backends=(backend,))
    first = localize.first_failures(done)[0]
    assert first.tap == tap
    assert localize.erring(done, first) == [tap]
    assert wording.made(done, first).startswith("made here")


def test_a_stage_that_is_not_shown_shares_the_blame(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    done = rig.run(local, golden, tmp_path, backends=("faulty.with_librosa:SymmetricHann",))
    (first, *_) = localize.first_failures(done)
    assert wording.made(done, first).startswith("made here or in frames, windowed, which it doesn't show (own error")


def test_features_that_pass_do_not_pay(
    local: LocalTarget, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("no clip failed")

    monkeypatch.setattr(stages, "isolated", asked)
    assert rig.run(local, golden, tmp_path).exit_code == 0


@pytest.mark.parametrize("layer", [0, 2, 5])
def test_the_layer_with_the_fault_is_first_and_its_input_is_right(
    layer: int, local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = rig.system(tmp_path / "system")
    change_weight(folder / "commands-cnn.onnx", layer, 1.05)
    done = rig.run(local, golden, tmp_path, systems=(str(folder),))
    first = localize.first_failures(done)[0]
    assert (first.path, first.tap) == ("isolated", f"model/{LAYERS[layer]}")
    known = localize.since(done, first)
    assert known is not None
    taps = localize.flow(done, "commands-cnn")
    assert known == localize.Since(taps[taps.index(first.tap) - 1], ())


def test_where_only_the_logits_were_recorded_nothing_is_said_of_the_layers(local: LocalTarget, tmp_path: Path) -> None:
    held = rig.goldens(tmp_path / "golden", ("no-en-gb-m3.flac",))
    folder = rig.system(tmp_path / "system")
    change_weight(folder / "commands-cnn.onnx", 2, 1.05)
    done = rig.run(local, held, tmp_path, systems=(str(folder),))
    first = localize.first_failures(done)[0]
    assert (first.path, first.tap) == ("isolated", "model/logits")
    assert wording.made(done, first) == (
        "made after model/input, which is within bounds: on the clips that fail no layer between was compared"
    )


def kept(local: LocalTarget, golden: Path, tmp_path: Path, **selection: str) -> tuple[Run, Path]:
    wanted = {k: (v,) for k, v in selection.items()}
    chosen = {
        "systems": (str(rig.SYSTEM),),
        "backends": ("numpy",),
        "runtimes": ("onnxrt",),
        "precisions": ("float32",),
    }
    return pipeline.run(Selection(**(chosen | wanted), golden=golden), local, tmp_path)  # type: ignore[arg-type]


def test_a_failing_run_keeps_evidence_that_shows_the_fault_again(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    done, folder = kept(local, golden, tmp_path, backends=FAULTY + "SymmetricHann")
    found = list(evidence.read(folder))
    assert len(found) == len(done.evidence)
    assert 2 <= len(found) <= 3
    assert [e.clip.name for e in found] == [row["clip"] for row in done.evidence]
    worst = next(s.worst for s in done.summaries if s.tap == "features/compressed")
    assert {e.group for e in found} == {("commands-cnn", FAULTY + "SymmetricHann", "", "", "local", "features")}
    assert worst.clip in {e.clip.name for e in found}
    frontend = system.load(rig.SYSTEM).frontend
    for e in found:
        assert set(e.features) == set(frontend.taps)
        own = stages.isolated(frontend, e.clip, e.features)
        assert [t for t in frontend.taps if own[t].comparison.outcome != "pass"] == ["features/windowed"]


def test_evidence_of_a_network_has_its_layers_and_what_it_was_fed_with(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = rig.system(tmp_path / "system")
    change_weight(folder / "commands-cnn.onnx", 2, 1.05)
    done, written = kept(local, golden, tmp_path / "reports", systems=str(folder))
    found = list(evidence.read(written))
    assert {(e.path, e.backend) for e in found} == {("isolated", ""), ("cumulative", "numpy")}
    for e in found:
        assert "model/logits" in e.model
        assert "model/input" not in e.model
        assert e.features == {}
        assert e.fed is not None
        assert e.fed.shape == (98, 50)
        assert e.fed.dtype == np.float32
    assert any("model/relu3" in e.model for e in found)
    assert done.systems["commands-cnn"]["folder"] == str(folder.resolve())


def test_a_run_that_passes_keeps_nothing(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    done, folder = kept(local, golden, tmp_path)
    assert done.exit_code == 0
    assert done.evidence == []
    assert not (folder / "evidence").exists()
    assert not (folder / "arrays").exists()
