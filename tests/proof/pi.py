"""What emulated ARM computes beside this machine, tap by tap, and whether the gate holds there.

Every system that is here, float32 and fewer bits, on ONNX Runtime and TensorFlow Lite: on the goldens' own features, so
that each tap's difference is its runtime's, and each feature's its backend's. No time is told: the CPU is emulated.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parity import acceptance, gate, kept, pipeline, records, settings
from parity import system as systems
from parity.baseline import key_of
from parity.errors import ParityError
from parity.plan import Selection
from parity.protocols import Target
from parity.records import Run, Verdict
from parity.targets import named
from parity.targets.named import Options
from tests.plugins_for_tests import rig
from tests.proof.tables import Line, percent, show

DEVICE, DEVICE32 = "emulated-pi", "emulated-pi32"
RUNTIMES = ("onnxrt", "tflite")
INTEGERS = "micro-speech"
"""Its front end is in integers, which of NumPy's backends the reference computes."""
GATED = ("commands-cnn", "mfcc-lstm", "tiny-conv")
RERUNS = 20


@dataclass
class _Tap:
    """How two targets' arrays at a tap differ, over all clips that have both."""

    elements: int = 0
    differing: int = 0
    most: float = 0.0
    steps: int | None = None
    """Of integers, by how many."""

    def add(self, here: dict[str, np.ndarray], there: dict[str, np.ndarray]) -> None:
        a, b = here["candidate"], there["candidate"]
        apart = (a != b) & ~(np.isnan(a) & np.isnan(b)) if np.issubdtype(a.dtype, np.floating) else a != b
        self.elements += a.size
        self.differing += int(apart.sum())
        if apart.any():
            self.most = max(self.most, float(np.abs(a[apart].astype(np.float64) - b[apart].astype(np.float64)).max()))
        if "integers" in here and here["integers"].size:
            moved = np.abs(here["integers"].astype(np.int64) - there["integers"].astype(np.int64))
            self.steps = max(self.steps or 0, int(moved.max()))


def lines() -> Iterator[Line]:
    """All within bounds there, the differences by tap, and 20 unchanged runs against what was accepted there."""
    with contextlib.ExitStack() as stack:
        try:
            here, there, small = named.open_all(["local", DEVICE, DEVICE32], {}, Options(limit=300.0), stack)
        except ParityError as e:
            yield Line(f"{DEVICE}: every system within bounds", f"can't be had here: {e.message}", None)
            return
        reports = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield from _differences(here, there, reports)
        yield from _small(small, reports)
        yield from _gate(here, there, reports)


def _every() -> Iterator[tuple[str, str]]:
    """Each system that is built, and the backend that computes its features with NumPy alone."""
    for found in systems.find(systems.names()):
        if found.artifacts:
            yield found.name, "reference" if found.name == INTEGERS else "numpy"


def _wrong(run: Run) -> list[str]:
    """What fails of a run of one system, and gaps that no longer show."""
    failing = {(s.system, s.target) for s in run.summaries if s.counts.get("fail") or s.counts.get("error")}
    return [f"{system} on {target}" for system, target in sorted(failing)] + run.gaps["unmet"]


def _pairs(run: Run, device: str) -> int:
    return len({(s.backend, s.runtime, s.precision) for s in run.summaries if s.target == device and s.runtime})


def _small(there: Target, reports: Path) -> Iterator[Line]:
    failed, pairs, met = [], 0, 0
    for name, backend in _every():
        asked = Selection(systems=(name,), backends=(backend,), runtimes=("tflite",), keep="none")
        run, _ = pipeline.run(asked, there, reports)
        failed += _wrong(run)
        pairs, met = pairs + _pairs(run, there.name), met + len(run.gaps["met"])
    figure = f"{pairs} pairs; {', '.join(failed) or 'all'}; {met} known gaps"
    yield Line(f"{DEVICE32}, emulated: everything within bounds, or a known gap", figure, not failed and pairs > 0)


