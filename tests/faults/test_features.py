"""A fault planted in a backend fails the run, and its first failing tap in flow order is where it was planted."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity import localize
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole commands and worker processes

PLANTED = [
    ("faulty.backends:SymmetricHann", "features/windowed", "fail"),
    ("faulty.with_librosa:SymmetricHann", "features/spectrum", "fail"),
    ("faulty.with_librosa:SingleWindow", "features/spectrum", "fail"),
    ("faulty.backends:ClaimsDouble", "features/windowed", "fail"),
    ("faulty.with_torch:Centered", "features/spectrum", "fail"),
    ("faulty.with_torch:UnitTriangles", "features/filterbank", "fail"),
    ("faulty.backends:SlaneyScale", "features/filterbank", "fail"),
    ("faulty.backends:Magnitude", "features/spectrum", "fail"),
    ("faulty.backends:NaturalLog", "features/compressed", "fail"),
    ("faulty.backends:LogOffset", "features/compressed", "fail"),
    ("faulty.backends:Shifted", "features/frames", "fail"),
    ("faulty.backends:Transposed", "features/filterbank", "fail"),
    ("faulty.backends:Reversed", "features/filterbank", "fail"),
    ("faulty.backends:Swapped", "features/filterbank", "fail"),
    *((f"faulty.backends:NotANumber:tap=features/{t}", f"features/{t}", "fail")
      for t in ("audio", "frames", "windowed", "spectrum", "filterbank", "compressed")),
    *((f"faulty.backends:Double:tap=features/{t}", f"features/{t}", "fail")
      for t in ("audio", "frames", "windowed", "spectrum", "filterbank", "compressed")),
    *((f"faulty.backends:OneUlpTooMuch:tap=features/{t}", f"features/{t}", "fail")
      for t in ("audio", "windowed", "spectrum", "filterbank", "compressed")),
    ("faulty.backends:Empty:tap=features/spectrum", "features/spectrum", "fail"),
    ("faulty.backends:Empty:tap=features/compressed", "features/compressed", "fail"),
    ("faulty.backends:Missing:tap=features/spectrum", "features/spectrum", "missing"),
    ("faulty.backends:Missing:tap=features/compressed", "features/compressed", "missing"),
    ("faulty.backends:Renamed:tap=features/filterbank", "features/filterbank", "missing"),
]  # fmt: skip


@pytest.mark.parametrize(("backend", "tap", "outcome"), PLANTED, ids=[b.partition(":")[2] for b, _, _ in PLANTED])
def test_the_first_failing_tap_is_where_the_fault_was_planted(
    backend: str, tap: str, outcome: str, local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    done = rig.run(local, golden, tmp_path, backends=(backend,))
    assert done.exit_code == 1
    assert rig.failing(done)[0] == (tap, outcome)
    assert localize.first_failures(done)[0].tap == tap  # what the reports blame


def test_the_network_is_not_blamed_for_a_backend(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    done = rig.run(local, golden, tmp_path, backends=("faulty.backends:SlaneyScale",))
    assert rig.failing(done, path="isolated") == []
    assert rig.failing(done, path="cumulative")


def test_a_faulty_backend_does_not_disturb_the_one_beside_it(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    done = rig.run(local, golden, tmp_path, backends=("faulty.backends:Transposed", "numpy"))
    assert done.exit_code == 1
    assert rig.failing(done, backend="numpy") == []


def test_the_message_says_what_is_wrong(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    def message(backend: str, tap: str) -> str:
        done = rig.run(local, golden, tmp_path, backends=(f"faulty.backends:{backend}",))
        return next(s.worst.message for s in done.summaries if s.tap == tap)

    assert "nan at [" in message("NotANumber:tap=features/spectrum", "features/spectrum")
    assert "dtype is float64, declared is float32" in message("Double:tap=features/spectrum", "features/spectrum")
    transposed = message("Transposed", "features/filterbank")
    assert "shape is [50, 98], the golden's is [98, 50]" in transposed
    assert "transposed" in transposed
    assert "didn't return it" in message("Renamed:tap=features/filterbank", "features/filterbank")


def test_nothing_planted_passes(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    done = rig.run(local, golden, tmp_path, backends=("numpy", "librosa"))
    assert rig.failing(done) == []
    assert done.exit_code == 0
