"""`parity.localize`: flow order, pairs, and which failure is to blame."""

from __future__ import annotations

import math

import msgspec
import pytest

from parity.localize import (
    Since,
    badness,
    erring,
    first_failures,
    flow,
    follows_from,
    hertz,
    number,
    on,
    pairs,
    passes_alone,
    place,
    several,
    since,
    title,
    title_of,
)
from parity.records import Run, TapSummary, Verdict

from .report.made import FEATURES, HOSTILE, TAPS, hostile, mixed, run, verdict, whole


def named(verdicts: list[Verdict]) -> list[tuple[str, str, str]]:
    return [(v.backend, v.runtime, v.tap) for v in verdicts]


def test_flow_is_the_declared_order_then_what_else_was_seen() -> None:
    of = run(verdict("pass", "model/extra"), verdict("pass", "model/relu1"), verdict("pass", "features/spectrum"))
    assert flow(of, "commands-cnn") == [*TAPS, "model/extra"]
    of.systems = {}
    assert flow(of, "commands-cnn") == ["model/extra", "model/relu1", "features/spectrum"]
    assert flow(of, "no such system") == []


def test_pairs_are_sorted_and_their_taps_in_flow_order() -> None:
    of = run(*reversed(whole("numpy") + whole("librosa")[:3]))
    found = pairs(of)
    assert [p.name for p in found] == ["librosa", "numpy", "numpy → onnxrt float32"]
    assert [row.tap for row in found[1].rows] == FEATURES
    assert all(row.isolated is None for row in found[1].rows)
    assert all(row.isolated is not None and row.cumulative is not None for row in found[2].rows)


def test_a_network_without_backends_is_a_pair_of_its_own() -> None:
    (pair,) = pairs(run(verdict("pass", "model/logits", path="isolated")))
    assert (pair.backend, pair.name) == ("", "golden features → onnxrt float32")
    assert pair.rows[0].cumulative is None


def test_the_first_failing_tap_comes_by_flow_not_by_size_or_order() -> None:
    late = verdict("fail", "features/compressed", ratio=1e9)
    early = verdict("fail", "features/spectrum", ratio=1.5)
    assert first_failures(run(late, early)) == [early]


def test_failures_of_a_backend_explain_its_network_where_it_passes_alone() -> None:
    of = run(*whole("librosa", filterbank="fail", compressed="fail", input="fail", relu1="fail"), *whole("numpy")[:3])
    found = first_failures(of)
    assert named(found) == [("librosa", "", "features/filterbank"), ("librosa", "onnxrt", "model/input")]
    assert follows_from(of, found[0]) is None
    assert follows_from(of, found[1]) == found[0]


def test_a_model_that_fails_alone_is_to_blame() -> None:
    of = run(*whole("librosa", spectrum="fail", relu1="fail", logits="fail", isolated_relu1="fail"))
    found = first_failures(of)
    assert named(found[:2]) == [("", "onnxrt", "model/relu1"), ("librosa", "", "features/spectrum")]
    cause = follows_from(of, found[2])
    assert cause is not None
    assert (cause.path, cause.tap) == ("isolated", "model/relu1")


def test_an_isolated_failure_later_in_the_flow_explains_nothing_earlier() -> None:
    of = run(*whole("librosa", relu1="fail", isolated_logits="fail"))
    cumulative = next(v for v in first_failures(of) if v.path == "cumulative")
    assert follows_from(of, cumulative) is None


def on_path(outcome: str, tap: str, path: str, precision: str = "int8") -> Verdict:
    return verdict(outcome, tap, path=path, backend="", precision=precision)


def test_of_file_and_runtime_the_one_that_fails_first_is_blamed_and_a_later_runtime_is_told_as_well() -> None:
    runtime = run(on_path("fail", "model/relu1", "deployment"), on_path("fail", "model/relu1", "isolated"))
    assert [v.path for v in first_failures(runtime)] == ["deployment"]
    hidden = run(on_path("fail", "model/relu1", "deployment"), on_path("fail", "model/logits", "isolated"))
    assert [v.path for v in first_failures(hidden)] == ["deployment"]
    both = run(on_path("fail", "model/relu1", "isolated"), on_path("fail", "model/logits", "deployment"))
    assert sorted((v.path, v.tap) for v in first_failures(both)) == [
        ("deployment", "model/logits"), ("isolated", "model/relu1"),
    ]  # fmt: skip
    file = run(on_path("fail", "model/relu1", "isolated"), on_path("pass", "model/relu1", "deployment"))
    assert [v.path for v in first_failures(file)] == ["isolated"]


