"""What is found of the mutants of networks, by the same rules as of recipes: a layer gone wrong on a clip's features.

The features are the oracle's, so that a layer is all that can be wrong. The true activations are the trained network's
in float64; the correct float32 implementations are the system's own files under every runtime that takes them.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import numpy as np

from parity import registry
from parity.bounds import networks as bounds
from parity.compare import compare
from parity.expected import features_of
from parity.protocols import Array, Artifact, Clip, Runtime, Tap, Unsupported
from tests.mutants import networks, recipes
from tests.mutants.networks import NETWORKS, Mutant
from tests.proof import others, speech
from tests.proof.detection import SLOWLY, TIMES, Case, Played, Right

RUNTIMES = ("onnxrt", "onnxrt:opt=off", "torch", "torchscript", "tflite", "tflite:resolver=reference", "tflm")
Run = Callable[[Array], Mapping[Tap, Array]]
PRECISION = "float32"


def _nothing(_net: object) -> None:
    """Leaves a network as it was trained."""


def _runs(stack: ExitStack, spec: str, artifact: Artifact) -> Run:
    session = stack.enter_context(cast(Runtime, registry.create("runtime", spec)).open(artifact))
    return lambda features: networks.run(session, artifact, features)


class Trained:
    """A system's network: the truth, parity's bound and the right implementations, for as long as `stack` lives."""

    def __init__(self, of: str, stack: ExitStack) -> None:
        self.of, self.system = of, networks.system_of(of)
        self.truth: Run = stack.enter_context(Mutant("trained", of, _nothing, (), "").exact())
        source = bounds.source(self.system)
        assert source is not None
        bounded = bounds.bounded(source, [PRECISION])
        alone = {t: port for t, port in bounded.taps.items() if t.endswith(":isolated")}
        self._halves = _runs(stack, bounds.RUNTIME, dataclasses.replace(bounded, taps=alone))
        self.right: dict[str, tuple[Artifact, Run]] = {}
        for spec in RUNTIMES:
            runtime = cast(Runtime, registry.create("runtime", spec))
            for artifact in (a for a in self.system.artifacts if a.precision == PRECISION):
                if not isinstance(runtime.supports(artifact), Unsupported):
                    self.right[spec] = artifact, _runs(stack, spec, artifact)
                    break

    def on(self, clip: Clip) -> Judged:
        """A clip's features, and what is right for them."""
        fed = features_of(clip, recipes.frontend(self.of))[1]
        fits = {s: run for s, (a, run) in self.right.items() if a.frames in (None, len(fed))}
        return Judged(fed, self.truth(fed), self._halves(fed), {spec: run(fed) for spec, run in fits.items()})


class Judged:
    """A network on a clip: what is right, how far parity lets it move, and how far right implementations lie apart."""

    def __init__(
        self,
        fed: Array,
        exact: Mapping[Tap, Array],
        halves: Mapping[str, Array],
        right: Mapping[str, Mapping[Tap, Array]],
    ) -> None:
        self.fed, self.exact, self._halves, self.right = fed, exact, halves, right
        self.golden = {tap: x.astype(np.float32) for tap, x in exact.items()}
        self._spread = {}
        for tap in exact:
            given = [a[tap].astype(np.float64) for a in right.values() if tap in a]
            self._spread[tap] = np.max(given, axis=0) - np.min(given, axis=0)

    def starts(self, mutant: Mapping[Tap, Array]) -> Tap:
        """Where a mutant in float64 differs by more than rounding first."""
        for tap, true in self.exact.items():
            if mutant[tap].shape != true.shape or (np.abs(mutant[tap] - true) > TIMES * self._spread[tap]).any():
                return tap
        return ""

    def seen(self, candidate: Mapping[Tap, Array]) -> Tap:
        """The first tap that parity fails."""
        for tap, true in self.exact.items():
            x = bounds.interval(true, self._halves[bounds.name(tap, PRECISION, "isolated")])
            if tap in candidate and compare(candidate[tap], x.value, x.lo, x.hi, "float32").outcome != "pass":
                return tap
        return ""

    def found_by(self, candidate: Mapping[Tap, Array], asked: Sequence[str]) -> frozenset[str]:
        """Who of those asked doesn't let it pass for the float32 golden."""
        pairs = [(candidate[tap], self.golden[tap]) for tap in self.golden if tap in candidate]
        return frozenset(name for name in asked if not others.passes(name, pairs))


def activations(played: Sequence[Played]) -> tuple[list[Right], list[Case]]:
    """Every mutant of networks, and every correct implementation, on some clips."""
    clips = [speech.quieter(speech.clip(path), level) for path, level in played]
    by_system: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in NETWORKS:
        by_system[mutant.of].append(mutant)
    right, cases = [], []
    for of, mutants in by_system.items():
        with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
            trained = Trained(of, stack)
            wrong: list[tuple[Mutant, Run, Run]] = [
                (m, stack.enter_context(m.candidate(Path(folder))), stack.enter_context(m.exact())) for m in mutants
            ]
            for i, clip in enumerate(clips):
                asked = tuple(n for n in others.OTHERS if n not in others.SLOW or i % SLOWLY == 0)
                judged = trained.on(clip)
                for who, arrays in judged.right.items():
                    right.append(Right(of, who, clip.name, *_found(judged, arrays, asked), asked))
                for m, run, run_exactly in wrong:
                    starts = judged.starts(run_exactly(judged.fed))
                    cases.append(Case(m.name, of, clip.name, starts, *_found(judged, run(judged.fed), asked), asked))
    return right, cases


def _found(
    judged: Judged, arrays: Mapping[Tap, Array], asked: Sequence[str]
) -> tuple[Tap, frozenset[str], dict[Tap, float]]:
    return judged.seen(arrays), judged.found_by(arrays, asked), others.distances(arrays, judged.exact)
