"""Which arrays of a run are kept: those of the first failures, and of each pair some whatever came before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity import kept
from parity.judge import Judged
from parity.kept import Keeping
from parity.protocols import Clip, Job, JobResult
from parity.records import Recorder, Verdict

TAPS = {
    "features": ("features/windowed", "features/spectrum"),
    "cumulative": ("model/input", "model/relu1", "model/logits", "decision/label"),
}
TAPS["isolated"] = TAPS["cumulative"]


def judged(path: str, clip: str, *failing: str, backend: str = "numpy", target: str = "local") -> list[Judged]:
    """A clip's taps, some of which fail."""
    runtime = "" if path == "features" else "onnxrt"
    array = np.zeros((2, 2))
    return [
        Judged(
            Verdict(system="s", backend=backend, runtime=runtime, precision="float32" if runtime else "",
                    target=target, path=path, tap=tap, clip=clip, ratio=2.0,
                    outcome="fail" if tap in failing else "pass"),
            None if tap == "decision/label" else {"golden": array, "lo": array, "hi": array, "candidate": array},
        )
        for tap in TAPS[path]
    ]  # fmt: skip


def names(folder: Path, *clips: list[Judged]) -> set[tuple[str, ...]]:
    """Backend, path, tap and clip of what is kept of them."""
    record = Recorder(folder, "kept")
    keeping = Keeping(record, "failing", "model/logits")
    found = [j for clip in clips for j in clip]
    job: Any = Job(clips=[Clip("a", np.zeros(1, np.float32), 16000, ""), Clip("b", np.zeros(1, np.float32), 16000, ""),
                     Clip("c", np.zeros(1, np.float32), 16000, "")],
                   **{k: None for k in Job.__dataclass_fields__ if k != "clips"})  # fmt: skip
    keeping._evidence = lambda *_: None  # type: ignore[method-assign]
    for v in keeping.job(found, JobResult(job=job, features={}, activations={})):
        record.add(v)
    kept_of = set()
    for path in (folder / ".kept.part" / "arrays").glob("*.npz"):
        with np.load(path) as arrays:
            _, backend, _, _, _, way, tap, clip = str(arrays["what"]).split("|")
        kept_of.add((backend, way, tap, clip))
    record.abandon()
    return kept_of


def test_beyond_the_most_each_pairs_first_failing_clip_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 0)
    both = ("features/windowed", "features/spectrum")
    found = names(
        tmp_path, judged("features", "a", *both), judged("features", "b", *both),
        judged("features", "a", backend="librosa"),
        judged("isolated", "a", backend=""), judged("isolated", "b", "model/relu1", "model/logits", backend=""),
        judged("cumulative", "a", "model/relu1", "model/logits"),
        judged("cumulative", "a", "model/relu1", backend="librosa"),
    )  # fmt: skip
    assert found == {
        ("numpy", "features", "features/windowed", "a"), ("numpy", "features", "features/spectrum", "a"),
        ("", "isolated", "model/input", "b"), ("", "isolated", "model/relu1", "b"),
        ("", "isolated", "model/logits", "b"),
        # On wrong features a network can't be right: what decided is enough.
        ("numpy", "cumulative", "model/input", "a"), ("numpy", "cumulative", "model/logits", "a"),
        ("librosa", "cumulative", "model/input", "a"), ("librosa", "cumulative", "model/relu1", "a"),
        ("librosa", "cumulative", "model/logits", "a"),
    }  # fmt: skip


def test_what_decided_each_pairs_first_flipped_label_is_kept_whatever_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST", 0)
    wrong, flipped = ("model/logits",), ("model/logits", "decision/label")
    found = names(
        tmp_path, judged("cumulative", "a", *wrong), judged("cumulative", "b", *flipped),
        judged("cumulative", "c", *flipped), judged("cumulative", "c", *flipped, backend="librosa"),
    )  # fmt: skip
    logits = {(backend, clip) for backend, _, tap, clip in found if tap == "model/logits"}
    assert logits == {("numpy", "a"), ("numpy", "b"), ("librosa", "c")}


def test_up_to_the_most_all_that_fails_is_kept(tmp_path: Path) -> None:
    found = names(tmp_path, judged("features", "a", "features/spectrum"), judged("features", "b", "features/windowed"))
    assert {f[2:] for f in found} == {("features/spectrum", "a"), ("features/windowed", "b")}


def test_each_targets_first_failure_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 0)
    record = Recorder(tmp_path, "kept")
    keeping = Keeping(record, "failing", "model/logits")
    keeping._evidence = lambda *_: None  # type: ignore[method-assign]
    job: Any = Job(clips=[Clip(c, np.zeros(1, np.float32), 16000, "") for c in "ab"],
                   **{k: None for k in Job.__dataclass_fields__ if k != "clips"})  # fmt: skip
    for target in ("local", "pi"):
        for clip in "ab":
            list(keeping.job(judged("features", clip, "features/spectrum", target=target), JobResult(job=job)))
    found = set()
    for path in (tmp_path / ".kept.part" / "arrays").glob("*.npz"):
        with np.load(path) as arrays:
            found.add((str(arrays["what"]).split("|")[4], str(arrays["what"]).split("|")[-1]))
    record.abandon()
    assert found == {("local", "a"), ("pi", "a")}
