"""What `parity explain` found in a run, kept beside its records in `explain.json`, so that its page can say why."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from parity.errors import ConfigError
from parity.localize import title
from parity.records import Verdict

FILE = "explain.json"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What was said of one candidate."""

    system: str
    backend: str
    runtime: str = ""
    precision: str = ""
    target: str = "local"
    path: str = "features"
    clips: tuple[str, ...] = ()
    complete: bool = False
    """Everything that was kept of it is explained."""
    lines: tuple[str, ...] = ()
    """What `parity explain` printed, without the candidate's name."""

    @property
    def group(self) -> tuple[str, ...]:
        """Whose it is."""
        return self.system, self.backend, self.runtime, self.precision, self.target, self.path

    @property
    def name(self) -> str:
        """Whose it is, in words."""
        return title(self.system, self.backend, self.runtime, self.precision, self.target)


def read(folder: Path) -> list[Told]:
    """What was found; nothing where nobody asked. ConfigError for a file that can't be read."""
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Told])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as e:
        raise ConfigError(f"{path} can't be read: {e}", f"remove it, then: parity explain {folder}") from None


def add(folder: Path, told: Sequence[Told]) -> None:
    """Keep what was found, in the place of what was said of the same candidates before. OSError where that can't be."""
    kept = {t.group: t for t in [*read(folder), *told]}
    part = folder / f".{FILE}.part"
    try:
        part.write_bytes(msgspec.json.format(msgspec.json.encode([kept[g] for g in sorted(kept)]), indent=1) + b"\n")
        os.replace(part, folder / FILE)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def of(found: Sequence[Told], v: Verdict) -> Told | None:
    """What was found of the candidate that a verdict is of.

    A network that is wrong on the golden's features is explained there, not once more on each backend's.
    """
    exact = (v.system, v.backend, v.runtime, v.precision, v.target, v.path)
    return next((t for t in found if t.group == exact), None)
