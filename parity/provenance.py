"""Where a number came from: machine, versions, commit.

An *identity* is what of it may change a number: the machine, Python, NumPy, and of the plugins that took part the
libraries and what they compute with (ONNX Runtime's execution provider). Threads and the number of cores aren't in it,
nor is parity itself, whose changes are what a gate is there to see.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import parity
from parity import registry
from parity.targets import machine

PROVIDER = "execution provider"
"""What ONNX Runtime computes with, among the versions that its plugin tells."""
Identity = dict[str, Any]
"""`machine`, `python`, `numpy`, and `plugins` (name -> library -> version)."""


def cpu() -> dict[str, Any]:
    """Model, architecture, number of cores and a hash of the feature flags of this machine's CPU."""
    return _cpu(machine.cpu())


def _cpu(found: Mapping[str, Any]) -> dict[str, Any]:
    return {k: found[k] for k in ("model", "architecture", "features_sha256", "cores")}


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


def environment(
    plugins: Mapping[str, Mapping[str, str]], threads: int = 1, facts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Machine, software and `plugins` (spec -> versions, as found where they run); `fingerprint` is its identity's.

    `facts` are another machine's (see `parity.targets.machine`); without them it is this one.
    """
    found = {
        "cpu": cpu() if facts is None else _cpu(facts["cpu"]),
        "os": platform.system() if facts is None else facts["system"],
        "python": sys.version.split()[0] if facts is None else facts["python"],
        "parity": parity.__version__,
        "numpy": np.__version__ if facts is None else facts["numpy"],
        "threads": threads,
        "plugins": {spec: dict(sorted(v.items())) for spec, v in sorted(plugins.items())},
    }
    if facts is not None and facts["cpu"].get("emulated"):
        found["emulated"] = True
    found["fingerprint"] = fingerprint(identity(found))
    return found


def identity(environment: Mapping[str, Any], used: Collection[str] | None = None, target: str = "local") -> Identity:
    """What of an environment may change a number; a plugin's options are no part of it.

    `used`: of these plugins only. Two targets are two environments, though their machines be alike.
    """
    plugins: dict[str, dict[str, str]] = {}
    for spec, versions in sorted(environment["plugins"].items()):
        name = registry.parse(spec)[0]
        if used is not None and name not in used:
            continue
        own = {library: v for library, v in sorted(versions.items()) if library not in ("numpy", "python")}
        plugins.setdefault(name, {}).update(own)
    processor = environment["cpu"]
    of = {k: processor.get(k, "") for k in ("model", "architecture", "features_sha256")}
    found: Identity = {
        "machine": of | {"os": environment.get("os", "")},
        "python": environment["python"], "numpy": environment["numpy"], "plugins": plugins,
    }  # fmt: skip
    if environment.get("emulated"):
        found["machine"]["emulated"] = True  # such a CPU bears another one's name
    return found if target == "local" else found | {"target": target}


def fingerprint(of: Identity) -> str:
    """16 hexadecimal digits that stand for an identity."""
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:16]


def differences(was: Identity, now: Identity) -> list[str]:
    """In what two identities differ, in words; nothing where numbers of the one can be held to the other's.

    A plugin that only one of them has says nothing about the rest.
    """
    words = {"model": "CPU", "architecture": "architecture", "features_sha256": "CPU features", "os": "OS"}
    pairs: list[tuple[str, Any, Any]] = [("target", was.get("target", "local"), now.get("target", "local"))]
    pairs += [(words[k], was["machine"].get(k), now["machine"].get(k)) for k in words]
    real = [("emulated" if of["machine"].get("emulated") else "real") for of in (was, now)]
    pairs += [("CPU", real[0], real[1])]
    pairs += [("Python", was["python"], now["python"]), ("NumPy", was["numpy"], now["numpy"])]
    libraries: dict[str, tuple[str, str]] = {}
    for plugin in sorted(was["plugins"].keys() & now["plugins"].keys()):
        old, new = was["plugins"][plugin], now["plugins"][plugin]
        libraries |= {k: (old.get(k, "none"), new.get(k, "none")) for k in sorted(old.keys() | new.keys())}
        if PROVIDER not in old:
            libraries.pop(PROVIDER, None)  # accepted before it was recorded
    pairs += [(name, *versions) for name, versions in sorted(libraries.items())]
    return [f"{name} {a} -> {b}" for name, a, b in pairs if a != b]
