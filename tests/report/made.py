"""Small runs made by hand: no framework, no array."""

from __future__ import annotations

from typing import Any

import msgspec

from parity.records import Run, Skipped, TapSummary, Verdict

TAPS = [
    "features/spectrum", "features/filterbank", "features/compressed", "model/input", "model/relu1", "model/logits",
    "decision/label", "decision/margin",
]  # fmt: skip
FEATURES, NETWORK = TAPS[:3], TAPS[3:]
HOSTILE = "<script>alert(1)</script>\x00\x1b[31m\ud800\ufffe]]>&\"'\u202e\n.wav"


def verdict(outcome: str, tap: str, *, backend: str = "librosa", path: str = "", **more: Any) -> Verdict:
    """A verdict of commands-cnn; a tap of the network is judged under onnxrt float32, cumulatively unless told."""
    network = not tap.startswith("features/")
    base: dict[str, Any] = {
        "system": "commands-cnn", "backend": "" if path == "isolated" else backend, "target": "local",
        "runtime": "onnxrt" if network else "", "precision": "float32" if network else "",
        "path": path or ("cumulative" if network else "features"), "tap": tap, "outcome": outcome,
        "clip": "yes-en-us-f2",
    }  # fmt: skip
    compared = outcome in ("pass", "fail", "gap") and tap != "decision/label"
    if compared:
        base |= {"error": 6.37e-6, "bound": 2.1e-5, "ratio": 0.303}
    if compared and outcome != "pass":
        base |= {"error": 0.3125, "bound": 2.1e-5, "ratio": 14_881.0, "outside": 0.12, "message": "12 of 100 are out"}
    if compared and not network:
        base |= {"index": (12, 14), "frame": 12, "time": 0.125, "band": 14, "frequency": 437.5, "unit": "FS²"}
    elif compared:
        base |= {"index": (12, 3, 40)}
    if (tap, outcome) == ("decision/label", "fail"):
        base["message"] = "label flipped: 'a' where the golden says 'b' by 1"
    return Verdict(**base | more)


def summary(worst: Verdict, near_ties: int = 0, clips: int = 18) -> TapSummary:
    """A summary with `worst` and otherwise passes."""
    v = worst
    counts = {v.outcome: 1} if v.outcome == "pass" else {v.outcome: 1, "pass": clips - 1}
    counts["pass"] = clips - 1 + (v.outcome == "pass")
    return TapSummary(
        system=v.system, backend=v.backend, runtime=v.runtime, precision=v.precision, target=v.target, path=v.path,
        tap=v.tap, counts=counts, near_ties=near_ties, worst=v,
    )  # fmt: skip


def run(*verdicts: Verdict, **more: Any) -> Run:
    """A run with a summary a verdict."""
    systems = {"commands-cnn": {
        "labels": ["yes", "no"], "frontend_digest": "c8b2e89f34a271e0", "taps": TAPS, "clips": 18,
        "artifacts": [{"format": "onnx", "precision": "float32", "file": "model.onnx", "sha256": "ab" * 32}],
        "anchor": {"backend": "librosa", "versions": {"librosa": "0.11.0"}},
    }}  # fmt: skip
    base: dict[str, Any] = {
        "name": "2026-01-02T03-04-05", "started": "2026-01-02T03:04:05+0000", "seconds": 12.5,
        "command": "parity run commands-cnn", "systems": systems if verdicts else {},
        "summaries": [summary(v) for v in verdicts],
        "environment": {
            "cpu": {"model": "A CPU", "cores": 2}, "python": "3.11.7", "threads": 1, "fingerprint": "0123456789abcdef",
            "plugins": {"librosa": {"librosa": "0.11.0"}, "onnxrt": {"onnxruntime": "1.31.1"}},
        },
        "commit": {"commit": "d583a00" + "0" * 33, "dirty": True},
        "timings": [{"stage": "features", "plugin": "librosa", "system": "commands-cnn", "clips": 18, "seconds": 0.25}],
    }  # fmt: skip
    return Run(**base | more)


def whole(backend: str, **outcomes: str) -> list[Verdict]:
    """Every tap of a backend and of onnxrt float32; `outcomes` as `spectrum="fail"`, `isolated_relu1="fail"`."""
    made = []
    for tap in TAPS:
        name = tap.partition("/")[2]
        made.append(verdict(outcomes.get(name, "pass"), tap, backend=backend))
        if tap in NETWORK:
            made.append(verdict(outcomes.get(f"isolated_{name}", "pass"), tap, backend=backend, path="isolated"))
    return made


