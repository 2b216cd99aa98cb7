"""Plugins of somebody else: built, installed, listed, run, and held to the conformance suite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from parity.records import read_run
from tests.plugins_for_tests import rig

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("example-plugin")]

SOURCES = Path(__file__).parent / "example_plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed in it, from a copy: building leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("example")
    copy = folder / "sources"
    copy.mkdir()
    for name in ("pyproject.toml", "parity_example.py"):
        (copy / name).write_bytes((SOURCES / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index",
           "--no-build-isolation", "--target", str(folder / "site"), str(copy)]  # fmt: skip
    subprocess.run(pip, check=True, capture_output=True, timeout=120)
    return folder / "site"


def parity(site: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`parity ...` in a process of its own: one that runs already has looked for entry points."""
    return subprocess.run(
        [sys.executable, "-m", "parity", *map(str, arguments)], cwd=rig.ROOT,
        env=rig.environment(PYTHONPATH=f"{site}:{rig.ROOT}"), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_they_are_listed_with_their_version(site: Path) -> None:
    done = parity(site, "list")
    lines = [line.split() for line in done.stdout.splitlines() if " example " in line]
    assert lines == [[kind, "example", "yes", "parity-example", "1.0"] for kind in ("backend", "runtime")]


def test_they_are_run_by_name(site: Path, tmp_path: Path) -> None:
    golden = rig.goldens(tmp_path / "golden")
    pair = ("--backend", "example", "--runtime", "example", "--precision", "float32")
    done = parity(site, "run", "--system", "commands-cnn", *pair, "--golden", golden, "--report", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = tmp_path.glob("2*")
    run = read_run(folder)
    assert {s.path for s in run.summaries if "example" in (s.backend, s.runtime)} == {
        "features",
        "isolated",
        "cumulative",
    }
    assert run.environment["plugins"]["example"]["parity-example"] == "1.0"


def suite(*more: str, path: str) -> subprocess.CompletedProcess[str]:
    """Their own tests, of the package on `path`."""
    plain = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", "/dev/null", "--import-mode", "importlib")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plain, "--rootdir", str(SOURCES), str(SOURCES), *more],
        env=rig.environment(PYTHONPATH=f"{path}:{rig.ROOT}", EXAMPLE_MODEL=str(rig.SYSTEM)), cwd=SOURCES.parent,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_they_pass_the_conformance_suite(site: Path) -> None:
    done = suite(path=str(site))
    assert done.returncode == 0, done.stdout
    assert "20 passed" in done.stdout


def test_what_is_wrong_in_them_fails_it(site: Path, tmp_path: Path) -> None:
    text = (site / "parity_example.py").read_text(encoding="utf-8")
    assert text.count("power @ self._bank") == 1
    (tmp_path / "parity_example.py").write_text(text.replace("power @ self._bank", "np.sqrt(power) @ self._bank"))
    done = suite("-k", "test_holds_the_derived_bounds", path=f"{tmp_path}:{site}")
    assert done.returncode == 1, done.stdout
    assert "features/filterbank: " in done.stdout