def _differences(here: Target, there: Target, reports: Path) -> Iterator[Line]:
    taps: dict[tuple[str, ...], _Tap] = defaultdict(_Tap)
    failed, pairs, unlike = [], 0, []
    for name, backend in _every():
        asked = Selection(systems=(name,), backends=(backend,), runtimes=RUNTIMES, keep="all")
        run, folder = pipeline.run(asked, [here, there], reports)
        failed += _wrong(run)
        pairs += _pairs(run, there.name)
        unlike += _compare(folder, there.name, taps)
    rows = [
        (
            *key,
            f"{t.elements:,}",
            percent(t.differing, t.elements),
            f"{t.most:.3g}",
            "" if t.steps is None else str(t.steps),
        )
        for key, t in sorted(taps.items())
        if t.differing
    ]
    show(("system", "by", "precision", "path", "tap", "elements", "differ", "at most", "steps"), rows)
    same = sum(not t.differing for t in taps.values())
    integers = [t for t in taps.values() if t.steps is not None]
    yield Line(
        f"{DEVICE}, emulated: everything within bounds, or a known gap",
        f"{pairs} pairs; {', '.join(failed) or 'all'}; {same} of {len(taps)} taps as here to the last bit, "
        f"of integers {sum(not t.differing for t in integers)} of {len(integers)}",
        not failed and pairs > 0,
    )
    yield Line("clips that the one computes and the other doesn't", str(len(unlike)), not unlike)


def _compare(folder: Path, device: str, taps: dict[tuple[str, ...], _Tap]) -> list[str]:
    """Add a run's taps; the verdicts that only one of the targets has."""
    mine: dict[tuple[str, ...], Verdict] = {}
    theirs: dict[tuple[str, ...], Verdict] = {}
    for v in records.read_verdicts(folder):
        if v.path not in ("features", "isolated") or v.outcome not in ("pass", "fail", "gap") or v.error is None:
            continue
        key = (v.system, v.runtime or v.backend, v.precision or "–", v.path, v.tap, v.clip)
        (theirs if v.target == device else mine)[key] = v
    for key in mine.keys() & theirs.keys():
        arrays = [kept.of_verdict(folder, found[key]) for found in (mine, theirs)]
        if arrays[0] is not None and arrays[1] is not None and "candidate" in arrays[0]:
            taps[key[:-1]].add(dict(arrays[0]), dict(arrays[1]))
    return sorted(" ".join(key) for key in mine.keys() ^ theirs.keys())


def _gate(here: Target, there: Target, reports: Path) -> Iterator[Line]:
    for system in GATED:
        golden = rig.goldens(reports / "golden", name=system)
    selection = Selection(systems=GATED, golden=golden, backends=("numpy",), runtimes=RUNTIMES)

    def gated(target: Target) -> tuple[Run, Path]:
        return gate.gate(selection, target, reports / "gate", settings.Gate(), "", lambda *_: None)

    def accepted(run: Run, folder: Path) -> None:
        for proposal in acceptance.proposals(run, folder, None, afresh=False):
            acceptance.accept(proposal, run, "measured")

    accepted(*gated(here))
    first, folder = gated(there)
    states = {b["system"]: b["state"] for b in first.gate["baselines"]}
    yield Line(
        "a baseline accepted on this machine is not taken for the emulated Pi's",
        ", ".join(f"{s}: {x}" for s, x in states.items()),
        set(states.values()) == {"new"} and len(states) == len(GATED) and first.exit_code == 0,
    )  # fmt: skip
    accepted(first, folder)
    was, failed, moved = _ratios(first), 0, 0
    for _ in range(RERUNS):
        there.release()
        run, _ = gated(there)
        states = {b["system"]: b["state"] for b in run.gate["baselines"]}
        failed += run.exit_code != 0 or bool(run.gate["findings"]) or set(states.values()) != {"held"}
        moved += sum(now != was[key] for key, now in _ratios(run).items())
    yield Line(
        f"nothing changed on the emulated Pi, {RERUNS} times: the gate passes, and finds nothing",
        f"{failed} of {RERUNS} fail; {moved} of {RERUNS * len(was):,} errors over bound differ in a bit", failed == 0,
    )  # fmt: skip


def _ratios(run: Run) -> dict[tuple[str, ...], float]:
    return {(s.system, *key_of(s)): s.worst.ratio for s in run.summaries if s.worst.ratio is not None}
