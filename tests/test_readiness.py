"""What a target lacks is told, with what to type; what it says is believed only once it is checked."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from parity import readiness
from parity.errors import ConfigError
from parity.readiness import Check, Report
from parity.targets import machine, machines
from tests.boards import Board


@pytest.fixture
def board(tmp_path: Path) -> Board:
    made = Board(tmp_path / "board", "pi")
    made.install_python()
    return made


@pytest.fixture
def complete(board: Board) -> Board:
    board.install("numpy", "2.1.0")
    board.install("onnxruntime", "1.20.0")
    return board


def row(report: Report, what: str) -> Check:
    (found,) = [c for c in report.checks if c.what == what]
    return found


def state(report: Report, what: str) -> tuple[str, str]:
    found = row(report, what)
    return found.state, found.to_do


def test_what_is_there_is_told(complete: Board) -> None:
    report = readiness.check(complete, None)
    assert (report.ready, report.exit_code, report.target, report.emulated) == (True, 0, "pi", False)
    assert [c.what for c in report.checks[:7]] == [
        "system", "CPU", "CPU features", "Python", "NumPy", "runtime onnxrt", "runtime tflite",
    ]  # fmt: skip
    assert row(report, "NumPy").found == "2.1.0"
    assert row(report, "runtime onnxrt").found == "onnxruntime 1.20.0"
    assert row(report, "runtime tflite") == Check("runtime tflite", "not installed", "absent", "parity target setup pi")
    assert row(report, "clock").state == "ok"
    assert f"for {complete.home}/.cache/parity" in row(report, "disk").found


def test_the_virtual_environment_of_setup_comes_before_python3_and_the_settings_before_both(complete: Board) -> None:
    venv = complete.home / ".local/share/parity/venv/bin"
    venv.mkdir(parents=True)
    (venv / "python").symlink_to(complete.path / "python3")
    assert readiness.ask(complete, None).python == readiness.ask(complete, "python3").python != ""
    (venv / "python").unlink()
    (venv / "python").write_text("#!/bin/sh\necho python 3.8.1\n")
    (venv / "python").chmod(0o755)
    assert readiness.ask(complete, None).python == "3.8.1"
    assert readiness.ask(complete, str(complete.path / "python3")).python != "3.8.1"
    (complete.home / "my own").mkdir()
    (complete.home / "my own/python").symlink_to(venv / "python")
    assert readiness.ask(complete, "~/my own/python").python == "3.8.1"


def test_what_is_missing_comes_with_what_to_type(board: Board) -> None:
    report = readiness.check(board, None)
    assert (report.ready, report.exit_code) == (False, 3)
    assert state(report, "NumPy") == ("missing", "parity target setup pi")
    assert state(report, "runtime onnxrt") == state(report, "runtime tflite") == ("missing", "parity target setup pi")
    own = readiness.check(board, "python3", provisioned=False)
    assert row(own, "NumPy").to_do.startswith("python3 -m pip install numpy==")
    assert "ai-edge-litert==" in row(own, "runtime tflite").to_do
    assert "onnxruntime" not in row(own, "runtime tflite").to_do
    there = readiness.Remedies("pi", "~/venv/bin/python", False, "there: ").install()
    assert there.startswith("there: ~/venv/bin/python -m pip install numpy==")


def test_numpy_without_a_runtime_is_not_enough_and_either_runtime_is(board: Board) -> None:
    board.install("numpy", "2.1.0")
    assert not readiness.check(board, None).ready
    board.install("tflite-runtime", "2.14.0", "tflite_runtime.interpreter")
    report = readiness.check(board, None)
    assert report.ready
    assert row(report, "runtime tflite").found == "tflite-runtime 2.14.0"


def test_a_library_that_cannot_be_imported_is_not_there(board: Board) -> None:
    board.install("numpy", "2.1.0")
    board.install("onnxruntime", "1.20.0", source="import os; os.kill(os.getpid(), 4)")
    board.install(
        "ai-edge-litert", "1.2.0", "ai_edge_litert.interpreter", "raise ImportError('libfoo.so: \\x1b[31m no')"
    )
    report = readiness.check(board, None)
    assert not report.ready
    assert row(report, "runtime onnxrt").state == row(report, "runtime tflite").state == "wrong"
    assert "illegal instruction: it was built for a newer CPU" in row(report, "runtime onnxrt").found
    assert "can't be imported: ImportError: libfoo.so:  [31m no" in row(report, "runtime tflite").found


def test_numpy_that_is_too_old_is_told(board: Board) -> None:
    board.install("numpy", "1.19.5")
    board.install("onnxruntime", "1.20.0")
    report = readiness.check(board, None)
    assert not report.ready
    assert row(report, "NumPy").found == "1.19.5; 1.24 or newer is needed"


def test_without_a_python_the_shell_still_tells(tmp_path: Path) -> None:
    report = readiness.check(Board(tmp_path / "board", "pi"), None)
    assert (report.exit_code, report.machine) == (3, None)
    assert row(report, "Python").found == "none: no python3 on its path"
    assert row(report, "Python").to_do in ("sudo apt install python3", "install Python 3.11 or newer there")
    assert {c.what for c in report.checks} == {"system", "Python", "memory", "disk", "clock"}
    assert "Linux" in row(report, "system").found
    named = readiness.check(Board(tmp_path / "other", "pi"), "~/gone/python")
    assert state(named, "Python") == ("missing", "mend `python` in parity.toml, or take it away")


def test_a_python_that_was_asked_for_and_is_not_there_is_told(tmp_path: Path) -> None:
    asked = readiness.ask(Board(tmp_path / "board", "pi"), "python3.12")
    with pytest.raises(ConfigError, match=r"pi: there is no Python that runs at python3\.12"):
        readiness.needed(asked, "pi", "python3.12")


def test_a_python_that_does_not_run_is_told(tmp_path: Path) -> None:
    board = Board(tmp_path / "board", "pi")
    board.command("python3", "exit 127")
    report = readiness.check(board, None)
    assert (row(report, "Python").state, row(report, "Python").found) == ("wrong", "python3 is there, but doesn't run")


@pytest.mark.parametrize("version", ["3.9.2", "3.6.9", "2.7.18"])
def test_a_python_that_is_too_old_is_told(tmp_path: Path, version: str) -> None:
    board = Board(tmp_path / "board", "pi")
    board.command("python3", f'case "$2" in *version_info*) echo python {version} ;; *) exit 1 ;; esac')
    report = readiness.check(board, None)
    assert row(report, "Python").found == f"{version}; 3.11 or newer is needed"
    assert "parity target setup pi --python PYTHON" in row(report, "Python").to_do
    assert not report.ready
    with pytest.raises(ConfigError, match=r"pi: Python: .* or newer is needed"):
        readiness.needed(readiness.ask(board, None), "pi")


def facts(**changes: Any) -> dict[str, Any]:
    return machine.facts() | changes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"memory_bytes": -1}, "memory_bytes"),
        ({"memory_bytes": "4 GB"}, "memory_bytes"),
        ({"disk_free_bytes": 10**30}, "disk_free_bytes"),
        ({"packages": [["numpy", "2"]]}, "packages"),
        ({"packages": {str(i): "1" for i in range(101)}}, "packages"),
        ({"bits": 33}, "bits"),
        ({"clock": None}, "clock"),
        ({"clock": 1e300}, "clock"),
        ({"cpu": {"model": "x"}}, "cpu"),
        ({"python": None}, "python"),
    ],
)
def test_what_is_of_another_kind_is_not_believed(change: dict[str, Any], said: str) -> None:
    assert machines.believed(json.dumps(facts()).encode()).packages["numpy"]
    with pytest.raises(ValueError, match=said):
        machines.believed(json.dumps(facts(**change)).encode())


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[1]", b"null", b"\xff", b'"x"', b"[" * 5000, b"x" * (machines.MOST + 1), b'{"clock": NaN}']
)
def test_what_is_no_description_is_not_believed(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own words, and msgspec's
        machines.believed(data)


def test_nothing_that_a_device_says_steers_a_terminal() -> None:
    nasty = "\x1b]0;title\x07\x1b[2J\u202egro.elpmaxe\n" + "x" * 1000
    found = machines.believed(json.dumps(facts(release=nasty, packages={nasty: nasty})).encode())
    for text in (found.release, *found.packages, *found.packages.values()):
        assert text is not None
        assert text.isprintable()
        assert len(text) <= 300


def test_a_shell_that_prints_before_and_a_device_that_lies(complete: Board) -> None:
    real = complete.path / "python3"
    real.rename(complete.path / "real")
    complete.command("python3", f'echo Welcome; exec {complete.path}/real "$@"')
    assert readiness.ask(complete, None).machine is None  # words among the facts are no facts
    complete.command("uname", "printf '\\033[31mred'")
    complete.command(
        "python3", 'case "$2" in *version_info*) echo python 3.12.0 ;; *) cat; yes | head -c 1000000 ;; esac'
    )
    report = readiness.check(complete, None)
    assert not report.ready
    assert state(report, "Python")[0] == "wrong"
    assert row(report, "Python").found == "3.12.0, but it can't say what is there"
    assert all(c.found.isprintable() for c in report.checks)


def asked(**changes: Any) -> readiness.Asked:
    found = machines.believed(json.dumps(facts(**changes)).encode())
    return readiness.Asked(found.python, {}, found)


@pytest.mark.parametrize(
    ("changes", "what", "found", "to_do"),
    [
        ({"clock": -3 * 86400}, "clock", "3 days behind this machine's", "sudo timedatectl set-ntp true"),
        ({"clock": 601}, "clock", "10 minutes ahead of this machine's", "certificates fail"),
        ({"disk_free_bytes": 50_000_000}, "disk", "50 MB free for ", "parity target clean 'my pi'"),
        ({"memory_free_bytes": 1000, "memory_bytes": 10**9}, "memory", "1 kB free of 1 GB", "--jobs 1"),
        ({"governor": "ondemand"}, "governor", "ondemand", "echo performance | sudo tee /sys"),
        ({"temperature_c": 84.5}, "temperature", "84.5 °C", "let it cool"),
    ],
)
def test_what_makes_trouble_later_is_noted(changes: dict[str, Any], what: str, found: str, to_do: str) -> None:
    now = time.time()
    if "clock" in changes:
        changes = {"clock": now + changes["clock"]}
    (check,) = [c for c in readiness._resources(asked(**changes), now, "my pi") if c.what == what]
    assert check.state == "note"
    assert found in check.found
    assert to_do in check.to_do


def test_what_makes_no_trouble_is_not() -> None:
    rows = readiness._resources(asked(governor="performance", temperature_c=48.0), time.time(), "pi")
    assert {c.what: c.state for c in rows} == dict.fromkeys(
        ["memory", "disk", "clock", "governor", "temperature"], "ok"
    )


def test_32_bits_are_told_from_the_kernel_s_64(board: Board) -> None:
    board.install("numpy", "1.24.2")
    found = machines.believed(json.dumps(facts(bits=32, machine="aarch64", packages={"numpy": "1.24.2"})).encode())
    assert found.architecture == "armv7l"
    rows = {c.what: c for c in readiness._libraries(board, None, found, readiness.Remedies("pi", None, True))}
    assert rows["runtime onnxrt"].found == "there is no ONNX Runtime for 32-bit ARM"
    assert rows["runtime onnxrt"].state == "absent"
    assert (rows["runtime tflite"].state, rows["runtime tflite"].to_do) == ("missing", "parity target setup pi")
    bare = machines.believed(json.dumps(facts(bits=32, machine="armv7l", packages={})).encode())
    rows = {c.what: c for c in readiness._libraries(board, None, bare, readiness.Remedies("pi", None, True))}
    assert (rows["NumPy"].state, rows["NumPy"].to_do) == ("missing", "sudo apt install python3-numpy")


def test_an_emulated_cpu_is_marked(complete: Board) -> None:
    complete._environment["PARITY_EMULATED"] = "qemu-aarch64:cortex-a72"
    report = readiness.check(complete, None)
    assert report.emulated
    assert state(report, "CPU") == ("note", "emulated: its times say nothing of a device's")


def test_sizes_and_times_in_words() -> None:
    assert [machines.size(n) for n in (12, 39_800_000, 4 * 10**9)] == ["12 bytes", "39.8 MB", "4 GB"]
    assert [machines.duration(s) for s in (30, 130, 8000, 1e6)] == ["30 s", "2 minutes", "2 hours", "12 days"]
