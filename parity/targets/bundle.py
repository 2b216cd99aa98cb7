"""The far side as one file: a zipapp of what runs where the computing happens, called by the hash of its bytes.

It holds parity's own modules only; NumPy and the framework are found there. The same sources give the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import parity

_WHOLE = ("backends", "dumps", "networks", "runtimes", "targets")
_SINGLE = ("__init__", "c_source", "errors", "frontend", "layout", "protocols", "registry", "taps")
_MAIN = "from parity.targets.far import main\nmain()\n"
_THEN = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can say


@dataclass(frozen=True)
class Bundle:
    """The file's bytes, and their sha256 in hexadecimal digits."""

    data: bytes
    sha256: str


@functools.cache
def bundle() -> Bundle:
    """The far side of this parity."""
    root = Path(parity.__file__).parent
    files = [root / f"{name}.py" for name in _SINGLE]
    files += [path for name in _WHOLE for path in sorted((root / name).rglob("*.py"))]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in [("__main__.py", _MAIN.encode()), *((_inside(root, f), f.read_bytes()) for f in files)]:
            archive.writestr(zipfile.ZipInfo(name, _THEN), text, zipfile.ZIP_DEFLATED, 9)
    data = out.getvalue()
    return Bundle(data, hashlib.sha256(data).hexdigest())


def _inside(root: Path, path: Path) -> str:
    return path.relative_to(root.parent).as_posix()
