"""The gate on a run with several targets: a baseline each, and what got lost on one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from parity import acceptance, baseline, errors, gate, records, settings
from parity.cli import cli
from parity.records import Run
from tests.report import places

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("gate")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run here and one on a Pi, of the same goldens."""
    return places.made(tmp_path_factory.mktemp("places"), ["local", "pi"])


@pytest.fixture
def both(folders: list[Path], tmp_path: Path) -> Path:
    """The two as one run, with goldens of its own; emulated, as everything said of a Pi here."""
    return own(places.joined(folders, tmp_path / "reports", pi=places.PI), tmp_path)


def own(folder: Path, root: Path) -> Path:
    """A run as if its goldens were in `root/golden`, where nothing is accepted yet."""
    run = records.read_run(folder)
    (root / "golden").mkdir(exist_ok=True)
    for about in run.systems.values():
        about["golden"] = str(root / "golden")
    (folder / "run.json").write_bytes(msgspec.json.encode(run))
    return folder


def held(folder: Path, limits: settings.Gate = settings.Gate()) -> Run:  # noqa: B008
    """What the gate says of a run folder."""
    run = records.read_run(folder)
    gate.hold(run, folder, limits, folder.parent, None)
    return run


def accept(folder: Path) -> list[Path]:
    run = held(folder)
    return [acceptance.accept(p, run, "measured") for p in acceptance.proposals(run, folder, None, afresh=False)]


def told(run: Run) -> list[tuple[str, str, bool]]:
    return [(f["kind"], f["target"], f["fails"]) for f in run.gate["findings"]]


def test_each_target_has_a_baseline_of_its_own(both: Path) -> None:
    assert told(held(both)) == [("baseline", "local", False), ("baseline", "pi", False)]
    here, there = (baseline.read(path) for path in accept(both))
    assert "target" not in here.environment
    assert (there.environment["target"], there.environment["machine"]["architecture"]) == ("pi", "aarch64")
    assert there.environment["machine"]["emulated"] is True
    assert {r.target for r in here.rows} == {"local"}
    assert {r.target for r in there.rows} == {"pi"}
    assert here.times
    assert not there.times, "an emulated CPU's are no device's"
    again = held(both)
    assert (again.gate["verdict"], told(again)) == ("pass", [])
    assert [(b["target"], b["state"]) for b in again.gate["baselines"]] == [("local", "held"), ("pi", "held")]


def test_what_was_accepted_here_isnt_taken_for_what_was_accepted_there(
    folders: list[Path], both: Path, tmp_path: Path
) -> None:
    accept(own(places.joined(folders[:1], tmp_path / "alone"), tmp_path))
    run = held(both)
    assert [(b["target"], b["state"]) for b in run.gate["baselines"]] == [("local", "held"), ("pi", "new")]
    (finding,) = run.gate["findings"]
    assert (finding["kind"], finding["target"]) == ("baseline", "pi")
    for words in ("target local -> pi", "architecture x86_64 -> aarch64", "Raspberry Pi 4 Model B", "real -> emulated"):
        assert words in finding["text"], words
    required = held(both, settings.Gate(require_baseline=True))
    assert required.exit_code == errors.NOTHING


def test_a_drift_on_one_target_names_it(both: Path) -> None:
    accept(both)
    for path in baseline.folder_of(both.parent.parent / "golden", "commands-cnn").glob("*.json"):
        found = baseline.read(path)
        if found.environment.get("target") == "pi":
            less = [msgspec.structs.replace(r, ratio=r.ratio and r.ratio / 2) for r in found.rows]
            path.write_text(baseline.text(msgspec.structs.replace(found, rows=less)))
    run = held(both)
    assert {(kind, target) for kind, target, _ in told(run)} == {("drift", "pi")}
    assert run.exit_code == errors.MISMATCH


def test_a_system_that_a_target_doesnt_compute_any_more_is_lost_coverage(both: Path) -> None:
    accept(both)
    run = records.read_run(both)
    run.summaries = [s for s in run.summaries if s.target == "local"]
    run.skipped.append(records.Skipped(
        system="commands-cnn", runtime="onnxrt", target="pi", reason="onnxruntime isn't installed there",
    ))  # fmt: skip
    lines = [line for line in (both / "verdicts.jsonl").read_text().splitlines() if '"target":"local"' in line]
    (both / "verdicts.jsonl").write_text("\n".join(lines) + "\n")
    (both / "run.json").write_bytes(msgspec.json.encode(run))
    again = held(both)
    assert told(again) == [("coverage", "pi", True)]
    assert "onnxruntime isn't installed there" in again.gate["findings"][0]["text"]
    assert again.exit_code == errors.MISMATCH
    # A run that didn't go there lost nothing.
    run.environment["targets"].pop("pi")
    (both / "run.json").write_bytes(msgspec.json.encode(run))
    assert told(held(both)) == []


def test_accept_says_what_it_writes_a_target(both: Path) -> None:
    def typed(*arguments: Any) -> str:
        result = CliRunner().invoke(cli, ["accept", str(both), "--reason", "measured", *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return result.output

    first = typed()
    assert "commands-cnn: the first baseline of this environment" in first
    assert "commands-cnn on pi: the first baseline of this environment" in first
    assert first.count("accepted: ") == 2
    assert typed().count("nothing differs from what was accepted") == 2
