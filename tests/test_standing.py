"""What the gate finds between two baselines: each kind planted once, and what must not be found."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from parity import settings, standing
from parity.baseline import Accepted, Baseline, Key, Model, Row, Time
from parity.standing import Asked, Finding

ENVIRONMENT = {
    "machine": {"model": "A CPU", "architecture": "x86_64", "features_sha256": "ab", "os": "Linux"},
    "python": "3.11.7", "numpy": "2.4.6",
    "plugins": {"librosa": {"librosa": "0.11.0"}, "numpy": {}, "onnxrt": {"onnxruntime": "1.31.1"}},
}  # fmt: skip
CLIPS = {"3 clips": ["a.wav", "b.wav", "c.wav"], "1 clip": ["b.wav"]}
LIMITS = settings.Gate()


def row(backend: str, tap: str, ratio: float | None = 0.4, **more: Any) -> Row:
    network = not tap.startswith("features/")
    base: dict[str, Any] = {
        "runtime": "onnxrt" if network else "", "precision": "float32" if network else "", "target": "local",
        "path": ("cumulative" if backend else "isolated") if network else "features", "others": 0, "clips": "3 clips",
    }  # fmt: skip
    return Row(backend=backend, tap=tap, ratio=ratio, **(base | more))


ROWS = (
    row("librosa", "features/spectrum"), row("librosa", "model/logits"), row("librosa", "decision/label", None),
    row("numpy", "features/spectrum"), row("numpy", "model/logits"), row("numpy", "model/relu1", clips="1 clip"),
    row("", "model/logits"),
    row("", "model/logits", 0.5, precision="int8"),
    row("", "decision/label", None, precision="int8", others=2),
)  # fmt: skip


def made(*rows: Row, **more: Any) -> Baseline:
    base: dict[str, Any] = {
        "system": "commands-cnn", "environment": ENVIRONMENT, "accepted": [Accepted("2026-01-02", "run", "why")],
        "clips": CLIPS, "rows": list(rows or ROWS), "models": [Model("onnx", "float32", "m.onnx", 1000)],
        "times": [Time("features", "librosa", "", 0.5), Time("model", "onnxrt", "float32", 0.1)],
    }  # fmt: skip
    return Baseline(**(base | more))


def changed(key: str, **fields: Any) -> Baseline:
    """What a run measured, one row of it otherwise; `key` is its backend, tap and precision."""
    backend, tap, precision = key.split(" ")
    wanted = [r for r in ROWS if (r.backend, r.tap, r.precision) == (backend, tap, precision)]
    assert len(wanted) == 1
    return made(*[msgspec.structs.replace(r, **fields) if r is wanted[0] else r for r in ROWS])


def found(
    now: Baseline, *accepted: Baseline, asked: Asked | None = None, grain: dict[Key, float] | None = None,
    reason: str = "", **limits: Any,
) -> list[Finding]:  # fmt: skip
    stands = standing.standing(now, "local", accepted or [made()])
    of = standing.findings_of(
        stands, asked or Asked(), msgspec.structs.replace(LIMITS, **limits), grain or {}, lambda _: reason
    )
    return sorted(of, key=lambda f: f.order)


def of(f: Finding) -> tuple[str, ...]:
    return tuple(filter(None, (f.kind, f.backend, f.runtime, f.precision, f.path, f.tap)))


def other(**more: Any) -> dict[str, Any]:
    """Another environment."""
    return ENVIRONMENT | more


# ---- drift ----


def test_the_same_again_is_no_finding() -> None:
    assert found(made()) == []


def test_an_error_that_grew_within_its_bound_is_drift() -> None:
    (f,) = found(changed("librosa features/spectrum ", ratio=0.6))
    assert of(f) == ("drift", "librosa", "features", "features/spectrum")
    assert (f.was, f.now, f.fails) == (0.4, 0.6, True)
    assert f.text == "error over bound grew 1.5 times, 0.4 -> 0.6"


@pytest.mark.parametrize(
    ("was", "now", "drift"),
    [(0.4, 0.4 * LIMITS.drift_factor, False), (0.4, 0.4 * LIMITS.drift_factor + 1e-9, True),
     (0.0, LIMITS.drift_floor, False), (0.0, LIMITS.drift_floor + 1e-9, True),
     (LIMITS.drift_floor, 2 * LIMITS.drift_floor, False), (LIMITS.drift_floor, 2 * LIMITS.drift_floor + 1e-9, True),
     (0.4, 0.1, False)],
)  # fmt: skip
def test_drift_is_beyond_the_factor_and_beyond_the_floor(was: float, now: float, drift: bool) -> None:
    assert standing.drifted(was, now, LIMITS) is drift


def test_integers_move_by_whole_steps_and_one_is_no_drift() -> None:
    key = ROWS[7].key
    one_step = changed(" model/logits int8", ratio=0.65)
    assert [of(f) for f in found(one_step)] == [("drift", "onnxrt", "int8", "isolated", "model/logits")]
    assert found(one_step, grain={key: 0.15}) == []
    assert len(found(changed(" model/logits int8", ratio=0.8), grain={key: 0.15})) == 1


def test_what_is_out_of_bounds_is_told_as_that_and_not_as_drift() -> None:
    assert found(changed("librosa features/spectrum ", ratio=1.5)) == []


def test_a_tap_that_had_no_error_at_all_and_has_one_now_drifted() -> None:
    accepted = changed("librosa features/spectrum ", ratio=None)
    (f,) = found(made(), accepted)
    assert f.text == "error over bound grew, 0 -> 0.4"


def test_the_worst_of_what_was_accepted_counts() -> None:
    numpy_only = made(
        *[r for r in ROWS if r.backend != "librosa"], row("librosa", "features/spectrum", 0.58),
        environment=other(plugins={"numpy": {}, "onnxrt": {"onnxruntime": "1.31.1"}}),
    )  # fmt: skip
    assert found(changed("librosa features/spectrum ", ratio=0.6), made(), numpy_only) == []


# ---- whose baseline ----


@pytest.mark.parametrize(
    ("change", "words"),
    [({"python": "3.12.1"}, "Python 3.11.7 -> 3.12.1"), ({"numpy": "2.5"}, "NumPy 2.4.6 -> 2.5"),
     ({"machine": ENVIRONMENT["machine"] | {"model": "B"}}, "CPU A CPU -> B"),
     ({"machine": ENVIRONMENT["machine"] | {"architecture": "aarch64"}}, "architecture x86_64 -> aarch64"),
     ({"plugins": {"numpy": {}, "onnxrt": {"onnxruntime": "1.32"}}}, "onnxruntime 1.31.1 -> 1.32")],
)  # fmt: skip
def test_another_environment_is_judged_by_bounds_alone_and_told(change: dict[str, Any], words: str) -> None:
    now = msgspec.structs.replace(changed("librosa features/spectrum ", ratio=0.9), environment=other(**change))
    stands = standing.standing(now, "local", [made()])
    assert (stands.state, list(stands.differs)) == ("new", [words])
    (f,) = found(now)
    assert (f.kind, f.fails) == ("baseline", False)
    assert words in f.text
    (f,) = found(now, require_baseline=True)
    assert f.fails


def test_without_any_baseline_nothing_is_held() -> None:
    stands = standing.standing(made(), "local", [])
    assert (stands.state, stands.plain()["accepted"]) == ("none", "")
    (f,) = standing.findings_of(stands, Asked(), LIMITS, {}, lambda _: "")
    assert (f.kind, f.fails, f.text) == ("baseline", False, "no baseline yet: judged by its bounds alone")


def test_the_records_say_which_baseline_and_why_it_was_accepted() -> None:
    plain = standing.standing(made(), "local", [made()]).plain()
    assert plain["state"] == "held"
    assert (plain["accepted"], plain["reason"], plain["differs"]) == ("2026-01-02", "why", [])
    assert plain["fingerprint"] == made().fingerprint


def test_a_plugin_that_only_one_of_them_has_makes_no_other_environment() -> None:
    now = made(environment=other(plugins={**ENVIRONMENT["plugins"], "tflite": {"ai-edge-litert": "2.3.0"}}))
    assert standing.standing(now, "local", [made()]).state == "held"


def test_the_closest_of_several_is_the_one_that_differs_least() -> None:
    far = made(environment=other(python="3.9", numpy="1.24"), accepted=[Accepted("2020-01-01", "r", "far")])
    near = made(environment=other(python="3.12"), accepted=[Accepted("2021-01-01", "r", "near")])
    assert standing.standing(made(), "local", [far, near]).plain()["reason"] == "near"


ARM = {"model": "Cortex-A72", "architecture": "aarch64", "features_sha256": "cd", "os": "Linux"}


def on_pi(*rows: Row, **machine: Any) -> Baseline:
    """The same on a Pi."""
    rows = tuple(msgspec.structs.replace(r, target="pi") for r in rows or ROWS)
    return made(*rows, environment=other(target="pi", machine=ARM | machine))


def test_a_baseline_of_another_target_holds_nothing_and_says_what_differs() -> None:
    s = standing.standing(on_pi(), "pi", [made()])
    assert (s.state, s.held, s.closest) == ("new", [], None)
    assert s.differs == [
        "target local -> pi", "CPU A CPU -> Cortex-A72", "architecture x86_64 -> aarch64", "CPU features ab -> cd",
    ]  # fmt: skip
    # Drift, coverage, sizes and times are its own target's affair.
    small = on_pi(msgspec.structs.replace(ROWS[0], ratio=0.9))
    told = list(standing.findings_of(standing.standing(small, "pi", [made()]), Asked(), LIMITS, {}, lambda _: ""))
    assert [f.kind for f in told] == ["baseline"]
    assert "architecture x86_64 -> aarch64" in told[0].text
    # Not even where the machine is the very same.
    alike = made(environment=other(target="pi"))
    assert standing.standing(alike, "pi", [made()]).state == "new"
    assert standing.standing(alike, "pi", [made(), alike]).state == "held"
    assert alike.fingerprint != made().fingerprint


def test_a_name_that_leads_to_another_machine_is_not_held_to_the_first_ones_baseline() -> None:
    s = standing.standing(on_pi(model="Cortex-A76"), "pi", [on_pi()])
    assert (s.state, s.differs) == ("new", ["CPU Cortex-A72 -> Cortex-A76"])


def test_an_emulated_cpu_isnt_the_one_whose_name_it_bears() -> None:
    s = standing.standing(on_pi(emulated=True), "pi", [on_pi()])
    assert (s.state, s.differs) == ("new", ["CPU real -> emulated"])
    assert standing.standing(on_pi(), "pi", [on_pi(emulated=True)]).state == "new"


def test_a_limit_of_time_may_be_a_targets_own_and_none_holds_an_emulated_cpu() -> None:
    def slower(now: Baseline, was: Baseline, **limits: Any) -> list[str]:
        stands = standing.standing(now, "pi", [was])
        told = standing.findings_of(stands, Asked(), settings.Gate(**limits), {}, lambda _: "")
        return [f.target for f in told if f.kind == "latency"]

    slow = [Time("features", "librosa", "", 1.1)]
    now = msgspec.structs.replace(on_pi(), times=slow)
    assert slower(now, on_pi(), latency_factor=2.0) == ["pi"]
    assert slower(now, on_pi(), latency_factor=2.0, latency={"pi": 3.0}) == []
    assert slower(now, on_pi(), latency={"pi": 2.0}) == ["pi"]
    assert slower(now, on_pi(), latency={"old": 2.0}) == []
    played = [msgspec.structs.replace(on_pi(emulated=True), times=t) for t in (slow, on_pi().times)]
    assert slower(*played, latency_factor=2.0) == []


# ---- coverage ----


def without(keep: Any, **more: Any) -> Baseline:
    return made(*[r for r in ROWS if keep(r)], **more)


def test_a_lost_backend_is_told_once_with_all_that_it_fed() -> None:
    (f,) = found(without(lambda r: r.backend != "librosa"), reason="librosa isn't installed")
    assert of(f) == ("coverage", "librosa")
    assert f.text == "was compared when accepted (3 taps), isn't now: librosa isn't installed"


def test_a_lost_precision_is_told_once() -> None:
    (f,) = found(without(lambda r: r.precision != "int8"))
    assert of(f) == ("coverage", "onnxrt", "int8")


def test_a_lost_pair_is_told() -> None:
    (f,) = found(without(lambda r: not (r.backend == "numpy" and r.runtime)))
    assert of(f) == ("coverage", "numpy", "onnxrt", "float32")


def test_a_lost_tap_is_told() -> None:
    (f,) = found(without(lambda r: r.tap != "model/relu1"))
    assert of(f) == ("coverage", "numpy", "onnxrt", "float32", "cumulative", "model/relu1")


def test_a_lost_clip_is_told_once_for_all_taps() -> None:
    clips = {"3 clips": ["a.wav", "c.wav"], "1 clip": ["b.wav"]}
    (f,) = found(made(clips=clips))
    assert (of(f), f.text) == (("coverage",), "1 clip fewer than accepted at 8 taps: b.wav")


def test_a_clip_lost_at_one_tap_says_which() -> None:
    (f,) = found(changed("librosa features/spectrum ", clips="1 clip"))
    assert of(f) == ("coverage", "librosa", "features", "features/spectrum")
    assert f.text == "2 clips fewer than accepted at 1 tap: a.wav, c.wav"


def test_coverage_is_held_in_a_new_environment_too() -> None:
    now = without(lambda r: r.backend != "librosa", environment=other(numpy="2.5"))
    assert [(f.kind, f.fails) for f in found(now)] == [("coverage", True), ("baseline", False)]


@pytest.mark.parametrize(
    ("asked", "keep"),
    [(Asked(backends=("numpy",)), lambda r: r.backend != "librosa"),
     (Asked(precisions=("float32",)), lambda r: r.precision != "int8"),
     (Asked(runtimes=("tflite",)), lambda r: not r.runtime)],
)  # fmt: skip
def test_what_was_not_asked_for_is_no_loss(asked: Asked, keep: Any) -> None:
    assert found(without(keep)) != []
    assert found(without(keep), asked=asked) == []


def test_a_plugin_with_options_is_asked_for_only_by_name() -> None:
    accepted = made(*ROWS, row("", "model/logits", runtime="onnxrt:opt=off"))
    assert found(made(), accepted) == []
    (f,) = found(made(), accepted, asked=Asked(runtimes=("onnxrt", "onnxrt:opt=off")))
    assert of(f) == ("coverage", "onnxrt:opt=off", "float32")


def test_more_than_was_accepted_is_no_finding() -> None:
    assert found(made(*ROWS, row("torch", "features/spectrum"))) == []


# ---- labels, sizes, times, accuracy ----


def test_more_labels_than_accepted_flip() -> None:
    now = changed(" decision/label int8", others=4)
    (f,) = found(now)
    assert of(f) == ("flips", "onnxrt", "int8", "isolated", "decision/label")
    assert f.text == "another label than the golden's on 4 clips, 2 when accepted"
    assert found(now, flips_margin=2) == []
    assert len(found(now, flips_margin=1)) == 1


def test_a_larger_file_is_told_where_a_limit_is_set() -> None:
    now = made(models=[Model("onnx", "float32", "m.onnx", 1200)])
    assert found(now) == []
    (f,) = found(now, size_factor=1.1)
    assert f.text == "m.onnx has 1,200 bytes, 1,000 when accepted: 1.2 times"
    assert found(now, size_factor=1.2) == []


def test_a_slower_frame_is_told_where_a_limit_is_set() -> None:
    now = made(times=[Time("features", "librosa", "", 1.1), Time("model", "onnxrt", "float32", 0.3)])
    assert found(now) == []
    model, features = found(now, latency_factor=2.0)
    assert (of(features), features.text) == (
        ("latency", "librosa"), "a frame takes 1.1 ms, 0.5 ms when accepted: 2.2 times"
    )  # fmt: skip
    assert of(model) == ("latency", "onnxrt", "float32")
    slower_machine = msgspec.structs.replace(now, environment=other(python="3.12"))
    assert [f.kind for f in found(slower_machine, latency_factor=2.0)] == ["baseline"]


def test_the_worst_comes_first_and_what_does_not_fail_last() -> None:
    now = made(
        *[msgspec.structs.replace(r, ratio=0.9 if r.backend else 0.6) if r.tap == "model/logits" else r
          for r in ROWS if r.tap != "model/relu1"],
    )  # fmt: skip
    kinds = [(f.kind, f.backend, f.now) for f in found(now)]
    assert kinds[:3] == [("drift", "librosa", 0.9), ("drift", "numpy", 0.9), ("drift", "", 0.6)]
    assert kinds[-1][0] == "coverage"
