"""What a machine says of itself: on any Python, without parity, whatever is missing."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from parity import provenance
from parity.targets import machine

SOURCE = Path(machine.__file__)
PI4 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd08

Hardware\t: BCM2835
Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""


def files(monkeypatch: pytest.MonkeyPatch, **told: str) -> None:
    """Have the system's files say this (by their last name), and the others be missing."""
    monkeypatch.setattr(machine, "_read", lambda path: told.get(Path(path).name.partition(".")[0].replace("-", "_")))


def test_it_is_one_file_that_an_old_python_reads() -> None:
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 7))
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


def test_run_by_itself_it_prints_one_line_of_json() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-"],
        input=SOURCE.read_bytes(),
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.count(b"\n") == 1
    found = json.loads(done.stdout)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert (found["bits"], found["system"], found["venv"]) == (64, "Linux", True)
    assert found["packages"]["numpy"] == machine.packages()["numpy"]
    assert 0 < found["memory_free_bytes"] <= found["memory_bytes"]
    assert found["disk_free_bytes"] > 0
    assert found["cpu"] == json.loads(json.dumps(machine.cpu()))


def test_identities_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """What accepted baselines were made under is made in the same way."""
    files(monkeypatch, cpuinfo="model name : A CPU\nflags : sse2 avx fpu\nmodel name : A CPU\nflags : sse2 avx fpu\n")
    found = provenance.cpu()
    assert found["model"] == "A CPU"
    assert found["features_sha256"] == hashlib.sha256(b"avx fpu sse2").hexdigest()[:16]
    assert set(found) == {"model", "architecture", "features_sha256", "cores"}


def test_a_pi_is_known_by_its_board_and_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    files(monkeypatch, cpuinfo=PI4, arch="aarch64\n", os_release='PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    found = machine.facts()
    assert found["cpu"]["model"] == found["cpu"]["board"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert found["cpu"]["core"] == "Cortex-A72"
    assert found["cpu"]["features"] == ["asimd", "cpuid", "crc32", "evtstrm", "fp"]
    assert found["cpu"]["emulated"] is False
    assert found["release"] == "Debian GNU/Linux 12 (bookworm)"
    assert (found["governor"], found["temperature_c"], found["memory_bytes"]) == (None, None, None)


@pytest.mark.parametrize(
    ("this", "told", "emulated"),
    [
        ("x86_64", {"arch": "x86_64", "cpuinfo": "model name : QEMU TCG CPU version 2.5+\n"}, True),
        ("x86_64", {"arch": "x86_64", "cpuinfo": "model name : QEMU Virtual CPU version 2.5+\n"}, False),  # may be KVM
        ("aarch64", {"arch": "x86_64", "cpuinfo": PI4}, True),
        ("armv7l", {"arch": "x86_64", "cpuinfo": PI4}, True),
        ("armv7l", {"arch": "aarch64", "cpuinfo": PI4}, False),
        ("i686", {"arch": "x86_64", "cpuinfo": ""}, False),
        ("aarch64", {"cpuinfo": PI4}, False),
    ],
)
def test_emulated_or_not(monkeypatch: pytest.MonkeyPatch, this: str, told: dict[str, str], emulated: bool) -> None:
    monkeypatch.delenv("PARITY_EMULATED", raising=False)
    monkeypatch.setattr(machine.platform, "machine", lambda: this)
    files(monkeypatch, **told)
    assert machine.cpu()["emulated"] is emulated
    monkeypatch.setenv("PARITY_EMULATED", "1")
    assert machine.cpu()["emulated"] is True


def test_what_can_be_read_of_clock_and_heat(monkeypatch: pytest.MonkeyPatch) -> None:
    files(
        monkeypatch,
        scaling_governor="ondemand\n",
        temp="48312\n",
        meminfo="MemTotal:  948304 kB\nMemAvailable: 12 kB\n",
    )
    found = machine.facts()
    assert (found["governor"], found["temperature_c"]) == ("ondemand", 48.3)
    assert (found["memory_bytes"], found["memory_free_bytes"]) == (948304 * 1024, 12 * 1024)


def test_a_fact_that_raises_is_a_fact_less(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no")

    for name in ("cpu", "governor", "packages", "_venv", "_disk_free", "_release"):
        monkeypatch.setattr(machine, name, broken)
    found = machine.facts()
    assert (found["cpu"], found["governor"], found["packages"], found["venv"]) == (None, None, {}, False)
    assert found["disk_free_bytes"] is None
    json.dumps(found)


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/pi")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert str(machine.cache_folder()) == "/home/pi/.cache/parity"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert str(machine.cache_folder()) == "/home/pi/.cache/parity"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert machine.cache_folder() == tmp_path / "parity"
    assert machine.facts()["disk_free_bytes"] > 0
    assert machine.facts("~/elsewhere")["cache"] == "/home/pi/elsewhere"
