"""Where things of parity's are on a device, as its shell finds them."""

from __future__ import annotations

from parity.targets.link import at_home

HOME = "~/.local/share/parity"
"""What `parity target setup` makes; the cache folder is `machine.cache_folder()`."""
VENV = f"{HOME}/venv"
MINIMUM = (3, 11)
"""The oldest Python that the far side runs on."""


def python_there(setting: str | None) -> str:
    """A line of shell that sets $python: what the settings name, else the virtual environment's, else python3."""
    if setting is not None:
        return f"python={at_home(setting)}"
    return f'python={at_home(VENV)}/bin/python; [ -x "$python" ] || python=python3'
