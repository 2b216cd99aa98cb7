"""What a page is made of: rows, spreads over clips, pictures, causes, and what changed between two runs."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from parity import records
from parity.errors import ConfigError
from parity.localize import first_failures, pairs
from parity.records import Recorder, Run, TapSummary, read_run
from parity.report import causes, compared, device, figures, html, inline, rows, tallies

from .large import known, large
from .made import hostile, mixed, run, verdict, whole
from .test_html import Page

LINK = "row-commands-cnn~librosa~onnxrt~float32~local"


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of 6 clips on 2 backends and a runtime: one backend fails at the spectrum on every second clip."""
    return large(tmp_path_factory.mktemp("failing"), clips=6, backends=2, runtimes=1, failing=True)


def unpacked(page: str) -> dict[str, Any]:
    """The figures of a page."""
    text = page.split('id="figures">')[1].split("<")[0]
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(text)))
    return found


def numbers(text: str, dtype: str = "<f4") -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(text), dtype)


# --- Rows ---


def test_a_rows_link_is_the_same_in_every_run_and_never_anothers() -> None:
    assert rows.row_id("commands-cnn", "librosa", "onnxrt", "float32", "local") == LINK
    odd = rows.row_id("a b", "librosa", "", "", "local")
    assert odd.startswith("row-a-b~librosa~~~local-")
    assert odd != rows.row_id("a-b", "librosa", "", "", "local")
    assert odd == rows.row_id("a b", "librosa", "", "", "local")


def test_head_room_is_how_often_the_error_fits() -> None:
    of = run(verdict("pass", "features/spectrum", ratio=0.25), verdict("pass", "features/filterbank", ratio=0.4))
    assert [(r.room, r.ratio, r.at) for r in rows.rows(of, pairs(of))] == [
        ("2.5 times", 0.4, "worst at features/filterbank")
    ]
    exact = run(verdict("pass", "features/spectrum", ratio=0.0))
    assert [r.room for r in rows.rows(exact, pairs(exact))] == ["exact"]
    wrong = run(verdict("pass", "features/spectrum", ratio=0.4), verdict("fail", "features/filterbank", ratio=3.0))
    assert [(r.room, r.ratio) for r in rows.rows(wrong, pairs(wrong))] == [("", 3.0)]


def test_a_row_tells_a_flipped_label_beside_its_largest_error() -> None:
    for message, told in (("label flipped: 'a' where the golden says 'b' by 1", "; labels flip"),
                          ("the logits don't fit the labels, or aren't finite", "")):  # fmt: skip
        label = verdict("fail", "decision/label", message=message)
        of = run(verdict("fail", "model/logits", ratio=3.0), label)
        assert [(r.ratio, r.at) for r in rows.rows(of, pairs(of))] == [(3.0, f"worst at model/logits{told}")]


@pytest.mark.parametrize(("said", "again"), [
    ("parity run", "parity run --system commands-cnn --backend librosa --runtime onnxrt --precision float32"),
    ("parity run --system sub/commands-cnn --system=other --backend numpy --audio 'my clips' --jobs 3 -v --layers 2",
     "parity run --system sub/commands-cnn --backend librosa --runtime onnxrt --precision float32 --audio 'my clips' "
     "--layers 2"),
    ("parity gate --golden G --report=R --require-baseline",
     "parity run --system commands-cnn --backend librosa --runtime onnxrt --precision float32 --golden G"),
    ("parity compare --system commands-cnn dump.npz", "parity compare --system commands-cnn dump.npz"),
    ("parity run 'unbalanced", "parity run 'unbalanced"),
])  # fmt: skip
def test_the_command_that_makes_a_row_again(said: str, again: str) -> None:
    of = run(verdict("pass", "model/logits"), command=said)
    assert rows.rows(of, pairs(of))[0].command == again


# --- What verdicts say ---


def test_the_bound_ends_a_bin() -> None:
    spread = tallies.Spread()
    for ratio in (0.0, 1.0, 1.0000001, 1e9, None):
        spread.add(verdict("fail", "features/spectrum", ratio=ratio))
    spread.add(verdict("pass", "features/spectrum", ratio=None))
    assert (spread.count, spread.beyond, spread.unmeasured) == (5, 3, 1)
    assert (spread.bins[0], spread.bins[tallies.BOUND], spread.bins[tallies.BOUND + 1], spread.bins[-1]) == (1, 1, 1, 2)
    assert spread.median == 1.0
    assert html.spread_words(spread) == (
        "5 clips, 2 beyond the bound; smallest 0, median 1, largest 1e9; 1 failed without a number"
    )
    assert html.spread_words(spread, "comparison").startswith("5 comparisons, 2 beyond")


