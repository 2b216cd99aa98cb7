"""A virtual environment on a device, made of wheels that are sent; whatever goes wrong leaves nothing half done."""

from __future__ import annotations

import dataclasses
import ensurepip
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from parity import installing, provisioning, wheels
from parity.errors import ConfigError, TargetError
from parity.targets import machine, machines
from parity.targets.emulated_pi import KINDS
from parity.targets.installer import MARK
from parity.targets.link import PythonLink
from parity.targets.named import Reached
from parity.targets.ssh import SshLink
from tests.boards import Board, wheel
from tests.conftest import PROJECT

HERE = machines.believed(json.dumps(machine.facts()).encode())


@pytest.fixture
def stock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small wheels in the place of the real ones, among this machine's downloads; no index is asked."""
    bundled = next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setattr(wheels, "PIP", f"pip=={bundled.name.split('-')[1]}")
    monkeypatch.setattr(wheels, "NUMPY", "one==1.0")
    monkeypatch.setattr(wheels, "WITH", {"onnxrt": ("two==2.0", "three==3.0"), "tflite": ("four==4.0", "three==3.0")})
    monkeypatch.setattr(wheels, "MODULES", {"one": "one", "two": "two.core", "four": "four"})
    platform = wheels.platform(HERE)
    assert platform is not None
    folder = wheels.folder() / platform.folder
    wheel(folder, "one", "1.0")
    wheel(folder, "two", "2.0", "two.core", "import three")
    wheel(folder, "three", "3.0")
    wheel(folder, "four", "4.0")
    shutil.copy(bundled, folder)
    return folder


@pytest.fixture
def board(tmp_path: Path, stock: Path) -> Board:
    made = Board(tmp_path / "board", "pi")
    made.install_python()
    return made


def setup(board: Board, *runtimes: str, **options: Any) -> tuple[installing.Made, list[str]]:
    said: list[str] = []
    return provisioning.setup(board, runtimes, offline=True, say=said.append, **options), said


def venv(board: Board) -> Path:
    return board.home / ".local/share/parity/venv"


def left(board: Board) -> list[str]:
    """What is in parity's folders there but for a complete virtual environment."""
    data, cache = board.home / ".local/share/parity", board.home / ".cache/parity"
    found = [p for p in data.glob("*") if p.name not in ("venv", "lock")] if data.exists() else []
    return sorted(p.name for p in [*found, *(p for p in cache.rglob("*") if p.is_file())])


@pytest.mark.slow
def test_a_virtual_environment_is_made_of_what_was_sent_and_the_same_again_changes_nothing(board: Board) -> None:
    made, said = setup(board)
    assert made == installing.Made(str(venv(board)), {"one": "1.0", "two": "2.0", "four": "4.0"}, new=True)
    assert said[0].startswith("sending pip (")
    assert said[1:] == ["making a virtual environment", "installing one, two, four"]
    done = subprocess.run(
        [venv(board) / "bin/python", "-c", "import three, sys; print(sys.prefix)"], capture_output=True
    )
    assert done.stdout.decode().strip() == str(venv(board))
    assert str(venv(board)) in (venv(board) / "bin/activate").read_text()
    assert left(board) == []
    before = (venv(board) / MARK).stat().st_mtime_ns
    again, said = setup(board)
    assert (again, said) == (dataclasses.replace(made, new=False), [])
    assert (venv(board) / MARK).stat().st_mtime_ns == before
    # Something in it was broken: it is made anew.
    shutil.rmtree(next(venv(board).glob("lib/python*/site-packages")) / "three.py", ignore_errors=True)
    next(venv(board).glob("lib/python*/site-packages/three.py")).unlink()
    assert setup(board)[0] == made
    # Another choice takes its place.
    assert setup(board, "tflite")[0].versions == {"one": "1.0", "four": "4.0"}
    assert provisioning.remove(board) == []
    assert [path for path, _ in provisioning.remove(board, everything=True)] == [str(venv(board).parent)]
    assert provisioning.remove(board, everything=True) == []


