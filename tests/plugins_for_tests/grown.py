"""Targets that stand before another one: what it computes with errors grown, and what it computed once, again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from parity import golden, system
from parity.expected import Expected
from parity.protocols import Array, ClipOutput, Description, Failure, Job, JobResult, Outputs
from parity.targets.local import LocalTarget


class _Before:
    """What stands before `inner` is this machine too, and says of itself what that says."""

    name = "local"
    _inner: LocalTarget

    @property
    def trusted(self) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Grown(_Before):
    """What `inner` computes, each element of float32 taps `factor` times as far from its golden, at least."""

    def __init__(self, inner: LocalTarget, factor: float, root: Path, systems: Sequence[Path]) -> None:
        self._inner, self._factor = inner, factor
        self._right: dict[str, dict[str, Expected]] = {}
        for folder in systems:
            of = golden.load(root, found := system.load(folder))
            self._right[found.name] = {e["name"]: of.read(e) for e in of.clips}

    def load(self, plugins: Iterable[tuple[str, str]]) -> None:
        self._inner.load(plugins)

    def describe(self, kind: str, spec: str, questions: Sequence[Any]) -> Description:
        return self._inner.describe(kind, spec, questions)

    def release(self) -> None:
        self._inner.release()

    def run(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        for result in self._inner.run(jobs):
            right = [self._right[result.job.system][c.name] for c in result.job.clips]
            features = {spec: self._all(of, right, features=True) for spec, of in result.features.items()}
            activations = {
                key: self._all(of, right, features=False) if key[2] == "float32" else of
                for key, of in result.activations.items()
            }
            yield replace(result, features=features, activations=activations)

    def _all(self, outputs: Outputs, right: Sequence[Expected], features: bool) -> Outputs:
        if isinstance(outputs, Failure):
            return outputs
        values = [{t: x.value for t, x in e.features.items()} if features else e.model for e in right]
        return [self._output(o, v) for o, v in zip(outputs, values, strict=True)]

    def _output(self, output: ClipOutput, right: Mapping[str, Array]) -> ClipOutput:
        same = {t: a for t, a in output.taps.items() if a.dtype == np.float32 and t in right}
        return replace(output, taps={**output.taps, **{t: grown(a, right[t], self._factor) for t, a in same.items()}})


def grown(x: Array, right: Array, factor: float) -> Array:
    """x in float32, `factor` times as far from `right`, rounded away from it."""
    wanted = right + factor * (x.astype(np.float64) - right)
    near = wanted.astype(np.float32)
    short = np.abs(near - right) < np.abs(wanted - right)
    away = np.where(wanted > right, np.float32(np.inf), np.float32(-np.inf))
    return np.where(short, np.nextafter(near, away), near)


class Replayed(_Before):
    """What `inner` computes, computed once: the same results each time, at once."""

    def __init__(self, inner: LocalTarget) -> None:
        self._inner = inner
        self._described: dict[str, Description] = {}
        self._results: dict[str, list[JobResult]] = {}

    def load(self, plugins: Iterable[tuple[str, str]]) -> None:
        if not self._described:
            self._inner.load(plugins)

    def describe(self, kind: str, spec: str, questions: Sequence[Any]) -> Description:
        key = repr((kind, spec, questions))
        if key not in self._described:
            self._described[key] = self._inner.describe(kind, spec, questions)
        return self._described[key]

    def release(self) -> None:
        pass

    def run(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        jobs = list(jobs)
        key = repr([(j.system, j.backends, [c.name for c in j.clips]) for j in jobs])
        if key not in self._results:
            self._results[key] = list(self._inner.run(jobs))
        for job, result in zip(jobs, self._results[key], strict=True):
            yield replace(result, job=job)
