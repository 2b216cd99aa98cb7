"""The servers, once a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from parity.targets.emulated_pi import EmulatedPi
from tests.conftest import program
from tests.pi.servers import PlainSshd, emulated


@pytest.fixture(scope="session")
def plain_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainSshd]:
    """This machine behind an sshd of the tests' own; a test that breaks it makes its own `PlainSshd`."""
    for name, package in (("ssh", "openssh-client"), ("sshd", "openssh-server")):
        program(name, package)
    with PlainSshd(tmp_path_factory.mktemp("home")) as server:
        yield server


@pytest.fixture(scope="session")
def emulated_pi() -> Iterator[EmulatedPi]:
    """64-bit, with the wheels of the pins."""
    with emulated("emulated-pi") as device:
        yield device


@pytest.fixture(scope="session")
def emulated_pi32() -> Iterator[EmulatedPi]:
    """32-bit, with Debian's NumPy and tflite-runtime."""
    with emulated("emulated-pi32") as device:
        yield device
