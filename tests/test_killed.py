"""kill -9 at any write of `accept`, of recording goldens and of a gate run: what was there before is still whole."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from parity import acceptance, baseline, gate, golden, history, packed, settings, system
from parity import record as recording
from parity.plan import Selection
from parity.records import read_run, read_verdicts
from tests.plugins_for_tests import killed, rig
from tests.plugins_for_tests.grown import Replayed

pytestmark = [
    pytest.mark.slow, pytest.mark.xdist_group("killed"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),  # Python 3.12 and up, of each fork
]  # fmt: skip


@pytest.fixture(scope="module")
def local() -> Iterator[Replayed]:
    with rig.target() as workers:
        yield Replayed(workers)


@pytest.fixture
def goldens(tmp_path: Path) -> Path:
    return rig.goldens(tmp_path / "golden", rig.CLIPS[-1:])  # without inner layers


def gated(local: Replayed, goldens: Path) -> Any:
    selection = Selection(
        systems=(str(rig.SYSTEM),), backends=("numpy",), runtimes=("onnxrt",), precisions=("float32",), golden=goldens
    )
    return gate.gate(selection, local, goldens.parent / "reports", settings.Gate(), "", lambda *_: None)  # type: ignore[arg-type]


def state(folder: Path) -> dict[str, bytes]:
    """Every file that anybody reads: what is being written has a dot before its name."""
    every = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith("."))
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in every}


def restored(folder: Path, from_: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(from_, folder)


def test_a_file_that_is_written_in_place_is_seen_torn(tmp_path: Path) -> None:
    """What the tests below would say of a writer that isn't atomic."""
    file = tmp_path / "baseline.json"
    file.write_text("old")
    seen = set()
    for _ in killed.at_each(lambda: file.write_text("new"), lambda: file.write_text("old")):
        seen.add(file.read_text())
    assert "" in seen


def test_accept_leaves_the_old_baseline_or_the_new_one(local: Replayed, goldens: Path, tmp_path: Path) -> None:
    run, folder = gated(local, goldens)
    (first,) = acceptance.proposals(run, folder, None, afresh=False)
    path = acceptance.accept(first, run, "the first")
    (again,) = acceptance.proposals(run, folder, None, afresh=False)
    # Under another name, as where a plugin has gone: then there are two files for a moment.
    other = baseline.read(path)
    other.environment["plugins"]["librosa"] = {"librosa": "0.11.0"}
    path.unlink()
    old = baseline.write(goldens, other)
    (again,) = acceptance.proposals(run, folder, None, afresh=False)
    before, kept = state(goldens), shutil.copytree(goldens, tmp_path / "kept")
    ends = set()
    for n, place in killed.at_each(
        lambda: acceptance.accept(again, run, "the second"), lambda: restored(goldens, kept)
    ):
        there = {b.fingerprint: [a.reason for a in b.accepted] for b in baseline.read_all(goldens, "commands-cnn")}
        assert there in (
            {old.stem: ["the first"]}, {old.stem: ["the first"], path.stem: ["the first", "the second"]},
            {path.stem: ["the first", "the second"]},
        ), (n, place)  # fmt: skip
        rest = {name: data for name, data in state(goldens).items() if not name.startswith("baselines/")}
        assert rest == {name: data for name, data in before.items() if not name.startswith("baselines/")}
        ends.add(len(there))
    assert ends == {1, 2}


def test_goldens_are_the_old_set_or_the_new_one(goldens: Path, tmp_path: Path) -> None:
    """All that recording writes goes through `commit` (see the next test): it is killed at each of its writes."""
    of = system.load(rig.SYSTEM)
    old = golden.load(goldens, of)
    entry = dict(old.clips[0])
    data = packed.pack({"model/logits": packed.unpack(old.file(entry["model"]), Path())["model/logits"] + 1})
    name = f"commands-cnn/{golden.slug(entry['name'], data, '.npz')}"
    changed = entry | {"model": {"file": name, "sha256": golden.sha256(data), "arrays": {}}}
    manifest = {**old.manifest, "clips": [changed, *old.clips[1:]]}
    kept = shutil.copytree(goldens, tmp_path / "kept")
    sets = []
    for n, place in killed.at_each(
        lambda: golden.commit(goldens, "commands-cnn", manifest, {name: data}), lambda: restored(goldens, kept)
    ):
        found = golden.load(goldens, of)
        assert found.manifest in (old.manifest, manifest), (n, place)
        for e in found.clips:  # every file that it names is there, with its digest
            for part in ("clip", "features", "model"):
                found.file(e[part])
        sets.append(found.manifest == manifest)
    assert sets == sorted(sets)  # the old one up to a moment, from then on the new one
    assert set(sets) == {False, True}


def test_recording_writes_nothing_before_all_is_computed(
    goldens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, writes = state(goldens), []
    commit = golden.commit

    def watched(*arguments: Any) -> Path:
        writes.append(state(goldens) == before)
        path = commit(*arguments)
        writes.append(state(goldens))
        return path

    monkeypatch.setattr(recording.golden, "commit", watched)
    with rig.target() as target:
        what = recording.Recording(
            system=system.load(rig.SYSTEM), folder=goldens / "clips", root=goldens, anchor="numpy", runtime="onnxrt",
            layers=0, command="",
        )  # fmt: skip
        recording.record(what, target, lambda *_: None)
    unchanged, after = writes
    assert unchanged
    assert state(goldens) == after


def points(reports: Path) -> int:
    with sqlite3.connect(reports / history.FILE) as db:
        (n,) = db.execute("select count(*) from points").fetchone()
    db.close()
    return int(n)


def test_a_gate_run_is_there_whole_or_not_at_all_and_the_history_goes_on(
    local: Replayed, goldens: Path, tmp_path: Path
) -> None:
    run, folder = gated(local, goldens)
    (proposal,) = acceptance.proposals(run, folder, None, afresh=False)
    acceptance.accept(proposal, run, "the first")
    reports, before = goldens.parent / "reports", state(goldens)
    kept, one = shutil.copytree(reports, tmp_path / "kept"), points(reports)
    seen = set()
    for n, place in killed.at_each(lambda: gated(local, goldens), lambda: restored(reports, kept), of_a_place=2):
        assert state(goldens) == before, (n, place)
        there = [name for name in rig.left_over(reports) if not name.startswith((".", history.FILE))]
        for name in there:
            verdicts = sum(1 for _ in read_verdicts(reports / name))
            assert verdicts == sum(sum(s.counts.values()) for s in read_run(reports / name).summaries)
            assert (reports / name / "index.html").stat().st_size > 1000
        seen.add((len(there), points(reports) // one))
        assert points(reports) % one == 0, (n, place)
    # Neither yet; the run, but no point yet; both.
    assert {(1, 1), (2, 1)} <= seen <= {(1, 1), (2, 1), (2, 2)}
    again, _ = gated(local, goldens)
    assert again.exit_code == 0
