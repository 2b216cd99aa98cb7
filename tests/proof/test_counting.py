"""What `make proof` counts: a comparison is a clip under a column, and one tap that fails is an alarm."""

from __future__ import annotations

import numpy as np

from tests.proof import alarms, speech


def summary(
    tap: str, worst: float | None, path: str = "isolated", precision: str = "float32", **counts: int
) -> dict[str, object]:
    who = {"system": "s", "backend": "", "runtime": "onnxrt", "precision": precision, "path": path, "tap": tap}
    return who | {"counts": counts, "worst": {"clip": "yes", "ratio": worst}}


def test_a_comparison_is_a_clip_under_a_column_and_any_tap_may_raise_its_alarm() -> None:
    record = {
        "summaries": [
            summary("model/relu1", 0.25, **{"pass": 20}),
            summary("model/logits", 1.5, **{"pass": 107, "fail": 2}),
            summary("decision/label", None, **{"pass": 108, "missing": 1}),
            summary("model/logits", 7.0, "deployment", **{"pass": 100, "gap": 9}),
            summary("model/logits", 0.5, precision="int8", **{"pass": 108, "fail": 1}),
            summary("decision/label", None, precision="int8", **{"pass": 105, "fail": 4}),
        ]
    }
    found = alarms.compared(record)
    assert found["", "onnxrt", "float32", "isolated"] == alarms.Counted(109, 3, 0, 0, 1.5)
    assert found["", "onnxrt", "float32", "deployment"] == alarms.Counted(109, 0, 9, 0, 0.0)
    assert found["", "onnxrt", "int8", "isolated"] == alarms.Counted(109, 1, 0, 4, 0.5)
    told = list(alarms.failing(record))
    assert [line.split(":")[0] for line in told] == [
        "s onnxrt float32 isolated model/logits", "s onnxrt float32 isolated decision/label",
        "s onnxrt int8 isolated model/logits",
    ]  # fmt: skip


def test_designed_sounds_are_silence_tones_and_noise_down_to_the_lowest_level() -> None:
    sounds = {clip.name: clip.samples for clip in speech.designed()}
    assert not sounds["silence"].any()
    assert len(sounds) >= 40
    peaks = {name: float(np.abs(x).max()) for name, x in sounds.items() if name != "silence"}
    assert min(peaks.values()) < 2e-4
    assert max(peaks.values()) > 0.9
    assert all(x.dtype == np.float32 and np.isfinite(x).all() for x in sounds.values())
