"""From arrays to verdicts, on arrays made by hand: who is judged, by which bound, and what a known gap covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.errors import GoldenError
from parity.expected import Expected, bounds_of, features_of
from parity.judge import Judge
from parity.policy import Gap, Policy, Rule
from parity.protocols import Array, Artifact, ClipOutput, Job, JobResult, Outputs, Port, Tap
from parity.records import Verdict
from parity.schema import Decision
from parity.system import System
from parity.testing import RECIPES, SOUNDS

FRONTEND, CLIP = RECIPES["commands-cnn"], SOUNDS[0]
TAPS = ("model/relu1", "model/logits")


def artifact(form: str) -> Artifact:
    return Artifact(
        system="kws", format=form, precision="float32", path=f"model.{form}", sha256=form, shape=(98, 50),
        input=Port(name="x", layout="N1TF"), taps={t: Port(name=t, layout="NC") for t in TAPS},
    )  # fmt: skip


ONNX, TFLITE = artifact("onnx"), artifact("tflite")
SYSTEM = System(
    name="kws", folder=Path("kws"), description="", frontend=FRONTEND, labels=("yes", "no", "up"), taps=TAPS,
    decision=Decision(), reference=None, artifacts=(ONNX, TFLITE), not_built=(),
)  # fmt: skip
INTERVALS, INPUT = features_of(CLIP, FRONTEND)
MODEL: Mapping[Tap, Array] = {
    "model/relu1": np.array([1.0, 2.0], np.float32),
    "model/logits": np.array([3.0, 1.0, 0.0], np.float32),
}
EXPECTED = Expected(CLIP, INTERVALS, INPUT, MODEL)
FEATURES = {t: x.value.astype(FRONTEND.dtype(t)) for t, x in INTERVALS.items()}
ANY = Rule(tap="model/[rl]*", why="any", absolute=0.1)
"""How far the network's own taps may move; says nothing of what it is fed with."""


def judged(
    *rules: Rule,
    gaps: Sequence[Gap] = (),
    features: Mapping[Tap, Any] | None = None,
    isolated: Mapping[Tap, Any] | None = None,
    cumulative: Mapping[Tap, Any] | None = None,
    expected: Expected = EXPECTED,
    policy: Policy | None = None,
    **more: Any,
) -> dict[tuple[str, str, Tap], Verdict]:
    """Verdicts by path, runtime and tap, of arrays that are right but for those given."""

    def outputs(right: Mapping[Tap, Array], other: Mapping[Tap, Any] | None) -> Outputs:
        return [ClipOutput({**right, **(other or {})}, 0.0)]

    network = {**MODEL, "model/input": INPUT}
    runtimes = {"onnxrt": ONNX, "tflite": TFLITE}
    job = Job(system="kws", frontend=FRONTEND, clips=[CLIP], backends=["numpy"], models=list(runtimes.items()))
    activations = {("", r, "float32"): outputs(network, isolated) for r in runtimes}
    activations |= {("numpy", r, "float32"): outputs(network, cumulative) for r in runtimes}
    result = JobResult(job=job, features={"numpy": outputs(FEATURES, features)}, activations=activations)
    judge = Judge(SYSTEM, policy or Policy([*rules, ANY], gaps), "local", **more)
    found = judge.judge(result, [expected], {"numpy": frozenset(FRONTEND.taps)})
    return {(j.verdict.path, j.verdict.runtime, j.verdict.tap): j.verdict for j in found}


def outcomes(found: Mapping[tuple[str, str, Tap], Verdict], path: str, runtime: str = "") -> dict[Tap, str]:
    return {tap: v.outcome for (p, r, tap), v in found.items() if (p, r) == (path, runtime)}


def off(value: Array, by: float) -> Array:
    """The array with its first element further up."""
    moved = value.copy()
    moved.reshape(-1)[0] += by
    return moved


NETWORK = ["model/input", *TAPS, "decision/label", "decision/margin"]


def test_what_is_right_passes_everywhere() -> None:
    found = judged()
    assert set(outcomes(found, "features").values()) == {"pass"}
    for path in ("isolated", "cumulative"):
        for runtime in ("onnxrt", "tflite"):
            assert outcomes(found, path, runtime) == dict.fromkeys(NETWORK, "pass")


