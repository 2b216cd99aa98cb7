"""Addresses of devices: every way that people write them, and none that ssh would take for an option."""

from __future__ import annotations

import pytest

from parity.errors import ConfigError
from parity.targets import address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("raspberrypi", "raspberrypi", None),
        ("pi@raspberrypi.local", "pi@raspberrypi.local", None),
        ("pi@10.0.0.7:2222", "pi@10.0.0.7", 2222),
        ("ssh://pi@raspberrypi", "pi@raspberrypi", None),
        ("ssh://raspberrypi:22/", "raspberrypi", 22),
        ("[::1]:22", "::1", 22),
        ("ssh://pi@[fe80::1%eth0]", "pi@fe80::1%eth0", None),
        ("my_board", "my_board", None),
    ],
)
def test_every_way_of_writing_one(text: str, host: str, port: int | None) -> None:
    assert address.parse(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    ["", "ssh://", "pi@", "@host", "-oProxyCommand=reboot", "-l@host", "pi@-host", "a b", "host:", "host:abc",
     "host:22:22", "http://host", "user@a@b", "host/path", "host\n", "fe80::1",
     "h\u00f6st", "host;reboot", "$(reboot)", "host:\u0662"],
)  # fmt: skip
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        address.parse(text)


@pytest.mark.parametrize("port", [0, 65536, 999999999])
def test_ports_that_there_are_not(port: int) -> None:
    with pytest.raises(ConfigError, match=f"{port} is no port"):
        address.parse(f"pi@host:{port}")
