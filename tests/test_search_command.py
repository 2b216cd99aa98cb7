"""`parity search`: what it prints, writes and ends with."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from parity import counterexamples
from parity.explain.explanation import Explanation
from parity.parameters import Parameters, Sound
from parity.patterns import Pattern
from parity.seen import Refused
from tests.plugins_for_tests import rig

PAIR = ("search", "--system", "commands-cnn", "--backend")


def _golden(folder: Path) -> Path:
    """Goldens with two recordings, whose tolerances are the project's."""
    (folder / "clips").mkdir(parents=True)
    for name in ("yes-en-us-f2.flac", "impulse.flac"):
        shutil.copyfile(rig.ROOT / "golden" / "clips" / name, folder / "clips" / name)
    shutil.copyfile(rig.ROOT / "golden" / "tolerances.toml", folder / "tolerances.toml")
    return folder


def _group(leader: int) -> list[psutil.Process]:
    """What runs in a process group."""
    found = []
    for p in psutil.process_iter(["pid", "status"]):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(p.pid) == leader and p.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(p)
    return found


def _wait_for_work(leader: int) -> None:
    """Until both processes have drawn clips for a while: importing takes half of that."""
    deadline = time.monotonic() + 90.0
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.Error):
            busy = [p for p in psutil.Process(leader).children() if p.cpu_times().user > 2.0]
            if len(busy) == 2:
                return
        time.sleep(0.2)
    raise AssertionError("nothing is drawn")


def _busy(folder: Path, examples: int) -> subprocess.Popen[str]:
    """A search of numpy's features that has drawn clips for a while, and is the leader of its group."""
    typed = [*PAIR, "numpy", "--examples", str(examples), "--golden", str(_golden(folder / "golden"))]
    begun = subprocess.Popen(
        [sys.executable, "-m", "parity", *typed], cwd=rig.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=rig.environment(XDG_CACHE_HOME=str(folder)), start_new_session=True,
    )  # fmt: skip
    _wait_for_work(begun.pid)
    return begun


@pytest.mark.slow
def test_what_is_found_is_told_saved_and_replayed(tmp_path: Path) -> None:
    golden, cache = _golden(tmp_path / "golden"), {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    more = ("--golden", golden, "--examples", "60")
    done = rig.process(*PAIR, "faulty.backends:LoudGain", *more, "--save", **cache)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("FAIL: commands-cnn · faulty.backends:LoudGain is out of bounds; found after ")
    said = {line[2:10].strip(): line[11:] for line in lines[1:]}
    assert said["clip"] == "tone 1000 Hz"
    assert said["first at"].startswith("features/audio (features), sample ")
    assert "features/spectrum" in said["then"]
    assert said["why"].startswith("audio: gain 1.001 on the samples: 100 % of the error explained")
    (file,) = golden.rglob("counterexamples/*/*.toml")
    assert said["again"] == f"parity search --replay {file} --golden {golden}"
    found = counterexamples.read(file)
    assert (found.drawn, found.tap) == (Parameters(sounds=(Sound(),)), "features/audio")

    again = rig.process("search", "--replay", file, **cache)
    assert again.returncode == 1, again.stderr
    assert "clip     tone 1000 Hz" in again.stdout
    mended = rig.process("search", "--replay", file, "--backend", "numpy", **cache)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert mended.stdout.startswith("PASS: ")


@pytest.mark.slow
def test_nothing_found_is_told_with_what_came_nearest(tmp_path: Path) -> None:
    more = ("--examples", "20", "--golden", _golden(tmp_path / "golden"))
    done = rig.process(*PAIR, "numpy", *more, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stdout + done.stderr
    first, nearest, numbers = done.stdout.splitlines()
    assert first.startswith("PASS: nothing out of bounds: commands-cnn · numpy; 20 of 20 examples, ")
    assert nearest.startswith("  nearest  ")
    assert "bound" in numbers
    assert "of it" in numbers
    assert not list(tmp_path.rglob("counterexamples"))


@pytest.mark.slow
def test_ctrl_c_keeps_what_came_nearest(tmp_path: Path) -> None:
    begun = _busy(tmp_path, 100_000)
    os.killpg(begun.pid, signal.SIGINT)  # as a terminal does: to all of them
    said, errors = begun.communicate(timeout=30)
    assert begun.returncode == 130, said + errors
    assert said.startswith("STOPPED: nothing out of bounds: commands-cnn · numpy; ")
    assert "nearest" in said
    assert "Traceback" not in errors
    time.sleep(0.5)
    assert _group(begun.pid) == []


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("search",), "--system"),
        (("search", "--system", "commands-cnn"), "--backend and --runtime say what is searched"),
        ((*PAIR, "numpy", "--oracle", "--against", "librosa"), "take --oracle away"),
        ((*PAIR, "numpy", "--runtime", "onnxrt", "--against", "librosa"), "--against librosa/tflite"),
        ((*PAIR, "numpy", "--against", "librosa/tflite"), "with --runtime"),
        ((*PAIR, "numpy", "--precision", "int8"), "--precision is of the model file"),
        ((*PAIR, "numpy", "--golden", "nowhere"), "there is no folder nowhere"),
        (("search", "--replay", "x.toml", "--seed", "1"), "take --seed away"),
        ((*PAIR, "numpy", "--examples", "0"), "0 is not in the range"),
        ((*PAIR, "numpy", "--limit", "inf"), "not a number of seconds"),
        ((*PAIR, "numpy", "--limit", "nan"), "not a number of seconds"),
    ],
)
def test_options_that_make_no_sense_are_refused(typed: tuple[str, ...], words: str) -> None:
    done = rig.parity(*typed)
    assert done.returncode == 3
    assert words in done.stderr


