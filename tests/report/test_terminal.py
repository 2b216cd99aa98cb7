"""What is printed after a run: the first sentence, the tables, the blame; within 100 columns and without colour."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from parity.records import Recorder, Run
from parity.report import terminal
from parity.report.wording import near_ties

from .made import TAPS, hostile, mixed, run, summary, verdict, whole


def shown(of: Run, verbose: bool = False, width: int = 100, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    terminal.show(of, Console(file=file, width=width, highlight=False, color_system=None), verbose)
    file.flush()
    return raw.getvalue().decode(encoding)


def first(of: Run) -> str:
    text = shown(of, width=1000)
    return text.partition("\n")[0]


def test_the_first_line_of_a_pass() -> None:
    assert first(run(*whole("numpy"))) == (
        "PASS: everything compared is within bounds; 1 system, 1 backend and 1 pair compared, 18 clips, "
        "0 skipped or unsupported, 0 known gaps."
    )


def test_the_first_line_of_a_failure() -> None:
    assert first(mixed()) == (
        "FAIL: 1 backend and 3 pairs fail (1 only because of features), 1 pair out of bounds on generated examples, "
        "1 known gap matched no failure; 1 system, 3 backends and 4 pairs compared, 18 clips, 3 skipped or "
        "unsupported, 1 known gap, 2 near ties."
    )


@pytest.mark.parametrize(
    ("of", "start"),
    [
        (run(), "NOTHING COMPARED: "),
        (run(verdict("unavailable", "features/spectrum")), "NOTHING COMPARED: "),
        (run(verdict("unsupported", "features/spectrum")), "NOTHING COMPARED: "),
        (run(verdict("pass", "features/spectrum"), exit_code=2), "INCOMPLETE: not everything"),
        (run(verdict("pass", "features/spectrum"), exit_code=4), "INCOMPLETE: a target"),
        (run(verdict("pass", "features/spectrum"), exit_code=1), "FAIL: a regression"),
        (run(verdict("gap", "features/spectrum", gap="x")), "PASS: everything compared is within bounds, or a"),
        (run(verdict("missing", "features/spectrum")), "FAIL: 1 backend fails;"),
        (run(verdict("error", "features/spectrum"), exit_code=2), "FAIL: 1 backend fails;"),
    ],
)
def test_judgements(of: Run, start: str) -> None:
    assert first(of).startswith(start)


def test_few_pairs_show_every_tap_and_both_numbers() -> None:
    text = shown(run(*whole("numpy", isolated_relu1="fail")), width=120)
    assert all(tap in text for tap in TAPS)
    line = next(x for x in text.splitlines() if x.startswith("model/relu1"))
    assert line.split()[1:4] == ["FAIL", "6.37e-6/2.1e-5", "0.312/2.1e-5"]
    assert "(isolated)" in line
    assert "t 12 f 3 c 40" in line


def test_many_pairs_are_summed_up_unless_verbose() -> None:
    backends = [v for name in "abcd" for v in whole(name)[:3]] + [verdict("fail", "features/compressed", backend="e")]
    short, full = shown(run(*backends)), shown(run(*backends), verbose=True)
    assert [short.count(tap) for tap in TAPS[:3]] == [4, 0, 2]
    assert [full.count(tap) for tap in TAPS[:3]] == [4, 4, 6]


def test_every_failing_tap_is_shown_in_flow_order() -> None:
    text = shown(mixed())
    table = text[text.index("pair ") : text.index("First failing tap")]
    lines = [line for line in table.splitlines() if "FAIL" in line]
    assert [line.split("FAIL")[1].split()[0] for line in lines[:3]] == TAPS[:3]


def test_failures_name_tap_place_numbers_and_consequences() -> None:
    text = shown(mixed(), width=200)
    assert (
        "librosa: first at features/spectrum (clip yes-en-us-f2, frame 12, 0.125 s, bin 14 = 438 Hz): "
        "error 0.312 FS², bound 2.1e-5 FS²" in text
    )
    assert "librosa → onnxrt float32: first at model/input, follows from features/spectrum of librosa" in text
    assert "numpy → tflite int8: first at model/relu1; on the golden's features model/relu1 fails too" in text


def test_reasons_are_folded_and_ties_gaps_labels_examples_told() -> None:
    text = shown(mixed(), width=200)
    assert "which is not installed: kws-mfcc · microfrontend, commands-cnn · microfrontend\n" in text
    assert "no model for tflm: tiny-conv · tflm int8 (asked for)" in text
    for words in (
        "cumulative: 2", "its own mel bank", "old kernel", "94.4 %", "label of every pair", "(truth yes)",
        "_background_noise_ (6)", "counter-example golden/counterexamples/1.toml", "recorded on another",
    ):  # fmt: skip
        assert words in text, words


def test_a_wide_confusion_matrix_becomes_a_list() -> None:
    labels = [f"label-number-{i}" for i in range(20)]
    confusion = {x: {x: 3} for x in labels} | {labels[0]: {labels[0]: 2, labels[1]: 5}}
    pair = {"pair": "p", "clips": 64, "accuracy": 0.9, "confusion": confusion}
    text = shown(run(labels={"pairs": [pair], "differ": [], "ignored": {}}))
    assert "label-number-0 → label-number-1 5" in text


def test_no_anchor_is_shown() -> None:
    of = run(verdict("pass", "features/spectrum"))
    of.systems["commands-cnn"]["anchor"] = {"backend": "none"}
    assert "no anchor" in shown(of)


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("of", [mixed(), hostile(), run(), run(*whole("numpy"))], ids=["mixed", "odd", "empty", "ok"])
def test_fits_and_never_breaks_a_terminal(of: Run, verbose: bool) -> None:
    text = shown(of, verbose)
    assert max(map(len, text.splitlines())) <= 100
    assert all(c.isprintable() or c == "\n" for c in text)
    assert shown(of, verbose, encoding="ascii").isascii()


def test_markup_in_a_name_stays_text() -> None:
    of = run(verdict("fail", "features/spectrum", clip="[bold]:smile:[/x]", message="[red]no[/]"))
    assert "[bold]:smile:[/x]" in shown(of)
    assert "[red]no[/]" in shown(of)


def test_near_ties_are_told_once_for_all_backends() -> None:
    done = run(*whole("numpy"))
    own, other, lone = (
        verdict("pass", "decision/label", backend=backend, path=path, runtime="onnxrt", precision="int8")
        for backend, path in (("numpy", "cumulative"), ("librosa", "cumulative"), ("", "isolated"))
    )
    done.summaries = [summary(own, 2), summary(other, 2), summary(lone, 1)]
    same, alone = near_ties(done)
    assert same.endswith("onnxrt int8, cumulative: 2 (on the features of numpy, librosa)")
    assert alone.endswith("onnxrt int8, isolated: 1")
    done.summaries = [summary(own, 2), summary(other, 1)]
    assert near_ties(done)[0].endswith(", cumulative: numpy 2, librosa 1")


def test_a_near_tie_can_be_followed_up(tmp_path: Path) -> None:
    record = Recorder(tmp_path, "run")
    text = "'down' where the golden says 'off' by 0.0131, less than the bound 0.02"
    whole_clip = verdict("pass", "decision/label", runtime="onnxrt", precision="int8")
    record.add(msgspec.structs.replace(whole_clip, clip="chirp.flac"))
    for clip in ("noise.flac", "quiet.flac"):
        tie = msgspec.structs.replace(whole_clip, clip=clip, near_tie=True, message=f"near tie: {text}")
        record.add(tie)
    done = run(*whole("numpy"))
    done.summaries = record.summaries
    record.abandon()
    (line,) = near_ties(done)
    assert line.endswith(f"; first noise.flac: {text}")
    assert "noise.flac" in shown(done)
