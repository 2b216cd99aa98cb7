"""Targets by what the user types."""

from __future__ import annotations

import contextlib
import importlib.metadata
from pathlib import Path
from typing import Any

import pytest

from parity.errors import ConfigError
from parity.targets import named
from parity.targets.link import PythonLink
from parity.targets.local import LocalTarget
from parity.targets.named import Address, Options
from parity.targets.ssh import SshLink

KNOWN = {
    "pi": Address(ssh="pi@board:2222", python="~/venv/bin/python", threads=4, ssh_config=Path("ci/ssh_config")),
    "old": Address(python="/opt/old/bin/python"),
}


def reached(name: str) -> named.Reached | None:
    with contextlib.ExitStack() as stack:
        return named.reach(name, KNOWN, stack)


@pytest.mark.parametrize(
    ("name", "kind", "address", "python"),
    [
        ("ssh://pi@raspberrypi", SshLink, "ssh://pi@raspberrypi", None),
        ("ssh://board:22", SshLink, "ssh://board:22", None),
        ("pi", SshLink, "ssh://pi@board:2222", "~/venv/bin/python"),
        ("python:/opt/x/bin/python", PythonLink, "/opt/x/bin/python", "/opt/x/bin/python"),
        ("old", PythonLink, "/opt/old/bin/python", "/opt/old/bin/python"),
    ],
)
def test_a_name_leads_somewhere(name: str, kind: type, address: str, python: str | None) -> None:
    found = reached(name)
    assert found is not None
    assert isinstance(found.link, kind)
    assert (found.link.name, found.link.address, found.python) == (name, address, python)


def test_here_is_no_way_to_anywhere() -> None:
    assert reached("local") is None


@pytest.mark.parametrize(
    ("name", "hint"),
    [("pie", "did you mean 'pi'?"), ("lokal", "did you mean 'local'?"), ("emulated_pi", "did you mean 'emulated-pi'?"),
     ("raspberrypi.local:22/x", "targets: local, pi, old, emulated-pi")],
)  # fmt: skip
def test_a_name_that_is_none_is_told_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="unknown target") as e:
        reached(name)
    assert hint in (e.value.hint or "")


def test_each_is_opened_once_in_its_order_and_held_to_this_machine() -> None:
    with contextlib.ExitStack() as stack:
        found = named.open_all(["old", "local", "old", "pi"], KNOWN, Options(), stack)
        assert [t.name for t in found] == ["old", "local", "pi"]
        assert {id(t.trusted) for t in found} == {id(found[1])}
        assert [t.threads for t in found] == [1, 1, 4]
        assert found[1].apart


def test_threads_that_are_typed_count_more_than_the_settings() -> None:
    with contextlib.ExitStack() as stack:
        (pi,) = named.open_all(["pi"], KNOWN, Options(threads=2), stack)
        assert pi.threads == 2


def test_without_a_name_it_is_here_in_batches() -> None:
    with contextlib.ExitStack() as stack:
        (here,) = named.open_all([], KNOWN, Options(), stack)
        assert isinstance(here, LocalTarget)
        assert not here.apart


class Board(LocalTarget):
    """What a package of somebody else brings."""

    def __init__(self, text: str, options: Options) -> None:
        super().__init__(options.jobs, options.limit)
        self.name = text


def test_a_package_brings_a_kind_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("usb", f"{__name__}:Board", "parity.targets")

    def points(**what: Any) -> Any:
        return [point] if what["group"] == "parity.targets" else []

    monkeypatch.setattr(importlib.metadata, "entry_points", points)
    with contextlib.ExitStack() as stack:
        (board,) = named.open_all(["usb:ttyUSB0"], KNOWN, Options(limit=3.0), stack)
        assert (type(board), board.name) == (Board, "usb:ttyUSB0")
