"""A real run on several targets: workers here under other names, with plugins that are wrong on one of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from parity import pipeline, records
from parity.plan import Selection
from parity.records import Recorder, Run
from parity.report import html, junit
from tests.plugins_for_tests import rig

PI = {
    "cpu": {"model": "Raspberry Pi 4 Model B", "architecture": "aarch64", "features_sha256": "f" * 16, "cores": 4},
    "python": "3.11.2", "address": "ssh://pi@raspberrypi", "emulated": True, "governor": "ondemand",
    "temperature_c": [48.3, 61.9], "memory_bytes": 3_971_000_000,
    "link": {"sent": 2_345_678, "received": 1_234_567, "arrays": 3_400_000, "connections": 1, "reconnects": 1},
}  # fmt: skip
"""What an emulated Pi's environment has beside this machine's."""


def joined(folders: Sequence[Path], reports: Path, **environments: Mapping[str, Any]) -> Path:
    """One run of several, each on a target of its own; `environments` change what is said of a target."""
    runs = [records.read_run(f) for f in folders]
    record = Recorder(reports, "together")
    evidence: list[dict[str, Any]] = []
    timings: list[dict[str, Any]] = []
    first, places = runs[0], dict[str, Any]()
    for run, folder in zip(runs, folders, strict=True):
        for v in records.read_verdicts(folder):
            record.add(v)
        (target,) = {s.target for s in run.summaries}
        own = {k: v for k, v in run.environment.items() if k != "targets"}
        places[target] = own | dict(environments.get(target, {}))
        timings += [t | {"target": target} | _more(t) for t in run.timings]
        memory = {"stage": "memory", "peak_bytes": 61_234_567, "target": target}
        timings += [memory | {"plugin": p} for p in own["plugins"]]

    def together(into: Path, run: Run) -> None:
        for of, folder in zip(runs, folders, strict=True):
            for file in sorted((folder / "arrays").glob("*")):
                (into / "arrays").mkdir(exist_ok=True)
                shutil.copyfile(file, into / "arrays" / file.name)
            for row in of.evidence:
                (into / "evidence").mkdir(exist_ok=True)
                name = f"evidence/{len(evidence):04d}.npz"
                shutil.copyfile(folder / row["file"], into / name)
                evidence.append(row | {"file": name})
        run.evidence = evidence

    whole = msgspec.structs.replace(
        first, name="together", environment=first.environment | {"targets": places}, exit_code=0,
        skipped=[s for r in runs for s in r.skipped], timings=timings,
    )  # fmt: skip
    whole.summaries = record.summaries
    whole.exit_code = pipeline.exit_code(whole)
    shutil.copyfile(folders[0] / "policy.json", record._folder / "policy.json")
    return record.finish(whole, (junit.write, html.write), together)


def _more(t: Mapping[str, Any]) -> dict[str, Any]:
    """What a timing has since there are targets."""
    if t["stage"] not in ("features", "model"):
        return {}
    ms = 1000.0 * t["seconds"] / t["clips"]
    return {
        "clip_ms": [ms, 1.5 * ms], "frame_median_ms": ms / 98, "frame_p95_ms": ms / 60, "rtf": ms / 1000, "warm_up": 1,
        "threads": 1,
    }  # fmt: skip


THERE = "faulty.backends:WrongThere"
"""A backend that is wrong on some targets."""


def made(folder: Path, targets: Sequence[str], wrong: Sequence[str] = (), **selection: Any) -> list[Path]:
    """A run folder a target, of `THERE` and onnxrt unless told otherwise; on those in `wrong` the backend is wrong."""
    golden = rig.goldens(folder / "golden")
    wanted: dict[str, Any] = {
        "systems": (str(rig.SYSTEM),), "backends": (THERE,), "runtimes": ("onnxrt",), "precisions": ("float32",),
        "golden": golden,
    }  # fmt: skip
    found = []
    for i, name in enumerate(targets):
        with mock.patch.dict(os.environ, {"WRONG_THERE": "1"} if name in wrong else {}), rig.target() as local:
            local.name = name
            done = pipeline.run(Selection(**wanted | selection), local, folder / f"{i}", f"parity run --target {name}")
            found.append(done[1])
    return found
