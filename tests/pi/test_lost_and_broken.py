"""What goes wrong with a device during a run, over a real SSH: how it ends, in a line, and that nothing stays there."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from parity import pipeline
from parity.errors import ConfigError, ParityError, TargetError
from parity.plan import Selection
from parity.records import Run, read_verdicts
from parity.targets.remote import Remote
from parity.targets.ssh import SshLink
from parity.targets.workers import WorkersTarget
from tests.pi import faults
from tests.pi.faults import Cable, Line
from tests.pi.servers import IS_ROOT, PlainSshd, emulated, running
from tests.plugins_for_tests import rig
from tests.targets.test_local import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sshd")]
root = pytest.mark.skipif(not IS_ROOT, reason="a file system or a network of its own takes root")
PLUGINS = f"PYTHONPATH={rig.PLUGINS}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PlainSshd]:
    """This machine behind an sshd that a test may break; its Python finds the tests' plugins."""
    with PlainSshd(tmp_path / "home", environment=(PLUGINS,)) as started:
        yield started


@contextlib.contextmanager
def reached(
    config: Path, host: str, python: str = sys.executable, limit: float = 60.0, patience: float = 30.0
) -> Iterator[WorkersTarget]:
    """A device by its ssh_config, with an impatient link: two seconds of silence and it is lost."""
    impatient = config.with_name(config.name + "-impatient")
    watch = "  ServerAliveInterval 1\n  ServerAliveCountMax 2\n  ConnectTimeout 3\n"
    impatient.write_text(config.read_text(encoding="utf-8") + watch, encoding="utf-8")
    with rig.target() as here:
        place = Remote(SshLink("pi", host, config=impatient), python, limit, patience)
        with WorkersTarget(place, 1, 1, trusted=here) as target:
            yield target


def ran(target: Any, golden: Path, reports: Path, *runtimes: str) -> tuple[Run, list[dict[str, Any]]]:
    """A run of commands-cnn's float32 file, and its verdicts."""
    selection = Selection(
        systems=(str(rig.SYSTEM),), backends=("numpy",), runtimes=runtimes or ("onnxrt",), precisions=("float32",),
        golden=golden,
    )  # fmt: skip
    done, folder = pipeline.run(selection, target, reports)
    found = [msgspec.structs.asdict(v) for v in read_verdicts(folder)]
    return done, [{k: v for k, v in row.items() if k != "target"} for row in found]


