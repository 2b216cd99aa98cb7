"""Where a number came from: machine, versions, commit. Two results are comparable where their fingerprints agree."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import parity


def cpu() -> dict[str, Any]:
    """Model, architecture and the sorted feature flags of the CPU, as far as the system tells."""
    model, flags = platform.processor() or platform.machine(), ""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model"):
                model = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags = " ".join(sorted(value.split()))
    except OSError:
        pass
    return {
        "model": model,
        "architecture": platform.machine(),
        "features_sha256": hashlib.sha256(flags.encode()).hexdigest()[:16],
        "cores": os.cpu_count() or 1,
    }


def commit(folder: Path) -> dict[str, Any]:
    """The git commit that `folder` is at and whether anything is uncommitted; empty outside a checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    head = git("rev-parse", "HEAD")
    return {} if head is None else {"commit": head, "dirty": bool(git("status", "--porcelain"))}


def environment(plugins: Mapping[str, Mapping[str, str]], threads: int = 1) -> dict[str, Any]:
    """Machine, software and `plugins` (spec -> versions, as found where they run); `fingerprint` sums it up."""
    found = {
        "cpu": cpu(),
        "os": platform.system(),
        "python": sys.version.split()[0],
        "parity": parity.__version__,
        "numpy": np.__version__,
        "threads": threads,
        "plugins": {spec: dict(sorted(v.items())) for spec, v in sorted(plugins.items())},
    }
    # The number of cores doesn't change a single-threaded result.
    stable = found | {"cpu": {**cpu(), "cores": 0}}
    found["fingerprint"] = hashlib.sha256(json.dumps(stable, sort_keys=True).encode()).hexdigest()[:16]
    return found
