"""A hundred clips over SSH, with the model there already: what the link costs beyond the far side's own computing."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from parity import system as systems
from parity.backends.reference import ReferenceBackend
from parity.protocols import Clip, Failure, Job
from parity.signals import Signal, render
from parity.taps import MODEL_INPUT
from parity.targets.local import LocalTarget
from parity.targets.remote import Remote
from parity.targets.ssh import SshLink
from parity.targets.workers import WorkersTarget
from tests.pi.servers import PlainSshd

CLIPS, CHUNK = 100, 16


def jobs() -> list[Job]:
    found = systems.load(systems.root() / "reference_models" / "commands-cnn")
    onnx = next(a for a in found.artifacts if (a.format, a.precision) == ("onnx", "float32"))
    clips = [Clip(f"noise-{i}", render(Signal(kind="pink", seed=i, level_dbfs=-20.0)), 16000, f"{i:064x}")
             for i in range(CLIPS)]  # fmt: skip
    tap = found.frontend.output
    right = [r[tap].astype(np.float32) for r in ReferenceBackend().features(clips, found.frontend, frozenset({tap}))]
    return [
        Job(system=found.name, frontend=found.frontend, clips=clips[i : i + CHUNK], backends=["numpy"],
            models=[("onnxrt", onnx)], references=right[i : i + CHUNK],
            taps=[frozenset({"model/logits", MODEL_INPUT})] * len(clips[i : i + CHUNK]))
        for i in range(0, CLIPS, CHUNK)
    ]  # fmt: skip


def once(link: SshLink, work: list[Job]) -> tuple[float, float, dict[str, Any]]:
    """Seconds in all, seconds of the far side's own (loading, opening, computing), and what went over the link."""
    with LocalTarget() as here:
        start = time.perf_counter()
        with WorkersTarget(Remote(link, sys.executable), 1, trusted=here) as target:
            target.load([("backend", "numpy"), ("runtime", "onnxrt")])
            own = 0.0
            for result in target.run(work):
                for outputs in (*result.features.values(), *result.activations.values()):
                    assert not isinstance(outputs, Failure), outputs
                    own += sum(o.seconds for o in outputs)
            own += sum(t["seconds"] for t in target.timings)
            told = target.link()
        return time.perf_counter() - start, own, told


def test_a_hundred_clips_over_ssh(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    work = jobs()
    with PlainSshd(tmp_path / "home") as there:

        def link() -> SshLink:
            return SshLink("plain", there.host, config=Path(there.ssh_config))

        once(link(), work)  # the far side, the model and the clips are there afterwards
        whole, own, told = benchmark.pedantic(lambda: once(link(), work), rounds=3)
    moved = told["sent"] + told["received"]
    print(f"\n{CLIPS} clips over SSH: {whole:.2f} s, {whole - own:.2f} s beyond the far side's own {own:.2f} s")
    print(f"{moved / 1e6:.2f} MB, {moved / told['arrays']:.3f} times the arrays; {told['connections']} connection")
    assert whole - own <= 2.0
    assert moved <= 1.1 * told["arrays"]
    assert told["connections"] == 1
