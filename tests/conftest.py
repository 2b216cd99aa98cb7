"""What every test shares: one thread a process, Hypothesis profiles, and the folder of real speech and models."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Before NumPy is imported, here and in what tests start: the matrices are small, and threads of two test processes
# that wait for each other's cores took ten times the CPU time of the work.
os.environ |= {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from parity.targets.local import LocalTarget

settings.register_profile(
    "ci", derandomize=True, deadline=None, database=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("nightly", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what takes minutes to `make search`."""
    if os.environ.get("HYPOTHESIS_PROFILE", "ci") == "nightly":
        return
    long = [item for item in items if item.get_closest_marker("nightly")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


PROJECT = Path(__file__).parents[1]
collect_ignore = ["example_plugin"]  # another package, tested as that: tests/test_example_plugin.py


def data_folder() -> Path:
    """The folder that PARITY_DATA names; a skip, or a failure under PARITY_REQUIRE_DATA=1, where there is none."""
    named = os.environ.get("PARITY_DATA", "")
    if named and Path(named).is_dir():
        return Path(named)
    reason = f"PARITY_DATA names no folder ({named})" if named else "PARITY_DATA isn't set: no real speech and models"
    if os.environ.get("PARITY_REQUIRE_DATA") == "1":
        pytest.fail(f"{reason}, and PARITY_REQUIRE_DATA=1 asks for them")
    pytest.skip(reason)


def program(name: str, package: str) -> str:
    """A program's path; a skip, or a failure under PARITY_REQUIRE_DATA=1, where it isn't installed."""
    if (found := shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")) is not None:
        return found
    reason = f"no {name} here: apt-get install -y --no-install-recommends {package}"
    if os.environ.get("PARITY_REQUIRE_DATA") == "1":
        pytest.fail(f"{reason}, and PARITY_REQUIRE_DATA=1 asks for it")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def data() -> Path:
    """Real speech and models; see `data_folder`."""
    return data_folder()


@pytest.fixture(scope="session")
def project() -> Path:
    """The checkout."""
    return PROJECT


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed goldens of three clips of commands-cnn; not to be changed."""
    from tests.plugins_for_tests import rig

    return rig.goldens(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def local() -> Iterator[LocalTarget]:
    """One set of workers for a module."""
    from tests.plugins_for_tests import rig

    with rig.target() as workers:
        yield workers
