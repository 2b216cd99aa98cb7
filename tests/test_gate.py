"""The gate on whole runs in this process: accept, hold, drift, coverage, refusal; and the two commands as typed."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from parity import acceptance, baseline, gate, history, pipeline, settings
from parity.cli import cli
from parity.cli import gate as commands
from parity.errors import ConfigError, GoldenError, NotAccepted
from parity.plan import Selection
from parity.protocols import Target
from parity.records import Run, read_run
from tests.plugins_for_tests import rig
from tests.plugins_for_tests.grown import Grown, Replayed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("gate")]  # worker processes, started once

LIMITS = settings.Gate()


@pytest.fixture(scope="module")
def local() -> Iterator[Replayed]:
    """Workers that compute each thing once."""
    with rig.target() as workers:
        yield Replayed(workers)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rig.goldens(tmp_path_factory.mktemp("golden"))


@pytest.fixture
def golden(recorded: Path, tmp_path: Path) -> Path:
    """Goldens of three clips, without baselines."""
    return Path(shutil.copytree(recorded, tmp_path / "golden"))


def selected(**more: Any) -> Selection:
    wanted: dict[str, Any] = {
        "systems": (str(rig.SYSTEM),), "backends": ("numpy",), "runtimes": ("onnxrt",), "precisions": ("float32",),
    }  # fmt: skip
    return Selection(**(wanted | more))


def gated(target: Target, golden: Path, limits: settings.Gate = LIMITS, **more: Any) -> tuple[Run, Path]:
    reports = golden.parent / "reports"
    return gate.gate(selected(**({"golden": golden} | more)), target, reports, limits, "parity gate", lambda *_: None)


def accepted(target: Target, golden: Path, reason: str = "measured", **more: Any) -> Path:
    run, folder = gated(target, golden, **more)
    (proposal,) = acceptance.proposals(run, folder, None, afresh=False)
    return acceptance.accept(proposal, run, reason)


def kinds(run: Run) -> set[str]:
    return {f["kind"] for f in run.gate["findings"] if f["fails"]}


def test_a_first_run_passes_by_its_bounds_and_is_told_to_be_new(local: Replayed, golden: Path) -> None:
    run, folder = gated(local, golden)
    assert (run.exit_code, run.gate["verdict"]) == (0, "new")
    assert [b["state"] for b in run.gate["baselines"]] == ["none"]
    assert msgspec.to_builtins(read_run(folder)) == msgspec.to_builtins(run)
    assert not (golden / baseline.FOLDER).exists()  # a gate accepts nothing
    required, _ = gated(local, golden, msgspec.structs.replace(LIMITS, require_baseline=True))
    assert (required.exit_code, required.gate["verdict"]) == (2, "fail")


def test_what_was_accepted_is_held_and_the_same_again_passes(local: Replayed, golden: Path) -> None:
    path = accepted(local, golden, "the first")
    assert path.parent == golden / "baselines" / "commands-cnn"
    run, _ = gated(local, golden, msgspec.structs.replace(LIMITS, require_baseline=True))
    assert (run.exit_code, run.gate["verdict"], run.gate["findings"]) == (0, "pass", [])
    (held,) = run.gate["baselines"]
    assert (held["state"], held["reason"], held["fingerprint"]) == ("held", "the first", path.stem)
    assert run.gate["limits"] == msgspec.to_builtins(LIMITS) | {"require_baseline": True}


def test_an_error_grown_one_and_a_half_times_within_its_bound_fails(local: Replayed, golden: Path) -> None:
    accepted(local, golden)
    grown = Grown(local, 1.5, golden, [rig.SYSTEM])
    run, folder = gated(grown, golden)
    assert pipeline.exit_code(run) == 0  # every tap is within its bound
    assert (run.exit_code, run.gate["verdict"], kinds(run)) == (1, "fail", {"drift"})
    drifted = {(f["path"], f["tap"]) for f in run.gate["findings"]}
    large = {
        (s.path, s.tap) for s in run.summaries if s.worst.ratio is not None and s.worst.ratio > 3 * LIMITS.drift_floor
    } - {("cumulative", "model/input")}  # its golden isn't the activations'
    assert large <= drifted
    assert len(large) > 15
    # Accepted with a reason, it is the baseline; the way back is no drift, and neither is what was there before.
    (proposal,) = acceptance.proposals(run, folder, None, afresh=False)
    heads = [head for head, _ in acceptance.changes(proposal)]
    assert len(heads) == 1
    assert heads[0].startswith("error over bound grew at ")
    acceptance.accept(proposal, run, "another FFT")
    for target in (grown, local):
        again, _ = gated(target, golden)
        assert (again.exit_code, again.gate["findings"]) == (0, [])
    # Accepted afresh, the smaller error counts again.
    run, folder = gated(local, golden)
    (proposal,) = acceptance.proposals(run, folder, None, afresh=True)
    assert next(head for head, _ in acceptance.changes(proposal)).startswith("error over bound fell at ")
    acceptance.accept(proposal, run, "the old FFT again")
    again, _ = gated(grown, golden)
    assert again.exit_code == 1


def test_no_drift_without_growth_whatever_the_number_of_threads(golden: Path) -> None:
    with rig.target() as workers:
        for threads in (1, 2, 4):
            workers.threads = threads
            if threads == 1:
                accepted(workers, golden)
            workers.release()
            run, _ = gated(workers, golden)
            assert (run.exit_code, run.gate["findings"]) == (0, [])
            assert run.environment["threads"] == threads


def test_a_clip_that_is_gone_is_coverage_lost(local: Replayed, golden: Path) -> None:
    accepted(local, golden)
    path = golden / "commands-cnn" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    gone = manifest["clips"].pop(0)["name"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    run, folder = gated(local, golden)
    assert (run.exit_code, kinds(run)) == (1, {"coverage"})
    assert gone in run.gate["findings"][0]["text"]
    (proposal,) = acceptance.proposals(run, folder, None, afresh=False)
    taps = len(proposal.new.rows)
    (fewer,) = [lines for head, lines in acceptance.changes(proposal) if head.startswith("fewer clips at ")]
    assert (fewer, taps > 10) == ([gone], True)
    acceptance.accept(proposal, run, "a recording gone wrong")
    assert gated(local, golden)[0].exit_code == 0


def test_less_of_what_was_accepted_is_no_loss_and_keeps_the_rest(local: Replayed, golden: Path) -> None:
    path = accepted(local, golden, runtimes=("onnxrt", "onnxrt:opt=off"))
    rows = len(baseline.read(path).rows)
    run, _ = gated(local, golden)
    assert (run.exit_code, run.gate["findings"]) == (0, [])
    assert accepted(local, golden, "only the one") == path
    assert len(baseline.read(path).rows) == rows
    assert [a.reason for a in baseline.read(path).accepted] == ["measured", "only the one"]


def test_a_system_that_is_gone_is_coverage_lost(local: Replayed, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = accepted(local, golden)
    other = path.parents[1] / "a-system-of-old"
    shutil.copytree(path.parent, other)
    old = (other / path.name).read_text(encoding="utf-8")
    (other / path.name).write_text(old.replace('"commands-cnn",', '"a-system-of-old",', 1), encoding="utf-8")
    monkeypatch.setattr(gate.systems, "root", lambda: rig.ROOT)
    named, _ = gated(local, golden)
    assert named.exit_code == 0
    found = list(gate._lost_systems(named, golden))
    assert [(f.kind, f.system) for f in found] == [("coverage", "a-system-of-old")]
    assert found[0].text.endswith(f"if it is meant to be gone, take {other} away")
    assert list(gate._lost_systems(named, None)) == []
    # It takes part with a pair: none that was accepted is asked for where another backend is.
    for asked in ({"backends": ["librosa"], "runtimes": ["onnxrt"]}, {"backends": ["numpy"], "precisions": ["int8"]}):
        assert list(gate._lost_systems(msgspec.structs.replace(named, asked=asked), golden)) == []


def test_a_file_that_grew_is_told_where_a_limit_is_set(local: Replayed, golden: Path) -> None:
    path = accepted(local, golden)
    text = path.read_text(encoding="utf-8")
    size = (rig.SYSTEM / "commands-cnn.onnx").stat().st_size
    assert text.count(f'"commands-cnn.onnx", {size}]') == 1
    path.write_text(
        text.replace(f'"commands-cnn.onnx", {size}]', f'"commands-cnn.onnx", {size // 2}]'), encoding="utf-8"
    )
    assert gated(local, golden)[0].exit_code == 0
    run, _ = gated(local, golden, msgspec.structs.replace(LIMITS, size_factor=1.1))
    assert (run.exit_code, kinds(run)) == (1, {"size"})


def test_a_slower_frame_is_told_where_a_limit_is_set(local: Replayed, golden: Path) -> None:
    path = accepted(local, golden)
    plain = json.loads(path.read_text(encoding="utf-8"))
    assert {(t[0], t[1]) for t in plain["times"]} == {("features", "numpy"), ("model", "onnxrt")}
    plain["times"] = [[*t[:3], t[3] / 3] for t in plain["times"]]
    path.write_text(json.dumps(plain), encoding="utf-8")
    assert gated(local, golden)[0].exit_code == 0
    run, _ = gated(local, golden, msgspec.structs.replace(LIMITS, latency_factor=2.0))
    assert (run.exit_code, kinds(run)) == (1, {"latency"})


def test_pairs_that_are_less_accurate_than_float32_are_told() -> None:
    def run(*found: tuple[str, float]) -> Run:
        pairs = [{"pair": f"kws numpy {who}", "clips": 100, "accuracy": a, "confusion": {}} for who, a in found]
        return Run(name="", started="", labels={"pairs": pairs})

    of = run(("onnxrt float32", 0.92), ("torch float32", 0.93), ("onnxrt int8", 0.9))
    less = list(gate.less_accurate(of, LIMITS))
    assert [(f.runtime, f.precision, f.was, f.now) for f in less] == [
        ("onnxrt", "float32", 0.93, 0.92), ("onnxrt", "int8", 0.93, 0.9)
    ]  # fmt: skip
    assert [f.precision for f in gate.less_accurate(of, msgspec.structs.replace(LIMITS, accuracy_margin=0.01))] == [
        "int8"
    ]
    assert list(gate.less_accurate(of, msgspec.structs.replace(LIMITS, accuracy_margin=0.03))) == []


def test_a_command_with_spaces_in_it_is_one_backend() -> None:
    pair = {"clips": 100, "confusion": {}}
    labels = {"pairs": [pair | {"pair": "kws numpy onnxrt float32", "accuracy": 0.9},
                        pair | {"pair": "kws exec:python f.py -x onnxrt float32", "accuracy": 0.8}]}  # fmt: skip
    (f,) = gate.less_accurate(Run(name="", started="", labels=labels), LIMITS)
    assert (f.system, f.backend, f.runtime, f.precision) == ("kws", "exec:python f.py -x", "onnxrt", "float32")


def test_each_run_is_a_point_of_the_history(local: Replayed, golden: Path) -> None:
    for _ in range(3):
        run, _ = gated(local, golden)
    pairs = {(h["backend"], h["runtime"], h["precision"]): h["points"] for h in run.gate["history"]}
    assert set(pairs) == {("", "onnxrt", "float32"), ("numpy", "", ""), ("numpy", "onnxrt", "float32")}
    for points in pairs.values():
        assert len(points) == 3
        assert len({p["run"] for p in points}) == 3
        assert points[-1]["run"] == run.name
        assert len({(p["ratio"], p["fingerprint"]) for p in points}) == 1
        assert {p["outcome"] for p in points} == {"pass"}
    worst = max(s.worst.ratio or 0.0 for s in run.summaries if s.path == "features")
    assert pairs["numpy", "", ""][-1]["ratio"] == worst


def test_a_damaged_history_or_baseline_is_told_before_any_work(local: Replayed, golden: Path) -> None:
    path = accepted(local, golden)
    reports = golden.parent / "reports"
    before = rig.left_over(reports)
    path.write_text(path.read_text(encoding="utf-8")[:100], encoding="utf-8")
    with pytest.raises(GoldenError, match="is not a baseline"):
        gated(local, golden)
    (reports / history.FILE).write_text("not a database, but a text of more than sixteen characters")
    with pytest.raises(ConfigError, match="can't be used"):
        gated(local, golden)
    assert rig.left_over(reports) == before


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "failed": ({"backends": ("faulty.backends:SlaneyScale",)}, "something failed in it"),
    "asked": ({"precisions": ("float32", "int3")}, "not everything that was asked for"),
}


@pytest.mark.parametrize("why", FAULTS)
def test_what_cannot_be_a_baseline_is_refused(local: Replayed, golden: Path, why: str) -> None:
    more, words = FAULTS[why]
    run, folder = gated(local, golden, **more)
    with pytest.raises(NotAccepted, match=words) as e:
        acceptance.refuse(run, folder)
    assert e.value.exit_code == 1


def test_clips_without_goldens_are_held_to_no_baseline_and_make_none(local: Replayed, golden: Path) -> None:
    rig.wav(golden.parent / "speech" / "yes" / "a.wav")
    run, folder = gated(local, golden, audio=golden.parent / "speech", labels_from_folders=True)
    assert (run.exit_code, run.gate["verdict"], run.gate["findings"], run.gate["baselines"]) == (0, "pass", [], [])
    assert [p["accuracy"] for p in run.labels["pairs"]] == [1.0]
    with pytest.raises(NotAccepted, match="clips without goldens"):
        acceptance.refuse(run, folder)


def test_runs_of_another_kind_are_refused(local: Replayed, golden: Path) -> None:
    run, folder = gated(local, golden)
    acceptance.refuse(run, folder)
    for fields, words in (
        ({"streaming": {"times": [{}]}}, "of a stream"), ({"examples": [{"failed": False}]}, "drawn clips"),
        ({"recheck": {"of": "x"}}, "nothing was run"),
        ({"environment": {"plugins": {"recorded": {"sha256": "ab"}}}}, "of a dump"),
    ):  # fmt: skip
        with pytest.raises(NotAccepted, match=words):
            acceptance.refuse(msgspec.structs.replace(run, **fields), folder)


# ---- as typed ----


@pytest.fixture
def typed(local: Replayed, golden: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """`parity ...` in this process, on these workers."""
    monkeypatch.setattr(commands, "opened_targets", lambda _: contextlib.nullcontext([local]))
    monkeypatch.chdir(golden.parent)
    some = ["--system", str(rig.SYSTEM), "--backend", "numpy", "--runtime", "onnxrt", "--precision", "float32"]

    def parity(command: str, *arguments: str) -> tuple[int, str]:
        of = [command, *(some if command == "gate" else []), "--golden", str(golden), *arguments]
        done = CliRunner().invoke(cli, of, standalone_mode=False)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            return getattr(done.exception, "exit_code", 70), f"{done.output}{done.exception}"
        return done.exit_code, done.output

    return parity


def test_the_commands_say_what_they_found(
    typed: Callable[..., tuple[int, str]], local: Replayed, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = typed("gate", "--require-baseline")
    assert code == 2
    assert said.startswith("INCOMPLETE: within bounds, but a baseline of this environment is required")
    code, said = typed("accept", "--reason", " ")
    assert (code, "a baseline needs a reason" in said) == (3, True)
    code, said = typed("accept", "--reason", "the first")
    assert code == 0, said
    assert said.splitlines()[0].startswith("commands-cnn: the first baseline of this environment")
    code, said = typed("gate", "--require-baseline")
    assert code == 0, said
    assert "PASS: everything compared is within bounds, and nothing drifted from the accepted baseline" in said
    grown = Grown(local, 1.5, golden, [rig.SYSTEM])
    monkeypatch.setattr(commands, "opened_targets", lambda _: contextlib.nullcontext([grown]))
    code, said = typed("gate")
    assert code == 1
    assert said.startswith("FAIL: 20 taps drifted from the accepted baseline")
    assert "\nif it is right as it is: parity accept reports/" in said
    assert "Drift: within bounds, but further than accepted" in said
    assert "commands-cnn · numpy · features/windowed: error over bound grew" in said
    Path("parity.toml").write_text("[gate]\ndrift_factor = 100\n")
    code, said = typed("gate")
    assert (code, "nothing drifted" in said) == (0, True)
    Path("parity.toml").unlink()
    assert typed("gate")[0] == 1
    code, said = typed("accept", "--reason", "another FFT")
    assert (code, "  error over bound grew at " in said) == (0, True)
    code, said = typed("accept", "--reason", "a\udcff \x1b[31mreason")
    assert code == 0, said
    assert r'"a\\udcff \\x1b[31mreason"' in next((golden / "baselines").rglob("*.json")).read_text(encoding="utf-8")
    (golden.parent / "reports" / "zzz").mkdir()
    (golden.parent / "reports" / "zzz" / "run.json").write_text('{"format": 9}')
    code, said = typed("accept", "--reason", "x")
    assert (code, "zzz has format 9, this parity reads 1" in said) == (3, True)
    Path("parity.toml").write_text("[gate]\ndrift = 2\n")
    code, said = typed("gate")
    assert (code, "unknown key 'gate.drift'" in said) == (3, True)


def test_the_whole_command_in_processes_of_its_own(golden: Path) -> None:
    reports = golden.parent / "reports"
    some = ["--system", rig.SYSTEM, "--backend", "numpy", "--runtime", "onnxrt", "--precision", "float32"]
    done = rig.parity("gate", *some, "--golden", golden, "--report", reports)
    assert done.returncode == 0, done.stderr
    (folder,) = [name for name in rig.left_over(reports) if name != history.FILE]
    done = rig.parity("accept", reports / folder, "--reason", "measured")
    assert done.returncode == 0, done.stderr
    assert f"accepted: {golden / 'baselines' / 'commands-cnn'}" in done.stdout
    rig.refused(rig.parity("accept", reports / folder), 3, "--reason")
