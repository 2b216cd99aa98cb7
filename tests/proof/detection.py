"""What is found of the mutants: by parity, by a flat tolerance at its best, and by what else is in use.

A case is a mutant on a clip. It counts where, on some element of a tap that the candidate gives, the mutant in float64
differs from the oracle by more than four times the largest difference between correct float32 implementations on that
element of that clip. Parity's own bound has no say in it. The tap where that is so first, in flow order, is where the
mistake starts on that clip.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from parity import registry
from parity.compare import compare
from parity.expected import features_of
from parity.protocols import Array, Clip, FeatureBackend, Tap, Unsupported
from tests.mutants import featurizer, recipes
from tests.proof import others, speech

TIMES = 4.0
SLOWLY = 5
"""Who takes milliseconds an array is asked on every fifth clip."""
BACKENDS = ("librosa", "numpy", "tf_signal", "torch")
OWN = "scipy"
"""The tests' own front end without a mistake: correct as well, and what the mutants are made of."""


@dataclass(frozen=True)
class Case:
    """A mutant on a clip."""

    mutant: str
    of: str
    clip: str
    starts: Tap
    """Where it differs by more than rounding first; '' where nowhere: then the case doesn't count."""
    seen: Tap
    """The first tap that parity fails; '' where it passes them all."""
    found_by: frozenset[str]
    """Who else doesn't let it pass."""
    distance: Mapping[Tap, float] = field(hash=False)
    """By tap the flat tolerance that would let it pass."""
    asked: tuple[str, ...]
    """Who else was asked."""


@dataclass(frozen=True)
class Right:
    """A correct implementation on a clip."""

    of: str
    who: str
    clip: str
    seen: Tap
    """A false alarm, if it isn't ''."""
    found_by: frozenset[str]
    distance: Mapping[Tap, float] = field(hash=False)
    asked: tuple[str, ...]


@cache
def implementations(of: str) -> Mapping[str, FeatureBackend]:
    """The correct float32 backends of a system's recipe."""
    made = {name: registry.create("backend", name) for name in BACKENDS}
    return {n: b for n, b in made.items() if not isinstance(b.supports(recipes.frontend(of)), Unsupported)}


class Judged:
    """A recipe on a clip: what is right, how far parity lets it move, and how far correct implementations lie apart."""

    def __init__(self, of: str, clip: Clip) -> None:
        frontend = recipes.frontend(of)
        self.of, self.clip, self._frontend = of, clip, frontend
        self.exact, _ = features_of(clip, frontend)
        self.oracle = {tap: x.value for tap, x in self.exact.items()}
        self.golden = {tap: x.astype(frontend.dtype(tap)) for tap, x in self.oracle.items()}
        own = featurizer.settings(frontend)
        self._true = featurizer.compute(own, clip.samples, np.float64)
        self.right: dict[str, Mapping[Tap, Array]] = {OWN: featurizer.compute(own, clip.samples)}
        for name, backend in implementations(of).items():
            (self.right[name],) = backend.features([clip], frontend, backend.taps(frontend))
        self.spread = {}
        for tap, value in self.oracle.items():
            given = [a[tap].astype(np.float64) for a in self.right.values() if tap in a]
            with np.errstate(invalid="ignore"):
                self.spread[tap] = np.max(given, axis=0) - np.min(given, axis=0) if given else np.zeros(value.shape)

    def starts(self, mutant: Mapping[Tap, Array]) -> Tap:
        """Where a mutant in float64 differs by more than rounding first: from the same code without the mistake."""
        for tap in self._frontend.taps:
            if tap not in mutant:
                continue
            if mutant[tap].shape != self._true[tap].shape:
                return tap
            with np.errstate(invalid="ignore"):
                away = np.abs(mutant[tap].astype(np.float64) - self._true[tap])
            if (away > TIMES * np.nan_to_num(self.spread[tap])).any():
                return tap
        return ""

    def seen(self, candidate: Mapping[Tap, Array]) -> Tap:
        """The first tap that parity fails."""
        for tap in (t for t in self._frontend.taps if t in candidate):
            x = self.exact[tap]
            if compare(candidate[tap], x.value, x.lo, x.hi, self._frontend.dtype(tap)).outcome != "pass":
                return tap
        return ""

    def found_by(self, candidate: Mapping[Tap, Array], asked: Sequence[str]) -> frozenset[str]:
        """Who of those asked doesn't let it pass for the float32 golden."""
        pairs = [(candidate[tap], self.golden[tap]) for tap in self.golden if tap in candidate]
        return frozenset(name for name in asked if not others.passes(name, pairs))


Played = tuple[Path, float]
"""A file, and by how many dB it is played louder."""


def features(played: Sequence[Played]) -> tuple[list[Right], list[Case]]:
    """Every mutant of recipes, and every correct implementation, on some clips."""
    right, cases = [], []
    by_system: dict[str, list[recipes.Mutant]] = defaultdict(list)
    for mutant in recipes.every():
        by_system[mutant.of].append(mutant)
    for i, (path, level) in enumerate(played):
        clip = speech.quieter(speech.clip(path), level)
        asked = tuple(n for n in others.OTHERS if n not in others.SLOW or i % SLOWLY == 0)
        for of, mutants in by_system.items():
            judged = Judged(of, clip)
            for who, arrays in judged.right.items():
                found = judged.seen(arrays), judged.found_by(arrays, asked), others.distances(arrays, judged.oracle)
                right.append(Right(of, who, clip.name, *found, asked))
            for mutant in mutants:
                starts = judged.starts(mutant.exact(clip.samples))
                candidate = mutant.candidate(clip.samples)
                found = (
                    judged.seen(candidate),
                    judged.found_by(candidate, asked),
                    others.distances(candidate, judged.oracle),
                )
                cases.append(Case(mutant.name, of, clip.name, starts, *found, asked))
    return right, cases


Work = Callable[[Sequence[Played]], tuple[list[Right], list[Case]]]


def shared(works: Sequence[Work], played: Sequence[Played], processes: int = 2) -> tuple[list[Right], list[Case]]:
    """All of it over several processes, each with one thread."""
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(work, played[i::processes]) for work in works for i in range(processes)]
        found = [w.result() for w in waiting]
    return [r for right, _ in found for r in right], [c for _, cases in found for c in cases]


def flat(right: Iterable[Right]) -> dict[tuple[str, Tap], float]:
    """By recipe and tap the smallest flat tolerance that raises no false alarm on the same clips."""
    most: dict[tuple[str, Tap], float] = defaultdict(float)
    for r in right:
        for tap, distance in r.distance.items():
            most[r.of, tap] = max(most[r.of, tap], distance)
    return dict(most)


def found_by_flat(case: Case, tolerances: Mapping[tuple[str, Tap], float]) -> bool:
    """Whether a flat tolerance sees a case."""
    return any(distance > tolerances.get((case.of, tap), 0.0) for tap, distance in case.distance.items())
