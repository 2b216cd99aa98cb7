from __future__ import annotations

import dataclasses
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis.database import InMemoryExampleDatabase
from onnx import numpy_helper

from parity import adversary, shards
from parity.adversary import Draws, Result, Task, contest
from parity.confirm import confirm
from parity.contest import Contest
from parity.errors import ConfigError, NothingCompared
from parity.hunt import Hunt, found_of
from parity.parameters import Parameters, Sound
from parity.patterns import FRAMES, Pattern
from parity.records import Verdict
from parity.seen import Seen, Unheld
from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig

LOUD = Task(system="commands-cnn", backend="faulty.backends:LoudGain", examples=60)
NUMPY = dataclasses.replace(LOUD, backend="numpy")


def _verdict(tap: str, outcome: Any = "pass", **more: Any) -> Verdict:
    who = {"system": "s", "backend": "b", "runtime": "r", "precision": "float32", "target": "local"}
    return Verdict(**who, path="isolated", clip="c", tap=tap, outcome=outcome, **more)


def _hunted(task: Task, local: LocalTarget) -> Result:
    return Hunt(task, contest(task, local)).run()


def test_a_seed_says_it_all(local: LocalTarget) -> None:
    one, again = _hunted(NUMPY, local), _hunted(NUMPY, local)
    assert (one.found, one.count, one.drawn) == (again.found, again.count, again.drawn)
    assert one.drawn == 60
    assert one.found is not None
    assert not one.found.failed
    other = _hunted(dataclasses.replace(NUMPY, seed=1), local)
    assert other.found != one.found


def test_what_is_found_is_shrunk_confirmed_and_explained(local: LocalTarget) -> None:
    result = _hunted(LOUD, local)
    assert result.found is not None
    assert result.found.failed
    assert result.found.words == "tone 1000 Hz"
    assert result.drawn < 60
    again = confirm(LOUD, result.found, contest(LOUD, local))
    assert again.failing[0].tap == "features/audio"
    assert not again.remembers
    assert again.explanation is not None
    assert again.explanation.complete


def test_what_failed_once_is_tried_first(local: LocalTarget) -> None:
    task = Task(system="mfcc-lstm", backend="hidden.backends:TopDbOfEachFrame", examples=200)
    kept = InMemoryExampleDatabase()
    judge = contest(task, local)
    first = Hunt(task, judge, kept=kept).run()
    again = Hunt(dataclasses.replace(task, seed=3), judge, kept=kept).run()
    assert first.drawn > again.drawn == 1
    assert again.found is not None
    assert again.found.failed


def test_features_alone_have_no_label_and_can_be_held_to_others(local: LocalTarget) -> None:
    with pytest.raises(NothingCompared, match="no label"):
        contest(dataclasses.replace(NUMPY, goal="flip"), local)
    judge = contest(dataclasses.replace(LOUD, backend="numpy", against="faulty.backends:LoudGain/"), local)
    made = Draws(judge.plan, rig.ROOT / "golden").made
    assert judge.see(made(Parameters(sounds=(Sound(level_dbfs=-20.0),)))).failing is None
    assert judge.see(made(Parameters(sounds=(Sound(),)))).failing is not None


def _twins(folder: Path) -> Path:
    """tiny-conv with two labels that lead all others and differ by a rounding error: which is right, nobody can say."""
    made = rig.system(folder, ('reference = "torch:dtype=float64"', 'reference = "onnx-reference"'), name="tiny-conv")
    file = made / "tiny-conv.onnx"
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        if tensor.name in ("fc.weight", "fc.bias"):
            a = numpy_helper.to_array(tensor).copy()
            a[1] = np.nextafter(a[0], np.float32(np.inf)) if tensor.name == "fc.weight" else 50.0
            a[0] = a[0] if tensor.name == "fc.weight" else 50.0
            tensor.CopyFrom(numpy_helper.from_array(a, tensor.name))
    onnx.save(model, file)
    return made