def test_the_spread_of_a_tap_is_that_of_its_verdicts(failing: Path) -> None:
    of = read_run(failing)
    worst = next(v for v in first_failures(of) if v.path == "features")
    read = tallies.read(failing, {tallies.key(worst)})
    told = [v for v in records.read_verdicts(failing) if tallies.key(v) == tallies.key(worst)]
    assert sorted(read.taps[tallies.key(worst)].ratios) == sorted(v.ratio for v in told if v.ratio is not None)
    assert {v.clip for v in read.failing[tallies.key(worst)]} == {"clip-000.wav"}, "those whose arrays were kept"
    every = list(records.read_verdicts(failing))
    assert sum(s.count for s in read.all.values()) == sum(v.ratio is not None for v in every)
    assert read.flipped == sum(v.message.startswith("label flipped") for v in every)


def test_verdicts_that_were_cut_off_are_told(tmp_path: Path) -> None:
    (tmp_path / "verdicts.jsonl").write_text('{"system": "comm', encoding="utf-8")
    with pytest.raises(ConfigError, match="can't be read"):
        html.render(run(verdict("fail", "features/spectrum")), tmp_path)


def test_of_many_flipped_labels_every_pairs_first_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    flip = {"message": "label flipped: 'a' where the golden says 'b' by 1"}
    many = [verdict("fail", "decision/label", clip=f"clip {i}", **flip) for i in range(4)]
    late = verdict("fail", "decision/label", clip="clip 9", backend="torch", **flip)
    monkeypatch.setattr(tallies, "FLIPS", 2)
    monkeypatch.setattr(tallies, "read_verdicts", lambda _: [*many, late])
    read = tallies.read(Path(), ())
    assert (read.flips, read.flipped) == ([*many[:2], late], 5)
    shown = html._flips(run(), None, read)
    assert [f["verdict"] for f in shown] == [many[0], late], "of each pair one before any has two"


# --- Pictures ---


def test_a_picture_has_the_arrays_that_were_kept(failing: Path) -> None:
    of = read_run(failing)
    page = html.render(of, failing)
    drawn = unpacked(page)
    i, v = next((i, v) for i, v in enumerate(first_failures(of)) if v.path == "features")
    picture = drawn[f"picture-{i}"]
    what = "|".join([*records.key_of(v)[:-1], "clip-000.wav"])
    with np.load(records.array_path(failing, what)) as found:
        golden, candidate, lo, hi = (found[k] for k in ("golden", "candidate", "lo", "hi"))
    assert picture["shape"] == [98, 257]
    assert np.array_equal(numbers(picture["golden"], "<f8").reshape(98, 257), golden)
    assert np.array_equal(numbers(picture["candidate"]).reshape(98, 257), candidate)
    ratio = np.abs(candidate - golden) / np.where(candidate > golden, hi - golden, golden - lo)
    assert np.allclose(numbers(picture["ratio"]).reshape(98, 257), ratio, rtol=1e-6)
    assert picture["x"]["values"][:2] == [0.016, 0.026], "seconds: the middle of a frame of 512 at 16 kHz"
    assert picture["y"]["values"][-1] == 8000.0, "Hz"
    assert picture["worst"] == list(v.index or ())
    cut = drawn[f"cut-{i}"]
    assert np.array_equal(numbers(cut["candidate"]), candidate[12])
    assert cut["through"] == "frame 12"
    assert "features/spectrum: time (s) 0.016 to 0.986, frequency (Hz) 0 to 8000" in page


def test_pictures_share_a_budget(failing: Path) -> None:
    of = read_run(failing)
    v = next(v for v in first_failures(of) if v.path == "features")
    read = tallies.read(failing, {tallies.key(v)})
    one = figures.Drawing(of, failing, read).of(v, 0)["picture"]
    assert isinstance(one, dict)
    assert "picture" in figures.Drawing(of, failing, read, budget=one["bytes"]).of(v, 0)
    assert "picture" not in figures.Drawing(of, failing, read, budget=one["bytes"] - 1).of(v, 0)
    assert "picture" not in figures.Drawing(of, failing, read, budget=one["bytes"]).of(v, 1), "another is to come"