@pytest.mark.slow
def test_what_fails_leaves_the_old_one_as_it_was(board: Board, stock: Path) -> None:
    setup(board, "tflite")
    wheel(stock, "two", "2.0", "two.core", "raise ImportError('libgomp.so.1: cannot open shared object file')")
    with pytest.raises(ConfigError, match=r"pi: two is installed but can't be imported: ImportError: libgomp\.so\.1"):
        setup(board)
    assert (venv(board) / MARK).exists()
    with zipfile.ZipFile(stock / "two-2.0-py3-none-any.whl", "w") as archive:
        archive.writestr("two/core.py", "")
    with pytest.raises(ConfigError, match=r"pip failed on pi: .*two"):
        setup(board, "onnxrt")
    assert setup(board, "tflite")[0].new is False
    assert [n for n in left(board) if not n.endswith(".whl")] == []


@pytest.mark.slow
def test_half_of_one_is_taken_away_when_the_other_side_goes(board: Board, stock: Path) -> None:
    """The one who asked is killed in the middle of the installation."""
    wheel(
        stock, "one", "1.0", source="import time, pathlib; pathlib.Path.home().joinpath('here').touch(); time.sleep(60)"
    )
    code = (
        "import sys, json; sys.path.insert(0, '.')\n"
        "from parity import provisioning, wheels\n"
        "from parity.targets.link import PythonLink\n"
        f"wheels.PIP, wheels.NUMPY, wheels.WITH, wheels.MODULES = {wheels.PIP!r}, {wheels.NUMPY!r}, {wheels.WITH!r}, "
        f"{wheels.MODULES!r}\n"
        f"provisioning.setup(PythonLink('pi', 'python3', {board._environment!r}), offline=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, env=os.environ | {"PYTHONPATH": str(PROJECT)})
    part = venv(board).with_name("venv.part")
    _until(lambda: (board.home / "here").exists())
    assert part.exists()
    with pytest.raises(ConfigError, match="another setup is at work there"):
        setup(board)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _until(lambda: not part.exists())
    assert not venv(board).exists()
    wheel(stock, "one", "1.0")
    assert setup(board)[0].new


def _until(there: Any, limit: float = 20.0) -> None:
    deadline = time.monotonic() + limit
    while not there():
        assert time.monotonic() < deadline, "it didn't come"
        time.sleep(0.02)


def test_what_arrives_damaged_is_not_kept_and_what_is_there_is_not_sent_again(
    board: Board, stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, there = sorted(stock.glob("*.whl"))[:3], f"{tmp_path}/there"
    context = installing.Context("pi", "Python", True, "")
    files = [installing.described(p) for p in paths]
    work = installing.Installer(board, "python3", lambda _: None, context)
    assert work.missing(there, files) == {f[1] for f in files}
    work.send(there, paths[:1])
    assert work.missing(there, files) == {f[1] for f in files[1:]}
    monkeypatch.setattr(installing, "described", lambda p: (p.name, "0" * 64, p.stat().st_size))
    with pytest.raises(TargetError, match="did not arrive as it was sent"):
        work.send(there, paths[1:2])
    monkeypatch.setattr(installing, "described", lambda p: (p.name, "0" * 64, p.stat().st_size + 1))
    with pytest.raises(TargetError, match="the transfer was cut off in"):
        work.send(there, paths[1:2])
    kept = [p for p in Path(there).rglob("*") if p.is_file()]
    assert [(p.name, p.read_bytes()) for p in kept] == [(paths[0].name, paths[0].read_bytes())]


def test_a_disk_without_room_is_told_before_anything_is_sent(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provisioning, "_BASE_BYTES", 1 << 59)
    with pytest.raises(ConfigError, match=r"the disk of pi is full: .* are free, about .* are wanted") as e:
        setup(board)
    assert e.value.hint is not None
    assert "parity target clean pi" in e.value.hint
    assert left(board) == []


def test_an_installer_that_dies_or_says_nothing_is_told(board: Board, tmp_path: Path) -> None:
    context = installing.Context("pi", "Python", True, "")
    chatty = f'printf "Welcome"; exec {board.path}/python3 "$@"'
    board.command("chatty", chatty)
    assert installing.Installer(board, "chatty", lambda _: None, context).missing("/nowhere", []) == set()
    board.command("floods", "yes 1")
    with pytest.raises(ConfigError, match="pi: the setup there failed: it says nothing"):
        installing.Installer(board, "floods", lambda _: None, context).missing("/nowhere", [])
    board.command("dies", "echo a word >&2; echo [1] ; echo noise; exit 3")
    with pytest.raises(ConfigError, match="pi: the setup there failed: a word"):
        installing.Installer(board, "dies", lambda _: None, context).missing("/nowhere", [])
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"Not a directory|File exists"):
        installing.Installer(board, "python3", lambda _: None, context).send(
            str(tmp_path / "file"), sorted(wheels.folder().rglob("three*.whl"))
        )


@pytest.mark.parametrize(
    ("change", "runtimes", "said", "hint"),
    [
        ({}, ["tensorflow"], "setup knows no runtime 'tensorflow'", "--with takes onnxrt, tflite"),
        ({"system": "Darwin"}, [], "setup is for Linux, this is Darwin", "name that Python in parity.toml"),
        ({"bits": 32, "machine": "armv6l"}, [], "there are no wheels for armv6l", "a newer board"),
        ({"bits": 32, "machine": "armv7l"}, ["onnxrt"], "no ONNX Runtime for 32-bit ARM", "--with tflite"),
        (
            {"bits": 32, "machine": "aarch64", "packages": {}},
            [],
            "NumPy comes from Debian",
            "apt install python3-numpy",
        ),
        ({"bits": 32, "machine": "armv7l", "python": "3.13.5"}, [], "up to Python 3.11, this is 3.13.5", "Bookworm"),
    ],
)
def test_what_cannot_be_set_up_is_told(change: dict[str, Any], runtimes: list[str], said: str, hint: str) -> None:
    found = machines.believed(json.dumps(machine.facts() | change).encode())
    with pytest.raises(ConfigError) as e:
        provisioning.recipe(found, "pi", runtimes)
    assert said in e.value.message
    assert hint in (e.value.hint or "")


def test_recipes_are_pinned_in_full() -> None:
    both = provisioning.recipe(HERE, "pi", [])
    assert both.distributions == ("numpy", "onnxruntime", "ai-edge-litert")
    assert len(set(both.pins)) == len(both.pins)
    assert provisioning.recipe(HERE, "pi", ["tflite"]).distributions == ("numpy", "ai-edge-litert")
    assert provisioning.recipe(HERE, "pi", ["tflite", "onnxrt"]) == both
    arm = machines.believed(
        json.dumps(
            machine.facts() | {"bits": 32, "machine": "armv7l", "python": "3.11.2", "packages": {"numpy": "1.24.2"}}
        ).encode()
    )
    found = provisioning.recipe(arm, "pi", [])
    assert (found.pins, found.system_site) == (("tflite-runtime==2.14.0",), True)
    assert len({both.digest, found.digest, provisioning.recipe(HERE, "pi", ["tflite"]).digest}) == 3


def test_pins_are_those_that_everything_is_tested_with() -> None:
    constraints = (PROJECT / "constraints.txt").read_text().splitlines()
    tested = {wheels.plain(line.partition("==")[0]): line.partition("==")[2] for line in constraints if "==" in line}
    for pin in {wheels.NUMPY, *(p for own in wheels.WITH.values() for p in own)}:
        name, _, version = pin.partition("==")
        assert tested[wheels.plain(name)] == version, pin


def test_the_stand_in_has_what_a_board_gets() -> None:
    """What it computes is what a board that was set up computes."""
    assert {wheels.NUMPY, *(p for own in wheels.WITH.values() for p in own)} <= set(KINDS["emulated-pi"].wheels)
    assert set(wheels.ARM32) <= set(KINDS["emulated-pi32"].wheels)


@pytest.mark.parametrize("runtime", sorted(wheels.WITH))
def test_pins_are_all_that_a_runtime_needs(runtime: str) -> None:
    """Nothing else is installed: --no-deps."""
    pinned = {wheels.plain(p.partition("==")[0]) for p in (wheels.NUMPY, *wheels.WITH[runtime])}
    for name in sorted(pinned):
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert wheels.plain(needed.name) in pinned, f"{name} needs {line}"


def test_platforms_take_wheels_of_older_systems() -> None:
    tags = wheels.Platform("aarch64", (2, 36), (3, 11)).tags
    assert tags[0] == "manylinux_2_36_aarch64"
    assert tags[-2:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]
    assert wheels.Platform("x86_64", (2, 12), (3, 11)).tags[-1] == "manylinux_2_5_x86_64"
    assert wheels.Platform("aarch64", (2, 5), (3, 11)).folder == "cp311-aarch64"


_ENDING = (
    "ERROR: Could not find a version that satisfies the requirement numpy==2.4.6 (from versions: {})\n"
    "ERROR: No matching distribution found for numpy==2.4.6"
)
_BROKEN = "WARNING: Retrying (Retry(total=0)) after connection broken by '{}': /simple/numpy/\n"


_NONE = _ENDING.format("none")
_CLOCK = _BROKEN.format("SSLError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate is not yet valid')")
_REFUSED = _BROKEN.format("NewConnectionError(... Failed to establish a new connection: [Errno 111]")
_UNNAMED = _BROKEN.format("NameResolutionError(... Name or service not known)")
_FULL = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"


@pytest.mark.parametrize(
    ("told", "said", "hint"),
    [
        (_CLOCK + _NONE, "pi doesn't trust the package index's certificate", "set its clock; or: --offline"),
        (_REFUSED + _NONE, "pi can't reach the package index", "--offline"),
        (_UNNAMED + _NONE, "pi can't reach the package index", "--offline"),
        (_NONE, "there is no wheel of numpy 2.4.6 for Python 3.15 on riscv64", "--python python3.11"),
        (_REFUSED + _ENDING.format("1.0, 2.0"), "there is no wheel of numpy 2.4.6", "--python"),
        (_FULL, "the disk of pi is full", "free some"),
        ("/usr/bin/python3: No module named pip", "the Python of pi has no pip", "ensurepip"),
        ("WARNING: x\nERROR: something new\n\n", "pip failed on pi: something new", ""),
        ("", "pip failed on pi: it says nothing", ""),
    ],
)
def test_pip_s_endings_are_told_apart(told: str, said: str, hint: str) -> None:
    error = wheels.failed(told, "pi", "Python 3.15 on riscv64", "--offline", "set its clock")
    assert error.message.startswith(said)
    assert hint in (error.hint or "")


def test_downloads_that_fail_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel(tmp_path / "shop", "one", "1.0").parent))
    platform = wheels.Platform("aarch64", (2, 36), (3, 11))
    said: list[str] = []
    (found,) = wheels.fetch(["one==1.0"], platform, said.append)
    assert (found.name, said) == (
        "one-1.0-py3-none-any.whl",
        ["downloading 1 wheel for Python 3.11 on aarch64, glibc 2.36"],
    )
    assert wheels.fetch(["One==1.0"], platform, said.append) == [found]
    assert len(said) == 1
    with pytest.raises(ConfigError, match="there is no wheel of two 2"):
        wheels.fetch(["one==1.0", "two==2"], platform)
    assert [p.name for p in found.parent.iterdir()] == [found.name]