def test_a_flip_inside_the_margin_is_shrunk_and_fails_nothing(
    local: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(system=str(_twins(tmp_path / "twins")), runtime="onnxrt", goal="flip", examples=100)
    found = _hunted(task, local).found
    assert found is not None
    assert found.tie
    assert not found.failed
    monkeypatch.setattr(Hunt, "_more_fails", lambda _: False)
    drawn = _hunted(task, local).found
    assert drawn is not None
    assert drawn.tie
    assert len(found.words) < len(drawn.words)
    again = confirm(task, found, contest(task, local))
    assert again.found.tie
    assert again.failing == []


def test_what_is_told_on_the_way_gets_better_and_better(local: LocalTarget) -> None:
    told: list[float] = []

    def tell(result: Result) -> None:
        assert result.found is not None
        told.append(result.found.score)

    result = Hunt(dataclasses.replace(NUMPY, examples=150), contest(NUMPY, local), tell).run()
    assert told == sorted(told)  # the best so far
    assert result.found is not None
    assert 0.2 < result.found.score < 1.0


def test_guessed_bounds_find_what_exact_ones_find(local: LocalTarget) -> None:
    """A guess is another clip's bound: at a network's taps what fails by it, or comes near, has its own worked out."""
    task = dataclasses.replace(NUMPY, runtime="onnxrt")
    judge, made = contest(task, local), Draws(contest(task, local).plan, rig.ROOT / "golden").made
    first = made(Parameters(sounds=(Sound(kind="white", level_dbfs=-20.0),)))
    like = made(Parameters(sounds=(Sound(kind="white", level_dbfs=-20.5),)))
    assert judge.see(first).exact  # the first of its kind
    assert judge.worked_out == 1
    seen = judge.see(like)
    assert not seen.exact
    assert judge.worked_out == 1
    exact = judge.see(like, exact=True)
    assert exact.exact
    pairs = zip(seen.verdicts, exact.verdicts, strict=True)
    assert [(a.tap, a.path, a.outcome) for a, _ in pairs] == [(v.tap, v.path, v.outcome) for v in exact.verdicts]
    assert 0.3 < seen.network_ratio / exact.network_ratio < 3.0
    whole = judge.see(like, whole=True)
    assert {v.tap for v in whole.verdicts} > {v.tap for v in exact.verdicts}
    same = {(v.path, v.tap): v.ratio for v in whole.verdicts}
    assert all(same[v.path, v.tap] == v.ratio for v in exact.verdicts)


def test_a_plugin_that_dies_is_started_again_and_shrunk(local: LocalTarget) -> None:
    task = Task(system="commands-cnn", runtime="hidden.runtimes:Segfaults", goal="crash", examples=40)
    judge = contest(task, local)
    made = Draws(judge.plan, rig.ROOT / "golden").made
    quiet, loud = Pattern(level=1.0), Pattern(level=1e4)
    for what, died in ((quiet, False), (loud, True), (quiet, False), (loud, True)):
        seen = judge.see(made(what))
        assert found_of("crash", what, seen).failed == died
        assert ("died of SIGSEGV" in seen.verdicts[-1].message) == died


def test_two_pairs_are_held_to_each_other_by_both_their_bounds(local: LocalTarget) -> None:
    task = dataclasses.replace(LOUD, backend="numpy", runtime="onnxrt", against="faulty.backends:LoudGain/onnxrt")
    judge = contest(task, local)
    made = Draws(judge.plan, rig.ROOT / "golden").made
    quiet = judge.see(made(Parameters(sounds=(Sound(level_dbfs=-20.0),))), whole=True)
    assert {v.outcome for v in quiet.verdicts} == {"pass"}
    assert {v.path for v in quiet.verdicts} == {"features", "isolated", "cumulative"}
    loud = judge.see(made(Parameters(sounds=(Sound(),))), whole=True)
    assert loud.failing is not None
    assert loud.failing.tap == "features/audio"
    assert {v.outcome for v in loud.verdicts if v.path == "isolated"} == {"pass"}  # one network, one input


def test_what_counts_for_each_goal() -> None:
    what = Parameters()
    near = _verdict("decision/margin", golden=0.01, bound=0.1, ratio=0.5, error=0.05)
    fine = _verdict("decision/label")
    died = _verdict("model/logits", "error", message="died")
    out = _verdict("model/logits", "fail", ratio=3.0)
    tie = _verdict("decision/label", near_tie=True)
    flip = _verdict("decision/label", "fail")

    def of(goal: Any, *verdicts: Verdict) -> tuple[bool, float]:
        found = found_of(goal, what, Seen(verdicts, True, 7.0))
        return found.failed, found.score

    assert of("error", near, fine) == (False, 0.5)
    assert of("error", out, near) == (True, 3.0)
    assert of("error", died)[0]
    assert of("crash", out, near) == (False, 7.0)
    assert of("crash", died) == (True, 7.0)
    assert of("flip", near, fine) == (False, pytest.approx(1.0))
    assert of("flip", near, tie) == (False, pytest.approx(21.0))  # allowed, and as near as can be
    assert of("flip", near, flip)[0]
    assert of("flip", near, _verdict("decision/label", "error", message="died"))[0]  # none isn't the right one
    assert not of("flip", out, fine)[0]


def test_the_parts_of_processes_add_up_and_share_no_seed() -> None:
    task = Task(system="s", examples=11, seed=3)
    parts = shards.shares(task, 4)
    assert sum(p.examples for p in parts) == 11
    seeds = {p.seed for s in (3, 4) for p in shards.shares(dataclasses.replace(task, seed=s), 4)}
    assert len(seeds) == 8
    assert shards.shares(task, 1) == [task]
    assert len(shards.shares(dataclasses.replace(task, examples=2), 4)) == 2


def test_the_first_process_that_finds_something_is_told_whoever_is_faster() -> None:
    task = Task(system="s", examples=20)
    found = [adversary.Found(Parameters(length=n), str(n), n != 5, float(n)) for n in (5, 6, 7)]
    results = [Result(task, f, count=2, drawn=1) for f in found]
    merged = shards._merged(task, results)
    assert (merged.found, merged.count, merged.drawn) == (found[1], 6, 1)  # its own draws
    assert shards._merged(task, [results[0], None]).found == found[0]


def test_two_that_find_something_at_once_are_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended:
        exitcode = 0

        def terminate(self) -> None: ...
        def join(self) -> None: ...

    def start(part: Task, i: int, *_: object) -> Any:
        here, there = multiprocessing.Pipe(duplex=False)
        found = adversary.Found(Parameters(), "silence", True, 1.0)
        there.send(("done", Result(part, found, count=1 + i, drawn=1 + i)))
        there.close()
        return Ended(), here

    monkeypatch.setattr(shards, "_start", start)
    for _ in range(3):
        merged = shards.run(Task(system="s", examples=20), 3, 1.0, 1, lambda _: None)
        assert merged.found is not None
        assert (merged.drawn, merged.lost) == (1, "")


def test_only_what_failed_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = shards.Remembered(shards.folder_of(LOUD))
    assert shards.remembered(LOUD) == []
    kept.save(b"key", b"failed")
    kept.save(b"key.pareto", b"near")
    assert shards.remembered(dataclasses.replace(LOUD, seed=9, examples=1)) == [b"failed"]
    assert shards.remembered(NUMPY) == []
    assert list(kept.fetch(b"key.pareto")) == []
    # What another process saves meanwhile isn't seen: which of them is faster must change nothing.
    beside = shards.Remembered(shards.folder_of(LOUD), [b"before"])
    kept.save(b"key", b"later")
    assert list(beside.fetch(b"key")) == [b"before"]
    assert list(kept.fetch(b"key")) == [b"failed", b"later"]
    for value in (b"failed", b"later"):
        kept.delete(b"key", value)
    assert list(kept.fetch(b"key")) == []
    assert shards.remembered(LOUD) == []
    assert list(tmp_path.iterdir()) == [tmp_path / "parity"]


def test_a_cache_that_cannot_be_written_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    kept = shards.Remembered(shards.folder_of(LOUD))
    kept.save(b"key", b"failed")
    assert list(kept.fetch(b"key")) == [b"failed"]
    kept.delete(b"key", b"failed")
    assert shards.remembered(LOUD) == []


def test_what_a_pair_is_held_to_may_die_and_that_is_no_pass(local: LocalTarget) -> None:
    task = Task(system="commands-cnn", runtime="onnxrt", against="/hidden.runtimes:Segfaults", examples=20)
    judge, made = contest(task, local), Draws(contest(task, local).plan, rig.ROOT / "golden").made
    quiet, loud = Pattern(level=1.0), Pattern(level=1e4)
    for _ in range(2):
        assert judge.see(made(quiet)).failing is None
        with pytest.raises(Unheld, match="died of SIGSEGV"):
            judge.see(made(loud))
    result = _hunted(task, local)
    assert result.found is not None
    assert not result.found.failed
    assert 0 < result.unheld < result.count
    assert "SIGSEGV" in result.lost


def test_a_runtime_is_not_held_to_itself(local: LocalTarget, tmp_path: Path) -> None:
    own = rig.system(tmp_path / "own", ('reference = "torch:dtype=float64"', 'reference = "onnxrt"'))
    with pytest.raises(NothingCompared, match="onnxrt would be held to itself"):
        contest(Task(system=str(own), backend="numpy", runtime="onnxrt"), local)
    for against in ("numpy/onnxrt", "/onnxrt", "numpy/", "/"):
        with pytest.raises(ConfigError, match="the pair itself"):
            contest(Task(system="commands-cnn", backend="numpy", runtime="onnxrt", against=against), local)


def test_refused_clips_are_counted_and_say_nothing_of_the_others(local: LocalTarget) -> None:
    some = _hunted(dataclasses.replace(NUMPY, backend="hidden.backends:Refuses:above=0.5"), local)
    assert 0 < some.refused < some.count
    assert some.refusal == "it is too loud for me"
    assert not some.lost
    every = _hunted(dataclasses.replace(NUMPY, backend="hidden.backends:Refuses:above=-1"), local)
    assert every.refused == every.count
    assert every.found is None
    assert every.drawn < 60  # after twenty nothing is to be expected of the others
    # Whether nothing was compared, all processes say together.
    assert shards._merged(NUMPY, [every, some]).refused == every.refused + some.refused


def test_a_network_that_takes_any_number_of_frames_is_fed_with_some(local: LocalTarget) -> None:
    judge: Contest = contest(Task(system="logmel-gru", runtime="onnxrt"), local)
    drawn = Draws(judge.plan, rig.ROOT / "golden").made(Pattern(level=1.0))
    assert drawn.features is not None
    assert drawn.features.shape == (FRAMES, 40)