@pytest.fixture(scope="module")
def undisturbed(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The verdicts here."""
    with rig.target() as local:
        return ran(local, golden, tmp_path_factory.mktemp("undisturbed"))[1]


def left(server: PlainSshd) -> tuple[list[list[str]], set[str]]:
    """What still runs there, and the folders that parity made in the home."""
    until(lambda: not running(server), 15)
    return running(server), {str(p.relative_to(server.home)) for p in server.home.glob(".cache/*")}


NOTHING: tuple[list[list[str]], set[str]] = ([], {".cache/parity"})


def when(holds: Callable[[], bool], do: Callable[[], object]) -> threading.Thread:
    """Do something, beside the test, as soon as something holds."""

    def wait() -> None:
        if until(holds):
            do()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


# ---- A link that is lost, and comes back ----


def test_cut_in_mid_transfer(
    server: PlainSshd, golden: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    with Line(server, tmp_path) as line, reached(line.ssh_config, line.host) as target:
        line.cut_after(60_000)  # of the far side's own file, of a model, of clips
        done, verdicts = ran(target, golden, tmp_path / "reports")
    assert (done.exit_code, verdicts) == (0, undisturbed)
    assert line.connections == 2
    assert left(server) == NOTHING
    assert not list(server.home.rglob(".part*"))


@pytest.mark.parametrize("how", ["sshd killed", "cut", "silent", "rebooted"])
def test_lost_in_mid_run(
    how: str, server: PlainSshd, golden: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    told = tmp_path / "told"
    slow = f"faulty.at_work:Slow:told={told}"
    with Line(server, tmp_path) as line, reached(line.ssh_config, line.host) as target:

        def fault() -> None:
            if how == "sshd killed":
                assert faults.kill_sessions(server)
            elif how == "cut":
                line.cut()
            elif how == "rebooted":
                server.reboot(1.0)
            else:
                line.silence()
                assert until(lambda: line.connections > before)
                line.silence(False)

        before = line.connections + 1
        thread = when(lambda: told.exists() and len(told.read_bytes()) == 2, fault)
        done, verdicts = ran(target, golden, tmp_path / "reports", slow)
        thread.join()
        reconnects = target.link()["reconnects"]
    same = [row | {"runtime": row["runtime"] and slow} for row in undisturbed]
    assert done.exit_code == 0
    assert verdicts == same  # none twice, none left out
    assert reconnects == 1
    assert left(server) == NOTHING


def test_a_slow_line_changes_nothing(
    server: PlainSshd, golden: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    with Line(server, tmp_path) as line, reached(line.ssh_config, line.host) as target:
        line.limit(1_000_000)
        done, verdicts = ran(target, golden, tmp_path / "reports")
        assert line.connections == 1
        assert target.link()["reconnects"] == 0
    assert (done.exit_code, verdicts) == (0, undisturbed)


def test_a_long_folder_for_temporary_files_is_no_hindrance(
    server: PlainSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As macOS gives each user one: too long for the socket of a shared connection."""
    long = tmp_path / ("temporary" * 10)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with reached(server.ssh_config, server.host) as target:
        assert target.facts()["numpy"]
    assert list(long.iterdir()) == []


# ---- One that doesn't ----


@root
def test_a_pulled_cable_ends_the_run_in_exit_code_4(golden: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    try:
        cable = Cable()
    except RuntimeError as e:
        pytest.skip(f"no network namespace with a link can be had: {e}")
    with (
        cable,
        PlainSshd(tmp_path / "home", environment=(PLUGINS,), enter=cable.enter, address=cable.address) as server,
        reached(server.ssh_config, server.host, patience=1.0) as target,
    ):
        thread = when(lambda: told.exists() and len(told.read_bytes()) == 2, cable.pull)
        with pytest.raises(TargetError, match="pi: the link was lost and isn't back after 1 s") as e:
            ran(target, golden, tmp_path / "reports", f"faulty.at_work:Slow:told={told}")
        thread.join()
    assert refusal(e.value) == 4
    assert rig.left_over(tmp_path / "reports") == []


def refusal(error: ParityError) -> int:
    """The exit code of an error that is one line, with a line of what to do."""
    assert "\n" not in error.message
    assert error.hint
    assert "\n" not in error.hint
    return error.exit_code


@pytest.mark.parametrize("how", ["wrong key", "changed host key", "no Python", "no NumPy", "nobody there"])
def test_what_keeps_a_run_from_starting_is_told_in_a_line(
    how: str, server: PlainSshd, golden: Path, tmp_path: Path
) -> None:
    config, python, words, code = server.ssh_config, sys.executable, "", 3
    if how == "wrong key":
        config, words = faults.wrong_key(server, tmp_path), "refuses the key"
    elif how == "changed host key":
        faults.changed_host_key(server)
        words = "host key of plain is another"
    elif how == "no Python":
        python, words = "/opt/none/bin/python", "there is no Python there"
    elif how == "no NumPy":
        (tmp_path / "bare").mkdir()
        python, words = str(tmp_path / "bare" / "python"), "NumPy"
        Path(python).write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n', encoding="utf-8")
        Path(python).chmod(0o755)
    else:
        server.stop()
        config = tmp_path / "gone"
        config.write_text(f"Host plain\n  HostName 127.0.0.1\n  Port {server.port}\n", encoding="utf-8")
        words, code = "can't be reached", 4
    with reached(config, server.host, python, patience=1.0) as target, pytest.raises(ParityError, match=words) as e:
        ran(target, golden, tmp_path / "reports")
    assert refusal(e.value) == code, e.value.message
    assert rig.left_over(tmp_path / "reports") == []
    if how != "nobody there":
        assert left(server)[0] == []


@root
def test_a_full_disk_is_told_and_nothing_half_is_left(golden: Path, tmp_path: Path) -> None:
    with PlainSshd(tmp_path / "home", size="200k") as server:
        with reached(server.ssh_config, server.host) as target, pytest.raises(ConfigError, match="disk is full") as e:
            ran(target, golden, tmp_path / "reports")
        assert refusal(e.value) == 3
        until(lambda: not running(server), 15)
        assert running(server) == []


def test_a_missing_wheel_is_told_with_what_to_type(golden: Path, tmp_path: Path) -> None:
    with (
        emulated("emulated-pi32") as device, reached(device.ssh_config, device.host, device.python) as target,
        pytest.raises(ParityError, match="onnxruntime") as e,
    ):  # fmt: skip
        ran(target, golden, tmp_path / "reports", "onnxrt")
    assert refusal(e.value) == 3
    assert "parity target setup pi" in (e.value.hint or "")


# ---- A runtime, or the far side, that dies ----


@pytest.mark.parametrize(
    ("plugin", "cause"),
    [
        ("KilledForMemory", "killed (SIGKILL): out of memory"),
        ("Segfaults", "died of SIGSEGV"),
        ("Hangs", "no answer within 5 s"),
    ],
)
def test_a_runtime_that_dies_is_an_error_of_its_pair(
    plugin: str, cause: str, server: PlainSshd, golden: Path, tmp_path: Path
) -> None:
    runtime = f"faulty.runtimes:{plugin}"
    with reached(server.ssh_config, server.host, limit=5.0) as target:
        done, _ = ran(target, golden, tmp_path / "reports", runtime, "onnxrt")
        assert target.link()["reconnects"] == 0  # not a lost link
    assert done.exit_code == 1
    assert {s.worst.outcome for s in done.summaries if s.runtime == runtime} == {"error"}
    assert all(cause in line for line in rig.messages(done, "error").splitlines())
    assert {s.worst.outcome for s in done.summaries if s.runtime == "onnxrt"} == {"pass"}
    assert left(server) == NOTHING


def test_a_far_side_that_is_killed_is_told_from_a_lost_link(server: PlainSshd, golden: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    slow = f"faulty.at_work:Slow:told={told}"

    def kill() -> None:
        assert server._process is not None
        (far,) = [
            p for p in psutil.Process(server._process.pid).children(recursive=True)
            if p.cmdline()[1:] and p.cmdline()[1].endswith(".pyz")
        ]  # fmt: skip
        os.kill(far.pid, signal.SIGKILL)

    with reached(server.ssh_config, server.host) as target:
        thread = when(told.exists, kill)
        done, _ = ran(target, golden, tmp_path / "reports", slow)
        thread.join()
    assert done.exit_code == 1
    assert "the far side was killed (SIGKILL)" in rig.messages(done, "error")
    assert left(server) == NOTHING


# ---- Others on the device, and its clock ----


def test_two_runs_at_once_have_a_device_each_to_themselves(
    server: PlainSshd, golden: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    found: dict[str, tuple[int, bool]] = {}

    def one(name: str) -> None:
        config = tmp_path / f"{name}-config"
        config.write_text(server.ssh_config.read_text(encoding="utf-8"), encoding="utf-8")
        with reached(config, server.host) as target:
            done, verdicts = ran(target, golden, tmp_path / name)
            found[name] = done.exit_code, verdicts == undisturbed

    both = [threading.Thread(target=one, args=(name,)) for name in ("a", "b")]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert found == {"a": (0, True), "b": (0, True)}
    assert left(server) == NOTHING


def test_a_clock_that_is_off_changes_no_verdict(
    golden: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    """As a board without a battery has it, before it has found a network's time."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import time\nnow = time.time\ntime.time = lambda: now() - 3e8\n")
    with PlainSshd(tmp_path / "home", environment=(f"PYTHONPATH={site}",)) as server:
        with reached(server.ssh_config, server.host) as target:
            done, verdicts = ran(target, golden, tmp_path / "reports")
        assert left(server) == NOTHING
    assert (done.exit_code, verdicts) == (0, undisturbed)