def test_clean_takes_what_is_parity_s_and_nothing_else(board: Board) -> None:
    cache = board.home / ".cache/parity"
    for name in ("content/ab", "agent", "wheels", "mine"):
        (cache / name).mkdir(parents=True)
    (cache / "content/ab/model.onnx").write_bytes(bytes(100_000))
    (cache / "content/ab").chmod(0o500)
    venv(board).mkdir(parents=True)
    removed = dict(provisioning.remove(board))
    assert set(removed) == {f"{cache}/{name}" for name in ("content", "agent", "wheels")}
    assert removed[f"{cache}/content"] >= 100_000
    assert [p.name for p in cache.iterdir()] == ["mine"]
    assert venv(board).exists()
    (cache / "mine").rmdir()
    (cache / "content").symlink_to(board.home)
    provisioning.remove(board)
    assert not cache.exists()
    assert venv(board).exists()


def test_a_python_of_the_user_s_is_theirs_to_fill() -> None:
    board = SshLink("pi", "pi@nowhere")
    there = PythonLink("python:/opt/python", "/opt/python")
    with pytest.raises(ConfigError, match="/opt/python has a Python of its own") as e:
        provisioning.may_set_up(Reached(there, there.python))
    assert (e.value.hint or "").startswith("/opt/python -m pip install numpy==")
    with pytest.raises(ConfigError, match="emulated-pi comes with all that it needs"):
        provisioning.may_set_up(Reached(SshLink("emulated-pi", "emulated-pi"), "python3"))
    with pytest.raises(ConfigError, match="pi has a Python of its own, ~/venv/bin/python") as e:
        provisioning.may_set_up(Reached(board, "~/venv/bin/python"))
    assert "~/venv/bin/python -m pip install numpy==" in (e.value.hint or "")
    provisioning.may_set_up(Reached(board, None))