def mixed() -> Run:
    """Everything at once: a failing backend with its consequences, a failing model, gaps, ties, labels, examples."""
    failing = dict.fromkeys(["spectrum", "filterbank", "compressed", "input", "relu1", "logits", "label"], "fail")
    verdicts = [v for v in whole("numpy") if v.path != "isolated"] + whole("librosa", **failing)
    verdicts += [
        verdict("unavailable", "features/spectrum", backend="tf_signal", message="tf_signal keeps it to itself"),
        verdict("pass", "features/filterbank", backend="tf_signal", error=0.0, ratio=0.0),
        verdict("gap", "features/compressed", backend="tf_signal", gap="its own mel bank"),
    ]
    for backend, path in (("", "isolated"), ("numpy", "cumulative"), ("librosa", "cumulative")):
        where = {"runtime": "tflite", "precision": "int8", "backend": backend, "path": path}
        verdicts += [
            verdict("pass", "model/input", **where),
            verdict("fail", "model/relu1", **where, ratio=None, bound=0.0),
            verdict("missing", "model/logits", **where, message="declared, but the plugin didn't return it"),
            verdict("error", "decision/label", **where, message="worker died: signal 11"),
        ]
    pairs = ["commands-cnn numpy onnxrt float32", "commands-cnn librosa onnxrt float32"]
    confusion = {"no": {"no": 9}, "yes": {"no": 1, "yes": 8}}
    clip = "yes/a-very-long-name-of-a-clip-that-goes-on-and-on-and-on_nohash_0.wav"
    absent = "needs pymicro-features, which is not installed"
    made = run(
        *verdicts,
        exit_code=1,
        skipped=[
            Skipped(system="kws-mfcc", backend="microfrontend", reason=absent),
            Skipped(system="commands-cnn", backend="microfrontend", reason=absent),
            Skipped(system="tiny-conv", runtime="tflm", precision="int8", reason="no model for tflm", asked=True),
        ],
        gaps={"met": ["commands-cnn features/compressed: its own mel bank"], "unmet": ["commands-cnn x: old kernel"]},
        labels={
            "pairs": [{"pair": p, "clips": 18, "accuracy": 17 / 18, "confusion": confusion} for p in pairs],
            "differ": [{"clip": clip, "truth": "yes", "labels": dict(zip(pairs, ["yes", "no"], strict=True))}],
            "ignored": {"_background_noise_": 6},
        },
        examples=[
            example("numpy onnxrt float32", False, 0.81, None),
            example("librosa onnxrt float32", True, 120.0, "golden/counterexamples/1.toml"),
        ],
        unlike_golden=["CPU: A CPU, recorded on another"],
    )
    for s in made.summaries:
        if s.tap == "decision/label" and s.runtime == "onnxrt" and s.backend == "numpy":
            s.near_ties = 2
    return made


def example(pair: str, failed: bool, ratio: float | None, kept: str | None) -> dict[str, Any]:
    """What a search brought for a pair."""
    return {
        "pair": pair, "count": 200, "worst_ratio": ratio, "worst": "sine 437 Hz at -20 dB", "worst_tap": "model/logits",
        "failed": failed, "counterexample": kept, "message": "out of bounds by far" if failed else "",
    }  # fmt: skip


PI = {
    "cpu": {"model": "Cortex-A72", "architecture": "aarch64", "features_sha256": "fe" * 8, "cores": 4}, "os": "Linux",
    "python": "3.11.2", "numpy": "2.4.6", "threads": 1, "fingerprint": "fedcba9876543210",
    "plugins": {"numpy": {"numpy": "2.4.6"}, "onnxrt": {"onnxruntime": "1.31.1"}},
    "address": "ssh://pi@raspberrypi", "emulated": True, "governor": "ondemand", "temperature_c": [48.3, 61.9],
    "memory_bytes": 3_971_000_000,
    "link": {"sent": 2_000_000, "received": 1_080_000, "arrays": 2_800_000, "connections": 2, "reconnects": 1},
}  # fmt: skip
HERE = {
    "cpu": {"model": "A CPU", "architecture": "x86_64", "features_sha256": "ab" * 8, "cores": 2}, "os": "Linux",
    "python": "3.11.2", "numpy": "2.4.6", "threads": 1, "plugins": {"onnxrt": {"onnxruntime": "1.31.1"}},
}  # fmt: skip


def on(target: str, *verdicts: Verdict) -> list[Verdict]:
    """The same on another target."""
    return [msgspec.structs.replace(v, target=target) for v in verdicts]


