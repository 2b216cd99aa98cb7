"""From what a job brought back to verdicts: every tap of every clip, features first, then each network twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from parity import compare, golden, policy, stages
from parity.allowed import Allowed
from parity.bounds import steps
from parity.bounds.features import Interval
from parity.compare import Comparison
from parity.errors import GoldenError
from parity.expected import Expected
from parity.place import place
from parity.policy import Policy
from parity.protocols import Arithmetic, Array, Artifact, ClipOutput, Failure, JobResult, Outputs, Raw, Tap
from parity.records import Verdict
from parity.system import System
from parity.taps import LABEL, MARGIN, MODEL_INPUT, is_feature


@dataclass(frozen=True)
class Judged:
    """A verdict, and the arrays it was made from, where a tap was compared.

    `golden`, `lo`, `hi` float64; `candidate` as it came, where it did; `derived_lo`, `derived_hi` where the bound was
    derived: before a policy widened it; `integers`, `scale`, `zero_point` of a quantized tensor.
    """

    verdict: Verdict
    arrays: Mapping[str, Array] | None = None


def covers(gap: policy.Gap, c: Comparison, tap: Tap) -> bool:
    """Whether a known gap is this failure: numbers out of bounds, not something worse."""
    if c.outcome != gap.outcome:
        return False
    if c.outcome != "fail":
        return True
    if tap == LABEL:
        return c.flipped
    return c.ratio is not None and (gap.max_ratio is None or c.ratio <= gap.max_ratio)


def _most_saturated(e: Expected, output: ClipOutput) -> tuple[float, Tap]:
    """The largest share of a tap's right values that a file's integers can't hold, and the tap."""
    right = {MODEL_INPUT: e.reference, **e.model}
    shares = [(steps.saturated(right[t], raw), t) for t, raw in output.raw.items() if t in right]
    return max(shares, default=(0.0, ""), key=lambda s: s[0])


