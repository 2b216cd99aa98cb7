"""A label that differs on a clip whose right values saturate still fails, and is told and counted as such."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parity.judge import Judge
from parity.policy import Policy, Rule
from parity.protocols import ClipOutput, Job, JobResult, Raw
from parity.records import TapSummary, Verdict
from parity.report import wording
from tests.report.test_html import run, verdict
from tests.test_judge import CLIP, EXPECTED, FRONTEND, INPUT, MODEL, ONNX, SYSTEM


def label(scale: float) -> Verdict:
    """Of a file of integers whose logits reach from 0 to 255 · `scale`, where 3, 1, 0 are right and 1 leads."""
    artifact = replace(ONNX, precision="int8")
    integers = np.array([1, 2, 0], np.uint8)
    logits = Raw(integers=integers, scale=scale, zero_point=0)
    taps = {**MODEL, "model/input": INPUT, "model/logits": (scale * integers).astype(np.float32)}
    output = ClipOutput(taps, 0.0, raw={"model/logits": logits})
    job = Job(system="kws", frontend=FRONTEND, clips=[CLIP], backends=[], models=[("onnxrt", artifact)])
    result = JobResult(job=job, features={}, activations={("", "onnxrt", "int8"): [output]})
    rule = Rule(tap="model/*", why="any", absolute=0.1)
    found = Judge(SYSTEM, Policy([rule]), "local").judge(result, [EXPECTED], {})
    return next(j.verdict for j in found if j.verdict.tap == "decision/label")


@pytest.mark.parametrize(("scale", "share"), [(0.005, 1 / 3), (0.1, 0.0)])
def test_the_share_that_saturates_is_told_with_the_label(scale: float, share: float) -> None:
    v = label(scale)
    assert v.outcome == "fail"
    assert v.saturated == pytest.approx(share)
    beyond = "; 33 % of model/logits saturates: louder than the file was calibrated on"
    assert v.message.endswith(beyond) == (share > 0)


def test_labels_on_clips_that_saturate_are_counted() -> None:
    who = {"path": "isolated", "runtime": "onnxrt", "precision": "int8"}
    done = run(verdict("pass", "model/relu1", **who), verdict("fail", "decision/label", **who))
    layer, decided = (next(s for s in done.summaries if s.tap == t) for t in ("model/relu1", "decision/label"))
    layer.saturated, layer.most_saturated = 1, 0.25
    assert wording.saturated(done)[0].endswith("; of 1 label that differs, 0 are on a clip that saturates")
    decided.saturated, decided.most_saturated = 1, 0.25
    (line,) = wording.saturated(done)
    assert line.endswith("; of 1 label that differs, 1 is on a clip that saturates")
    assert "model/relu1, up to 25 %" in line
    assert isinstance(decided, TapSummary)
