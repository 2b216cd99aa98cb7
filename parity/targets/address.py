"""Where a device is, as people write it: `pi@raspberrypi`, `host:2222`, `ssh://pi@[fe80::1]:22`."""

from __future__ import annotations

import re

from parity.errors import ConfigError

_ADDRESS = re.compile(
    # Neither part may begin with '-': ssh would take it for an option.
    r"(?:ssh://)?"
    r"(?P<user>[^\s@:/\[\]-][^\s@:/\[\]]*@)?"
    r"(?P<host>[A-Za-z0-9_.][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\])"
    r"(?::(?P<port>[0-9]{1,9}))?/?",
    re.ASCII,
)


def parse(ssh: str) -> tuple[str, int | None]:
    """(`[user@]host` as ssh takes it, port or None) of `[ssh://][user@]host[:port]`; ConfigError where it is none."""
    whole = _ADDRESS.fullmatch(ssh)
    if whole is None:
        hint = "write it as user@host, user@host:2222 or ssh://user@host:2222; an IPv6 address in brackets"
        raise ConfigError(f"{ssh!r} is no address", hint)
    port = int(whole["port"]) if whole["port"] else None
    if port is not None and not 1 <= port <= 65535:
        raise ConfigError(f"{ssh!r}: {port} is no port", "ports go from 1 to 65535; ssh's own is 22")
    return (whole["user"] or "") + whole["host"].strip("[]"), port
