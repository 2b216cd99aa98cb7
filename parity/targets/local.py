"""Jobs in worker processes on this machine, under this Python."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from parity import registry
from parity.protocols import Artifact
from parity.targets import machine
from parity.targets.worker import Worker
from parity.targets.workers import WorkersTarget

NAME = "local"


class Here:
    """This machine: a worker is a child of this process. Each of its replies may take `limit` seconds."""

    def __init__(self, limit: float, apart: bool = False) -> None:
        self.name, self.apart, self._limit = NAME, apart, limit

    def worker(self, kind: str, spec: str) -> Worker:
        return Worker(kind, spec, self._limit)

    def artifact(self, artifact: Artifact) -> Artifact:
        return artifact

    def plugins(self, kind: registry.Kind) -> Mapping[str, str]:
        return registry.lacking(kind)

    def how_to_install(self, plugin: registry.Plugin) -> str:
        return plugin.install

    def facts(self, now: bool) -> dict[str, Any]:
        return machine.facts()

    def link(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


class LocalTarget(WorkersTarget):
    """Worker processes here; none outlives this one."""

    def __init__(self, jobs: int | None = None, limit: float = 120.0, threads: int = 1, apart: bool = False) -> None:
        super().__init__(Here(limit, apart), jobs or min(4, os.cpu_count() or 1), threads)
