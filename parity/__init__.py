"""parity: proof that a keyword-spotting system computes on its deployment stack what it computed in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_run"]

if TYPE_CHECKING:
    from parity.records import load_run


def __getattr__(name: str) -> Any:
    # Imported on first use: `import parity` and `parity --help` must stay light.
    if name == "load_run":
        from parity.records import load_run

        return load_run
    raise AttributeError(f"module 'parity' has no attribute {name!r}")
