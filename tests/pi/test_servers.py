"""The servers that tests of targets reach over SSH, and the stand-in that parity offers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import psutil
import pytest

from parity.errors import ConfigError, TargetError
from parity.targets import emulated_pi as pi
from parity.targets.emulated_pi import KINDS, EmulatedPi
from parity.targets.own_sshd import OwnSshd
from tests.conftest import PROJECT
from tests.pi.servers import IS_ROOT, PlainSshd, emulated, running, ssh

root = pytest.mark.skipif(not IS_ROOT, reason="namespaces take root")


def test_the_plain_server_runs_commands_in_its_home(plain_sshd: PlainSshd) -> None:
    done = ssh(plain_sshd.ssh_config, plain_sshd.host, "cd ~ && pwd && echo out && echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, f"{plain_sshd.home}\nout\n", "err\n")


def test_a_stopped_server_leaves_nothing(tmp_path: Path) -> None:
    with PlainSshd(tmp_path / "home") as server:
        done = ssh(server.ssh_config, server.host, "sleep 1000 >/dev/null 2>&1 & echo $!")
        assert done.returncode == 0
        assert ["sleep", "1000"] in running(server)
        below = psutil.Process(server._process.pid).children(recursive=True)  # type: ignore[union-attr]
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in below)
    assert not server.folder.exists()


@root
def test_a_server_goes_with_the_process_that_started_it_however_that_ends(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.pi.servers import PlainSshd; import time\n"
        f"s = PlainSshd(Path({str(tmp_path / 'home')!r})); print(s.folder, s._process.pid, flush=True); time.sleep(100)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    assert starter.stdout is not None
    folder, _, keeper = starter.stdout.readline().partition(" ")
    below = psutil.Process(int(keeper)).children(recursive=True)
    assert any(p.name() == "sshd" for p in below)
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    starter.stdout.close()
    _, alive = psutil.wait_procs(below, timeout=10)
    assert not alive
    keeper_ended(int(keeper))
    assert not Path(folder).exists()


def keeper_ended(pid: int, limit: float = 10.0) -> None:
    """Wait for what keeps a server, of a process that isn't there any more."""
    deadline = time.monotonic() + limit
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@root
def test_so_does_one_whose_keeper_is_killed(tmp_path: Path) -> None:
    with PlainSshd(tmp_path / "home") as server:
        assert server._process is not None
        below = psutil.Process(server._process.pid).children(recursive=True)
        os.kill(server._process.pid, signal.SIGKILL)
        assert not psutil.wait_procs(below, timeout=10)[1]


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no sshd of its own can be started: .*[Nn]onsense"):
        OwnSshd("plain", "root", ("Nonsense yes",))


@root
def test_namespaces_that_cannot_be_made_are_told() -> None:
    with pytest.raises(ConfigError, match=r"can't be made: .*/nowhere"):
        OwnSshd("plain", "root", (), ("mount", "pid"), "mount --bind /nowhere /mnt")


def test_the_emulated_pi_is_a_64_bit_arm_with_the_pinned_wheels(emulated_pi: EmulatedPi) -> None:
    code = (
        "import platform, os, numpy, importlib.metadata as m; v = m.version; "
        "print(platform.machine(), numpy.__version__, v('onnxruntime'), v('ai-edge-litert')); "
        "print(os.environ['PARITY_EMULATED'])"
    )
    done = ssh(
        emulated_pi.ssh_config,
        emulated_pi.host,
        f'id -un; grep -c "^CPU part.*0xd08" /proc/cpuinfo; python3 -c "{code}"',
    )
    pins = dict(w.split("==") for w in KINDS["emulated-pi"].wheels)
    versions = f"{pins['numpy']} {pins['onnxruntime']} {pins['ai-edge-litert']}"
    assert done.stdout == f"pi\n{os.cpu_count()}\naarch64 {versions}\nqemu-aarch64:cortex-a72\n", done.stderr


def test_the_other_one_is_a_32_bit_arm_with_debians_numpy(emulated_pi32: EmulatedPi) -> None:
    code = (
        "import platform, sys, numpy, tflite_runtime.interpreter; "
        "print(platform.machine(), sys.maxsize, numpy.__version__)"
    )
    done = ssh(emulated_pi32.ssh_config, emulated_pi32.host, f'{emulated_pi32.python} -c "{code}"')
    assert done.stdout == f"armv7l {2**31 - 1} 1.24.2\n", done.stderr


def test_a_fresh_one_has_no_wheel_and_its_home_is_as_small_as_it_is_told() -> None:
    with emulated("emulated-pi", fresh=True, home="256k") as device:
        done = ssh(
            device.ssh_config, device.host,
            "ls -A; python3 -c 'import numpy' 2>&1 | tail -1; head -c 1000000 /dev/zero > full; touch /x; mkdir /etc/x",
        )  # fmt: skip
    assert done.stdout == "ModuleNotFoundError: No module named 'numpy'\n"
    assert "No space left on device" in done.stderr
    assert done.stderr.count("Read-only file system") == 2, done.stderr