class Judge:
    """Judges the results of one system under one policy."""

    bounds = Allowed
    """What says how far a tap may move."""

    def __init__(
        self,
        system: System,
        rules: Policy,
        target: str,
        labels: Sequence[str] | None = None,
        root: Path | None = None,
        own_judge: tuple[str, Artifact] | None = None,
        arithmetic: Mapping[str, Arithmetic] | None = None,
        alone: bool = True,
    ) -> None:
        """`labels` are the golden's, `root` is where it lies; `own_judge` is the runtime that stands in for one.

        `arithmetic` is the class of each backend that isn't of float32's; `alone`: the stages of features that fail are
        judged by themselves as well.
        """
        self._system, self._rules, self._target = system, rules, target
        self._root, self._own_judge, self._arithmetic = root, own_judge, arithmetic or {}
        self._alone = alone
        self._allowed = self.bounds(system, rules, self._arithmetic, root)
        self._units = golden.units(system.frontend)
        self._golden_labels = tuple(labels if labels is not None else system.labels)

    def judge(
        self, result: JobResult, expected: Sequence[Expected], declared: Mapping[str, frozenset[Tap]]
    ) -> Iterator[Judged]:
        """Verdicts of a job; `declared` says which taps each backend can give."""
        for backend, outputs in result.features.items():
            yield from self._features(backend, outputs, expected, declared[backend])
        artifacts = {(spec, a.precision): a for spec, a in result.job.models}
        for (backend, runtime, precision), outputs in sorted(result.activations.items()):
            if (artifact := artifacts.get((runtime, precision))) is not None:
                yield from self._network(backend, runtime, artifact, outputs, expected)
        alone = {(a.key, spec): result.kernels.get((spec, a.precision)) for spec, a in result.job.kernels}
        for runtime, artifact in sorted(result.job.models, key=lambda m: (m[0], m[1].precision)):
            kernels = alone.get((artifact.key, artifact.kernels or ""))
            if artifact.kernels != runtime and kernels is not None:
                outputs = result.activations["", runtime, artifact.precision]
                yield from self._deployment(runtime, artifact, outputs, kernels, expected)

    def column(
        self, path: str, outputs: Outputs, expected: Sequence[Expected], *, backend: str = "", runtime: str = "",
        artifact: Artifact | None = None, declared: frozenset[Tap] = frozenset(), kernels: Outputs = (),
    ) -> Iterator[Judged]:  # fmt: skip
        """Verdicts of one path alone: a backend's features with the taps `declared`, or a network of `artifact`."""
        if artifact is None:
            yield from self._features(backend, outputs, expected, declared)
        elif path == "deployment":
            yield from self._deployment(runtime, artifact, outputs, kernels, expected)
        else:
            yield from self._network(backend, runtime, artifact, outputs, expected)

    def _verdict(self, comparison: Comparison, what: dict[str, Any], arrays: Mapping[str, Array] | None = None,
                 **more: Any) -> Judged:  # fmt: skip
        c = comparison
        ratio = c.ratio if c.ratio is not None and np.isfinite(c.ratio) else None
        bound = c.bound if c.bound is not None and np.isfinite(c.bound) else None
        numbers = {
            k: v for k, v in {"candidate": c.candidate, "golden": c.golden}.items() if v is not None and np.isfinite(v)
        }
        where = place(self._system.frontend, what["tap"], c.index) if c.index and is_feature(what["tap"]) else {}
        outcome = c.outcome
        keys = ("system", "backend", "runtime", "precision", "path", "tap", "clip")
        gap = self._rules.gap(**{k: what[k] for k in keys})
        if gap is not None and covers(gap, c, what["tap"]):
            self._rules.met(gap)
            outcome = "gap"
        else:
            gap = None
        verdict = Verdict(
            **what, target=self._target, outcome=outcome, ratio=ratio, error=c.error, bound=bound, index=c.index,
            outside=c.outside, gap=gap.reason if gap is not None else "",
            covered=c.outcome if gap is not None else "",
            **{"message": c.message, "unit": self._units.get(what["tap"], ""), **numbers, **where, **more},
        )  # fmt: skip
        return Judged(verdict, arrays)

    def _failed(
        self, failure: Failure, what: dict[str, Any], taps: Sequence[Tap], clips: Sequence[Expected]
    ) -> Iterator[Judged]:
        """A plugin that died: an error at every tap that it owed, so that nothing looks compared."""
        for e in clips:
            for tap in taps:
                message = f"{failure.plugin}: {failure.reason}"
                yield self._verdict(Comparison("error", message), what | {"tap": tap, "clip": e.clip.name})

    def _features(
        self, backend: str, outputs: Outputs, expected: Sequence[Expected], declared: frozenset[Tap]
    ) -> Iterator[Judged]:
        what: dict[str, Any] = {
            "system": self._system.name,
            "backend": backend,
            "runtime": "",
            "precision": "",
            "path": "features",
        }
        taps = self._system.frontend.taps
        if isinstance(outputs, Failure):
            yield from self._failed(outputs, what, [t for t in taps if t in declared], expected)
            return
        for e, output in zip(expected, outputs, strict=True):
            found = []
            for tap in taps:
                here = what | {"tap": tap, "clip": e.clip.name}
                if tap not in declared:
                    found.append(self._verdict(Comparison("unavailable", f"{backend} keeps it to itself"), here))
                    continue
                x, rule = self._allowed.feature(tap, e, backend)
                dtype = self._system.frontend.dtype(tap)
                derived = x if rule == "derived" else e.interval(tap, self._arithmetic.get(backend, "float32"))
                found.append(self._compare(output.taps.get(tap), x, dtype, here, derived=derived, rule=rule))
            yield from self._by_themselves(found, e, output, self._arithmetic.get(backend, "float32"))

    def _by_themselves(
        self, found: Sequence[Judged], e: Expected, output: ClipOutput, arithmetic: Arithmetic
    ) -> Sequence[Judged]:
        """The verdicts of a clip's features; where one fails, with each stage's isolated error."""
        if not self._alone or not any(j.verdict.outcome in ("fail", "missing") for j in found):
            return found
        own = stages.isolated(self._system.frontend, e.clip, output.taps, arithmetic)
        return [Judged(stages.told(j.verdict, own.get(j.verdict.tap)), j.arrays) for j in found]

    def _compare(
        self,
        candidate: Array | None,
        x: Interval,
        dtype: str,
        what: dict[str, Any],
        raw: Raw | None = None,
        derived: Interval | None = None,
        **more: Any,
    ) -> Judged:
        judged = compare.compare(candidate, x.value, x.lo, x.hi, dtype)
        arrays = {"golden": x.value, "lo": x.lo, "hi": x.hi}
        if candidate is not None:
            arrays["candidate"] = candidate
        if derived is not None:
            arrays |= {"derived_lo": derived.lo, "derived_hi": derived.hi}
        if raw is not None:
            more |= {"step": raw.scale, "zero_point": raw.zero_point, "saturated": steps.saturated(x.value, raw)}
            if judged.index is not None and judged.index != ():
                more |= {"integer": int(raw.integers[judged.index])}
            arrays |= {
                "integers": raw.integers,
                "scale": np.array(raw.scale),
                "zero_point": np.array(raw.zero_point),
            }
        return self._verdict(judged, what, arrays, **more)

    def _network(
        self, backend: str, runtime: str, artifact: Artifact, outputs: Outputs, expected: Sequence[Expected]
    ) -> Iterator[Judged]:
        path = "cumulative" if backend else "isolated"
        what: dict[str, Any] = {
            "system": self._system.name, "backend": backend, "runtime": runtime, "precision": artifact.precision,
            "path": path,
        }  # fmt: skip
        if isinstance(outputs, Failure):
            yield from self._failed(outputs, what, [self._system.decision.source, LABEL], expected)
            return
        for e, output in zip(expected, outputs, strict=True):
            if output.unsupported:
                here = what | {"tap": MODEL_INPUT, "clip": e.clip.name}
                yield self._verdict(Comparison("unsupported", output.unsupported), here)
                continue
            for tap in (MODEL_INPUT, *self._system.taps):
                here = what | {"tap": tap, "clip": e.clip.name}
                if tap == MODEL_INPUT:
                    x, rule = self._allowed.fed(e, output, artifact, runtime, backend)
                elif tap not in e.model:
                    continue  # layers are recorded for a few clips only
                elif self._own_judge == (runtime, artifact) and not backend:
                    yield self._verdict(Comparison("unavailable", "judged by itself: there is no golden"), here)
                    continue
                elif tap not in artifact.taps:
                    yield self._verdict(Comparison("unavailable", f"{artifact.format} file maps no such tensor"), here)
                    continue
                else:
                    x, rule = self._allowed.activation(e, tap, e.model[tap], output, artifact, runtime, path)
                fed = self._system.frontend.dtype(self._system.frontend.output)
                dtype = fed if tap == MODEL_INPUT else artifact.taps[tap].dtype
                if tap == MODEL_INPUT:
                    derived = e.features[self._system.frontend.output] if backend else None
                else:
                    derived = x if rule == "derived" else self._allowed.derived(e, tap, e.model[tap], artifact, path)
                yield self._compare(output.taps.get(tap), x, dtype, here, output.raw.get(tap), derived, rule=rule)
            if self._own_judge != (runtime, artifact) or backend:
                yield from self._decision(e, output, artifact, runtime, what)

    def _deployment(
        self, runtime: str, artifact: Artifact, outputs: Outputs, kernels: Outputs, expected: Sequence[Expected]
    ) -> Iterator[Judged]:
        """This runtime against the kernels that say what the file computes, both on the golden's features."""
        what: dict[str, Any] = {
            "system": self._system.name, "backend": "", "runtime": runtime, "precision": artifact.precision,
            "path": "deployment",
        }  # fmt: skip
        source = self._system.decision.source
        for failure in (outputs, kernels):
            if isinstance(failure, Failure):
                yield from self._failed(failure, what, [source, LABEL], expected)
                return
        assert not isinstance(outputs, Failure)
        assert not isinstance(kernels, Failure)
        for e, output, right in zip(expected, outputs, kernels, strict=True):
            if output.unsupported or right.unsupported:
                continue  # told where it is held to the golden
            here = what | {"clip": e.clip.name}
            for tap in (t for t in self._system.taps if t in artifact.taps and t in e.model):
                if tap not in right.taps:
                    text = f"the kernels of {artifact.kernels} gave no {tap}"
                    yield self._verdict(Comparison("missing", text), here | {"tap": tap})
                    continue
                if (other := steps.unlike(output.raw.get(tap), right.raw.get(tap))) is not None:
                    yield self._verdict(Comparison("fail", other), here | {"tap": tap})
                    continue
                x, rule = self._allowed.activation(e, tap, right.taps[tap], output, artifact, runtime, "deployment")
                yield self._compare(
                    output.taps.get(tap),
                    x,
                    artifact.taps[tap].dtype,
                    here | {"tap": tap},
                    output.raw.get(tap),
                    x if rule == "derived" else self._allowed.derived(e, tap, right.taps[tap], artifact, "deployment"),
                    rule=rule,
                )
            if source in right.taps:
                yield self._label(e, output, right.taps[source], self._system.labels, artifact, runtime, here)

    def _label(
        self, e: Expected, output: ClipOutput, right: Array, labels: Sequence[str], artifact: Artifact, runtime: str,
        what: dict[str, Any],
    ) -> Judged:  # fmt: skip
        """The label that the logits decide, against that of the `right` ones."""
        decision, path = self._system.decision, what["path"]
        source = decision.source
        gold, chosen = compare.decide(decision.logits(right), tuple(labels)), self._chosen(output)
        if gold is None:
            return self._verdict(Comparison("fail", "the logits to be held to aren't finite"), what | {"tap": LABEL})
        x, rule = self._allowed.activation(e, source, right, output, artifact, runtime, path)
        half = decision.room((x.hi - x.lo) / 2.0)
        declared = self._rules.rule(
            self._system.name, runtime.partition(":")[0], path, artifact.precision, LABEL, e.clip.name
        )
        margin = None if declared is None else declared.absolute
        judged, tie = compare.compare_label(chosen, gold, decision.logits(x.value).reshape(-1), half, margin)
        why = rule if declared is None else f"declared: {declared.why}"
        share, tap = _most_saturated(e, output) if judged.outcome == "fail" else (0.0, "")
        if share > 0.0:
            beyond = (
                f"{judged.message}; {100.0 * share:.2g} % of {tap} saturates: louder than the file was calibrated on"
            )
            judged = replace(judged, message=beyond)
        return self._verdict(judged, what | {"tap": LABEL}, near_tie=tie, rule=why, saturated=share)

    def _chosen(self, output: ClipOutput) -> compare.Choice | None:
        """What a candidate decides: the label that it told (a dump, by its index), else what its logits decide."""
        if (told := output.taps.get(LABEL)) is not None:
            index = int(told.item())
            return compare.Choice(self._system.labels[index], index, np.inf)
        decision = self._system.decision
        logits = output.taps.get(decision.source)
        return None if logits is None else compare.decide(decision.logits(logits), self._system.labels)

    def _decision(
        self, e: Expected, output: ClipOutput, artifact: Artifact, runtime: str, what: dict[str, Any]
    ) -> Iterator[Judged]:
        source = self._system.decision.source
        if source not in e.model:
            raise GoldenError(
                f"the golden of {e.clip.name} has no {source}, which decides in system.toml",
                golden.how_to_record(self._root, self._system) if self._root else None,
            )
        decision = self._system.decision
        right = decision.logits(e.model[source])
        logits, gold = output.taps.get(source), compare.decide(right, self._golden_labels)
        here = what | {"clip": e.clip.name}
        x, rule = self._allowed.activation(e, source, e.model[source], output, artifact, runtime, what["path"])
        half = decision.room((x.hi - x.lo) / 2.0)
        chosen = None if logits is None else compare.decide(decision.logits(logits), self._system.labels)
        if gold is None:
            what_is = f"has {right.size} logits for {len(self._golden_labels)} labels"
            if right.size == len(self._golden_labels):
                what_is = "has logits that aren't finite"
            yield self._verdict(Comparison("fail", f"the golden {what_is}"), here | {"tap": LABEL})
            return
        if self._golden_labels != self._system.labels:
            order = "in another order" if set(self._golden_labels) == set(self._system.labels) else "others"
            text = (
                f"labels are {order}: golden {', '.join(self._golden_labels)}; system {', '.join(self._system.labels)}"
            )
            yield self._verdict(Comparison("fail", text), here | {"tap": LABEL})
        else:
            yield self._label(e, output, e.model[source], self._golden_labels, artifact, runtime, here)
        if chosen is not None and np.isfinite(gold.margin):
            # The lead moves by at most what the two logits may move; a third one may take the second's place.
            room = float(half[gold.index] + np.delete(half, gold.index).max(initial=0.0))
            value = np.array([gold.margin])
            judged = compare.compare(np.array([chosen.margin]), value, value - room, value + room, "float64")
            yield self._verdict(judged, here | {"tap": MARGIN}, rule=rule)
