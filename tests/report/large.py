"""Runs of any size on the disk, made by hand: every record that a run leaves behind, arrays included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from parity import frontend as fe
from parity import system
from parity.records import Recorder, Run, Verdict
from tests.plugins_for_tests import rig

FEATURES = ["spectrum", "filterbank", "compressed"]
TAPS = [*(f"features/{t}" for t in FEATURES), "model/input", *(f"model/relu{i}" for i in range(1, 14)), "model/logits",
        "decision/label", "decision/margin"]  # fmt: skip
SHAPES = {"features/spectrum": (98, 257), "model/logits": (11,)}


def large(
    folder: Path, systems: int = 1, clips: int = 12, backends: int = 3, runtimes: int = 3, failing: bool = False,
    arrays: bool = True,
) -> Path:  # fmt: skip
    """A run folder with `systems * backends * runtimes` pairs, 20 taps each; `failing`: all but one backend fails."""
    recorder = Recorder(folder, "large")
    names = [f"system-{i}" for i in range(systems)]
    about = {name: known() | {"clips": clips} for name in names}
    draws = np.random.default_rng(0)
    for v in _verdicts(names, clips, backends, runtimes, failing, draws):
        recorder.add(v)
        if arrays and v.outcome == "fail" and v.tap in SHAPES and v.clip in ("clip-000.wav", "clip-001.wav"):
            recorder.keep_arrays(v, _arrays(SHAPES[v.tap], draws))
    made = Run(
        name="large", started="2026-01-02T03:04:05+0000", command="parity run", systems=about,
        environment={"fingerprint": "0" * 16}, exit_code=int(failing),
    )  # fmt: skip
    return recorder.finish(made, [])


def known() -> dict[str, Any]:
    """What a run says of a system: commands-cnn's recipe and labels."""
    of = system.load(rig.SYSTEM)
    return {
        "labels": list(of.labels), "frontend": fe.to_plain(of.frontend), "taps": TAPS, "clips": 1,
        "artifacts": [{"format": "onnx", "precision": "float32", "file": "model.onnx", "sha256": "0" * 64}],
        "decision": {"rule": "argmax", "source": "model/logits"}, "anchor": {"backend": "librosa", "versions": {}},
    }  # fmt: skip


def _arrays(shape: tuple[int, ...], draws: np.random.Generator) -> dict[str, Any]:
    golden = draws.exponential(size=shape)
    room = 1e-6 * golden + 1e-9
    candidate = (golden + draws.normal(size=shape) * 1e-4).astype(np.float32)
    return {"golden": golden, "lo": golden - room, "hi": golden + room, "candidate": candidate}


def _verdicts(
    names: list[str], clips: int, backends: int, runtimes: int, failing: bool, draws: np.random.Generator
) -> Iterator[Verdict]:
    columns = [(f"backend-{b}", "", "features") for b in range(backends)]
    columns += [("", f"runtime-{r}", "isolated") for r in range(runtimes)]
    columns += [(f"backend-{b}", f"runtime-{r}", "cumulative") for b in range(backends) for r in range(runtimes)]
    for name in names:
        for backend, runtime, path in columns:
            taps = [t for t in TAPS if t.startswith("features/") == (path == "features")]
            ratios = 10 ** draws.uniform(-3, -0.1, (clips, len(taps)))
            wrong = failing and backend != "backend-0"
            for clip in range(clips):
                for tap, ratio in zip(taps, ratios[clip], strict=True):
                    bad = wrong and clip % 2 == 0
                    ratio = float(ratio) * (1e5 if bad else 1.0)
                    label = tap == "decision/label"
                    yield Verdict(
                        system=name, backend=backend, runtime=runtime, precision="float32" if runtime else "",
                        target="local", path=path, tap=tap, clip=f"clip-{clip:03}.wav",
                        outcome="fail" if bad else "pass",
                        message="label flipped: 'a' where the golden says 'b' by 1" if label and bad else "",
                        ratio=None if label else ratio, error=None if label else ratio * 1e-6,
                        bound=None if label else 1e-6, index=(12, 14), frame=12, time=0.125, band=14, frequency=437.5,
                    )  # fmt: skip