def test_nothing_of_an_emulated_one_is_left_on_this_machine(emulated_pi: EmulatedPi) -> None:
    """Neither while it runs nor afterwards has this machine its mounts or its emulator."""
    assert "parity-pi" not in Path("/proc/mounts").read_text()
    assert not Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists()
    with emulated("emulated-pi") as device:
        assert ssh(device.ssh_config, device.host, "true").returncode == 0
        below = psutil.Process(device.sshd._process.pid).children(recursive=True)  # type: ignore[union-attr]
        folder = device.sshd.folder
    assert not psutil.wait_procs(below, timeout=10)[1]
    assert not folder.exists()


def test_its_pins_are_the_ones_that_parity_is_tested_with() -> None:
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    pins = {line.lower().replace("_", "-") for line in lines if "==" in line}
    for wheel in KINDS["emulated-pi"].wheels:
        assert wheel.lower().replace("_", "-").replace(".strenum", ".strenum") in pins


@pytest.mark.parametrize(
    ("lacks", "says"),
    [("mmdebstrap", "needs mmdebstrap"), ("qemu-aarch64-static", "needs QEMU"), ("sshd", "needs sshd")],
)
def test_what_is_missing_is_named_with_what_to_type(lacks: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = pi.program

    def without(name: str, package: str) -> str:
        if name == lacks:
            raise ConfigError(f"{name} is not installed")
        return "/bin/true" if name in ("mmdebstrap", "qemu-aarch64-static", "sshd", "ssh") else found(name, package)

    monkeypatch.setattr(pi, "program", without)
    with pytest.raises(ConfigError, match=says) as raised:
        pi.build("emulated-pi")
    assert raised.value.hint == "sudo apt-get install --no-install-recommends " + pi.NEEDS


def test_it_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pi, "program", lambda name, package: "/bin/true")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="needs root"):
        EmulatedPi()


def test_there_is_no_other() -> None:
    with pytest.raises(ConfigError, match="no stand-in called 'emulated-pi5'"):
        EmulatedPi("emulated-pi5")


def test_a_build_that_fails_leaves_nothing_in_the_cache_and_the_next_one_starts_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARITY_PI_CACHE", str(tmp_path))
    monkeypatch.setattr(pi, "_wanted", KINDS.__getitem__)
    made = []

    def make(kind: pi.Kind, place: Path, say: object) -> None:
        place.mkdir()
        (place / "etc").mkdir()
        made.append(place)
        if len(made) == 1:
            raise TargetError("no network")

    monkeypatch.setattr(pi, "_make", make)
    with pytest.raises(TargetError):
        pi.build("emulated-pi")
    assert [p.name for p in tmp_path.iterdir()] == ["lock"]
    place = pi.build("emulated-pi")
    assert place == pi.build("emulated-pi") == tmp_path / f"emulated-pi-{KINDS['emulated-pi'].digest}"
    assert len(made) == 2
    assert (place / "etc").is_dir()


def test_two_builds_at_once_make_it_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from parity.targets import emulated_pi as pi\n"
        "pi._wanted = pi.KINDS.__getitem__\n"
        "def make(kind, place, say):\n    place.mkdir(); print('made', flush=True); time.sleep(0.5)\n"
        "pi._make = make\npi.build('emulated-pi')"
    )
    env = os.environ | {"PARITY_PI_CACHE": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env, cwd=PROJECT)
        for _ in range(2)
    ]
    assert sorted(p.communicate(timeout=30)[0] for p in both) == ["", "made\n"]


def test_the_package_knows_no_other_debian_than_the_pythons_its_wheels_are_for() -> None:
    assert pi.SUITE == "bookworm"
    assert tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["requires-python"] == ">=3.11"
    assert "python3.11" in pi._SITE


def test_a_reboot_ends_all_and_comes_back_on_the_same_port(tmp_path: Path) -> None:
    with PlainSshd(tmp_path / "home") as server:
        client = subprocess.Popen(
            ["ssh", "-F", str(server.ssh_config), server.host, "echo on; sleep 1000"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert client.stdout is not None
        assert client.stdout.readline() == "on\n"
        server.reboot(0.5)
        assert client.wait(timeout=5) == 255
        client.stdout.close()
        assert ssh(server.ssh_config, server.host, "true").returncode == 255
        time.sleep(0.5)
        server.wait()
        assert ssh(server.ssh_config, server.host, "true").returncode == 0
        assert ["sleep", "1000"] not in running(server)