def test_what_is_not_there_is_told_before_anything_is_drawn(tmp_path: Path) -> None:
    rig.refused(rig.parity("search", "--system", "nowhere", "--backend", "numpy"), 3, "nowhere")
    rig.refused(rig.parity("search", "--replay", tmp_path / "none.toml"), 3, "--replay: there is no file")


def test_a_counter_example_is_judged_as_it_says_or_as_is_typed(tmp_path: Path) -> None:
    def replayed(drawn: Parameters | Pattern, *typed: str, **said: str) -> subprocess.CompletedProcess[str]:
        c = counterexamples.CounterExample(system="commands-cnn", drawn=drawn, **said)  # type: ignore[arg-type]
        file = counterexamples.write(tmp_path, c)
        return rig.parity("search", "--replay", file, *typed)

    quiet = Parameters(sounds=(Sound(level_dbfs=-20.0),))
    held = replayed(quiet, backend="numpy", against="faulty.backends:LoudGain/")
    assert (held.returncode, "held to faulty.backends:LoudGain" in held.stdout) == (0, True), held.stderr
    alone = replayed(quiet, "--oracle", backend="numpy", against="faulty.backends:LoudGain/")
    assert (alone.returncode, "held to" in alone.stdout) == (0, False)
    other = replayed(quiet, "--against", "faulty.backends:LoudGain", backend="numpy")
    assert (other.returncode, "held to faulty.backends:LoudGain" in other.stdout) == (0, True), other.stderr
    assert "examples" not in other.stdout.splitlines()[0]  # nothing was drawn
    rig.refused(replayed(quiet), 3, "--backend and --runtime")
    rig.refused(replayed(quiet, "--precision", "int8", backend="numpy"), 3, "--precision")
    rig.refused(replayed(Pattern(level=1.0), "--backend", "numpy", runtime="onnxrt"), 3, "no --backend")
    rig.refused(replayed(Parameters(rate=8000), backend="numpy"), 5, "is at 8000 Hz")
    gone = Parameters(sounds=(Sound(kind="recording", file="gone.wav"),))
    rig.refused(replayed(gone, backend="numpy"), 5, "can't be rendered", "gone.wav")