def test_what_fails_against_the_kernels_explains_what_follows_on_a_backends_features() -> None:
    cumulative = verdict("fail", "model/logits", precision="int8")
    kernels = on_path("fail", "model/relu1", "deployment")
    of = run(kernels, on_path("pass", "model/logits", "isolated"), cumulative)
    assert follows_from(of, cumulative) == kernels
    later = run(
        on_path("fail", "decision/label", "deployment"), on_path("pass", "model/logits", "isolated"), cumulative
    )
    assert follows_from(later, cumulative) is None


def starting(of: Run, tap: str, **before: int) -> TapSummary:
    found = next(s for s in of.summaries if s.tap == tap and s.path == "isolated")
    found.since = {("model/" + name if name else ""): clips for name, clips in before.items()}
    return found


def test_a_layer_has_made_the_error_where_all_before_it_is_within_bounds() -> None:
    of = run(*whole("numpy", isolated_logits="fail"))
    failing = starting(of, "model/logits", relu1=1, input=17)
    assert since(of, failing.worst) == Since("model/relu1", ())


def test_where_no_layer_was_compared_it_is_somewhere_between() -> None:
    of = run(*whole("numpy", isolated_logits="fail"))
    failing = starting(of, "model/logits", input=17)
    assert since(of, failing.worst) == Since("model/input", ("model/relu1",))
    failing.since = {"": 1}
    assert since(of, failing.worst) == Since("", ("model/input", "model/relu1"))
    failing.since = {"model/of-elsewhere": 1}
    assert since(of, failing.worst) == Since("model/of-elsewhere", ("model/input", "model/relu1"))


def test_nothing_is_said_of_a_tap_at_which_no_clip_first_fails() -> None:
    of = run(*whole("numpy", isolated_logits="fail"))
    assert since(of, next(s.worst for s in of.summaries if s.tap == "model/logits")) is None
    assert since(of, verdict("fail", "model/logits", backend="another")) is None


def test_the_stages_that_err_by_themselves_come_in_flow_order() -> None:
    own = {"own_outcome": "fail", "own_error": 1.0, "own_bound": 0.5, "own_ratio": 2.0}
    of = run(*whole("numpy", compressed="fail"), *whole("librosa", compressed="fail"))
    for s in of.summaries:
        if s.backend == "numpy" and s.path == "features":
            s.own = verdict("fail", s.tap, backend="numpy", **own | ({} if s.tap != "features/filterbank" else
                                                                     {"own_outcome": "pass"}))  # fmt: skip
    of.summaries.reverse()
    numpy, librosa = (next(s.worst for s in of.summaries if s.backend == b) for b in ("numpy", "librosa"))
    assert erring(of, numpy) == ["features/spectrum", "features/compressed"]
    assert erring(of, librosa) == []


def test_without_isolated_numbers_nothing_is_excused() -> None:
    of = run(*(v for v in whole("librosa", spectrum="fail", input="fail") if v.path != "isolated"))
    assert [follows_from(of, v) for v in first_failures(of)] == [None, None]


def test_features_that_never_came_explain_any_outcome() -> None:
    dead = verdict("error", "features/spectrum", message="worker died")
    network = verdict("error", "model/logits")
    assert follows_from(run(dead, network), network) == dead


def test_another_target_or_backend_explains_nothing() -> None:
    passes = [verdict("pass", "model/input", path="isolated", target=t) for t in ("local", "pi")]
    failing = verdict("fail", "model/input", target="pi")
    others = [verdict("fail", "features/spectrum"), verdict("fail", "features/spectrum", backend="numpy", target="pi")]
    of = run(*others, failing, *passes)
    assert follows_from(of, failing) is None


def test_consequences_come_last_and_the_rest_worst_first() -> None:
    of = mixed()
    found = first_failures(of)
    causes = [follows_from(of, v) is not None for v in found]
    assert causes == sorted(causes)
    again = Run(name="", started="", systems=of.systems, summaries=list(reversed(of.summaries)))
    assert first_failures(again) == found


@pytest.mark.parametrize("outcome", ["pass", "gap", "unavailable", "unsupported"])
def test_what_is_no_failure_is_not_blamed(outcome: str) -> None:
    assert first_failures(run(verdict(outcome, "features/spectrum"))) == []


