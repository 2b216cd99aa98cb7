"""Whole runs in this process: what is compared, what is listed, what is written, and the exit code."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from parity import load_run, pipeline, registry
from parity.errors import ConfigError, GoldenError, NothingCompared
from parity.plan import Selection
from parity.records import Run, Skipped, TapSummary, Verdict, read_run, read_verdicts
from parity.report import html
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole commands and worker processes


def selected(golden: Path, **more: Any) -> Selection:
    wanted: dict[str, Any] = {"systems": (str(rig.SYSTEM),), "backends": ("numpy",), "runtimes": ("onnxrt",)}
    return Selection(**(wanted | {"golden": golden} | more))


def test_a_run_folder_holds_what_was_judged(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    done, folder = pipeline.run(selected(golden), local, tmp_path, "parity run")
    assert done.exit_code == 0
    assert rig.left_over(tmp_path) == [folder.name]
    assert {"run.json", "verdicts.jsonl", "index.html", "junit.xml"} <= set(rig.left_over(folder))
    again = read_run(folder)
    assert msgspec.to_builtins(again) == msgspec.to_builtins(done)
    verdicts = list(read_verdicts(folder))
    assert sum(sum(s.counts.values()) for s in done.summaries) == len(verdicts)
    assert {v.clip for v in verdicts} == set(rig.CLIPS)
    taps = done.systems["commands-cnn"]["taps"]
    assert {v.tap for v in verdicts} == set(taps)
    paths = {(v.path, v.backend, v.runtime) for v in verdicts}
    assert paths == {
        ("features", "numpy", ""), ("isolated", "", "onnxrt"), ("deployment", "", "onnxrt"),
        ("cumulative", "numpy", "onnxrt"),
    }  # fmt: skip


def test_every_numeric_verdict_says_by_which_rule_and_where(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    _, folder = pipeline.run(selected(golden), local, tmp_path)
    for v in read_verdicts(folder):
        if v.tap != "decision/label":  # of integers a margin may be declared
            assert v.rule == "derived" or v.path == "deployment"
        if v.tap in ("features/spectrum", "features/compressed"):
            assert v.frame is not None
            assert v.frequency is not None
            assert 0 <= v.frequency <= 8000


def test_two_runs_give_the_same_verdicts(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    _, one = pipeline.run(selected(golden), local, tmp_path)
    with rig.target(jobs=1) as others:
        _, two = pipeline.run(selected(golden), others, tmp_path)
    assert (one / "verdicts.jsonl").read_bytes() == (two / "verdicts.jsonl").read_bytes()
    assert one.name != two.name  # though they may have begun in the same second


def test_a_run_writes_nothing_but_its_folder(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    def state(of: Path) -> dict[str, tuple[int, int]]:
        return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(of.rglob("*")) if p.is_file()}

    before = state(golden), state(rig.SYSTEM)
    pipeline.run(selected(golden), local, tmp_path)
    assert (state(golden), state(rig.SYSTEM)) == before


def test_load_run_is_a_table_of_verdicts(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    _, folder = pipeline.run(selected(golden), local, tmp_path)
    table = load_run(folder)
    assert list(table.columns) == [f.name for f in msgspec.structs.fields(Verdict)]
    assert len(table) == len((folder / "verdicts.jsonl").read_text().splitlines())
    assert set(table["outcome"]) == {"pass"}
    assert table["ratio"].max() < 1
    assert list(load_run(str(folder))["tap"]) == list(table["tap"])


def test_arrays_of_what_failed_are_kept_and_say_whose_they_are(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    import numpy as np

    backend = "faulty.backends:SlaneyScale"
    _, folder = pipeline.run(selected(golden, backends=(backend,)), local, tmp_path)
    kept = {}
    for path in (folder / "arrays").glob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            kept[str(arrays["what"])] = {k: arrays[k] for k in arrays.files}
    what = f"commands-cnn|{backend}|||local|features|features/filterbank|{rig.CLIPS[0]}"
    assert what in kept
    found = kept[what]
    assert ((found["candidate"] < found["lo"]) | (found["candidate"] > found["hi"])).any()
    assert ((found["lo"] <= found["golden"]) & (found["golden"] <= found["hi"])).all()


def test_all_that_is_installed_agrees_with_the_goldens(golden: Path, tmp_path: Path) -> None:
    with rig.target(120.0) as local:
        done, _ = pipeline.run(Selection(systems=(str(rig.SYSTEM),), golden=golden), local, tmp_path)
    assert rig.failing(done) == []
    assert done.exit_code == 0
    pairs = {(s.backend, s.runtime) for s in done.summaries if s.path == "cumulative"}
    backends = ("numpy", "librosa", "tf_signal", "torch")
    runtimes = ("torch", "torchscript", "torch-export", "torch-int8", "onnxrt", "tflite", "tflm")
    assert pairs == {(b, r) for b in backends for r in runtimes}


def test_more_clips_than_a_job_holds(local: LocalTarget, tmp_path: Path) -> None:
    names = sorted(p.name for p in (rig.ROOT / "golden" / "clips").glob("*.flac"))
    assert len(names) > 16
    root = rig.goldens(tmp_path / "golden", names)
    steps: list[tuple[str, int, int]] = []
    done, folder = pipeline.run(selected(root), local, tmp_path / "reports", "", lambda *step: steps.append(step))
    assert done.exit_code == 0
    assert {v.clip for v in read_verdicts(folder)} == set(names)
    assert steps[-1][1:] == (len(names), len(names))


def test_clips_without_goldens_are_judged_by_the_oracle(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    for word in ("yes-en-us-f2", "silence"):
        rig.wav(tmp_path / "wavs" / f"{word}.wav", rig.clip(word))
    live = selected(golden, audio=tmp_path / "wavs")
    done, folder = pipeline.run(live, local, tmp_path / "reports")
    assert done.exit_code == 0
    assert done.source == "oracle"
    assert {v.clip for v in read_verdicts(folder)} == {"yes-en-us-f2.wav", "silence.wav"}
    assert "torch:dtype=float64" in str(done.systems["commands-cnn"]["anchor"])
    spoilt, _ = pipeline.run(
        selected(golden, audio=tmp_path / "wavs", backends=("faulty.backends:SymmetricHann",)),
        local,
        tmp_path / "reports",
    )
    assert spoilt.exit_code == 1
    assert rig.failing(spoilt)[0] == ("features/windowed", "fail")


def test_the_runtime_that_judges_live_clips_is_not_judged_by_itself(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = rig.system(tmp_path / "system")  # torch, which system.toml names, isn't built: onnxrt judges
    live = selected(golden, systems=(str(folder),), audio=rig.wav(tmp_path / "yes.wav"))
    done, _ = pipeline.run(live, local, tmp_path / "reports")
    outcomes = {(s.path, s.tap): set(s.counts) for s in done.summaries}
    assert outcomes["isolated", "model/logits"] == outcomes["isolated", "model/relu1"] == {"unavailable"}
    assert ("isolated", "decision/label") not in outcomes
    assert outcomes["cumulative", "model/logits"] == outcomes["cumulative", "decision/label"] == {"pass"}
    assert done.exit_code == 0


def test_layers_of_live_clips_are_compared_for_a_few_only(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    for word in ("yes-en-us-f2", "no-en-gb-m3"):
        rig.wav(tmp_path / "wavs" / f"{word}.wav", rig.clip(word))
    done, _ = pipeline.run(selected(golden, audio=tmp_path / "wavs", layers=1), local, tmp_path / "reports")
    counts = {s.tap: sum(s.counts.values()) for s in done.summaries if s.path == "isolated"}
    assert counts["model/relu1"] == 1
    assert counts["model/logits"] == 2


def test_a_pair_that_was_asked_for_and_is_unsupported_ends_in_2(
    local: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = rig.system(tmp_path / "reference_models" / "scaled", ("rate = 16000", 'rate = 16000\nscale = "int16"'))
    rig.wav(tmp_path / "wavs" / "yes.wav")
    (tmp_path / "tolerances.toml").write_text(
        '[[tolerance]]\ntap = "model/*"\nof_rms = 2e-3\nwhy = "not what is tested here"\n', encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    common: dict[str, Any] = {"audio": Path("wavs"), "backends": ("numpy", "librosa"), "golden": tmp_path}
    asked = pipeline.run(selected(**common, systems=(str(folder),)), local, tmp_path / "reports")[0]
    assert asked.exit_code == 2
    assert [(s.backend, s.reason, s.asked) for s in asked.skipped if s.backend] == [
        ("librosa", "librosa has no int16 input scale", True)
    ]
    nowhere = pipeline.run(selected(**common, systems=()), local, tmp_path / "reports")[0]
    assert nowhere.exit_code == 2, "it was named, and compared nowhere"
    with pytest.raises(NothingCompared, match="librosa has no int16 input scale"):
        pipeline.run(selected(**(common | {"backends": ("librosa",)}), systems=()), local, tmp_path / "reports")
    rig.system(tmp_path / "reference_models" / "plain", ('name = "commands-cnn"', 'name = "plain"'))
    expanded = pipeline.run(selected(**common, systems=()), local, tmp_path / "reports")[0]
    assert expanded.exit_code == 0
    assert [(s.backend, s.asked) for s in expanded.skipped if s.backend] == [("librosa", False)]


def test_a_precision_that_no_model_has_ends_in_2_beside_one_that_does(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    done, _ = pipeline.run(selected(golden, precisions=("float32", "int4")), local, tmp_path)
    assert rig.failing(done) == []
    assert [(s.precision, s.asked) for s in done.skipped] == [("int4", True)]
    assert done.exit_code == 2


def test_a_second_file_of_one_precision_ends_in_2(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system", formats=("onnx", "tflite"))
    reads_all = "faulty.at_work:ReadsAll"
    done, _ = pipeline.run(selected(golden, systems=(str(folder),), runtimes=(reads_all,)), local, tmp_path)
    assert rig.failing(done) == []
    assert [s.reason for s in done.skipped if s.asked] == [
        f"{reads_all} already runs the onnx file in float32, so not tflite"
    ]
    assert done.exit_code == 2


BROKEN = {
    "raises on import": ("raise OSError('the driver is too old')", "the driver is too old"),
    "needs what isn't there": ("import no_such_library", "No module named 'no_such_library'"),
    "raises when made": (
        "class Plugin:\n    def __init__(self):\n        raise RuntimeError('no license')\n", "no license"
    ),
}  # fmt: skip


@pytest.fixture
def broken(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """numpy, onnxrt and a plugin called `broken` are all that is installed; what the last one says of itself."""
    source, said = BROKEN[request.param]
    site = tmp_path / "site"
    about = site / "broken_plugin-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "broken_plugin.py").write_text(source)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    points = (f"[parity.{kind}s]\nbroken = broken_plugin:Plugin\n" for kind in ("backend", "runtime"))
    (about / "entry_points.txt").write_text("".join(points))
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)  # for the workers
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(registry, "_BUILTIN", [p for p in registry._BUILTIN if p.name in ("numpy", "onnxrt")])
    return said


@pytest.mark.parametrize("broken", BROKEN, indirect=True)
@pytest.mark.parametrize("kind", ["backend", "runtime"])
def test_a_broken_plugin_that_was_not_named_is_skipped_and_the_run_goes_on(
    kind: str, broken: str, golden: Path, tmp_path: Path
) -> None:
    with rig.target() as others:
        done, _ = pipeline.run(selected(golden, **{f"{kind}s": ()}), others, tmp_path / "reports")
        assert done.exit_code == 0
        assert {(s.backend, s.runtime) for s in done.summaries if s.path == "cumulative"} == {("numpy", "onnxrt")}
        (skipped,) = done.skipped
        assert (skipped.backend or skipped.runtime, skipped.asked) == ("broken", False)
        assert broken in skipped.reason
        both = {f"{kind}s": ("broken", "numpy" if kind == "backend" else "onnxrt")}
        with pytest.raises(ConfigError, match="'broken' can't be") as error:
            pipeline.run(selected(golden, **both), others, tmp_path / "reports")
        assert broken in error.value.message


def test_a_tap_that_the_judge_does_not_map_is_listed(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    line = '"model/relu3" = { name = "/relu3/Relu_output_0", layout = "NCTF" }\n'
    folder = rig.system(tmp_path / "system", (line, ""))
    rig.wav(tmp_path / "wavs" / "yes.wav")
    done, _ = pipeline.run(
        selected(golden, systems=(str(folder),), audio=tmp_path / "wavs"), local, tmp_path / "reports"
    )
    assert "onnxrt, which judges, maps no model/relu3" in [s.reason for s in done.skipped]


def test_a_file_that_is_not_built_was_asked_for_where_the_system_was_named(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    folder = rig.system(tmp_path / "system")
    done, _ = pipeline.run(selected(golden, systems=(str(folder),), runtimes=()), local, tmp_path / "reports")
    assert done.exit_code == 2
    assert [s.asked for s in done.skipped if "isn't there" in s.reason] == [True] * 4


def test_a_folder_of_goldens_is_held_to_the_systems_it_holds(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    done, _ = pipeline.run(selected(golden, systems=()), local, tmp_path / "reports")
    assert done.exit_code == 0
    assert list(done.systems) == ["commands-cnn"]
    assert ("mfcc-lstm", f"no goldens of it in {golden}", False) in [
        (s.system, s.reason, s.asked) for s in done.skipped
    ]
    with pytest.raises(GoldenError, match="no goldens of mfcc-lstm"):
        pipeline.run(selected(golden, systems=("commands-cnn", "mfcc-lstm")), local, tmp_path / "reports")


def test_what_is_not_built_is_listed(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system")
    done, _ = pipeline.run(selected(golden, systems=(str(folder),)), local, tmp_path / "reports")
    assert done.exit_code == 0
    assert sorted(s.reason for s in done.skipped) == [
        f"{what} float32: {folder / file} isn't there"
        for what, file in (("tflite", "commands-cnn.tflite"), ("torch", "weights.safetensors"),
                           ("torch-export", "commands-cnn.pt2"), ("torchscript", "commands-cnn.pt"))
    ]  # fmt: skip


def test_a_system_named_twice_is_run_once_and_two_of_one_name_are_refused(
    local: LocalTarget, golden: Path, tmp_path: Path
) -> None:
    twice = (str(rig.SYSTEM), str(rig.SYSTEM / "system.toml"))
    done, _ = pipeline.run(selected(golden, systems=twice), local, tmp_path / "reports")
    assert sum(sum(s.counts.values()) for s in done.summaries if s.tap == "features/audio") == len(rig.CLIPS)
    twin = rig.system(tmp_path / "twin")
    with pytest.raises(ConfigError, match="two systems are called 'commands-cnn'"):
        pipeline.run(selected(golden, systems=(str(rig.SYSTEM), str(twin))), local, tmp_path / "reports")


def test_nothing_selected_is_not_a_pass(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingCompared, match="no precision int4 in commands-cnn"):
        pipeline.run(selected(golden, precisions=("int4",)), local, tmp_path / "reports")
    with pytest.raises(GoldenError, match="no goldens of commands-cnn"):
        pipeline.run(selected(tmp_path), local, tmp_path / "reports")
    assert not (tmp_path / "reports").exists()


def test_a_model_that_does_not_fit_the_features_is_named(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    folder = rig.system(
        tmp_path / "system", ("length = 16032", "length = 16000"), ("shape = [98, 50] ", "shape = [97, 50] ")
    )
    rig.wav(tmp_path / "wavs" / "yes.wav")
    with pytest.raises(ConfigError, match=r"takes 98 frames; this clip gives 97"):
        pipeline.run(selected(golden, systems=(str(folder),), audio=tmp_path / "wavs"), local, tmp_path / "reports")
    assert rig.left_over(tmp_path / "reports") == []


@pytest.mark.parametrize("size", [0, 100, 400_000])
def test_a_cut_model_file_is_a_configuration_error(size: int, local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    folder = rig.system(tmp_path / "system")
    model = folder / "commands-cnn.onnx"
    model.write_bytes(model.read_bytes()[: min(size, model.stat().st_size - 1)])
    with pytest.raises(ConfigError, match=r"ONNX Runtime can't load .*commands-cnn.onnx"):
        pipeline.run(selected(golden, systems=(str(folder),)), local, tmp_path / "reports")
    assert rig.left_over(tmp_path / "reports") == []


def test_a_report_that_fails_leaves_nothing(
    local: LocalTarget, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no such template")

    monkeypatch.setattr(html, "write", broken)
    with pytest.raises(RuntimeError, match="no such template"):
        pipeline.run(selected(golden), local, tmp_path / "reports")
    assert rig.left_over(tmp_path / "reports") == []


def made(*outcomes: str, **more: Any) -> Run:
    def summary(outcome: Any) -> TapSummary:
        what: dict[str, Any] = {
            "system": "s",
            "backend": "b",
            "runtime": "",
            "precision": "",
            "target": "local",
            "path": "features",
        }
        worst = Verdict(**what, tap="features/audio", clip="c", outcome=outcome)
        return TapSummary(**what, tap="features/audio", counts={outcome: 1}, near_ties=0, worst=worst)

    return Run(name="r", started="", summaries=[summary(o) for o in outcomes], **more)


ASKED, EXPANDED = (Skipped(system="s", reason="r", asked=asked) for asked in (True, False))


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (made("pass"), 0),
        (made("gap"), 0),
        (made("pass", "unavailable"), 0),
        (made("pass", skipped=[EXPANDED]), 0),
        (made("pass", "fail"), 1),
        (made("pass", "missing"), 1),
        (made("pass", "error"), 1),
        (made("pass", gaps={"unmet": ["g"]}), 1),
        (made("pass", examples=[{"failed": True}]), 1),
        (made("pass", examples=[{"failed": False}]), 0),
        (made("fail", skipped=[ASKED]), 1),
        (made("pass", skipped=[ASKED]), 2),
        (made(), 2),
        (made("unavailable"), 2),
        (made("unsupported"), 2),
    ],
)
def test_exit_codes(run: Run, code: int) -> None:
    assert pipeline.exit_code(run) == code


def test_a_run_is_json_and_nothing_else(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    _, folder = pipeline.run(selected(golden), local, tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads((folder / "run.json").read_text(encoding="utf-8"), parse_constant=refuse)
    for line in (folder / "verdicts.jsonl").read_text(encoding="utf-8").splitlines():
        json.loads(line, parse_constant=refuse)


def test_a_tap_that_no_golden_holds_is_listed(local: LocalTarget, golden: Path, tmp_path: Path) -> None:
    root = tmp_path / "golden"
    shutil.copytree(golden, root)
    path = root / "commands-cnn" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for entry in manifest["clips"]:
        entry["model"]["arrays"].pop("model/relu3", None)
    path.write_text(json.dumps(manifest), encoding="utf-8")
    run, _ = pipeline.run(selected(root), local, tmp_path)
    assert [s.reason for s in run.skipped if "relu3" in s.reason] == ["no golden holds model/relu3"]