def test_a_page_of_8_systems_and_12_clips_on_which_all_fails_is_below_6_mb(tmp_path: Path) -> None:
    folder = large(tmp_path, systems=8, clips=12, backends=4, runtimes=7, failing=True)
    of = read_run(folder)
    text = html.render(of, folder)
    assert len(pairs(of)) == 8 * (4 + 4 * 7)
    assert len(text.encode()) < 6_000_000
    sizes = [f["bytes"] for f in unpacked(text).values() if f["kind"] == "picture"]
    assert len(sizes) > 1
    assert sum(sizes) <= figures.BUDGET


def test_of_a_long_clip_the_part_around_the_worst_is_shown(tmp_path: Path) -> None:
    made = _kept(tmp_path, (1000, 50), (700, 3), "features/compressed")
    of = read_run(made)
    v = first_failures(of)[0]
    picture = figures.Drawing(of, made, tallies.read(made, {tallies.key(v)})).of(v, 0)["picture"]
    assert isinstance(picture, dict)
    assert picture["shape"] == [200, 50]
    assert picture["cut"] == "frames 600 to 799 of 1000"
    assert picture["worst"] == [100, 3]


def test_a_layer_shows_the_channel_of_its_worst_element(tmp_path: Path) -> None:
    made = _kept(tmp_path, (13, 7, 4), (5, 2, 3), "model/relu1")
    of = read_run(made)
    drawn = unpacked(html.render(of, made))
    assert drawn["picture-0"]["title"] == "model/relu1, channel 3"
    assert drawn["picture-0"]["shape"] == [13, 7]
    assert drawn["cut-0"]["through"] == "time step 5, channel 3"


def _kept(folder: Path, shape: tuple[int, ...], index: tuple[int, ...], tap: str) -> Path:
    """A run folder of one failing verdict, with its arrays."""
    recorder = Recorder(folder, "kept")
    golden = np.random.default_rng(0).normal(size=shape)
    candidate = golden.astype(np.float32)
    candidate[index] += 1
    path = "features" if tap.startswith("features/") else "isolated"
    v = verdict("fail", tap, path=path, index=index, frame=None, time=None, band=None)
    recorder.add(v)
    recorder.keep_arrays(v, {"golden": golden, "lo": golden - 0.1, "hi": golden + 0.1, "candidate": candidate})
    return recorder.finish(run(v, systems={"commands-cnn": known()}), [])


def test_a_damaged_array_is_told_in_its_picture_s_place(tmp_path: Path) -> None:
    made = _kept(tmp_path, (98, 50), (5, 2), "features/compressed")
    next((made / "arrays").iterdir()).write_bytes(b"PK\x03\x04 cut off")
    page = Page(html.render(read_run(made), made)).text
    assert "No picture" in page
    assert "can't be read" in page


def test_where_nothing_was_kept_it_says_so() -> None:
    assert "kept" in figures._lost(run(keep="none"))
    assert "2026-01-01" in figures._lost(run(recheck={"of": "2026-01-01"}))


@pytest.mark.parametrize("x", [[0.25, 0.75, 0.0], [3.0, -1.0, 0.5], [1000.0, 999.0, -1000.0]])
def test_posteriors_are_a_distribution(x: list[float]) -> None:
    p = figures.posteriors(np.array(x))
    assert p.sum() == pytest.approx(1.0)
    assert p.argmax() == np.argmax(x)
    if x == [0.25, 0.75, 0.0]:
        assert p.tolist() == x


def test_what_is_packed_into_a_page_has_nothing_to_break_out_with() -> None:
    text = inline.pack({"</script><b>": [float("nan"), float("inf"), 0.1, ("</script>",)]})
    assert "<" not in text
    assert json.loads(gzip.decompress(base64.b64decode(text))) == {"</script><b>": [None, None, 0.1, ["</script>"]]}
    assert text == inline.pack({"</script><b>": [float("nan"), float("inf"), 0.1, ("</script>",)]})


def test_without_plotly_a_run_isnt_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    inline._plotly.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    try:
        page = html.render(mixed())
    finally:
        inline._plotly.cache_clear()
    assert '<script type="text/plain" id="plotly"></script>' in page


