from __future__ import annotations

import numpy as np
import pytest

from parity.labels import LabelTally, truth_of

LABELS = ("unknown", "yes", "no")


@pytest.mark.parametrize(
    ("clip", "truth"),
    [("yes/a.wav", "yes"), ("deep/yes/a.wav", "yes"), ("_unknown_/a.wav", "unknown"), ("a.wav", None),
     ("up/a.wav", None), ("yes/more/a.wav", None), ("Yes/a.wav", None), ("_silence_/a.wav", None)],
)  # fmt: skip
def test_the_folder_says_what_was_spoken(clip: str, truth: str | None) -> None:
    assert truth_of(clip, LABELS) == truth


def test_a_label_with_underscores_is_itself() -> None:
    assert truth_of("_noise_/a.wav", ("_noise_", "noise")) == "_noise_"


def logits(label: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([float(name == label) for name in LABELS])


def test_accuracy_confusion_and_disagreement() -> None:
    tally = LabelTally()
    for pair, answers in {"a x": ("yes", "no", "no"), "b x": ("yes", "yes", "no")}.items():
        for clip, answer in zip(("yes/1.wav", "yes/2.wav", "no/1.wav"), answers, strict=True):
            tally.add("kws", pair, clip, logits(answer), LABELS)
        tally.add("kws", pair, "other/1.wav", logits("yes"), LABELS)
    summary = tally.summary()
    assert [(p["pair"], p["clips"], p["accuracy"]) for p in summary["pairs"]] == [
        ("kws a x", 3, 2 / 3),
        ("kws b x", 3, 1.0),
    ]
    assert summary["pairs"][0]["confusion"] == {"no": {"no": 1}, "yes": {"no": 1, "yes": 1}}
    assert summary["differ"] == [
        {"system": "kws", "clip": "yes/2.wav", "truth": "yes", "labels": {"a x": "no", "b x": "yes"}}
    ]
    assert summary["ignored"] == {"other": 1}


def test_no_answer_is_counted_and_is_wrong() -> None:
    tally = LabelTally()
    tally.add("kws", "a x", "yes/1.wav", None, LABELS)
    tally.add("kws", "a x", "yes/2.wav", np.array([np.nan, 0.0, 0.0]), LABELS)
    (pair,) = tally.summary()["pairs"]
    assert (pair["accuracy"], pair["confusion"]) == (0.0, {"yes": {"(none)": 2}})


def test_nothing_counted_is_an_empty_summary() -> None:
    assert LabelTally().summary() == {"pairs": [], "differ": [], "ignored": {}}
