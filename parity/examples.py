"""`parity run --examples`: drawn clips, judged on every pair and driven towards the largest error over bound."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from parity import plan, sources
from parity.errors import MissingExtra, ParityError
from parity.judge import Judge
from parity.parameters import Parameters, clip_of
from parity.plan import Plan, Selection
from parity.policy import Policy
from parity.protocols import Artifact, Clip, Target
from parity.records import Skipped, Verdict, severity
from parity.search import parameters

try:
    import hypothesis
except ImportError:
    raise MissingExtra("--examples needs Hypothesis, which is not installed", "pip install 'parity[test]'") from None


class _Examples:
    """Judges one clip on every pair of a plan and remembers the worst of each."""

    def __init__(self, p: Plan, target: Target, rules: Policy) -> None:
        self._plan, self._target = p, target
        self._own_judge = plan.reference(p, plan.asking(target))
        self._judge = Judge(p.system, rules, target.name, own_judge=self._own_judge, arithmetic=p.arithmetic)
        self.count = 0
        self.worst: dict[tuple[str, str, str], Verdict] = {}
        self.failing: dict[tuple[str, str, str], Verdict] = {}
        self.compared: set[tuple[str, str, str]] = set()
        """Pairs whose network was compared on a clip at least."""

    def verdicts(self, clip: Clip) -> list[Verdict]:
        (part,) = sources.judged_live(self._plan, [clip], self._target, 1, self._own_judge)
        (result,) = self._target.run([sources.job_of(self._plan, part)])
        return [j.verdict for j in self._judge.judge(result, part, self._plan.backends)]

    def judge(self, clip: Clip) -> float:
        """The largest error over bound of a clip. AssertionError where a tap fails."""
        self.count += 1
        self.failing = {}
        largest = 0.0
        found = self.verdicts(clip)
        for pair in self._plan.pairs:
            mine = [v for v in found if _concerns(v, pair)]
            if any(v.runtime and v.outcome not in ("unavailable", "unsupported") for v in mine):
                self.compared.add(pair)
            worst = max(mine, key=severity)
            if pair not in self.worst or severity(worst) > severity(self.worst[pair]):
                self.worst[pair] = worst
            if worst.outcome in ("fail", "missing", "error"):
                self.failing[pair] = next(v for v in mine if v.outcome == worst.outcome)
            largest = max(largest, worst.ratio if worst.ratio is not None else 0.0)
        assert not self.failing
        return largest


def _concerns(v: Verdict, pair: tuple[str, str, str]) -> bool:
    return v.backend in ("", pair[0]) and (v.runtime, v.precision) in (("", ""), pair[1:])


def _driven(models: Sequence[tuple[str, Artifact]], selection: Selection) -> list[tuple[str, Artifact]]:
    """The models that drawn clips are judged on: of fewer bits only those whose precision was named.

    Clips are driven beyond the range that such files were calibrated for, and what is declared of them was measured on
    speech.
    """
    return [m for m in models if selection.precisions or m[1].precision == "float32"]


def left_out(p: Plan, selection: Selection) -> list[Skipped]:
    """What of a plan is judged on no drawn clip: a runtime without a float32 file, or the whole system."""
    driven = {spec for spec, _ in _driven(p.models, selection)}
    runtimes = [spec for spec in dict.fromkeys(spec for spec, _ in p.models) if spec not in driven]
    reason = "no generated example: no float32 file to search; name a precision"
    if not driven and runtimes:
        return [Skipped(system=p.system.name, reason=reason, asked=bool(selection.systems))]
    asked = bool(selection.systems and selection.runtimes)
    return [Skipped(system=p.system.name, runtime=spec, reason=reason, asked=asked) for spec in runtimes]


def search_plan(
    p: Plan, target: Target, rules: Policy, selection: Selection, progress: sources.Progress
) -> list[dict[str, Any]]:
    """Judge `selection.examples` drawn clips on every pair; a row a pair, with a shrunk counter-example on failure.

    `left_out` says which runtimes of a plan that leaves out.
    """
    if not selection.precisions:
        p = dataclasses.replace(p, models=_driven(p.models, selection), kernels=[])
    if not p.models:
        return []
    examples = _Examples(p, target, rules)
    what = f"{p.system.name} examples"

    @hypothesis.seed(selection.seed)
    @hypothesis.settings(
        max_examples=selection.examples, deadline=None, database=None, print_blob=False, report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck), verbosity=hypothesis.Verbosity.quiet,
    )  # fmt: skip
    @hypothesis.given(parameters(p.system.frontend))
    def drive(drawn: Parameters) -> None:
        progress(what, min(examples.count, selection.examples), selection.examples)
        hypothesis.target(min(examples.judge(clip_of(drawn)), 1e6), label="error over bound")

    failing: dict[tuple[str, str, str], Verdict] = {}
    try:
        drive()
    except (ParityError, KeyboardInterrupt):
        raise
    except (AssertionError, hypothesis.errors.HypothesisException):
        # Hypothesis runs the smallest failing example last: what failed then is the counter-example.
        failing = examples.failing
    return [row | {"target": target.name} for row in _rows(p, examples, failing)]


def _rows(p: Plan, examples: _Examples, failing: dict[tuple[str, str, str], Verdict]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for pair in p.pairs:
        worst, smallest = examples.worst.get(pair), failing.get(pair)
        failed = smallest is not None or (worst is not None and severity(worst)[0] > 2)
        shown = smallest or worst
        found = worst.outcome if worst is not None and pair in examples.compared else "unsupported"
        rows.append(
            {
                "system": p.system.name,
                "pair": " ".join((p.system.name, *pair)),
                "count": examples.count,
                "worst_ratio": worst.ratio if worst is not None else None,
                "worst": worst.clip if worst is not None else "",
                "worst_tap": worst.tap if worst is not None else "",
                "failed": failed,
                "outcome": "fail" if failed else found,
                "counterexample": shown.clip if failed and shown is not None else None,
                "message": f"{shown.tap}: {shown.message}" if failed and shown is not None else "",
            }
        )
    return rows


__all__: Sequence[str] = ["left_out", "search_plan"]
