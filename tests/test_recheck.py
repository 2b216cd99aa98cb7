"""`parity recheck`: another policy on the same arrays; what can't be judged is counted, and nothing is run."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity import kept, pipeline, plan, records
from parity.errors import ConfigError
from parity.plan import Selection
from parity.recheck import recheck
from parity.records import Run, Verdict, read_verdicts
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

pytestmark = pytest.mark.slow  # whole commands and worker processes

OFFSET = "faulty.backends:LogOffset"
WIDE = """
[[tolerance]]
system = "commands-cnn"
tap = "{tap}"
path = "{path}"
{width}
why = "to see what it would hide"
"""


@pytest.fixture(scope="module")
def made(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run with a fault in the features of one backend, in two precisions, by what it kept."""
    out = {}
    with rig.target() as local:
        for keep in ("all", "failing", "none"):
            folder = tmp_path_factory.mktemp(keep)
            _, out[keep] = ran(local, golden, folder, keep)
    return out


def ran(local: LocalTarget, golden: Path, folder: Path, keep: Any, **more: Any) -> tuple[Run, Path]:
    wanted: dict[str, Any] = {
        "systems": (str(rig.SYSTEM),), "backends": (OFFSET, "numpy"), "runtimes": ("onnxrt", "tflite"),
        "precisions": ("float32", "int8"), "golden": golden, "keep": keep,
    }  # fmt: skip
    return pipeline.run(Selection(**(wanted | more)), local, folder)


def rules(golden: Path, folder: Path, *more: str) -> Path:
    path = folder / "other.toml"
    path.write_text("\n".join(more) + (golden / "tolerances.toml").read_text(), encoding="utf-8")
    return path


def verdicts(folder: Path) -> dict[tuple[str, ...], Verdict]:
    return {records.key_of(v): v for v in read_verdicts(folder)}


def contents(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(folder.rglob("*")) if p.is_file()}  # fmt: skip


def test_under_the_same_policy_every_verdict_comes_out_the_same(made: dict[str, Path], tmp_path: Path) -> None:
    before = contents(made["all"])
    done, folder = recheck(made["all"], tmp_path)
    assert done.exit_code == 1
    assert folder.name == f"{made['all'].name}-recheck"
    old, new = verdicts(made["all"]), verdicts(folder)
    assert list(old) == list(new)
    for key, v in old.items():
        for field in Verdict.__struct_fields__:
            was, now = getattr(v, field), getattr(new[key], field)
            assert now == (pytest.approx(was, rel=1e-9) if isinstance(was, float) else was), (key, field)
    assert done.recheck == {"of": made["all"].name, "judged": len(old), "stand": 0, "open": 0}
    assert contents(made["all"]) == before
    assert {s.worst.outcome for s in done.summaries} >= {"pass", "fail"}


@pytest.mark.parametrize("keep", ["failing", "none"])
def test_without_arrays_verdicts_stand_under_the_same_policy(keep: str, made: dict[str, Path], tmp_path: Path) -> None:
    done, folder = recheck(made[keep], tmp_path)
    assert done.exit_code == 1
    assert {k: v.outcome for k, v in verdicts(folder).items()} == {
        k: v.outcome for k, v in verdicts(made[keep]).items()
    }
    assert done.recheck["open"] == 0
    assert (done.recheck["judged"] == 0) == (keep == "none")
    assert done.recheck["stand"] > 0


def test_a_wider_rule_lets_the_fault_pass_and_numbers_follow(
    made: dict[str, Path], golden: Path, tmp_path: Path
) -> None:
    wide = rules(golden, tmp_path, WIDE.format(tap="features/compressed", path="features", width="absolute = 2.0"))
    for keep in ("all", "failing"):
        done, folder = recheck(made[keep], tmp_path / "reports", wide)
        found = [v for v in verdicts(folder).values() if v.tap == "features/compressed" and v.backend == OFFSET]
        assert {v.outcome for v in found} == {"pass"}
        assert {v.bound for v in found} == {2.0}
        assert all(v.rule == "declared: to see what it would hide" for v in found)
        assert all(v.own_outcome == "fail" for v in found), "no policy makes the stage right"
        fed = [v for v in verdicts(folder).values() if v.tap == "model/input" and v.backend == OFFSET]
        assert {v.outcome for v in fed} == {"pass"}
        assert done.exit_code == 1  # the network is as far off as it was