@pytest.mark.slow
def test_what_is_found_is_told_wherever_it_can_or_cannot_be_kept(tmp_path: Path) -> None:
    golden, cache = _golden(tmp_path / "golden"), tmp_path / "no-folder"
    cache.touch()
    typed = (*PAIR, "faulty.backends:LoudGain", "--golden", golden, "--examples", "40", "--processes", "1")
    done = rig.parity(*typed, XDG_CACHE_HOME=str(cache))
    assert done.returncode == 1, done.stderr
    assert "clip     tone 1000 Hz" in done.stdout
    assert "again" not in done.stdout
    (golden / "counterexamples").touch()
    begun = time.monotonic()
    rig.refused(rig.parity(*typed, "--save", XDG_CACHE_HOME=str(tmp_path)), 3, "nothing can be saved in", "--golden")
    assert time.monotonic() - begun < 3.0  # before anything is drawn
    (golden / "counterexamples").unlink()
    none = rig.parity(*PAIR, "numpy", *typed[5:], "--save", XDG_CACHE_HOME=str(tmp_path))
    assert (none.returncode, (golden / "counterexamples").exists()) == (0, False), none.stderr


@pytest.mark.slow
def test_ctrl_c_after_something_was_found_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden, cache = _golden(tmp_path / "golden"), {"XDG_CACHE_HOME": str(tmp_path)}
    typed = (*PAIR, "faulty.backends:LoudGain", "--golden", golden, "--examples", "40", "--processes", "1")
    e = Explanation("commands-cnn", "b", ("c",), (), note="interrupted: what was found so far", interrupted=True)
    monkeypatch.setattr("parity.confirm._why", lambda *_: e)
    done = rig.parity(*typed, **cache)
    assert (done.returncode, "(interrupted)" in done.stdout) == (130, True), done.stderr
    assert "first at features/audio" in done.stdout

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def refused(*_: object) -> None:
        raise Refused("not again")

    for why, code, words in ((interrupted, 130, "interrupted"), (refused, 1, "not again")):
        monkeypatch.setattr("parity.cli.search._confirmed", why)
        done = rig.parity(*typed, **cache)
        assert (done.returncode, f"wasn't seen again ({words})" in done.stdout) == (code, True), done.stderr
        assert "clip     tone 1000 Hz" in done.stdout


@pytest.mark.slow
def test_what_was_not_judged_is_no_pass(tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    typed = ("search", "--system", "commands-cnn", "--runtime", "onnxrt", "--examples", "40")
    done = rig.process(*typed, "--against", "hidden.runtimes:Segfaults", **cache)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout.startswith("INCOMPLETE: nothing out of bounds: ")
    assert "clips weren't judged: 'hidden.runtimes:Segfaults', which the network is held to, failed" in done.stdout
    for examples in ("10", "60"):  # fewer than are waited for, and more
        every = ("hidden.backends:Refuses:above=-1", "--examples", examples, "--golden", _golden(tmp_path / examples))
        rig.refused(rig.process(*PAIR, *every, **cache), 2, "every clip was refused: it is too loud for me")


@pytest.mark.slow
def test_a_process_that_is_killed_is_told(tmp_path: Path) -> None:
    begun = _busy(tmp_path, 3000)
    busy = [p for p in psutil.Process(begun.pid).children() if p.cpu_times().user > 2.0]
    busy[0].kill()
    said, errors = begun.communicate(timeout=120)
    assert begun.returncode == 2, said + errors
    assert said.startswith("INCOMPLETE: nothing out of bounds")
    assert "a process of the search was killed by signal 9" in said
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_pair_that_compares_nothing_is_no_pass(tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    done = rig.process("search", "--system", "micro-speech", "--backend", "numpy", **cache)
    rig.refused(done, 2, "numpy can't compute the features of micro-speech")
    done = rig.process(*PAIR, "numpy", "--runtime", "tflite", "--precision", "uint8", **cache)
    rig.refused(done, 2, "no model in uint8")