# ---- Without goldens ----


def test_the_runtime_that_judges_is_unavailable_alone_and_has_no_decision_there() -> None:
    found = judged(own_judge=("onnxrt", ONNX))
    assert outcomes(found, "isolated", "onnxrt") == {"model/input": "pass"} | dict.fromkeys(TAPS, "unavailable")
    assert {found["isolated", "onnxrt", t].message for t in TAPS} == {"judged by itself: there is no golden"}
    assert outcomes(found, "cumulative", "onnxrt") == dict.fromkeys(NETWORK, "pass")
    assert outcomes(found, "isolated", "tflite") == dict.fromkeys(NETWORK, "pass")


def test_the_runtime_that_judges_is_judged_on_a_backends_features() -> None:
    flipped = {"model/logits": np.array([1.0, 3.0, 0.0], np.float32)}
    found = judged(own_judge=("onnxrt", ONNX), cumulative=flipped)
    assert outcomes(found, "cumulative", "onnxrt")["model/logits"] == "fail"
    assert outcomes(found, "cumulative", "onnxrt")["decision/label"] == "fail"


@pytest.mark.parametrize("other", [("onnxrt:opt=off", ONNX), ("onnxrt", TFLITE)], ids=["options", "file"])
def test_the_same_runtime_with_other_options_or_another_file_is_judged(other: tuple[str, Artifact]) -> None:
    assert outcomes(judged(own_judge=other), "isolated", "onnxrt") == dict.fromkeys(NETWORK, "pass")


# ---- Classes of arithmetic ----


def test_a_backend_is_held_to_the_bounds_of_its_class_also_in_what_the_network_is_fed_with() -> None:
    tap = FRONTEND.output
    narrow = bounds_of(CLIP, FRONTEND, ("float64-rounded",))[0]["float64-rounded"]
    wide, close = INTERVALS[tap], narrow[tap]
    moved = INPUT.copy()
    index = np.unravel_index((wide.hi - close.hi).argmax(), moved.shape)
    moved[index] = (wide.hi[index] + close.hi[index]) / 2.0
    expected = replace(EXPECTED, rounded=narrow)
    given: dict[str, Any] = {"features": {tap: moved}, "cumulative": {"model/input": moved}}
    for arithmetic, outcome in (({}, "pass"), ({"numpy": "float32"}, "pass"), ({"numpy": "float64-rounded"}, "fail")):
        found = judged(expected=expected, arithmetic=arithmetic, **given)
        assert found["features", "", tap].outcome == outcome
        assert found["cumulative", "onnxrt", "model/input"].outcome == outcome
    without = judged(arithmetic={"numpy": "float64-rounded"}, **given)
    assert without["features", "", tap].outcome == "pass", "a golden without bounds of that class has float32's"


def test_arrays_go_with_every_comparison_and_say_what_was_derived() -> None:
    wider = Rule(tap=FRONTEND.output, path="features", absolute=1.0, why="a coarse logarithm")
    given = {**FEATURES, FRONTEND.output: off(INPUT, 9.0)}
    lost = next(iter(given))
    result = JobResult(
        job=Job(system="kws", frontend=FRONTEND, clips=[CLIP], backends=["numpy"]),
        features={"numpy": [ClipOutput({t: a for t, a in given.items() if t != lost}, 0.0)]},
    )
    found = Judge(SYSTEM, Policy([wider, ANY], ()), "local").judge(result, [EXPECTED], {"numpy": frozenset(given)})
    kept = {j.verdict.tap: j.arrays for j in found}
    assert kept.keys() == set(FRONTEND.taps)
    for tap, arrays in kept.items():
        assert arrays is not None
        x = EXPECTED.features[tap]
        assert ("candidate" in arrays) == (tap != lost)
        np.testing.assert_array_equal(arrays["derived_lo"], x.lo)
        np.testing.assert_array_equal(arrays["derived_hi"], x.hi)
        assert (arrays["lo"] < x.lo).any() == (tap == FRONTEND.output)


