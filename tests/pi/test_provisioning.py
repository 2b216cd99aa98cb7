"""A device from nothing to its first verdict, over a real SSH, and what goes wrong on the way."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from parity import installing, provisioning, readiness, wheels
from parity.errors import ConfigError, TargetError
from parity.targets.emulated_pi import EmulatedPi
from parity.targets.ssh import SshLink
from tests.boards import wheel
from tests.pi.faults import Line
from tests.pi.servers import IS_ROOT, PlainSshd, emulated, running
from tests.plugins_for_tests import rig


def project(folder: Path, server: PlainSshd | EmulatedPi) -> Path:
    """A project that knows a server as `pi`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "reference_models").mkdir(exist_ok=True)
    text = f'[targets.pi]\nssh = "{server.host}"\nssh_config = "{server.ssh_config}"\n'
    (folder / "parity.toml").write_text(text)
    return folder


@pytest.fixture
def fresh() -> Iterator[EmulatedPi]:
    """A board that has Python, and nothing else."""
    with emulated("emulated-pi", fresh=True) as device:
        yield device


@pytest.mark.slow
@pytest.mark.xdist_group("emulated-pi")
def test_from_a_fresh_board_to_the_first_verdict_without_a_network_there(fresh: EmulatedPi, tmp_path: Path) -> None:
    here = project(tmp_path / "project", fresh)
    before = rig.parity("target", "check", "pi", cwd=here)
    assert before.returncode == 3
    assert "MISSING  NumPy           not installed" in before.stdout
    assert "-> parity target setup pi" in before.stdout
    assert "emulated: its times say nothing of a device's" in before.stdout
    made = rig.parity("target", "setup", "pi", "--offline", "--with", "onnxrt", cwd=here)
    if made.returncode == 3 and "package index" in made.stderr:
        pytest.skip(f"no wheels can be fetched here: {made.stderr}")
    assert made.returncode == 0, made.stderr
    assert "numpy 2.4.6, onnxruntime 1.31.1\nnow: parity run --target pi --backend numpy\n" in made.stdout
    assert running(fresh.sshd) == []
    done = rig.parity(
        "run", "--target", "pi", "--system", rig.SYSTEM, "--precision", "float32", "--backend", "numpy",
        "--runtime", "onnxrt", "--golden", rig.goldens(tmp_path / "golden"), "--report", tmp_path / "reports", cwd=here,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("PASS")
    # All of it goes again.
    assert rig.parity("target", "clean", "pi", "--all", cwd=here).stdout.count("removed") >= 3
    assert rig.parity("target", "clean", "pi", "--all", cwd=here).stdout == "pi: parity keeps nothing there\n"


@pytest.mark.slow
@pytest.mark.xdist_group("emulated-pi")
def test_32_bits_are_told_what_there_is_for_them() -> None:
    with emulated("emulated-pi32", fresh=True) as device:
        link = SshLink("pi", device.host, config=Path(device.ssh_config))
        try:
            link.connect()
            report = readiness.check(link, None)
            with pytest.raises(ConfigError, match="there is no ONNX Runtime for 32-bit ARM"):
                provisioning.setup(link, ["onnxrt"], offline=True)
        finally:
            link.close()
    found = {c.what: (c.state, c.found) for c in report.checks}
    assert not report.ready
    assert found["NumPy"] == ("ok", "1.24.2")
    assert found["runtime onnxrt"] == ("absent", "there is no ONNX Runtime for 32-bit ARM")
    assert found["runtime tflite"] == ("missing", "not installed")


@pytest.mark.slow
@pytest.mark.skipif(not IS_ROOT, reason="a file system of its own takes root")
@pytest.mark.parametrize(("size", "in_time"), [("5m", True), ("5m", False), ("14m", False)])
def test_a_disk_that_is_full_is_told_and_nothing_half_done_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str, in_time: bool
) -> None:
    """Foreseen; while wheels are sent; while they are unpacked."""
    large = wheel(tmp_path / "shop", "one", "1.0", source="#" + "x" * 8_000_000)
    platform = wheels.Platform("x86_64", (2, 36), sys.version_info[:2])
    pip = provisioning._pip(platform)
    monkeypatch.setattr(wheels, "fetch", lambda pins, *_: [pip if pin == wheels.PIP else large for pin in pins][:1])
    if not in_time:  # as if that had been room enough
        monkeypatch.setattr(provisioning, "_unpacked", lambda _: -1_000_000_000)
    with PlainSshd(tmp_path / "home", size=size) as server:
        link = SshLink("pi", server.host, config=Path(server.ssh_config))
        try:
            link.connect()
            with pytest.raises(ConfigError, match="the disk of pi is full") as e:
                provisioning.setup(link, offline=True, python=sys.executable)
            left = link.run("cd ~; find .local/share/parity .cache/parity -type f -o -type d -empty").out.decode()
        finally:
            link.close()
        assert running(server) == []
    assert ("are free, about" in e.value.message) == in_time
    assert "parity target clean pi" in (e.value.hint or "")
    names = sorted(Path(line).name for line in left.splitlines() if line.endswith((".whl", "/lock")))
    sent = {"5m": [pip.name], "14m": ["lock", large.name, pip.name]}
    assert names == ([] if in_time else sorted(sent[size]))
    assert "/venv" not in left
    assert not any(".part" in line for line in left.splitlines())


@pytest.mark.slow
def test_a_link_that_is_lost_while_wheels_are_sent_is_told_and_taken_up_where_it_stopped(tmp_path: Path) -> None:
    small = wheel(tmp_path / "shop", "one", "1.0")
    large = wheel(tmp_path / "shop", "two", "2.0", source="#" + "x" * 12_000_000)
    files, there = [installing.described(path) for path in (small, large)], str(tmp_path / "there")
    with PlainSshd(tmp_path / "home") as server, Line(server, tmp_path) as line:
        link = SshLink("pi", line.host, config=Path(line.ssh_config))
        work = installing.Installer(link, sys.executable, lambda _: None, installing.Context("pi", "", True, ""))
        try:
            link.connect()
            line.cut_after(line.sent + 8_000_000)
            with pytest.raises(TargetError, match="pi: the link was lost during the setup") as e:
                work.send(there, [small, large])
            assert e.value.hint == "the same command goes on with what is there already"
            link.connect()
            assert work.missing(there, files) == {files[1][1]}
            sent = line.sent
            work.send(there, [large])
            assert line.sent - sent > 12_000_000
            assert work.missing(there, files) == set()
        finally:
            link.close()
        assert running(server) == []
    assert sorted(p.name for p in Path(there).rglob("*") if p.is_file()) == [small.name, large.name]
