"""What a far side keeps between runs: files by the sha256 of their bytes, in one folder.

`content/<sha256>/<name>`: models, and the samples of clips. A file appears whole or not at all. What hasn't been used
for longest goes when the folder grows beyond its limit.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from parity.errors import ConfigError

LIMIT = 2 << 30
"""Bytes that may stay from run to run."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")


class Cache:
    """Content of `root`; two processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.folder = root
        self._root = root / "content"

    def held(self) -> list[str]:
        """The digests that are there."""
        return sorted(path.name for path in self._entries())

    def _entries(self) -> Iterator[Path]:
        with contextlib.suppress(FileNotFoundError):
            yield from (path for path in self._root.iterdir() if _DIGEST.fullmatch(path.name))

    def path(self, sha256: str, name: str) -> Path:
        """Where content of that name is, or would be. ConfigError for what isn't a digest and a plain name."""
        if not (_DIGEST.fullmatch(sha256) and _NAME.fullmatch(name)):
            raise ConfigError(f"no content can be called {sha256[:80]!r}, {name[:80]!r}", None)
        return self._root / sha256 / name

    def use(self, sha256: str, name: str) -> Path | None:
        """The file of that content, marked as used; None where it isn't there, or damaged (a loss of power)."""
        path = self.path(sha256, name)
        try:
            with path.open("rb") as f:
                whole = hashlib.file_digest(f, "sha256").hexdigest() == sha256
            os.utime(path.parent)
        except OSError:
            return None
        return path if whole else None

    def put(self, sha256: str, name: str, data: bytes | memoryview) -> Path:
        """Keep content, in one step. ConfigError where its digest is another, or the disk is full."""
        final = self.path(sha256, name)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ConfigError(f"{name} did not arrive as it was sent", "try again")
        temporary = None
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=".part-", dir=self._root))
            (temporary / name).write_bytes(data)
            try:
                temporary.rename(final.parent)
            except OSError as e:
                if e.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                os.replace(temporary / name, final)  # the same bytes under another name, or in place of damaged ones
        except OSError as e:
            raise no_room(self._root, e, len(data)) from None
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
        return final

    def tidy(self, limit: int = LIMIT) -> None:
        """Take away what is left of transfers that were cut off, and what was used longest ago beyond `limit` bytes."""
        with contextlib.suppress(OSError):
            for path in self._root.glob(".part-*"):
                if _age(path) > 3600:
                    shutil.rmtree(path, ignore_errors=True)
        sized = sorted(((_age(p), _bytes(p), p) for p in self._entries()), key=lambda entry: entry[0])
        total = 0
        for _, size, path in sized:
            total += size
            if total > limit:
                shutil.rmtree(path, ignore_errors=True)


def no_room(where: Path, e: OSError, wanted: int) -> ConfigError:
    """What to do where a file can't be kept."""
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        existing = next((p for p in (where, *where.parents) if p.exists()), Path("/"))
        free = shutil.disk_usage(existing).free
        return ConfigError(
            f"the disk is full: {where} has {free / 1e6:.1f} MB free, {wanted / 1e6:.1f} MB are wanted",
            "free some space there, or take away what parity kept: parity target clean NAME",
        )
    return ConfigError(f"{where} can't be written: {e.strerror}", "make it writable there, or set XDG_CACHE_HOME")


def _age(path: Path) -> float:
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime
    return 0.0


def _bytes(path: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(f.stat().st_size for f in path.iterdir())
    return 0