def test_a_tighter_rule_fails_what_passed(made: dict[str, Path], golden: Path, tmp_path: Path) -> None:
    text = (golden / "tolerances.toml").read_text(encoding="utf-8")
    tight = tmp_path / "tight.toml"
    logits = WIDE.format(tap="model/logits", path="*", width='precision = "int8"\nsteps = 0.0\nabsolute = 1e-9')
    tight.write_text(logits + text, encoding="utf-8")
    done, folder = recheck(made["all"], tmp_path / "reports", tight)
    old, new = verdicts(made["all"]), verdicts(folder)
    moved = [k for k in old if old[k].outcome == "pass" and new[k].outcome == "fail"]
    assert moved
    assert {k[6] for k in moved} <= {"model/logits", "decision/margin", "decision/label"}
    assert {k[3] for k in moved} == {"int8"}
    assert done.exit_code == 1


def test_labels_are_decided_again(golden: Path, tmp_path: Path) -> None:
    with rig.target() as local:
        one = {"backends": ("faulty.backends:Reversed",), "runtimes": ("onnxrt",), "precisions": ("float32",)}
        _, run = ran(local, golden, tmp_path, "failing", **one)
    wide = rules(golden, tmp_path, WIDE.format(tap="model/*", path="*", width="absolute = 50.0"))
    _, folder = recheck(run, tmp_path / "reports", wide)
    old, new = verdicts(run), verdicts(folder)
    flips = [k for k, v in old.items() if v.tap == "decision/label" and v.outcome == "fail"]
    assert flips
    assert all(new[k].near_tie and new[k].outcome == "pass" for k in flips)
    margins = [v for v in new.values() if v.tap == "decision/margin" and v.path == "cumulative"]
    assert {v.bound for v in margins} == {100.0}


def test_what_has_no_arrays_and_another_rule_is_open_and_counted(
    made: dict[str, Path], golden: Path, tmp_path: Path
) -> None:
    wide = rules(golden, tmp_path, WIDE.format(tap="model/relu1", path="isolated", width="of_rms = 0.5"))
    done, folder = recheck(made["none"], tmp_path / "reports", wide)
    opened = [v for v in verdicts(folder).values() if v.outcome == "unsupported"]
    assert opened
    assert {(v.tap, v.path) for v in opened} == {("model/relu1", "isolated")}
    assert done.recheck["open"] == len(opened)
    assert {(s.runtime, s.precision) for s in done.skipped if s.asked} == {(v.runtime, v.precision) for v in opened}
    assert done.exit_code == 1  # the features still fail, which comes first


def test_open_verdicts_end_in_exit_2_where_nothing_fails(golden: Path, tmp_path: Path) -> None:
    with rig.target() as local:
        done, folder = ran(local, golden, tmp_path / "reports", "failing", backends=("numpy",), precisions=("float32",))
    assert done.exit_code == 0
    same, _ = recheck(folder, tmp_path / "again")
    assert same.exit_code == 0
    wide = rules(golden, tmp_path, WIDE.format(tap="model/relu1", path="isolated", width="of_rms = 0.5"))
    said = rig.process("recheck", folder, "--tolerances", wide, "--report", tmp_path / "again")
    assert said.returncode == 2
    assert said.stdout.startswith("INCOMPLETE: ")
    assert "can't be judged" in said.stdout
    assert "parity run --keep all" in " ".join(said.stdout.split())


