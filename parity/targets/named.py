"""Targets by what the user types: `local`, `python:PATH`, `ssh://HOST`, a stand-in, or a name from parity.toml.

Third parties add theirs by entry points, `parity.targets`: `NAME` or `NAME:ADDRESS` is then given to a callable
`(text, options)` that answers a `Target`.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity.errors import ConfigError
from parity.protocols import Target
from parity.targets import address, emulated_pi, local
from parity.targets.link import PythonLink
from parity.targets.local import LocalTarget
from parity.targets.remote import Remote
from parity.targets.ssh import SshLink
from parity.targets.workers import WorkersTarget


@dataclass(frozen=True, kw_only=True)
class Options:
    """How targets compute: `jobs` workers at a time (None: as suits the place), `limit` seconds an answer."""

    jobs: int | None = None
    limit: float = 120.0
    threads: int | None = None
    """Of each runtime; None: what the target's settings say, else 1."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a named target is: what `[targets.NAME]` says."""

    ssh: str | None = None
    python: str | None = None
    threads: int | None = None
    ssh_config: Path | None = None


@dataclass(frozen=True)
class Reached:
    """How to get somewhere: the link, and the Python there (None: the one that is found)."""

    link: SshLink | PythonLink
    python: str | None
    threads: int | None = None


def reach(name: str, known: Mapping[str, Address], stack: contextlib.ExitStack) -> Reached | None:
    """The way to a target; None for this machine. A stand-in is started, and ended with `stack`.

    ConfigError for a name that isn't one.
    """
    if name == local.NAME:
        return None
    if name in emulated_pi.KINDS:
        device = stack.enter_context(emulated_pi.EmulatedPi(name))
        return Reached(SshLink(name, device.host, config=Path(device.ssh_config)), device.python)
    if name in known:
        said = known[name]
        if said.ssh is None:
            return Reached(PythonLink(name, said.python or ""), said.python, said.threads)
        host, port = address.parse(said.ssh)
        return Reached(SshLink(name, host, port, said.ssh_config), said.python, said.threads)
    if name.startswith("python:") and len(name) > len("python:"):
        python = os.path.expanduser(name.removeprefix("python:"))  # noqa: PTH111 - a name on the PATH stays one
        return Reached(PythonLink(name, python), python)
    if name.startswith("ssh://"):
        host, port = address.parse(name)
        return Reached(SshLink(name, host, port), None)
    names = [local.NAME, *known, *emulated_pi.KINDS]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError(
        f"unknown target {name!r}", f"{hint}targets: {', '.join(names)}, ssh://user@host, python:/path/to/python"
    )


def open_all(
    names: list[str], known: Mapping[str, Address], options: Options, stack: contextlib.ExitStack
) -> list[Target]:
    """The targets of those names, in their order, each once; `stack` ends them.

    What judges is this machine, whether it is among them or not.
    """
    # Named, it is measured as a device is: clip by clip.
    here = LocalTarget(options.jobs, options.limit, options.threads or 1, apart=local.NAME in names)
    stack.enter_context(here)
    return [_opened(name, known, options, stack, here) for name in dict.fromkeys(names)] or [here]


def _opened(
    name: str, known: Mapping[str, Address], options: Options, stack: contextlib.ExitStack, here: LocalTarget
) -> Target:
    if name == local.NAME:
        return here
    plugged = {p.name: p for p in importlib.metadata.entry_points(group="parity.targets")}
    if (scheme := name.partition(":")[0]) in plugged and name not in known:
        made: Any = plugged[scheme].load()(name, options)
        return stack.enter_context(made)
    found = reach(name, known, stack)
    assert found is not None
    place = Remote(found.link, found.python, options.limit)
    # One worker at a time: what it takes is measured.
    threads = options.threads or found.threads or 1
    return stack.enter_context(WorkersTarget(place, options.jobs or 1, threads, trusted=here))