def test_empty_and_hostile_runs() -> None:
    assert pairs(run()) == []
    assert first_failures(run()) == []
    found = first_failures(hostile())
    assert [v.backend for v in found] == [HOSTILE] * 4


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (None, "–"), (0.0, "0"), (-0.0, "0"), (0.3125, "0.312"), (2.1e-5, "2.1e-5"), (1.0e-10, "1e-10"), (99.96, "100"),
        (14_881.0, "14900"), (-14_881.0, "-14900"), (123_456.0, "1.23e5"), (0.0009999, "1e-3"), (math.nan, "nan"),
        (math.inf, "inf"), (-math.inf, "-inf"), (1e300, "1e300"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits(x: float | None, text: str) -> None:
    assert number(x) == text


def test_places() -> None:
    assert place(verdict("pass", "features/spectrum")) == ["frame 12", "0.125 s", "bin 14 = 438 Hz"]
    assert place(verdict("pass", "features/filterbank", frequency=4375.0))[-1] == "band 14 = 4.38 kHz"
    assert place(verdict("pass", "features/cepstrum", frequency=None))[-1] == "coefficient 14"
    audio = verdict("pass", "features/audio", index=(40,), frame=None, band=None, time=0.0025)
    assert place(audio) == ["sample 40", "0.0025 s"]
    assert place(verdict("pass", "model/relu1")) == ["t 12 f 3 c 40"]
    assert place(verdict("pass", "model/logits", index=(4,))) == ["index 4"]
    assert place(verdict("pass", "model/pool", index=(4, 5))) == ["index 4 5"]
    assert place(verdict("pass", "decision/margin")) == []
    assert place(verdict("pass", "model/logits", index=())) == []


def test_titles() -> None:
    assert title("s", "librosa", "", "") == "s · librosa"
    assert title("s", "librosa", "onnxrt", "float32", "local") == "s · librosa → onnxrt float32"
    assert title("", "", "tflite", "int8", "pi") == "golden features → tflite int8 on pi"


# ---- To the last word and number ----


def test_numbers_at_the_edges_of_their_forms() -> None:
    assert [number(x) for x in (99.94, 99_949.0, 99_950.0, 99_950.5, 1e-3, 0.00099949)] == [
        "99.9", "99900", "1e5", "1e5", "0.001", "9.99e-4",
    ]  # fmt: skip
    assert [hertz(f) for f in (999.4, 999.5, 1000.0)] == ["999 Hz", "1 kHz", "1 kHz"]


def test_a_ratio_that_is_no_number_is_the_worst() -> None:
    assert badness(verdict("fail", "model/relu1", ratio=2.0)) == (3, 2.0)
    assert badness(verdict("fail", "model/relu1", ratio=math.nan)) == (3, math.inf)
    assert badness(verdict("pass", "model/relu1", ratio=0.5)) == (1, 0.5)


def test_titles_of_verdicts() -> None:
    assert title("", "numpy", "onnxrt", "") == "numpy → onnxrt"
    v = verdict("fail", "model/relu1", system="kws", backend="numpy", runtime="tflite", precision="int8", target="pi")
    assert title_of(v) == "kws · numpy → tflite int8 on pi"


def test_a_row_has_what_was_judged_on_each_way() -> None:
    (alone, numpy) = pairs(
        run(
            verdict("fail", "model/relu1", backend="numpy"),
            verdict("pass", "model/relu1", path="isolated"),
            on_path("fail", "model/logits", "deployment", "float32"),
            verdict("pass", "model/relu1", path="isolated", runtime="tflite"),
            on_path("pass", "model/logits", "deployment", "int8"),
        )
    )
    assert (numpy.system, numpy.backend, numpy.runtime) == ("commands-cnn", "numpy", "onnxrt")
    assert [r.tap for r in numpy.rows] == ["model/relu1", "model/logits"]
    first, second = numpy.rows
    assert [s and s.path for s in (first.cumulative, first.isolated, first.deployment)] == [
        "cumulative", "isolated", None,
    ]  # fmt: skip
    assert [s and s.path for s in (second.cumulative, second.isolated, second.deployment)] == [None, None, "deployment"]
    assert (alone.system, alone.backend, alone.runtime) == ("commands-cnn", "", "tflite")


def test_a_network_without_isolated_numbers_is_a_pair_as_well() -> None:
    (pair,) = pairs(run(verdict("pass", "model/relu1", backend="numpy")))
    assert pair.rows[0].isolated is pair.rows[0].deployment is None


def test_of_file_and_runtime_the_earlier_failure_explains() -> None:
    cumulative = verdict("fail", "decision/label", precision="int8")
    for file, runtime in (("model/relu1", "model/logits"), ("model/logits", "model/relu1")):
        of = run(on_path("fail", file, "isolated"), on_path("fail", runtime, "deployment"), cumulative)
        cause = follows_from(of, cumulative)
        assert cause is not None
        assert cause.tap == "model/relu1"
        assert cause.path == ("isolated" if file == "model/relu1" else "deployment")


def test_a_failure_of_another_system_explains_nothing() -> None:
    failing, passes = verdict("fail", "model/input"), verdict("pass", "model/input", path="isolated")
    other = verdict("fail", "features/spectrum", system="another")
    of = run(other, failing, passes)
    assert follows_from(of, failing) is None
    assert follows_from(run(verdict("fail", "features/spectrum"), failing, passes), failing) is not None


def test_a_networks_failure_before_is_no_failure_of_the_features() -> None:
    # The backend's own network fails earlier in the flow; its features pass.
    failing, passes = verdict("fail", "model/relu1"), verdict("pass", "model/relu1", path="isolated")
    of = run(verdict("pass", "features/spectrum"), verdict("fail", "model/input", runtime=""), failing, passes)
    assert follows_from(of, failing) is None


def test_a_network_passes_alone_at_this_tap_of_this_file_only() -> None:
    failing = verdict("fail", "model/input")
    for other in (
        verdict("pass", "model/relu1", path="isolated"),
        verdict("pass", "model/input", path="isolated", runtime="tflm"),
        verdict("pass", "model/input", path="isolated", precision="int8"), verdict("pass", "model/input"),
        verdict("fail", "model/relu1", path="isolated"),
    ):  # fmt: skip
        assert not passes_alone(run(failing, other), failing)
    assert passes_alone(run(failing, verdict("pass", "model/input", path="isolated")), failing)


def test_of_one_tap_the_first_failure_is_told() -> None:
    one, two = (verdict("fail", "features/spectrum", clip=clip) for clip in "ab")
    assert first_failures(run(one, two)) == [one]


def test_the_worst_comes_first() -> None:
    slight = verdict("fail", "features/spectrum", backend="a", ratio=2.0)
    grave = verdict("fail", "features/spectrum", backend="b", ratio=9.0)
    dead = verdict("error", "features/spectrum", backend="c")
    assert first_failures(run(slight, grave, dead)) == [dead, grave, slight]
    same = verdict("fail", "features/spectrum", backend="0", ratio=2.0)
    assert first_failures(run(slight, same)) == [same, slight]


def test_the_last_tap_within_bounds_counts_whatever_its_name() -> None:
    of = run(*whole("numpy", isolated_label="fail"))
    failing = next(s for s in of.summaries if s.tap == "decision/label" and s.path == "isolated")
    # By name `model/relu1` is the last, in the flow `model/logits` is; what isn't in the flow comes before all.
    for seen in (("model/relu1", "model/logits"), ("model/logits", "model/relu1"), ("zzz", "model/logits")):
        failing.since = dict.fromkeys(seen, 1)
        assert since(of, failing.worst) == Since("model/logits", ())
    failing.since = {"zzz": 1, "model/input": 1}
    assert since(of, failing.worst) == Since("model/input", ("model/relu1", "model/logits"))
    failing.since = {"zzz": 1, "features/spectrum": 1}
    found = since(of, failing.worst)
    assert found is not None
    assert found.tap == "features/spectrum", "the first of the flow comes after what isn't in it"
    assert found.between == ("model/input", "model/relu1", "model/logits")
    of = run(*whole("numpy", filterbank="fail"))
    failing = next(s for s in of.summaries if s.tap == "features/filterbank")
    failing.since = {"zzz": 1}
    assert since(of, failing.worst) == Since("zzz", ("features/spectrum",))


def test_this_machine_is_named_beside_others_only() -> None:
    assert (on(""), on("", True), on("local"), on("local", True), on("pi")) == ("", "", "", " on local", " on pi")
    assert title("s", "numpy", "", "", "local", True) == "s · numpy on local"
    v = verdict("pass", "features/spectrum", backend="numpy")
    alone, beside = run(v), run(v, msgspec.structs.replace(v, target="pi"))
    assert (several(run()), several(alone), several(beside)) == (False, False, True)
    assert title_of(v) == title_of(v, alone) == "commands-cnn · numpy"
    assert title_of(v, beside) == "commands-cnn · numpy on local"
    assert [p.name for p in pairs(alone)] == ["numpy"]
    assert [p.name for p in pairs(beside)] == ["numpy on local", "numpy on pi"]
    # A target that nothing was compared on is one all the same.
    assert several(run(v, environment={"targets": {"local": {}, "pi": {}}}))
    assert not several(run(v, environment={"targets": {"local": {}}}))
