"""Each staged fault does what it is called for, seen with nothing but the plain client."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.pi import faults
from tests.pi.faults import Cable, Line
from tests.pi.servers import IS_ROOT, PlainSshd, session_daemons, ssh

ALIVE = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2"]


def started(config: Path, host: str, command: str) -> subprocess.Popen[str]:
    """A command that said its first line."""
    client = subprocess.Popen(
        ["ssh", "-F", str(config), *ALIVE, host, f"echo on; {command}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert client.stdout is not None
    assert client.stdout.readline() == "on\n"
    return client


def ended(client: subprocess.Popen[str], limit: float = 15) -> tuple[int, float]:
    """Its exit code, and after how long it came."""
    start = time.monotonic()
    client.communicate(timeout=limit)
    return client.returncode, time.monotonic() - start


def test_a_line_carries_and_counts(plain_sshd: PlainSshd, tmp_path: Path) -> None:
    with Line(plain_sshd, tmp_path) as line:
        done = ssh(line.ssh_config, line.host, "head -c 100000 /dev/zero | tr '\\0' x")
        assert done.stdout == "x" * 100000
        assert line.connections == 1
        assert 100_000 < line.received < 115_000
        assert 1000 < line.sent < 20_000


def test_a_line_that_is_cut_in_mid_transfer_leaves_part_of_it(plain_sshd: PlainSshd, tmp_path: Path) -> None:
    with Line(plain_sshd, tmp_path) as line:
        part = plain_sshd.home / "part"
        client = started(line.ssh_config, line.host, "cat > ~/part")
        # Else the line may be cut before anybody there has opened the file.
        deadline = time.monotonic() + 20
        while not part.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        line.cut_after(500_000)
        client.communicate("x" * 2_000_000, timeout=20)
        assert client.returncode == 255
        deadline = time.monotonic() + 5
        while session_daemons(plain_sshd) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert 0 < part.stat().st_size < 500_000
        assert ssh(line.ssh_config, line.host, "true").returncode == 0  # it was cut once


def test_a_silent_line_ends_by_the_clients_own_watch(plain_sshd: PlainSshd, tmp_path: Path) -> None:
    with Line(plain_sshd, tmp_path) as line:
        client = started(line.ssh_config, line.host, "sleep 30")
        line.silence()
        code, seconds = ended(client)
        assert code == 255
        assert 1 < seconds < 8
        line.silence(False)
        assert ssh(line.ssh_config, line.host, "true").returncode == 0


def test_a_slow_line_takes_its_time(plain_sshd: PlainSshd, tmp_path: Path) -> None:
    with Line(plain_sshd, tmp_path) as line:
        line.limit(200_000)
        start = time.monotonic()
        assert len(ssh(line.ssh_config, line.host, "head -c 200000 /dev/zero | tr '\\0' x").stdout) == 200_000
        assert time.monotonic() - start > 1


def test_a_line_that_refuses_is_refused(plain_sshd: PlainSshd, tmp_path: Path) -> None:
    with Line(plain_sshd, tmp_path) as line:
        line.refuse()
        assert ssh(line.ssh_config, line.host, "true").returncode == 255
        line.refuse(False)
        assert ssh(line.ssh_config, line.host, "true").returncode == 0


def test_killed_sessions_end_their_clients_and_no_other_server(plain_sshd: PlainSshd, tmp_path: Path) -> None:
    with PlainSshd(tmp_path / "home") as server:
        other = started(plain_sshd.ssh_config, plain_sshd.host, "cat")
        client = started(server.ssh_config, server.host, "sleep 30")
        assert faults.kill_sessions(server) >= 1
        assert ended(client)[0] == 255
        assert ssh(server.ssh_config, server.host, "true").returncode == 0
        assert ended(other) == (0, pytest.approx(0, abs=3))


def test_a_wrong_key_is_refused(plain_sshd: PlainSshd, tmp_path: Path) -> None:
    done = ssh(faults.wrong_key(plain_sshd, tmp_path), plain_sshd.host, "true")
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr


def test_a_changed_host_key_is_seen(tmp_path: Path) -> None:
    with PlainSshd(tmp_path / "home") as server:
        faults.changed_host_key(server)
        done = ssh(server.ssh_config, server.host, "true")
        assert done.returncode == 255
        assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr


@pytest.mark.skipif(not IS_ROOT, reason="a file system of its own takes root")
def test_a_home_that_is_full(tmp_path: Path) -> None:
    with PlainSshd(tmp_path / "home", size="256k") as server:
        done = ssh(server.ssh_config, server.host, "head -c 1000000 /dev/zero > ~/full")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert not (tmp_path / "home" / "full").exists()  # it was never this machine's


def test_a_cable_that_is_pulled_and_one_that_is_slow(tmp_path: Path) -> None:
    try:
        cable = Cable()
    except RuntimeError as e:
        pytest.skip(f"no network namespace with a link can be had: {e}")
    with cable, PlainSshd(tmp_path / "home", enter=cable.enter, address=cable.address) as server:
        cable.slow(1600)
        start = time.monotonic()
        done = subprocess.run(
            ["ssh", "-F", str(server.ssh_config), server.host, "wc -c"],
            input=b"x" * 200_000,
            capture_output=True,
            check=False,
        )
        assert done.stdout == b"200000\n", done.stderr
        assert time.monotonic() - start > 0.9
        client = started(server.ssh_config, server.host, "sleep 30")
        cable.pull()
        code, seconds = ended(client)
        assert code == 255
        assert 1 < seconds < 8
        cable.plug()
        assert ssh(server.ssh_config, server.host, "true").returncode == 0
