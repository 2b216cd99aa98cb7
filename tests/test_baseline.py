"""Baselines on disk: what is written, what is read back, what is refused, and what accepting again keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from parity import baseline
from parity.baseline import Accepted, Baseline, Row
from parity.errors import ConfigError, GoldenError
from tests.report import made
from tests.test_standing import CLIPS, ROWS, row
from tests.test_standing import made as measured


def written(folder: Path) -> tuple[Path, Baseline]:
    of = measured()
    return baseline.write(folder, of), of


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path, of = written(tmp_path)
    assert path == tmp_path / "baselines" / "commands-cnn" / f"{of.fingerprint}.json"
    (again,) = baseline.read_all(tmp_path, "commands-cnn")
    assert again.by_key() == of.by_key()
    assert (again.clips, again.models, again.times, again.accepted) == (of.clips, of.models, of.times, of.accepted)
    assert baseline.text(again) == path.read_text(encoding="utf-8")


def test_it_is_sorted_and_has_a_row_a_line(tmp_path: Path) -> None:
    path, of = written(tmp_path)
    shuffled = msgspec.structs.replace(of, rows=of.rows[::-1], models=of.models[::-1])
    assert baseline.text(shuffled) == path.read_text(encoding="utf-8")
    line = '  ["librosa", "onnxrt", "float32", "local", "cumulative", "model/logits", 0.4, 0, "3 clips"],'
    assert path.read_text(encoding="utf-8").splitlines().count(line) == 1
    worse = msgspec.structs.replace(of, rows=[*of.rows[1:], row("librosa", "features/spectrum", 0.6)])
    old, new = baseline.text(of).splitlines(), baseline.text(worse).splitlines()
    assert sum(a != b for a, b in zip(old, new, strict=True)) == 1


SPOILT: dict[str, Callable[[str], str]] = {
    "half": lambda text: text[: len(text) // 2],
    "a list": lambda _: "[]",
    "empty": lambda _: "",
    "another format": lambda text: text.replace('"format": 1', '"format": 2'),
    "another environment": lambda text: text.replace("3.11.7", "3.12.0"),
    "another system": lambda text: text.replace('"system": "commands-cnn"', '"system": "other"'),
    "a set that isn't there": lambda text: text.replace(', "3 clips"]', ', "4 clips"]'),
    "not UTF-8": lambda text: text.replace("commands-cnn", "\udcff"),
    "no machine": lambda text: text.replace('"machine"', '"engine"'),
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_no_baseline_is_refused_with_its_path(tmp_path: Path, how: str) -> None:
    path, _ = written(tmp_path)
    text = path.read_text(encoding="utf-8")
    path.write_text(SPOILT[how](text), encoding="utf-8", errors="surrogateescape")
    assert path.read_bytes() != text.encode()
    with pytest.raises(GoldenError) as e:
        baseline.read_all(tmp_path, "commands-cnn")
    assert str(path) in e.value.message
    assert e.value.hint is not None
    assert "git checkout" in e.value.hint


def test_an_environment_that_lacks_what_is_compared_is_refused(tmp_path: Path) -> None:
    _, of = written(tmp_path)
    path = baseline.write(tmp_path, msgspec.structs.replace(of, environment={"python": "3.11.7"}))
    with pytest.raises(GoldenError, match="is not a baseline"):
        baseline.read(path)


def test_another_format_is_named(tmp_path: Path) -> None:
    path = baseline.folder_of(tmp_path, "commands-cnn") / "0.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"format": 2, "else": []}')
    with pytest.raises(GoldenError, match="has format 2, this parity reads 1"):
        baseline.read_all(tmp_path, "commands-cnn")


def test_what_cannot_be_read_or_written_is_not_nothing(tmp_path: Path) -> None:
    assert (baseline.systems(tmp_path), baseline.read_all(tmp_path, "commands-cnn")) == ([], [])
    _, of = written(tmp_path / "whole")
    assert baseline.systems(tmp_path / "whole") == ["commands-cnn"]
    (tmp_path / baseline.FOLDER).write_text("a file")
    for look in (lambda: baseline.read_all(tmp_path, "commands-cnn"), lambda: baseline.systems(tmp_path)):
        with pytest.raises(GoldenError, match="can't be read"):
            look()
    with pytest.raises(ConfigError, match="can't be written"):
        baseline.write(tmp_path, of)


def test_a_folder_that_lost_verdicts_is_not_whole(tmp_path: Path) -> None:
    run = made.run(made.verdict("pass", "decision/label"), made.verdict("unavailable", "features/frames"))
    lines = [msgspec.json.encode(s.worst) + b"\n" for s in run.summaries]
    for s in run.summaries:
        s.counts = {s.worst.outcome: 1}
    (tmp_path / "verdicts.jsonl").write_bytes(b"".join(lines))
    baseline.whole(run, tmp_path)
    for spoilt, said in (([], "aren't those that its run.json counts"), ([b"{"], "can't be read"), (None, "can't be")):
        (tmp_path / "verdicts.jsonl").unlink()
        if spoilt is not None:
            (tmp_path / "verdicts.jsonl").write_bytes(b"".join(spoilt))
        else:
            (tmp_path / "verdicts.jsonl").mkdir()
        with pytest.raises(ConfigError, match=said):
            baseline.whole(run, tmp_path)


def test_a_run_is_taken_with_the_clips_that_each_tap_was_compared_on(tmp_path: Path) -> None:
    run = made.run(
        *made.whole("librosa"), made.verdict("unavailable", "features/spectrum", backend="numpy"),
        made.verdict("pass", "features/filterbank", backend="numpy", ratio=1 / 3),
    )  # fmt: skip
    run.systems["commands-cnn"]["artifacts"] = [{"format": "onnx", "precision": "int8", "file": "m", "bytes": 7}]
    run.environment |= {"numpy": "2.4.6", "os": "Linux"}
    run.environment["plugins"] |= {"numpy": {"numpy": "2.4.6"}, "tflite": {"ai-edge-litert": "2"}}
    run.timings = [
        {"stage": "features", "plugin": "librosa", "system": "commands-cnn", "frame_ms": 0.123},
        {"stage": "judge", "plugin": "", "system": "commands-cnn"},
    ]
    with (tmp_path / "verdicts.jsonl").open("wb") as lines:
        for s in run.summaries:
            for clip in ("b", "a") if s.tap != "model/relu1" else ("b",):
                lines.write(msgspec.json.encode(msgspec.structs.replace(s.worst, clip=clip)) + b"\n")
    ((target, of),) = baseline.taken(run, tmp_path)
    assert (target, of.system) == ("local", "commands-cnn")
    assert of.clips == {"1 clip": ["b"], "2 clips": ["a", "b"]}
    rows = {(r.backend, r.path, r.tap): r for r in of.rows}
    assert ("numpy", "features", "features/spectrum") not in rows  # it wasn't compared
    assert rows["numpy", "features", "features/filterbank"].ratio == 0.3333
    assert rows["librosa", "cumulative", "model/relu1"].clips == "1 clip"
    assert of.rows == sorted(of.rows, key=lambda r: r.key)
    assert [list(msgspec.to_builtins(m)) for m in of.models] == [["onnx", "int8", "m", 7]]
    assert [t.milliseconds for t in of.times] == [0.12]
    assert set(of.environment["plugins"]) == {"librosa", "numpy", "onnxrt"}  # tflite had no part in it


def test_labels_that_differ_are_counted_at_the_label(tmp_path: Path) -> None:
    run = made.run(made.verdict("pass", "decision/label"), made.verdict("pass", "decision/margin"))
    run.environment |= {"numpy": "2.4.6", "os": "Linux"}
    run.systems["commands-cnn"]["artifacts"] = []
    run.summaries[0].near_ties, run.summaries[0].counts = 2, {"pass": 17, "gap": 1}
    run.summaries[1].counts = {"pass": 17, "gap": 1}
    verdicts = [msgspec.json.encode(s.worst) for s in run.summaries]
    (tmp_path / "verdicts.jsonl").write_bytes(b"\n".join(verdicts))
    ((_, of),) = baseline.taken(run, tmp_path)
    assert {r.tap: r.others for r in of.rows} == {"decision/label": 3, "decision/margin": 0}


# ---- accepting again ----

OUTSIDE = row("tflite-features", "features/spectrum", 0.2, clips="1 clip")


def again(old: Baseline, new: Baseline, *outside: Row, afresh: bool = False) -> Baseline:
    return baseline.joined([old], new, [(old, r) for r in outside], afresh)


def test_the_worst_that_was_accepted_stays_unless_it_is_forgotten() -> None:
    old = measured(row("numpy", "features/spectrum", 0.5, others=2), row("numpy", "model/logits", 0.1))
    new = measured(row("numpy", "features/spectrum", 0.4, others=1), row("numpy", "model/logits", 0.3))
    assert [(r.ratio, r.others) for r in again(old, new).rows] == [(0.5, 2), (0.3, 0)]
    assert [(r.ratio, r.others) for r in again(old, new, afresh=True).rows] == [(0.4, 1), (0.3, 0)]


def test_what_was_not_asked_for_stays_with_its_plugins_and_clips() -> None:
    plugins = {"numpy": {}, "tflite-features": {"x": "1"}, "librosa": {"librosa": "0.11.0"}}
    old = measured(*ROWS, OUTSIDE, environment=measured().environment | {"plugins": plugins})
    few = {"plugins": {"numpy": {}, "onnxrt": {"onnxruntime": "1.31.1"}}}
    new = measured(
        row("numpy", "features/spectrum", clips="2 clips"), clips={"2 clips": ["a.wav", "z.wav"]},
        environment=measured().environment | few,
    )  # fmt: skip
    kept = again(old, new, OUTSIDE)
    assert sorted(kept.environment["plugins"]) == ["librosa", "numpy", "onnxrt", "tflite-features"]
    clips = {r.backend: sorted(kept.clips_of(r)) for r in kept.rows}
    assert clips == {"numpy": ["a.wav", "z.wav"], "tflite-features": ["b.wav"]}
    assert kept.clips == {"1 clip": ["b.wav"], "2 clips": ["a.wav", "z.wav"]}


def test_sets_of_clips_of_one_size_have_names_of_their_own() -> None:
    new = measured(
        row("a", "features/spectrum", clips="x"), row("b", "features/spectrum", clips="y"),
        clips={"x": ["1", "2"], "y": ["1", "3"]},
    )  # fmt: skip
    assert again(measured(), new).clips == {"2 clips": ["1", "2"], "2 clips (2)": ["1", "3"]}


def test_reasons_add_up() -> None:
    old = measured(accepted=[Accepted("2026-01-02", "a", "first"), Accepted("2026-02-02", "b", "second")])
    assert [a.reason for a in again(old, measured(accepted=[])).accepted] == ["first", "second"]


def test_it_is_small(tmp_path: Path) -> None:
    many = measured(*[row(f"backend{i}", f"model/relu{j}") for i in range(10) for j in range(100)])
    assert len(baseline.text(many)) < 100 * 1000
    assert json.loads(baseline.text(many))["clips"] == CLIPS
