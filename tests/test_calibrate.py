"""Calibration: who is in which half, what is counted of a verdict, and a table that can say that a bound is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parity.calibrate import HALVES, Row, Speech, _spread, calibrate, halves, ratios
from parity.cli.calibrate import _show
from parity.compare import compare
from parity.errors import NothingCompared
from parity.plan import Selection
from parity.protocols import Array
from parity.records import Skipped, Verdict
from tests.plugins_for_tests import rig

NAMES = [f"{word}/{speaker}_nohash_{n}.wav" for word in ("no", "yes") for speaker in "abcdefg" for n in range(3)]


def verdict(outcome: str = "pass") -> Verdict:
    return Verdict(
        system="s", backend="b", runtime="", precision="", target="local", path="features", tap="t", clip="c",
        outcome=outcome,  # type: ignore[arg-type]
    )  # fmt: skip


def row() -> Row:
    return Row("s", "b", "features", "t", "check")


def test_a_speaker_is_in_one_half_and_the_same_one_whatever_else_is_there() -> None:
    paths = [Path(n) for n in NAMES]
    found = halves(paths)
    assert sorted(p for half in found.values() for p in half) == sorted(paths)
    speakers = {half: {p.name[0] for p in members} for half, members in found.items()}
    assert speakers["calibration"].isdisjoint(speakers["check"])
    assert {half: len(s) for half, s in speakers.items()} == {"calibration": 4, "check": 3}
    assert halves(paths[::-1]) == {half: members[::-1] for half, members in found.items()}
    words = [Path(f"{p.parent}/{p.parent}_{p.name}") for p in paths]  # a folder that mixes words
    assert {h: {p.name.split("_")[1] for p in members} for h, members in halves(words).items()} == speakers


def test_files_are_spread_over_the_whole_list() -> None:
    paths = [Path(str(i)) for i in range(10)]
    assert _spread(paths, 3) == [paths[0], paths[4], paths[9]]
    assert _spread(paths, 99) == paths
    assert _spread([], 3) == []


@given(hnp.arrays(np.float64, 50, elements=st.floats(2.0**-39, 2.0**20)))
def test_the_median_is_known_to_one_percent(values: Array) -> None:
    r = row()
    for part in np.split(values, 5):
        r.add(verdict(), part)
    middle = np.sort(values)[24]
    assert r.median is not None
    assert abs(r.median - middle) < 0.012 * middle
    assert r.largest == values.max()
    assert r.clips == 5


def test_what_is_met_exactly_and_what_has_no_bound_at_all() -> None:
    r = row()
    r.add(verdict(), np.array([0.0, 0.0, 0.5]))
    assert (r.median, r.largest) == (0.0, 0.5)
    r.add(verdict(), np.array([np.inf]))
    assert r.largest == np.inf
    empty = row()
    empty.add(verdict(), np.zeros(0))
    assert (empty.clips, empty.median, empty.largest) == (1, None, None)


def test_what_fails_is_a_false_alarm_unless_a_gap_is_known() -> None:
    r = row()
    for outcome in ("pass", "fail", "missing", "error", "gap"):
        r.add(verdict(outcome), np.zeros(0))
    assert (r.clips, r.false_alarms, r.gaps) == (5, 3, 1)


@given(st.data())
def test_a_ratio_is_what_the_comparison_says_of_its_worst_element(data: st.DataObject) -> None:
    value, error = (data.draw(hnp.arrays(np.float64, 6, elements=st.floats(-1e3, 1e3))) for _ in range(2))
    below, above = (data.draw(hnp.arrays(np.float64, 6, elements=st.floats(1e-3, 1e3))) for _ in range(2))
    lo, hi = value - below, value + above
    found, judged = ratios(value + error, value, lo, hi), compare(value + error, value, lo, hi, "float64")
    assert judged.ratio == pytest.approx(float(found.max()), rel=1e-12)
    assert (judged.outcome == "fail") == bool((found > 1.0).any())


def test_elements_that_may_not_move_or_move_at_will_have_no_ratio() -> None:
    value = np.array([1.0, 2.0, 3.0, -np.inf])
    room = np.array([0.0, np.inf, 0.5, 1.0])
    with np.errstate(invalid="ignore"):
        lo, hi = value - room, np.array([1.0, np.inf, 3.5, -20.0])
    assert ratios(np.array([1.0, 9.0, 3.25, -np.inf]), value, lo, hi).tolist() == [0.5]


def speech(folder: Path, speakers: str = "abcd") -> Path:
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (len(speakers), 16000))
    for i, speaker in enumerate(speakers):
        rig.wav(folder / f"{speaker}_nohash_0.wav", noise[i])
    return folder


def test_one_speaker_can_check_nothing(tmp_path: Path) -> None:
    with rig.target() as local, pytest.raises(NothingCompared, match="of one speaker"):
        calibrate(Selection(), Speech(folder=speech(tmp_path, "a")), local, lambda *_: None)


@pytest.mark.slow
def test_a_row_a_pair_tap_and_half(tmp_path: Path) -> None:
    folder = speech(tmp_path / "speech")
    chosen = Selection(
        systems=(str(rig.SYSTEM),), backends=("numpy", "librosa"), runtimes=("onnxrt",), precisions=("float32",),
        audio=folder,
    )  # fmt: skip
    with rig.target() as local:
        rows, skipped = calibrate(chosen, Speech(folder=folder, levels=(0.0, -40.0)), local, lambda *_: None)
    assert not [s for s in skipped if s.asked]
    assert [r.half for r in rows] == list(HALVES) * (len(rows) // 2)
    by = {(r.pair, r.path, r.tap): r for r in rows if r.half == "check"}
    assert {r.clips for r in rows if r.path == "features"} == {4}
    for backend, least in (("numpy", 0.001), ("librosa", 0.05)):
        spectrum = by[backend, "features", "features/spectrum"]
        assert (spectrum.elements, spectrum.false_alarms) == (4 * 98 * 257, 0)
        assert spectrum.median is not None
        assert spectrum.largest is not None
        assert least < spectrum.median < spectrum.largest < 1.0
    assert by["numpy", "features", "features/frames"].largest is None
    assert by["onnxrt float32", "isolated", "model/logits"].elements == 4 * 11
    assert by["numpy → onnxrt float32", "cumulative", "decision/margin"].elements == 4
    assert by["numpy → onnxrt float32", "cumulative", "decision/label"].clips == 4


@pytest.mark.slow
def test_a_backend_that_is_wrong_is_a_false_alarm_and_exit_1(tmp_path: Path) -> None:
    folder = speech(tmp_path / "speech", "ab")
    options = ["--system", rig.SYSTEM.name, "--runtime", "onnxrt", "--precision", "float32", "--audio", str(folder)]
    wrong = rig.parity("calibrate", *options, "--backend", "faulty.backends:SymmetricHann", "--format", "json")
    assert wrong.returncode == 1, wrong.stderr
    told = {(r["tap"], r["half"]): r for r in json.loads(wrong.stdout) if r["path"] == "features"}
    assert told["features/spectrum", "check"]["false_alarms"] == 1
    assert told["features/spectrum", "check"]["largest"] > 100.0
    assert told["features/audio", "check"]["false_alarms"] == 0


def test_the_table_has_a_line_a_row_and_says_what_was_never_seen(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(), Row("s", "b", "features", "u", "calibration")]
    rows[0].elements = 3
    rows[0].add(verdict("fail"), np.array([0.0, 0.004, 2.5]))
    for _ in range(300):
        rows[1].add(verdict(), np.zeros(0))
    rows[1].elements = 7
    _show(rows, [Skipped(system="s", runtime="tflm", reason="no such file")])
    told = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert told[2:] == [
        "b features t check 1 3 1 0.004 2.500",
        "b features u calibration 300 7 0 exact exact",
        "not compared: s tflm: no such file",
        "check: 1 false alarm in 1 comparisons (tap, clip, pair)",
        "calibration: 0 false alarms in 300 comparisons (tap, clip, pair), so at most 1.0e-02 of them with 95 % "
        "confidence",
    ]
