"""What a device said of itself, once its size and its types are checked: `targets/machine.py`'s facts, believed.

Nothing of it may steer a terminal: control characters are taken out of every string.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec

Text = Annotated[str, msgspec.Meta(max_length=300)]
Bytes = Annotated[int, msgspec.Meta(ge=0, lt=1 << 60)]
Number = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
Some = Annotated[int, msgspec.Meta(ge=1, le=65536)]

MOST = 1 << 18
"""Bytes that a machine may say about itself."""


class Cpu(msgspec.Struct, frozen=True):
    """See `machine.cpu`."""

    model: Text
    architecture: Text
    features: Annotated[list[Text], msgspec.Meta(max_length=2000)]
    features_sha256: Text
    cores: Some
    core: Text | None
    board: Text | None
    emulated: bool


class Machine(msgspec.Struct, frozen=True):
    """See `machine.facts`."""

    python: Text
    executable: Text | None
    bits: Literal[32, 64]
    machine: Text
    system: Text
    release: Text | None
    libc: Text | None
    cpu: Cpu | None
    memory_bytes: Bytes | None
    memory_free_bytes: Bytes | None
    disk_free_bytes: Bytes | None
    clock: Number
    governor: Text | None
    temperature_c: Number | None
    packages: Annotated[dict[Text, Text], msgspec.Meta(max_length=100)]
    venv: bool
    cache: Text

    @property
    def architecture(self) -> str:
        """The user land's: a 64-bit kernel runs 32-bit Raspberry Pi OS too."""
        return "armv7l" if self.bits == 32 and self.machine in ("aarch64", "armv8l", "armv7l") else self.machine

    @property
    def version(self) -> tuple[int, ...]:
        """Python's."""
        return numbers(self.python)


def believed(data: bytes) -> Machine:
    """What a machine said of itself, once it is checked; ValueError for anything else."""
    if len(data) > MOST:
        raise ValueError(f"{len(data)} bytes are no description")
    try:
        return checked(json.loads(data))
    except RecursionError as e:
        raise ValueError(str(e)) from None


def checked(value: Any) -> Machine:
    """The same of what was read already; ValueError where something in it isn't what it should be."""
    try:
        return msgspec.convert(_clean(value), Machine)
    except (msgspec.ValidationError, RecursionError) as e:
        raise ValueError(str(e)) from None


def clean(text: str, most: int = 300) -> str:
    """Text of a device as it may be printed: no control characters, not too long."""
    return "".join(c if c.isprintable() else " " for c in text[: 4 * most])[:most].strip()


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_clean(v) for v in value]
    if isinstance(value, dict):
        return {clean(k): _clean(v) for k, v in value.items()}
    return value


def numbers(version: str) -> tuple[int, ...]:
    """A version as numbers, as far as it has some: '1.26.4rc1' -> (1, 26, 4)."""
    found = []
    for part in version.split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not (digits and digits.isascii() and len(digits) < 6):
            break
        found.append(int(digits))
    return tuple(found)


def size(n: int) -> str:
    """A number of bytes in words."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= factor:
            return f"{n / factor:.3g} {unit}"
    return f"{n} bytes"


def duration(seconds: float) -> str:
    """A time in words."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
