"""Where the user's cache belongs: what may be lost, and is made again."""

from __future__ import annotations

import os
from pathlib import Path


def folder() -> Path:
    """`$XDG_CACHE_HOME/parity`, or `~/.cache/parity`; it needn't exist yet."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if named and Path(named).is_absolute() else Path.home() / ".cache") / "parity"
