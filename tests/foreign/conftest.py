"""One set of workers for each module of foreign models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from parity.targets.local import LocalTarget
from tests.plugins_for_tests import rig


@pytest.fixture(scope="module")
def local() -> Iterator[LocalTarget]:
    with rig.target() as workers:
        yield workers
