"""Cause: what `explain` names for each mutant, over a few clips at once, as a failing run would have them.

Right is what names every setting that is wrong, each first in its list, and no other, with every tap of every clip
within bounds then. Settings that can't be told apart at the taps at hand are declared with the mutant (`causes`):
naming any of them is right. A wrong name is one that is said to explain everything and isn't declared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from parity.evidence import Evidence
from parity.expected import features_of
from parity.explain import Explanation, explain
from parity.explain import networks as explained
from parity.protocols import Clip
from tests.mutants import recipes
from tests.mutants.networks import NETWORKS, system_of
from tests.mutants.networks import Mutant as Network
from tests.proof import speech
from tests.proof.tables import Line, percent, show

LEVELS = (0.0, -30.0, -60.0)
"""dB: a clip at each."""
Kind = Literal["single", "pair", "network"]
LESS = {"network.weights-changed", "network.bias-changed"}
"""True of a layer whose weights are rounded, say, but not what is wrong: neither right nor a wrong name."""
NEEDED: dict[Kind, float] = {"single": 0.9, "pair": 0.75, "network": 0.9}


@dataclass(frozen=True)
class Named:
    """What was named for a mutant."""

    kind: Kind
    mutant: str
    right: bool
    wrong: bool
    """Something that isn't wrong with it is said to explain it."""
    words: str


def judged(kind: Kind, mutant: recipes.Mutant | Network, e: Explanation) -> Named:
    """An explanation held to what is known of the mutant."""
    first = [c for f in e.findings for c in (f.alternatives[0] if f.alternatives else ())]
    sure = [c for f in e.findings if f.complete for c in f.alternatives[0]]
    declared = frozenset().union(*mutant.causes)
    named = {c.key for c in first}
    right = e.complete and all(keys & named for keys in mutant.causes) and named <= declared
    weights = any(key.startswith(("network.weights", "network.one-")) for key in declared)
    wrong = any(c.key not in declared | (LESS if weights else set()) for c in sure)
    words = "; ".join(f"{c.key}: {c.words}" for c in first) or e.note or "nothing"
    return Named(kind, mutant.name, right, wrong, words if e.complete else f"closest, or not all: {words}")


def clips() -> Sequence[Clip]:
    """Held-out speech at each level."""
    return [speech.quieter(speech.clip(p), level) for p, level in zip(speech.held_out(), LEVELS, strict=False)]


def of_recipe(kind: Kind, mutant: recipes.Mutant) -> Named:
    """What is named for a front end."""
    evidence = [Evidence(mutant.of, c, mutant.candidate(c.samples), backend="mutant") for c in clips()]
    return judged(kind, mutant, explain(recipes.frontend(mutant.of), evidence))


def of_network(mutant: Network) -> Named:
    """What is named for a network, fed with the golden's features."""
    frontend, evidence = recipes.frontend(mutant.of), []
    with tempfile.TemporaryDirectory() as folder, mutant.candidate(Path(folder)) as run:
        for clip in clips():
            _, fed = features_of(clip, frontend)
            evidence.append(
                Evidence(mutant.of, clip, model=run(fed), fed=fed, runtime=mutant.runtime, precision="float32",
                         path="isolated")
            )  # fmt: skip
    return judged("network", mutant, explained.explain(system_of(mutant.of), evidence))


def every() -> Iterator[Named]:
    """What is named for each mutant."""
    for mutant in recipes.every():
        yield of_recipe("pair" if mutant in recipes.PAIRS else "single", mutant)
    for network in NETWORKS:
        yield of_network(network)


def lines() -> Iterator[Line]:
    """What was named, where it isn't right; then the shares."""
    if speech.folder() is None:
        yield Line("causes on real speech", "PARITY_DATA is not set", None)
        return
    found = list(every())
    show(("mutant", "named"), ((n.mutant, n.words[:200]) for n in found if not n.right))
    for kind, least in NEEDED.items():
        mine = [n for n in found if n.kind == kind]
        right = sum(n.right for n in mine)
        figure = f"{percent(right, len(mine))} ({right} of {len(mine)})"
        what = {"single": "front ends, one setting", "pair": "front ends, two settings", "network": "networks"}[kind]
        yield Line(f"{what}: cause right and first in {least:.0%}", figure, right >= least * len(mine))
    wrong = [n.mutant for n in found if n.wrong]
    yield Line("no wrong name with 100 % explained", ", ".join(wrong) or "none", not wrong)