def test_stages_of_features_that_fail_are_judged_by_themselves() -> None:
    given = {FRONTEND.output: off(INPUT, 9.0)}
    own = {tap: v for (path, _, tap), v in judged(features=given).items() if path == "features"}
    assert {tap for tap, v in own.items() if v.own_outcome == "fail"} == {FRONTEND.output}
    assert all(v.own_outcome for v in own.values())
    assert own[FRONTEND.output].own_from == FRONTEND.taps[-2]
    assert own[FRONTEND.output].own_error == pytest.approx(9.0, rel=1e-3)
    assert not any(v.own_outcome for v in judged(features=given, alone=False).values())
    assert not any(v.own_outcome for v in judged().values())


# ---- Declared rules for what is fed to the network ----

OUTPUT = FRONTEND.output
WIDER = Rule(tap=OUTPUT, candidate="numpy", path="features", absolute=1.0, why="a coarse logarithm")


def test_a_rule_for_features_widens_their_tap_and_what_the_network_is_fed_with() -> None:
    moved = {"features": {OUTPUT: off(INPUT, 0.5)}, "cumulative": {"model/input": off(INPUT, 0.5)}}
    strict = judged(**moved)
    assert strict["features", "", OUTPUT].outcome == "fail"
    assert strict["cumulative", "onnxrt", "model/input"].outcome == "fail"
    wider = judged(WIDER, **moved)
    for key in (("features", "", OUTPUT), ("cumulative", "onnxrt", "model/input")):
        assert (wider[key].outcome, wider[key].rule) == ("pass", "declared: a coarse logarithm")
    assert {v.rule for (path, _, tap), v in wider.items() if path == "features" and tap != OUTPUT} == {"derived"}


def test_a_rule_for_features_leaves_the_goldens_own_as_they_are() -> None:
    found = judged(WIDER, isolated={"model/input": off(INPUT, 1e-6)})
    assert found["isolated", "onnxrt", "model/input"].outcome == "fail"
    assert found["isolated", "onnxrt", "model/input"].rule == "derived"


def test_a_rule_for_features_of_another_backend_widens_nothing() -> None:
    other = Rule(tap=OUTPUT, candidate="librosa", path="features", absolute=1.0, why="not numpy's")
    moved = {"features": {OUTPUT: off(INPUT, 0.5)}, "cumulative": {"model/input": off(INPUT, 0.5)}}
    found = judged(other, **moved)
    assert found["features", "", OUTPUT].outcome == found["cumulative", "onnxrt", "model/input"].outcome == "fail"


@pytest.mark.parametrize("path", ["isolated", "cumulative"])
def test_a_rule_for_what_the_network_is_fed_with_holds_in_float32_too(path: str) -> None:
    rule = Rule(tap="model/input", candidate="onnxrt", path=path, precision="float32", absolute=0.6, why="bfloat16")
    moved: Any = {path: {"model/input": off(INPUT, 0.5)}}
    found = judged(rule, **moved)
    assert (found[path, "onnxrt", "model/input"].outcome, found[path, "onnxrt", "model/input"].rule) == (
        "pass", "declared: bfloat16",
    )  # fmt: skip
    assert found[path, "tflite", "model/input"].outcome == "fail"


def test_a_rule_for_what_the_network_is_fed_with_never_narrows_the_derived_bound() -> None:
    room = float((INTERVALS[OUTPUT].hi - INTERVALS[OUTPUT].value).reshape(-1)[0])
    rule = Rule(tap="model/input", path="cumulative", absolute=0.0, why="no room of its own")
    found = judged(rule, cumulative={"model/input": off(INPUT, room / 2)})
    assert found["cumulative", "onnxrt", "model/input"].outcome == "pass"


# ---- Goldens that lack something ----


@pytest.mark.parametrize("tap", ["features/spectrum", OUTPUT])
def test_a_golden_without_a_feature_tap_is_an_error_that_says_how_to_record_it(tap: Tap, tmp_path: Path) -> None:
    lacking = replace(EXPECTED, features={t: x for t, x in INTERVALS.items() if t != tap})
    with pytest.raises(GoldenError, match=f"the golden of .* has no {tap}") as error:
        judged(expected=lacking, root=tmp_path)
    assert error.value.message.startswith(f"the golden of {CLIP.name} ")
    assert error.value.hint == f"parity golden record --system kws --audio DIR --out {tmp_path}"


