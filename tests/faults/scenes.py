"""Where the cases of `panel` are played: goldens and sounds of each scene, whole runs on them, and what came of each.

A scene's must-fail cases share runs, as its must-pass cases do: each is a plugin of its own beside the others.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file

from parity import localize
from parity.errors import ParityError
from parity.records import Run, TapSummary
from parity.targets.local import LocalTarget
from tests.faults.panel import PASS, REFUSED, Case, RunCase
from tests.plugins_for_tests import rig

FIVE = (*rig.CLIPS, "quiet-yes.flac", "white-noise.flac")
EVERY = tuple(
    sorted(e["name"] for e in json.loads((rig.ROOT / "golden/tiny-conv/manifest.json").read_bytes())["clips"])
)
AT_ONCE = 12
"""Plugins in one run: each is a process."""


@dataclass(frozen=True)
class Seen:
    """What became of a case."""

    outcome: str
    tap: str
    """The first tap, in flow order, that wasn't right; '' where all were."""
    blamed: str
    """The tap that the reports blame for the pair."""
    message: str
    near_ties: int
    judged: int
    """Verdicts that compared something, or said why not."""
    exit_code: int
    """Of the run that it shared."""

    def wrong(self, case: Case) -> str:
        """How this differs from what was declared; '' where it doesn't."""
        if not self.judged:
            return "nothing was compared"
        if (self.outcome, self.tap) != (case.outcome, case.first):
            return f"{self.outcome} at {self.tap or 'no tap'}: {self.message}"
        if self.blamed != case.first:
            return f"blamed on {self.blamed}"
        if case.says not in self.message:
            return f"says {self.message!r}"
        if case.outcome == PASS and case.near_tie != (self.near_ties > 0):
            return f"{self.near_ties} near ties"
        if (self.exit_code == 0) != (case.outcome == PASS):
            return f"the run ended in {self.exit_code}"
        return ""


def _spoken(work: Path) -> dict[str, Any]:
    return {"golden": rig.goldens(work / "golden", FIVE)}


def _integers(work: Path) -> dict[str, Any]:
    name = "tiny-conv"
    return {"golden": rig.goldens(work / "golden", rig.CLIPS, name), "systems": (str(rig.MODELS / name),)}


def _tail(work: Path) -> dict[str, Any]:
    name = "tiny-conv"
    return {"golden": rig.goldens(work / "golden", EVERY, name), "systems": (str(rig.MODELS / name),)}


def _int8(work: Path) -> dict[str, Any]:
    folder = rig.system(work / "system", formats=(), fewer_bits=True)
    shutil.copyfile(rig.SYSTEM / "commands-cnn.int8.onnx", folder / "commands-cnn.int8.onnx")
    golden = rig.goldens(work / "golden", rig.CLIPS)
    rules = (golden / "tolerances.toml").read_text(encoding="utf-8")
    # The plugin that spoils is held to what ONNX Runtime is held to.
    rules = rules.replace('candidate = "onnxrt"', 'candidate = "faulty.corrupted"')
    (golden / "tolerances.toml").write_text(rules, encoding="utf-8")
    return {"golden": golden, "systems": (str(folder),), "precisions": ("int8",)}


def _square(work: Path) -> dict[str, Any]:
    """Sounds of 12 frames, as many as there are coefficients, and of 64, as many as a layer has units."""
    twice = np.tile(rig.clip(), 3)
    for frames in (12, 64):
        rig.wav(work / "clips" / f"{frames}-frames.wav", twice[: (frames - 1) * 512], subtype="FLOAT")
    return {"audio": work / "clips", "systems": (str(rig.MODELS / "mfcc-lstm"),)}


def _quiet(work: Path) -> dict[str, Any]:
    """Speech so quiet that its power has denormal numbers."""
    rig.wav(work / "clips" / "quiet.wav", rig.clip() * np.float32(1e-20), subtype="FLOAT")
    return {"audio": work / "clips"}


