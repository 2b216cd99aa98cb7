"""Everything that parity raises on purpose, with the exit code it ends in.

    ParityError
    ├── NothingCompared    2    nothing, or not everything that was asked for, was compared
    ├── ConfigError        3    a bad option, TOML file, plugin name, folder
    │   ├── MissingExtra   3    a plugin's framework is not installed
    │   ├── AudioError     3    a clip that can't be read, or doesn't fit the recipe
    │   └── ModelError     3    a model file that can't be read, or doesn't fit the recipe
    ├── TargetError        4    a target could not be reached, or lost its link: worth a retry
    ├── GoldenError        5    a golden is missing, altered, or of another recipe
    ├── AnchorError        1    what proves a golden disagrees with the oracle: nothing was recorded
    └── NotAccepted        1    a run that can't be a baseline

A runtime that dies at work is not an exception but an `error` verdict: the other pairs go on.
When several codes apply, the first of `PRECEDENCE` wins.
"""

from __future__ import annotations

from collections.abc import Iterable

OK, MISMATCH, NOTHING, CONFIG, TARGET, GOLDEN, BUG, INTERRUPTED = 0, 1, 2, 3, 4, 5, 70, 130

PRECEDENCE = (BUG, INTERRUPTED, CONFIG, GOLDEN, TARGET, MISMATCH, NOTHING, OK)


class ParityError(Exception):
    """Something the user can act on: what is wrong (`message`), what to type (`hint`)."""

    exit_code = BUG

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NothingCompared(ParityError):
    """Nothing, or not everything that was asked for, was compared."""

    exit_code = NOTHING


class ConfigError(ParityError):
    """A bad option, TOML file, plugin name or folder."""

    exit_code = CONFIG


class MissingExtra(ConfigError):
    """A plugin was asked for whose framework is not installed."""


class AudioError(ConfigError):
    """A clip can't be read, or doesn't fit the recipe."""


class ModelError(ConfigError):
    """A model file can't be read, or its inputs don't fit the recipe."""


class TargetError(ParityError):
    """A target could not be reached, or lost its link."""

    exit_code = TARGET


class GoldenError(ParityError):
    """A golden is missing, altered, unreadable or made for another recipe."""

    exit_code = GOLDEN


class AnchorError(ParityError):
    """The independent implementation disagrees with the oracle: nothing is recorded."""

    exit_code = MISMATCH


class NotAccepted(ParityError):
    """A run can't become a baseline: something failed in it, or it wasn't held to the project's goldens."""

    exit_code = MISMATCH


def named(name: object) -> type[ParityError]:
    """The class of that name, as a worker tells it; ParityError itself for a name that isn't one."""
    found = globals().get(name) if isinstance(name, str) else None
    return found if isinstance(found, type) and issubclass(found, ParityError) else ParityError


def worst(codes: Iterable[int]) -> int:
    """The exit code that wins when several apply (0 when there are none)."""
    found = set(codes)
    return next((code for code in PRECEDENCE if code in found), OK)