def test_a_golden_without_what_decides_is_an_error_that_says_how_to_record_it(tmp_path: Path) -> None:
    lacking = replace(EXPECTED, model={"model/relu1": MODEL["model/relu1"]})
    with pytest.raises(GoldenError, match="has no model/logits, which decides") as error:
        judged(expected=lacking, root=tmp_path)
    assert str(error.value.hint).startswith("parity golden record --system kws")


# ---- Known gaps ----


def gap(tap: Tap, **more: Any) -> Gap:
    return Gap(**({"kind": "kernel", "reason": "known", "outcome": "fail", "system": "kws", "tap": tap} | more))


@pytest.mark.parametrize(
    ("most", "outcome"), [(None, "gap"), (5.5, "gap"), (4.5, "fail"), (0.0, "fail")], ids=["any", "5.5", "4.5", "0"]
)
def test_a_gap_covers_an_error_up_to_its_ratio(most: float | None, outcome: str) -> None:
    rules = Policy([ANY], [gap("model/relu1", path="isolated", max_ratio=most)])
    found = judged(policy=rules, isolated={"model/relu1": off(MODEL["model/relu1"], 0.5)})  # five times the bound
    v = found["isolated", "onnxrt", "model/relu1"]
    assert v.ratio == pytest.approx(5.0)
    assert (v.outcome, v.gap) == (outcome, "known" if outcome == "gap" else "")
    assert rules.used_gaps == ({0} if outcome == "gap" else set())


@pytest.mark.parametrize(("most", "outcome"), [(None, "gap"), (1e9, "fail")])
def test_an_error_where_none_is_allowed_is_beyond_any_ratio(most: float | None, outcome: str) -> None:
    moved = {"model/input": off(INPUT, 1e-3)}  # isolated: the golden's features as they are, bit for bit
    found = judged(gaps=[gap("model/input", max_ratio=most)], isolated=moved)
    assert found["isolated", "onnxrt", "model/input"].outcome == outcome


def test_a_gap_covers_a_label_that_flips_whatever_its_ratio() -> None:
    flipped = {"model/logits": np.array([1.0, 3.0, 0.0], np.float32)}
    bare = judged(isolated=flipped)
    assert outcomes(bare, "isolated", "onnxrt")["decision/label"] == "fail"
    found = judged(gaps=[gap("decision/label", path="isolated", max_ratio=2.0)], isolated=flipped)
    assert found["isolated", "onnxrt", "decision/label"].outcome == "gap"
    assert found["isolated", "onnxrt", "decision/label"].gap == "known"
    assert found["isolated", "onnxrt", "model/logits"].outcome == "fail"


@pytest.mark.parametrize(("most", "outcome"), [(None, "gap"), (6.0, "gap"), (4.0, "fail")])
def test_a_gap_covers_a_margin_up_to_its_ratio(most: float | None, outcome: str) -> None:
    farther = {"model/logits": off(MODEL["model/logits"], 1.0)}  # the two logits may move by 0.1 each
    found = judged(gaps=[gap("decision/*", max_ratio=most)], isolated=farther)
    assert found["isolated", "onnxrt", "decision/margin"].ratio == pytest.approx(5.0)
    assert found["isolated", "onnxrt", "decision/margin"].outcome == outcome


@pytest.mark.parametrize(
    "worse",
    [MODEL["model/relu1"].astype(np.float64), MODEL["model/relu1"][:1], np.array([np.nan, 2.0], np.float32)],
    ids=["dtype", "shape", "NaN"],
)
def test_a_gap_covers_nothing_that_has_no_size(worse: Array) -> None:
    rules = Policy([ANY], [gap("model/relu1")])
    found = judged(policy=rules, isolated={"model/relu1": worse})
    assert found["isolated", "onnxrt", "model/relu1"].outcome == "fail"
    assert rules.used_gaps == set()


def test_a_gap_of_another_outcome_covers_nothing() -> None:
    found = judged(gaps=[gap("model/relu1", outcome="missing")], isolated={"model/relu1": off(MODEL["model/relu1"], 9)})
    assert found["isolated", "onnxrt", "model/relu1"].outcome == "fail"