def _tie(work: Path) -> dict[str, Any]:
    """The trained network, but `no` has the weights of `yes`: of a spoken yes nobody can say which it is."""
    folder = rig.system(work / "system", formats=("onnx", "torch"))
    weights = load_file(folder / "weights.safetensors")
    for name in ("fc.weight", "fc.bias"):
        weights[name] = _alike(weights[name])
    save_file(weights, folder / "weights.safetensors")
    model = onnx.load(folder / "commands-cnn.onnx")
    (last,) = (n for n in model.graph.node if n.op_type == "Gemm")
    for tensor in model.graph.initializer:
        if tensor.name in last.input[1:]:
            tensor.CopyFrom(numpy_helper.from_array(_alike(numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(model, folder / "commands-cnn.onnx")
    rig.wav(work / "clips" / "yes.wav")
    return {"audio": work / "clips", "systems": (str(folder),)}


def _alike(rows: Any) -> Any:
    yes, no = 1, 2
    alike = np.array(rows)
    alike[no] = alike[yes]
    return np.ascontiguousarray(alike)


SCENES: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "spoken": _spoken, "square": _square, "quiet": _quiet, "integers": _integers, "int8": _int8, "tie": _tie,
    "tail": _tail,
}  # fmt: skip


def play(scene: str, cases: Sequence[Case], work: Path) -> Iterator[tuple[Case, Seen]]:
    """Run the cases of a scene, must-fail and must-pass apart."""
    selection = SCENES[scene](work) | {"keep": "none"}  # deflating the failing arrays would take half of the time
    golden = selection.pop("golden", None)
    groups: dict[tuple[str, bool], list[Case]] = {}
    for case in cases:
        assert case.scene == scene
        groups.setdefault((case.must, case.spoils_features), []).append(case)
    for (_, features), group in groups.items():
        kind, field = ("backends", "backend") if features else ("runtimes", "runtime")
        together = [c for c in group if c.outcome != REFUSED]
        parts = [[c] for c in group if c.outcome == REFUSED]
        parts += [together[at : at + AT_ONCE] for at in range(0, len(together), AT_ONCE)]
        for part in parts:
            plugins = {kind: tuple(case.spec for case in part)}
            with rig.target() as local:
                try:
                    done = rig.run(local, golden, work / "reports", **selection | plugins)
                except ParityError as e:
                    for case in part:
                        yield case, Seen(REFUSED, case.at, case.at, e.message, 0, 1, e.exit_code)
                    continue
            for case in part:
                yield case, _seen(done, field, case.spec)


def _seen(done: Run, field: str, spec: str) -> Seen:
    mine: list[TapSummary] = [s for s in done.summaries if getattr(s, field) == spec]
    failing = rig.failing(done, **{field: spec})
    first = localize.first_failures(done)
    own = [v for v in first if getattr(v, field) == spec]
    tap, outcome = failing[0] if failing else ("", PASS)
    return Seen(
        outcome=outcome, tap=tap, blamed=own[0].tap if own else "", near_ties=sum(s.near_ties for s in mine),
        message=next((s.worst.message for s in mine if s.tap == tap and s.worst.outcome == outcome), ""),
        judged=sum(n for s in mine for o, n in s.counts.items() if o not in ("unavailable", "unsupported")),
        exit_code=done.exit_code,
    )  # fmt: skip


def _manifest(root: Path) -> Path:
    return root / "commands-cnn" / "manifest.json"


def _rewritten(root: Path, **keys: Any) -> None:
    path = _manifest(root)
    path.write_text(json.dumps(json.loads(path.read_bytes()) | keys), encoding="utf-8")


def _altered(part: str) -> Callable[[Path, Path], dict[str, Any]]:
    def alter(root: Path, _work: Path) -> dict[str, Any]:
        entry = json.loads(_manifest(root).read_bytes())["clips"][0]
        path = root / entry[part]["file"]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        return {}

    return alter


def _no_clips(root: Path, _work: Path) -> dict[str, Any]:
    _rewritten(root, clips=[])
    return {}


def _no_sound(_root: Path, work: Path) -> dict[str, Any]:
    (work / "empty").mkdir()
    return {"audio": work / "empty", "golden": None}


def _no_goldens(root: Path, _work: Path) -> dict[str, Any]:
    shutil.rmtree(root / "commands-cnn")
    return {}


def _clip_replaced(root: Path, _work: Path) -> dict[str, Any]:
    first, second = json.loads(_manifest(root).read_bytes())["clips"][:2]
    shutil.copyfile(root / second["clip"]["file"], root / first["clip"]["file"])
    return {}


def _another_recipe(_root: Path, work: Path) -> dict[str, Any]:
    return {"systems": (str(rig.system(work / "system", ("fmax = 8000", "fmax = 7600"))),)}


def _old_digest(root: Path, work: Path) -> dict[str, Any]:
    """The recipe that the manifest spells out was edited, its digest left; the system's was edited alike."""
    manifest = json.loads(_manifest(root).read_bytes())
    manifest["frontend"]["filterbank"]["fmax"] = 7600.0
    _rewritten(root, **manifest)
    return _another_recipe(root, work)


def _trained_again(_root: Path, work: Path) -> dict[str, Any]:
    folder = rig.system(work / "system")
    model = onnx.load(folder / "commands-cnn.onnx")
    for tensor in model.graph.initializer:
        if (w := numpy_helper.to_array(tensor)).ndim == 4:
            drift = np.random.default_rng(0).standard_normal(w.shape).astype(np.float32) * np.float32(1e-3)
            tensor.CopyFrom(numpy_helper.from_array(w + drift, tensor.name))
    onnx.save(model, folder / "commands-cnn.onnx")
    return {"systems": (str(folder),)}


def _labels_turned(_root: Path, work: Path) -> dict[str, Any]:
    return {"systems": (str(rig.system(work / "system", ('"yes", "no",', '"no", "yes",'))),)}


def _nothing_left(_root: Path, work: Path) -> dict[str, Any]:
    return {"systems": (str(rig.system(work / "system", formats=())),)}


RUNS: Mapping[str, Callable[[Path, Path], dict[str, Any]]] = {
    "no clips in the goldens": _no_clips,
    "no sound in the folder": _no_sound,
    "no goldens": _no_goldens,
    "a golden's features altered": _altered("features"),
    "a golden's activations altered": _altered("model"),
    "a clip replaced": _clip_replaced,
    "a golden of another recipe": _another_recipe,
    "another recipe, the old digest": _old_digest,
    "a network trained again since": _trained_again,
    "labels in another order": _labels_turned,
    "nothing that can be compared": _nothing_left,
}
"""Name of a run case -> what it does to a copy of the goldens (or beside it), and what is selected then."""


def wrong_run(case: RunCase, local: LocalTarget, work: Path) -> str:
    """How a run case differs from what was declared; '' where it doesn't."""
    root = rig.goldens(work / "golden")
    selection = {"golden": root, "keep": "none"} | RUNS[case.name](root, work)
    try:
        done = rig.run(local, selection.pop("golden"), work / "reports", **selection)
        code, said = done.exit_code, f"{[t for t, _ in rig.failing(done)][:1]} {rig.messages(done, 'fail')}"
    except ParityError as e:
        code, said = e.exit_code, e.message
        if rig.left_over(work / "reports"):
            return f"it left {rig.left_over(work / 'reports')}"
    if code != case.exit_code or case.says not in said:
        return f"exit {code}: {said}"
    return ""
