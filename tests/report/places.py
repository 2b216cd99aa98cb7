"""A real run on several targets: workers here under other names, with plugins that are wrong on one of them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
    first, places = runs[0], dict[str, Any]()
    for run, folder in zip(runs, folders, strict=True):
        for v in records.read_verdicts(folder):
            record.add(v)
        (target,) = {s.target for s in run.summaries}
        own = {k: v for k, v in run.environment.items() if k != "targets"}
        places[target] = own | dict(environments.get(target, {}))

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
        skipped=[s for r in runs for s in r.skipped], timings=[t for r in runs for t in r.timings],
    )  # fmt: skip
    whole.summaries = record.summaries
    whole.exit_code = pipeline.exit_code(whole)
    shutil.copyfile(folders[0] / "policy.json", record._folder / "policy.json")
    return record.finish(whole, (junit.write, html.write), together)


def made(folder: Path, backends: Mapping[str, Sequence[str]], **selection: Any) -> list[Path]:
    """A run folder a target; `backends` by the target's name."""
    golden = rig.goldens(folder / "golden")
    wanted: dict[str, Any] = {
        "systems": (str(rig.SYSTEM),), "runtimes": ("onnxrt",), "precisions": ("float32",), "golden": golden,
    }  # fmt: skip
    found = []
    for name, of in backends.items():
        with rig.target() as local:
            local.name = name
            asked = Selection(**wanted | selection, backends=tuple(of))
            found.append(pipeline.run(asked, local, folder / name, f"parity run --target {name}")[1])
    return found
