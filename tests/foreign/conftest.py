"""One set of workers for each module of foreign models, and one small set of goldens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed goldens of three clips; not to be changed."""
    return rig.goldens(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def local() -> Iterator[LocalTarget]:
    with rig.target() as workers:
        yield workers
