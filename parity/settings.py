"""What a project sets once: `parity.toml` beside its models, or `[tool.parity]` in pyproject.toml.

    [gate]                      # parity gate
    drift_factor = 1.25         # a tap's error over bound may be so many times what was accepted,
    drift_floor = 0.005         # and so much more than it
    [test]                      # pytest --parity
    systems = ["commands-cnn"]
    [targets.pi]                # --target pi
    ssh = "pi@raspberrypi"

A key that doesn't belong is refused with the nearest that does.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from parity import system
from parity.errors import ConfigError
from parity.targets import address
from parity.targets.named import Address

FILE = "parity.toml"

Factor = Annotated[float, msgspec.Meta(ge=1, le=1e9)]  # JSON has no infinity: the records would call it no limit
Width = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Threads = Annotated[int, msgspec.Meta(ge=1, le=256)]

BUILT_IN = ("local", "emulated-pi", "emulated-pi32")
"""Targets that need no settings."""


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """[gate]: how far a run may be from the accepted baselines; the README says how the defaults were measured."""

    drift_factor: Factor = 1.25
    """How many times the worst accepted error over bound a tap's may be, within its bound."""
    drift_floor: Width = 0.005
    """How much more than that, in bounds, it must be at least to be told."""
    latency_factor: Factor | None = None
    """How many times the accepted time of a frame a plugin may take; None: no limit."""
    latency: dict[str, Factor] = {}
    """The same of single targets, by their names, in the place of `latency_factor`."""
    size_factor: Factor | None = None
    """How many times its accepted size a model file may have; None: no limit."""
    accuracy_margin: Share = 0.0
    """With --labels-from folders: how much less than the best float32 pair's accuracy a pair's may be, 0 to 1."""
    flips_margin: Count = 0
    """On how many more clips than accepted a pair may say another label than the golden."""
    require_baseline: bool = False
    """A system without a baseline of this environment ends in exit code 2, as with --require-baseline."""


class Pytest(msgspec.Struct, frozen=True, kw_only=True):
    """[test]: what `pytest --parity` compares; empty means everything committed and installed."""

    systems: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()


class TargetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[targets.NAME]: another place where plugins run. At least one of `ssh` and `python` is given."""

    ssh: str | None = None
    """`[user@]host[:port]`, `ssh://...`, or a Host of the user's own ssh_config; None: this machine."""
    python: str | None = None
    """The Python there; None: the one that `parity target setup` made, else `python3`."""
    threads: Threads | None = None
    """How many each runtime computes with there; None: what --threads says."""
    ssh_config: str | None = None
    """A file for `ssh -F`, relative to the project's root; None: the user's own."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of the file. Every table has its defaults."""

    gate: Gate = Gate()
    test: Pytest | None = None
    """None where there is no such table: pytest is then left alone until it is asked."""
    targets: dict[str, TargetSettings] = {}
    """By name: what `--target NAME` stands for."""


def load(root: Path | None = None) -> Settings:
    """The settings of a project; the defaults where it has none. ConfigError names the place of what is wrong."""
    root = system.root() if root is None else root
    own, shared = root / FILE, root / "pyproject.toml"
    found = [(own, _toml(own))] if own.is_file() else []
    tools = _toml(shared).get("tool") if shared.is_file() else None
    if isinstance(tools, dict) and (table := tools.get("parity")) is not None:
        found.append((shared, table))
    if len(found) > 1:
        raise ConfigError(f"settings stand in {own} and in [tool.parity] of {shared}", "take one of the two away")
    if not found:
        return Settings()
    path, data = found[0]
    prefix = "tool.parity." if path == shared else ""
    _refuse_unknown(path, prefix, data, Settings)
    try:
        found_settings = msgspec.convert(data, Settings)
    except msgspec.ValidationError as e:
        text, _, at = str(e).partition(" - at `$.")
        at = at.rstrip("`")
        if at.startswith("targets"):
            at = _named(at, data)
        place = (prefix + at).rstrip(".")
        section = next((words for head, words in _SECTIONS.items() if at.startswith(head)), "The gate")
        raise ConfigError(f"{path}: {place}: {text[0].lower()}{text[1:]}", f"README: '{section}'") from None
    for name, target in found_settings.targets.items():
        _check_target(f"{path}: {prefix}targets.{name}", name, target)
    return found_settings


def addresses(root: Path | None = None) -> dict[str, Address]:
    """Where the targets of a project are, by name; paths that this machine's ssh reads begin at the project's root."""
    root = system.root() if root is None else root
    return {
        name: Address(
            ssh=t.ssh, python=t.python, threads=t.threads,
            ssh_config=None if t.ssh_config is None else root / Path(t.ssh_config).expanduser(),
        )
        for name, t in load(root).targets.items()
    }  # fmt: skip


def _check_target(place: str, name: str, target: TargetSettings) -> None:
    if name in BUILT_IN:
        raise ConfigError(f"{place}: {name!r} is a target of parity's own", "give yours another name")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        hint = "letters, digits, '.', '_' and '-', so that it can't be taken for an address or an option"
        raise ConfigError(f"{place}: {name!r} can't be the name of a target", hint)
    if target.ssh is None and target.python is None:
        raise ConfigError(
            f"{place} says neither ssh nor python",
            'ssh = "user@host" for a device, python = "/path/to/python" for another Python on this machine',
        )
    for key in ("ssh", "python", "ssh_config"):
        value = getattr(target, key)
        if value is not None and (not value.strip() or any(ord(c) < 32 or ord(c) == 127 for c in value)):
            raise ConfigError(f"{place}.{key}: {value!r} names nothing", "take it away, or fill it in")
    if target.ssh is None and target.ssh_config is not None:
        raise ConfigError(f"{place}: ssh_config without ssh", 'say which host it is: ssh = "..."')
    if target.ssh is not None:
        try:
            address.parse(target.ssh)
        except ConfigError as e:
            raise ConfigError(f"{place}.ssh: {e.message}", e.hint) from None


def _named(at: str, data: dict[str, Any]) -> str:
    """msgspec writes `[...]` for the key of a table of tables: the first that doesn't fit is the one it means."""
    for name, table in data["targets"].items() if "[...]" in at else ():
        try:
            msgspec.convert(table, TargetSettings)
        except msgspec.ValidationError:
            return at.replace("[...]", f".{name}", 1)
    return at


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"{path} can't be read: {e.strerror}", "make it readable, or take it away") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path} is not TOML: {e}", "mend the line that it names") from None


def _refuse_unknown(path: Path, place: str, data: Any, kind: Any) -> None:
    """msgspec would say what is unknown, not what was meant."""
    if not isinstance(data, dict):
        return
    fields = {f.name: f for f in msgspec.structs.fields(kind)}
    for key, value in data.items():
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(fields)}"
            what = "table" if isinstance(value, dict) else "key"
            raise ConfigError(f"{path}: unknown {what} {place + key!r}", hint)
        if kind is not Settings:
            continue
        if (table := _TABLES.get(key)) is not None:
            _refuse_unknown(path, f"{place}{key}.", value, table)
        elif isinstance(value, dict):
            for name, target in value.items():
                _refuse_unknown(path, f"{place}{key}.{name}.", target, TargetSettings)


_TABLES: dict[str, type[msgspec.Struct]] = {"gate": Gate, "test": Pytest}
_SECTIONS = {"test": "In your tests", "targets": "On a device"}
