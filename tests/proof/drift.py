"""How steady error over bound is where nothing changed, and what share of the taps shows it where it grew.

Three systems on every backend and runtime that is installed, on six clips: accepted once, run again 50 times with 1 to
4 threads, and then with every error of float32 grown 1.5 times on its way to the judge.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from parity import acceptance, gate, settings
from parity.baseline import key_of
from parity.plan import Selection
from parity.protocols import Target
from parity.records import Run
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig
from tests.plugins_for_tests.grown import Grown
from tests.proof.tables import Line, percent, show

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = ("commands-cnn", "mfcc-lstm", "tiny-conv")
RERUNS = 50
THREADS = (1, 2, 3, 4)
FACTOR = 1.5
FLOORS = (0.001, 0.005, 0.02, 0.05)


CLIPS = (*rig.CLIPS, "chirp.flac", "clipped-stop.flac", "white-noise.flac")


def _gated(target: Target, golden: Path) -> tuple[Run, Path]:
    selection = Selection(systems=SYSTEMS, golden=golden)
    return gate.gate(selection, target, golden.parent / "reports", settings.Gate(), "", lambda *_: None)


def _ratios(run: Run) -> dict[tuple[str, ...], float]:
    return {(s.system, *key_of(s)): s.worst.ratio for s in run.summaries if s.worst.ratio is not None}


def lines() -> Iterator[Line]:
    """Re-runs that are failed (none may be), and injected growth that is found."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for system in SYSTEMS:
            golden = rig.goldens(work / "golden", CLIPS, system)
        with LocalTarget() as local:
            run, folder = _gated(local, golden)
            accepted = _ratios(run)
            for proposal in acceptance.proposals(run, folder, None, afresh=False):
                acceptance.accept(proposal, run, "measured")
            yield _again(local, golden, accepted)
            local.threads = 1
            local.release()
            yield from _grown(local, golden, run)


def _again(local: LocalTarget, golden: Path, accepted: dict[tuple[str, ...], float]) -> Line:
    """Nothing changed but the number of threads."""
    failed, moved, most = 0, 0, 0.0
    for threads in itertools.islice(itertools.cycle(THREADS), RERUNS):
        local.threads = threads
        local.release()  # opened anew with so many
        run, folder = _gated(local, golden)
        failed += run.exit_code != 0
        now = _ratios(run)
        growth = [abs(now[key] - was) for key, was in accepted.items() if now[key] != was]
        moved, most = moved + len(growth), max([most, *growth])
        shutil.rmtree(folder)
    differ = f"{moved} of {RERUNS * len(accepted)} errors over bound differ, at most by {most:.2g}"
    figure = f"{failed} of {RERUNS} fail; {differ}"
    of = f"nothing changed but the threads ({THREADS[0]} to {THREADS[-1]}): the gate passes"
    return Line(of, figure, failed == 0)


def _grown(local: LocalTarget, golden: Path, before: Run) -> Iterator[Line]:
    """Every error of float32 is 1.5 times as large, and all of them within their bounds."""
    target = Grown(local, FACTOR, golden, [ROOT / "reference_models" / name for name in SYSTEMS])
    run, _ = _gated(target, golden)
    found = {(f["system"], *(f[k] for k in ("backend", "runtime", "precision", "target", "path", "tap")))
             for f in run.gate["findings"] if f["kind"] == "drift"}  # fmt: skip
    was, now = _ratios(before), _ratios(run)
    own = {key for key in was if key[3] in ("", "float32") and was[key] > 0 and now[key] >= FACTOR * was[key] * 0.999}
    within = {key for key in own if now[key] <= 1.0}
    beyond = own - within
    limit = 2 * settings.Gate().drift_floor
    rows = []
    for floor in FLOORS:
        seen = sum(now[key] - was[key] > floor for key in within)
        rows.append((f"{floor:g}", f"{seen} of {len(within)}", percent(seen, len(within))))
    show(("floor, in bounds", "grown taps that are told", "share"), rows)
    large = {key for key in within if was[key] > limit}
    figure = f"{len(large & found)} of {len(large)} taps told, exit {run.exit_code}"
    met = large <= found and run.exit_code == 1 and len(large) > 100
    yield Line(f"errors over {limit:g} of their bounds, grown {FACTOR} times and within: told as drift", figure, met)
    figure = f"{len(within & found)} of {len(within)}; {len(beyond)} more left their bounds, and failed by that"
    yield Line(f"all errors grown {FACTOR} times and within their bounds", figure, len(within & found) > 0)
