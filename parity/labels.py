"""Accuracy by pair where the folders say what was spoken: a summary for people, never a verdict."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from parity import compare
from parity.protocols import Array
from parity.records import LOCAL


def truth_of(clip: str, labels: tuple[str, ...]) -> str | None:
    """The label that a clip's folder names (`_unknown_` is `unknown`); None where it is no label of the system."""
    folder = clip.split("/")[-2] if "/" in clip else ""
    name = folder if folder in labels else folder.strip("_")
    return name if name in labels else None


class LabelTally:
    """Counts labels pair by pair."""

    def __init__(self) -> None:
        self._confusion: dict[tuple[str, str], dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self._by_clip: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        self._truth: dict[tuple[str, str], str | None] = {}

    def add(
        self, system: str, pair: str, clip: str, logits: Array | None, labels: tuple[str, ...], target: str = LOCAL
    ) -> None:  # fmt: skip
        """Count what a pair answered for a clip on a target."""
        choice = None if logits is None else compare.decide(logits, labels)
        label = choice.label if choice is not None else "(none)"
        truth = self._truth.setdefault((system, clip), truth_of(clip, labels))
        self._by_clip[system, clip][pair if target == LOCAL else f"{pair} on {target}"] = label
        if truth is not None:
            self._confusion[f"{system} {pair}", target][truth][label] += 1

    def summary(self) -> dict[str, Any]:
        """Accuracy and confusion by pair, the clips whose label differs between pairs, folders that are no label."""
        pairs = []
        for (pair, target), rows in sorted(self._confusion.items()):
            total = sum(sum(row.values()) for row in rows.values())
            right = sum(row[truth] for truth, row in rows.items())
            confusion = {truth: dict(sorted(row.items())) for truth, row in sorted(rows.items())}
            told = {"pair": pair, "target": target, "clips": total, "accuracy": right / total}
            pairs.append(told | {"confusion": confusion})
        differ = [
            {
                "system": system,
                "clip": clip,
                "truth": self._truth[system, clip],
                "labels": dict(sorted(answers.items())),
            }
            for (system, clip), answers in sorted(self._by_clip.items())
            if len(set(answers.values())) > 1
        ]
        ignored = Counter(clip.rpartition("/")[0] for (_, clip), truth in self._truth.items() if truth is None)
        return {"pairs": pairs, "differ": differ, "ignored": dict(sorted(ignored.items()))}
