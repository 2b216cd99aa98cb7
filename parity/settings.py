"""What a project sets once: `parity.toml` beside its models, or `[tool.parity]` in pyproject.toml.

    [gate]                      # parity gate
    drift_factor = 1.25         # a tap's error over bound may be so many times what was accepted,
    drift_floor = 0.005         # and so much more than it
    [test]                      # pytest --parity
    systems = ["commands-cnn"]

A key that doesn't belong is refused with the nearest that does.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from parity import system
from parity.errors import ConfigError

FILE = "parity.toml"

Factor = Annotated[float, msgspec.Meta(ge=1, le=1e9)]  # JSON has no infinity: the records would call it no limit
Width = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]


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


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of the file. Every table has its defaults."""

    gate: Gate = Gate()
    test: Pytest | None = None
    """None where there is no such table: pytest is then left alone until it is asked."""


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
        return msgspec.convert(data, Settings)
    except msgspec.ValidationError as e:
        text, _, at = str(e).partition(" - at `$.")
        place = (prefix + at.rstrip("`")).rstrip(".")
        section = "In your tests" if at.startswith("test") else "The gate"
        raise ConfigError(f"{path}: {place}: {text[0].lower()}{text[1:]}", f"README: '{section}'") from None


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
        if (table := _TABLES.get(key)) is not None and kind is Settings:
            _refuse_unknown(path, f"{place}{key}.", value, table)


_TABLES: dict[str, type[msgspec.Struct]] = {"gate": Gate, "test": Pytest}