def test_a_text_for_a_chart_is_no_markup() -> None:
    assert figures.plain("<b>&amp;</b>") == "&lt;b&gt;&amp;amp;&lt;/b&gt;"


# --- Causes ---


def told(**more: Any) -> causes.Told:
    return causes.Told(
        **{"system": "commands-cnn", "backend": "librosa", "lines": ("windowed: <b>symmetric</b>",)} | more
    )


def test_what_explain_found_is_kept_and_shown(tmp_path: Path) -> None:
    of = run(verdict("fail", "features/spectrum"), evidence=[{"file": "0000.npz"}])
    assert causes.read(tmp_path) == []
    causes.add(tmp_path, [told(lines=("an older word",)), told(backend="numpy")])
    causes.add(tmp_path, [told(complete=True)])
    assert [t.backend for t in causes.read(tmp_path)] == ["librosa", "numpy"]
    page = html.render(of, tmp_path)
    assert "windowed: &lt;b&gt;symmetric&lt;/b&gt;" in page
    assert "an older word" not in page
    assert "parity explain" not in Page(page).text
    assert [p.name for p in tmp_path.iterdir()] == ["explain.json"]


def test_a_damaged_file_of_causes_is_told(tmp_path: Path) -> None:
    (tmp_path / "explain.json").write_text("[{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"explain\.json can't be read"):
        html.render(run(verdict("fail", "features/spectrum")), tmp_path)


# --- Costs, history and baseline ---


def test_latency_and_size_stand_side_by_side() -> None:
    of = run(verdict("pass", "model/logits"))
    of.systems["commands-cnn"] |= {"models": [{"runtime": "onnxrt", "precision": "float32", "file": "model.onnx"}]}
    of.systems["commands-cnn"]["artifacts"][0]["bytes"] = 51_234
    of.timings = [{"stage": "model", "plugin": "onnxrt", "system": "commands-cnn", "precision": "float32", "clips": 4,
                   "seconds": 0.01}, {"stage": "load", "plugin": "onnxrt", "seconds": 1.0}]  # fmt: skip
    assert [(c["ms"], c["bytes"]) for c in device.costs(of)] == [(2.5, 51_234)]
    page = Page(html.render(of)).text
    assert "51.2 kB" in page


def gated() -> Run:
    """A run that was held to a baseline."""
    of = run(*whole("numpy"))
    who = {"system": "commands-cnn", "backend": "numpy", "runtime": "onnxrt", "precision": "float32", "target": "local"}
    when = ["2026-01-01", "2026-01-02", "2026-01-03"]
    return msgspec.structs.replace(of, gate={
        "verdict": "fail", "limits": {"drift": {"factor": 1.25}},
        "findings": [{"kind": "drift", **who, "tap": "model/logits", "path": "cumulative",
                      "text": "grew from 0.1 to 0.2 <b>", "was": 0.1,
                      "now": 0.2, "fails": True}],
        "baselines": [{"system": "commands-cnn", "fingerprint": "ab", "state": "new", "accepted": "", "reason": "",
                       "differs": ["onnxruntime 1 -> 2"]}],
        "history": [{**who, "points": [
            {"when": w, "run": w, "fingerprint": f, "ratio": r, "outcome": "pass"}
            for w, f, r in zip(when, "aab", [0.1, None, 0.2], strict=True)
        ]}],
    })  # fmt: skip


def test_a_gates_findings_and_history_are_shown() -> None:
    page = html.render(gated())
    text = Page(page).text
    for words in ("Drift: within bounds, but further than accepted", "grew from 0.1 to 0.2 <b>", "1 tap drifted",
                  "parity accept", "a new environment", "onnxruntime 1 -> 2",
                  "drift.factor = 1.25", "3 runs; last 0.2 of the bound"):  # fmt: skip
        assert words in text
    assert '<a href="#row-commands-cnn~numpy~onnxrt~float32~local">numpy onnxrt float32</a>' in page
    figure = unpacked(page)["history-0"]
    assert figure["y"] == [0.1, None, 0.2]
    assert figure["changes"] == [2]


# --- Two runs ---


def changed() -> tuple[Run, Run]:
    taps = ("features/spectrum", "features/filterbank", "features/compressed", "model/logits", "model/relu1")
    then = [verdict("pass", tap, ratio=ratio) for tap, ratio in zip(taps, (0.1, 0.1, 0.3, 0.2, 0.2), strict=True)]
    now = [verdict("fail", taps[0], ratio=3.0), verdict("pass", "model/relu2", ratio=0.2)]
    now += [verdict("pass", tap, ratio=ratio) for tap, ratio in zip(taps[1:4], (0.4, 0.1, 0.2002), strict=True)]
    return run(*then, name="then"), run(*now, name="now", exit_code=1)


def test_what_changed_between_two_runs() -> None:
    a, b = changed()
    b.environment["plugins"]["onnxrt"]["onnxruntime"] = "1.32.0"
    found = compared.changes(a, b, {"commands-cnn": frozenset({"x", "y"})}, {"commands-cnn": frozenset({"y", "z"})})
    assert [(c.tap, c.was, c.now, c.worse) for c in found.outcomes] == [("features/spectrum", "pass", "fail", True)]
    assert [(c.tap, c.factor) for c in found.grew] == [("features/filterbank", 4.0)]
    assert [c.tap for c in found.shrank] == ["features/compressed"]
    assert (found.little, found.same) == (1, 0)
    pair = "commands-cnn · librosa → onnxrt float32 (cumulative): model/relu"
    assert found.only_a == [f"{pair}1", "commands-cnn: clip x"]
    assert found.only_b == [f"{pair}2", "commands-cnn: clip z"]
    assert found.environment == [("plugins.onnxrt.onnxruntime", "1.31.1", "1.32.0")]
    page = Page(compared.render(found)).text
    for words in ("PASS then, FAIL now", "1 outcome got worse", "1 error grew", "4 times", "1.32.0", "clip z"):
        assert words in page, words


def test_what_only_one_of_two_runs_compared_says_whether_it_failed() -> None:
    both, new = verdict("pass", "model/logits"), verdict("fail", "model/logits", backend="torch", ratio=9.0)
    good = [verdict("pass", "model/logits", backend="numpy"), verdict("pass", "model/relu1", backend="torch")]
    found = compared.changes(run(both, name="then"), run(both, *good, new, name="now", exit_code=1))
    pairs_only = [f"commands-cnn · {b} → onnxrt float32 (cumulative)" for b in ("torch", "numpy")]
    assert found.only_b == [f"{pairs_only[0]}: FAIL", pairs_only[1]]
    assert compared.counts(found)[-2:] == ["0 only in the first", "2 only in the second, 1 of them failed"]


def test_the_same_run_twice_has_no_changes() -> None:
    found = compared.changes(mixed(), mixed())
    assert not found.any
    assert "nothing that was compared changed" in Page(compared.render(found)).text


def test_errors_from_and_to_nothing() -> None:
    def change(was: float | None, now: float | None) -> compared.Change:
        then, since = (run(verdict("pass", "model/logits", ratio=ratio)).summaries[0] for ratio in (was, now))
        return compared._change(then, since)

    assert [change(*c).factor for c in ((0.0, 0.0), (0.0, 0.1), (0.1, 0.0), (None, 0.1))] == [
        1.0,
        float("inf"),
        0.0,
        None,
    ]


def test_two_hostile_runs_make_a_page() -> None:
    text = compared.render(compared.changes(run(), hostile()))
    assert text.count("<script") == 1
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "http" not in text.replace("http-equiv", "")
    Page(text)


def test_the_page_of_two_runs_is_written_whole(tmp_path: Path, failing: Path) -> None:
    out = compared.write(failing, failing, tmp_path / "since.html")
    assert [p.name for p in tmp_path.iterdir()] == ["since.html"]
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(ConfigError, match="can't be written"):
        compared.write(failing, failing, tmp_path / "no" / "since.html")
    with pytest.raises(ConfigError, match="not a run"):
        compared.read(failing, tmp_path)


def test_a_summary_is_found_again_after_the_records_change() -> None:
    of = run(verdict("fail", "features/spectrum"), verdict("fail", "model/logits"))
    assert [v.tap for v in first_failures(of)] == ["features/spectrum", "model/logits"]
    of.summaries[0].worst = verdict("pass", "features/spectrum")
    assert [v.tap for v in first_failures(of)] == ["model/logits"]
    of.summaries.append(TapSummary(**{f: getattr(of.summaries[1], f) for f in TapSummary.__struct_fields__}
                                   | {"tap": "model/relu1", "worst": verdict("fail", "model/relu1")}))  # fmt: skip
    assert [v.tap for v in first_failures(of)] == ["model/relu1"]
