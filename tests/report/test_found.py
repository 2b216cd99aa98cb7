"""What a search prints, from results made by hand."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import pytest
from rich.console import Console

from parity.adversary import Found, Result, Task
from parity.confirm import Confirmed
from parity.explain.explanation import Cause, Explanation, Finding
from parity.parameters import Parameters
from parity.records import Verdict
from parity.report import found as report

TASK = Task(system="kws", backend="mine", runtime="onnxrt", examples=1000)
WHO: dict[str, Any] = {"system": "kws", "backend": "mine", "runtime": "", "precision": "", "target": "local"}
BAD = Verdict(**WHO, path="features", tap="features/spectrum", clip="c", outcome="fail", error=0.5, bound=1e-6,
              ratio=5e5, candidate=1.5, golden=1.0, unit="FS²", message="1 of 4 elements out of bounds")  # fmt: skip
LATER = Verdict(**WHO, path="features", tap="features/compressed", clip="c", outcome="fail", message="nan")
MARGIN = Verdict(**WHO, path="isolated", tap="decision/margin", clip="c", outcome="pass", golden=0.25, bound=0.5)
TIE = Verdict(**WHO, path="isolated", tap="decision/label", clip="c", outcome="pass", near_tie=True,
              message="near tie: 'go' where the golden says 'no' by 1e-5")  # fmt: skip


def _found(verdict: Verdict | None, failed: bool = False, score: float = 0.5) -> Found:
    return Found(Parameters(), "silence", failed, score, verdict)


def _said(result: Result, again: Confirmed | None = None, replay: str = "") -> list[str]:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    with console.capture() as said:
        report.show(console, "kws", result, again, 12.3, replay)
    return said.get().splitlines()


def _why(complete: bool, share: float | None) -> Explanation:
    causes = ((Cause("window.periodic", "window symmetric, not periodic", "features/windowed"),),)
    finding = Finding("features/spectrum", causes, complete, share, 0.1, 1.0, 0.5, 1e-7, "FS²")
    return Explanation("kws", "mine", ("c",), ("features/spectrum",), (finding,), complete)


def test_a_counter_example_is_told_with_its_first_tap_its_numbers_and_its_cause() -> None:
    result = Result(TASK, _found(BAD, True), count=9, drawn=4)
    again = Confirmed(_found(BAD, True), [BAD, LATER], False, _why(True, 1.0))
    assert _said(result, again, "parity search --replay x.toml") == [
        "FAIL: kws · mine → onnxrt float32 is out of bounds; found after 4 of 1,000 examples, 12 s",
        "  clip     silence",
        "  first at features/spectrum (features)",
        "           error 0.5 FS², bound 1e-6 (5e5 times); 1.5 where 1 is right",
        "  then     features/compressed",
        "  why      spectrum: window symmetric, not periodic: 100 % of the error explained (0.5 FS² -> within bound)",
        "  again    parity search --replay x.toml",
    ]


@pytest.mark.parametrize(("share", "told"), [(0.95, True), (0.3, False)])
def test_a_cause_is_named_only_where_it_explains_nearly_all(share: float, told: bool) -> None:
    again = Confirmed(_found(BAD, True), [BAD], False, _why(False, share))
    assert any(line.startswith("  why") for line in _said(Result(TASK, _found(BAD, True)), again)) == told


def test_what_fails_only_after_another_clip_says_so() -> None:
    again = Confirmed(_found(BAD, True), [BAD], True, None)
    (line,) = [x for x in _said(Result(TASK, _found(BAD, True)), again) if x.startswith("  after")]
    assert line == "  after    tone 1000 Hz, -20 dBFS: alone it passes, so something isn't reset between clips"


def test_what_failed_once_is_no_pass() -> None:
    again = Confirmed(_found(LATER), [], False, None)
    first, *rest = _said(Result(TASK, _found(BAD, True), drawn=3), again)
    assert first.startswith("FAIL: kws · mine → onnxrt float32 is out of bounds once, and not in fresh workers; 3 of ")
    assert any("differ from run to run" in line for line in rest)


@pytest.mark.parametrize(
    ("goal", "found", "line"),
    [
        ("error", _found(BAD),
         "features/spectrum (features): error 0.5 FS², bound 1e-6 (5e5 times); 1.5 where 1 is right"),
        ("flip", _found(MARGIN), "the right label leads by 0.25, which may move by 0.5"),
        ("flip", _found(TIE, score=25.0),
         "flips, by less than what arithmetic allows: 'go' where the golden says 'no' by 1e-5; it fails nothing, "
             "and isn't saved"),
        ("crash", _found(BAD, score=10.0), "numbers up to 1020"),
    ],
)  # fmt: skip
def test_what_came_nearest_is_told_for_each_goal(goal: Any, found: Found, line: str) -> None:
    first, _, numbers = _said(Result(dataclasses.replace(TASK, goal=goal), found, count=800, drawn=1000))
    assert first.startswith("PASS: ")
    assert first.endswith("; 1,000 of 1,000 examples, 12 s (800 different)")
    assert numbers.strip() == line


def test_an_interruption_and_refused_clips_are_told() -> None:
    result = Result(TASK, None, count=5, drawn=5, refused=2, refusal="takes 98 frames", interrupted=True)
    first, refused = _said(result)
    assert first.startswith("STOPPED: nothing out of bounds: ")
    assert refused.strip() == "2 clips refused: takes 98 frames"


def test_a_replay_says_nothing_of_examples() -> None:
    assert _said(Result(TASK, _found(MARGIN), replayed=True))[0].endswith("float32; 12 s")
    assert "0 of 1,000 examples" in _said(Result(TASK, interrupted=True))[0]  # before anything was drawn


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "kws · mine → onnxrt float32"),
        ({"runtime": ""}, "kws · mine"),
        ({"backend": ""}, "kws · drawn inputs → onnxrt float32"),
        ({"against": "librosa/tflite"}, "kws · mine → onnxrt float32, held to librosa/tflite"),
    ],
)
def test_a_pair_has_its_usual_name(changes: dict[str, str], words: str) -> None:
    assert report.whose(dataclasses.replace(TASK, **changes), "kws") == words  # type: ignore[arg-type]


def test_programs_are_told_the_same() -> None:
    again = Confirmed(_found(BAD, True), [BAD, LATER], False, _why(True, 1.0))
    told = json.loads(report.as_json("kws", Result(TASK, _found(BAD, True), count=9, drawn=4), again, 1.0, "x"))
    assert (told["failed"], told["confirmed"], told["clip"], told["examples"]) == (True, True, "silence", 4)
    assert [v["tap"] for v in told["failing"]] == ["features/spectrum", "features/compressed"]
    assert told["why"] == [
        "spectrum: window symmetric, not periodic: 100 % of the error explained (0.5 FS² -> within bound)"
    ]
    assert told["replay"] == "x"