def test_a_gap_covers_what_stands_and_what_is_judged_again(made: dict[str, Path], golden: Path, tmp_path: Path) -> None:
    other = tmp_path / "golden"
    other.mkdir()
    shutil.copyfile(golden / "tolerances.toml", other / "tolerances.toml")
    gap = '[[gap]]\nkind = "recipe"\nreason = "an old offset"\noutcome = "fail"\nsystem = "commands-cnn"\ntap = "*"\n'
    (other / "known_gaps.toml").write_text(gap + f'backend = "{OFFSET}"\n', encoding="utf-8")
    for keep in ("all", "none"):
        done, folder = recheck(made[keep], tmp_path / "reports", golden=other)
        covered = [v for v in verdicts(folder).values() if v.outcome == "gap"]
        assert covered
        assert all(v.gap == "an old offset" and v.covered == "fail" for v in covered)
        assert done.exit_code == 0
        assert len(done.gaps["met"]) == 1
    # And back again: what a gap covered is a failure where there is none.
    back, _ = recheck_of_gap(made["none"], other, golden, tmp_path)
    assert back.exit_code == 1


def recheck_of_gap(run: Path, gaps: Path, golden: Path, tmp_path: Path) -> tuple[Run, Path]:
    """The run as it would be had it been made under the gaps, judged without them."""
    copy = tmp_path / "covered"
    shutil.copytree(run, copy)
    lines = []
    for line in (copy / "verdicts.jsonl").read_text().splitlines():
        v = json.loads(line)
        if v["outcome"] == "fail":
            v |= {"outcome": "gap", "covered": "fail", "gap": "x"}
        lines.append(json.dumps(v))
    (copy / "verdicts.jsonl").write_text("\n".join(lines) + "\n")
    return recheck(copy, tmp_path / "back", golden=golden)


def test_a_rule_that_is_missing_is_an_error_and_nothing_is_left(made: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "none.toml").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="no rule says"):
        recheck(made["all"], tmp_path / "reports", tmp_path / "none.toml")
    assert rig.left_over(tmp_path / "reports") == []


def test_what_cannot_be_rechecked_is_refused(made: dict[str, Path], tmp_path: Path) -> None:
    rig.refused(rig.parity("recheck", tmp_path), 3, "is not a run")
    rig.refused(rig.parity("recheck", made["none"], "--tolerances", tmp_path / "no.toml"), 3, "is no file")
    old = tmp_path / "old"
    shutil.copytree(made["none"], old)
    (old / "policy.json").unlink()
    rig.refused(rig.parity("recheck", old), 3, "which policy it was judged by")
    shutil.copyfile(made["none"] / "policy.json", old / "policy.json")
    run = json.loads((old / "run.json").read_text())
    run["systems"]["commands-cnn"]["frontend_digest"] = "0" * 64
    (old / "run.json").write_text(json.dumps(run))
    rig.refused(rig.parity("recheck", old), 3, "have changed since")
    _, again = recheck(made["none"], tmp_path / "reports")
    rig.refused(rig.parity("recheck", again), 3, "is itself a recheck of")
    damaged = tmp_path / "damaged"
    shutil.copytree(made["all"], damaged)
    next((damaged / "arrays").glob("*.npz")).write_bytes(b"PK")
    rig.refused(rig.parity("recheck", damaged, "--report", tmp_path / "r"), 3, "can't be read")
    assert rig.left_over(tmp_path / "r") == []


def test_kept_arrays_say_what_they_are(made: dict[str, Path]) -> None:
    found = verdicts(made["all"])
    for v in found.values():
        arrays = kept.of_verdict(made["all"], v)
        if v.error is None or v.tap == "decision/margin":
            assert arrays is None
            continue
        assert arrays is not None
        if v.path == "features":
            assert ("derived" in arrays) == (v.rule == "derived")
        if v.precision == "int8" and v.tap == "model/relu1":
            value = arrays["scale"] * (arrays["integers"].astype(np.float64) - arrays["zero_point"])
            np.testing.assert_allclose(value, arrays["candidate"], rtol=1e-6)
    assert not (made["none"] / "arrays").exists()
    few = [v for v in found.values() if kept.of_verdict(made["failing"], v) is not None]
    assert {v.outcome for v in few if v.tap not in ("model/input", "model/logits")} == {"fail"}
    assert plan.Selection().keep == "failing"
