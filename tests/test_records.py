"""What a recorder says of verdicts as they come: which tap of a clip fails first, and what was right before."""

from __future__ import annotations

from pathlib import Path

import msgspec

from parity.records import Recorder, TapSummary, Verdict, own_severity, read_verdicts

from .report.made import run, verdict


def recorded(folder: Path, *verdicts: Verdict) -> tuple[list[TapSummary], list[Verdict]]:
    record = Recorder(folder, "run")
    for v in verdicts:
        record.add(v)
    written = record.finish(run(), ())
    return record.summaries, list(read_verdicts(written))


def isolated(outcome: str, tap: str, clip: str) -> Verdict:
    return verdict(outcome, tap, path="isolated", clip=clip)


def test_the_first_failing_tap_of_each_clip_says_what_was_right_before(tmp_path: Path) -> None:
    layers = [
        isolated("pass", "model/input", "a"), isolated("pass", "model/relu1", "a"),
        isolated("fail", "model/relu2", "a"), isolated("fail", "model/logits", "a"),
    ]  # fmt: skip
    only_logits = [isolated("pass", "model/input", "b"), isolated("fail", "model/logits", "b")]
    summaries, written = recorded(tmp_path, *layers, *only_logits)
    assert [v.since for v in written] == [None, None, "model/relu1", None, None, "model/input"]
    by_tap = {s.tap: s.since for s in summaries}
    assert by_tap == {
        "model/input": {}, "model/relu1": {}, "model/relu2": {"model/relu1": 1}, "model/logits": {"model/input": 1}
    }  # fmt: skip


def test_each_path_and_clip_starts_anew_and_a_known_gap_is_not_right(tmp_path: Path) -> None:
    _, written = recorded(
        tmp_path,
        verdict("fail", "features/spectrum", clip="a"),
        verdict("pass", "features/filterbank", clip="b"),
        verdict("gap", "features/compressed", clip="b"),
        verdict("missing", "features/cepstrum", clip="b"),
        verdict("error", "model/logits", clip="b"),
        isolated("fail", "model/logits", "b"),
    )
    assert [v.since for v in written] == ["", None, None, "features/filterbank", "", ""]


def test_the_worst_stage_by_itself_is_kept_beside_the_worst(tmp_path: Path) -> None:
    far = verdict("fail", "features/spectrum", clip="a", ratio=9e9, own_outcome="pass", own_error=0.1, own_ratio=0.5)
    here = verdict("fail", "features/spectrum", clip="b", ratio=2.0, own_outcome="fail", own_error=0.2, own_ratio=1.5)
    alike = msgspec.structs.replace(here, clip="c", own_ratio=1.2)
    (summary,), _ = recorded(tmp_path, far, here, alike)
    assert summary.worst.clip == "a"
    assert summary.own is not None
    assert summary.own.clip == "b"
    told_nothing, no_ratio = verdict("pass", "features/spectrum"), msgspec.structs.replace(here, own_ratio=None)
    assert own_severity(told_nothing) < own_severity(far) < own_severity(here) < own_severity(no_ratio)