def places(**more: Any) -> Run:
    """NumPy and onnxrt, right here and on `old`, wrong on `pi` from the spectrum on; what they tell of themselves."""
    wrong = dict.fromkeys(["spectrum", "filterbank", "compressed", "input", "relu1", "logits", "label"], "fail")
    timings = [
        {"stage": "model", "plugin": "onnxrt", "system": "commands-cnn", "precision": "float32", "clips": 18,
         "seconds": 0.018 * k, "target": target, "clip_ms": [k, 2 * k], "frame_ms": 0.01 * k,
         "frame_median_ms": 0.011 * k, "frame_p95_ms": 0.02 * k, "rtf": k / 1000, "warm_up": 1, "threads": 1}
        for target, k in (("local", 1.0), ("pi", 40.0), ("old", 1.5))
    ]  # fmt: skip
    timings += [
        {"stage": "load", "plugin": "onnxrt", "target": "pi", "seconds": 2.41},
        {"stage": "memory", "plugin": "onnxrt", "target": "pi", "peak_bytes": 61_234_567},
        {"stage": "open", "plugin": "onnxrt", "target": "pi", "system": "commands-cnn", "precision": "float32",
         "seconds": 0.125},
    ]  # fmt: skip
    base: dict[str, Any] = {
        "environment": HERE | {"targets": {"local": HERE, "pi": PI, "old": HERE | {"python": "3.9.2"}}},
        "timings": timings, "exit_code": 1,
        "skipped": [Skipped(system="commands-cnn", backend="librosa", target="pi", reason="librosa isn't there")],
    }  # fmt: skip
    made = whole("numpy")
    return run(*made, *on("pi", *whole("numpy", **wrong)), *on("old", *made), **base | more)


def _anywhere() -> dict[str, Any]:
    """Two targets, of which one tells nothing but nonsense, and the other nothing."""
    said: Any = HOSTILE
    cpu = dict.fromkeys(("model", "architecture", "features_sha256", "cores", "board"), said)
    cpu["model"] = f"a CPU called {said}"
    link = {"sent": said, "received": float("nan"), "arrays": float("inf"), "connections": said, "reconnects": -1}
    keys = ("os", "python", "numpy", "threads", "address", "emulated", "governor", "memory_bytes", "release")
    odd = dict.fromkeys(keys, said) | {"cpu": cpu, "plugins": {said: {said: said}}, "link": link}
    return {"local": {}, HOSTILE: odd | {"temperature_c": [said, float("nan"), 1.0]}}


def hostile() -> Run:
    """Every text is an attack on something, every ratio a bad number."""
    odd = {"clip": HOSTILE, "message": HOSTILE, "gap": HOSTILE, "unit": HOSTILE, "rule": HOSTILE, "system": HOSTILE}
    nan, inf = float("nan"), float("inf")
    verdicts = [
        verdict("fail", "features/spectrum", backend=HOSTILE, **odd, ratio=nan, error=nan, bound=inf),
        verdict("fail", "features/filterbank", backend=HOSTILE, **odd, ratio=inf, error=inf, bound=0.0),
        verdict("pass", "features/compressed", backend=HOSTILE, **odd, ratio=None, error=None, index=None),
        verdict("fail", "model/" + HOSTILE, backend=HOSTILE, **odd, ratio=None, error=1.0, bound=None, index=()),
        verdict("error", "model/logits", backend=HOSTILE, **odd, index=(1, 2)),
        verdict("unsupported", "decision/label", backend=HOSTILE, **odd),
    ]
    return run(
        *verdicts,
        *(msgspec.structs.replace(v, target=HOSTILE) for v in verdicts),
        name=HOSTILE, command=HOSTILE, environment={HOSTILE: HOSTILE, "targets": _anywhere()},
        commit={"commit": HOSTILE},
        skipped=[Skipped(system=HOSTILE, backend=HOSTILE, runtime=HOSTILE, precision=HOSTILE, reason=HOSTILE)],
        gaps={"met": [HOSTILE], "unmet": [HOSTILE]},
        timings=[{"stage": HOSTILE, "seconds": nan}] + [
            {"stage": stage, "plugin": HOSTILE, "system": HOSTILE, "precision": HOSTILE, "target": HOSTILE, "clips": 1,
             "seconds": nan, "clip_ms": [nan, inf], "frame_ms": nan, "frame_median_ms": inf, "frame_p95_ms": nan,
             "rtf": nan, "threads": 1, "peak_bytes": 2**80} for stage in ("features", "load", "open", "memory")
        ],
        labels={"pairs": [{"pair": HOSTILE, "clips": 1, "accuracy": 0.0, "confusion": {HOSTILE: {HOSTILE: 1, "b": 2}}}],
                "differ": [{"clip": HOSTILE, "truth": HOSTILE, "labels": {HOSTILE: HOSTILE}}], "ignored": {HOSTILE: 1}},
        examples=[example(HOSTILE, True, nan, HOSTILE) | {"worst": HOSTILE, "worst_tap": HOSTILE, "message": HOSTILE}],
        unlike_golden=[HOSTILE],
    )  # fmt: skip
