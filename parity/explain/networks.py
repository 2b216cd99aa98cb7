"""Why a network's activations are off: the edit of the trained graph that gives what the candidate computed.

The search starts at the first tap out of bounds whose own input is within: only edits of nodes between them can be the
cause. Each is tried on a few clips; one that reproduces the tap is run on every clip, with its own rounding drawn, and
counts as an explanation where every element of every tap is within bound. Edits that do equally well form a class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np

from parity.bounds import networks as derived
from parity.bounds.interval import U
from parity.errors import ConfigError, ModelError
from parity.evidence import Evidence
from parity.explain import batches, channels, edits, files, inputs, layers, norms, not_finite, steps, trusted, written
from parity.explain.explanation import CLOSE, INTERRUPTED, Cause, Explanation, Finding
from parity.explain.patches import Edit
from parity.explain.study import Expected, Study
from parity.explain.surgery import RECURRENT, Patch
from parity.protocols import Array, Tap
from parity.sources import Progress, silent
from parity.system import System

NEAR = 4.0
"""A patch whose exact result is this many bounds off at most is worth the run with its own rounding."""
NEARLY = 1e-3
"""So is one that leaves less of the error: its own rounding may be larger than the trained graph's."""
FEW = 2
"""Numbers that may be estimated before an edit counts as one that fits anything."""
MANY = 6
CROWD = 500
"""Edits of which only those that are nearest on one clip are tried on more."""
KEPT = 100
LARGER = 0.8
"""Where many layers lie before a tap: of two causes the larger leaves less than this of the error, 0.71 if they are
alike; what leaves more fits by chance, and a search on top of each would take minutes."""
STEPS = 3
"""Causes that are looked for one after the other."""


@dataclass(frozen=True)
class Try:
    """An edit and what it leaves of the error at a tap: `left` of it (RMS), the largest over its bound."""

    edit: Edit
    left: float
    worst: float


def explain(
    system: System, evidence: Sequence[Evidence], run: Mapping[str, str] = MappingProxyType({}),
    step: Progress = silent,
) -> Explanation:  # fmt: skip
    """What explains one candidate's activations. `evidence`: its clips, each with what the network was `fed`.

    `run`: the sha256 of the system's model files when it was run, by name. KeyboardInterrupt ends the search, and what
    was found so far is returned.
    """
    of = [e for e in evidence if e.model and e.fed is not None]
    first = evidence[0]
    names = tuple(e.clip.name for e in of)

    def said(note: str) -> Explanation:
        return Explanation(system.name, first.backend, names, (), note=note, runtime=first.runtime,
                           precision=first.precision, target=first.target, path=first.path)  # fmt: skip

    if not of:
        return said("the activations of no clip were kept with what the network was fed")
    artifact = derived.source(system)
    if artifact is None:
        return said(f"{system.name} has no float32 ONNX file, whose graph could be edited")
    try:
        network, said_of_it = trusted.graph(system, artifact, np.asarray(of[0].fed))
        search = Search(system, Study(network, artifact, of), run, step)
        findings, interrupted = search.findings(), search.interrupted
    except ConfigError as e:
        return said(e.message)
    notes = [said_of_it] if said_of_it else []
    if search.start.first is None:
        notes.append("the network's taps are within the bounds of what it was fed with")
    if search.start.precision != first.precision:
        notes.append(f"what rounding allows a file of {first.precision} isn't derived: held to float32's")
    if interrupted:
        notes.append(INTERRUPTED)
    elif not search.complete and search.file.words:
        notes.append(search.file.words)
    return Explanation(
        system.name, first.backend, names, tuple(search.start.taps), tuple(findings), search.complete,
        "; ".join(notes), search.tried, first.runtime, first.precision, first.target, first.path, interrupted,
    )  # fmt: skip


class Search:
    """One candidate. `findings` does it."""

    def __init__(self, system: System, study: Study, run: Mapping[str, str] = MappingProxyType({}),
                 step: Progress = silent) -> None:  # fmt: skip
        self.system, self.start, self._run, self._step = system, study, run, step
        self.network, self.artifact = study.network, study.artifact
        self.tried = 0
        self.complete = self.interrupted = False
        self._at: tuple[Study, Tap] | None = None
        self._nearest: Try | None = None

    def findings(self) -> list[Finding]:
        """One after the other until every tap is within bounds, nothing is found, or somebody interrupts it."""
        found = list[Finding]()
        try:
            self._find(found)
        except KeyboardInterrupt:
            self.interrupted = True
            if self._at is not None:
                near = self._nearest
                closest = [[near.edit]] if near is not None and near.left <= 1.0 - CLOSE else []
                found.append(self.told(*self._at, closest, False))
        return found

    def _find(self, found: list[Finding]) -> None:
        study = self.start
        self.complete = study.first is None
        if (digits := self.written(study)) is not None:
            found.append(digits)
            self.complete = True
            return
        while (tap := study.first) is not None and len(found) < STEPS:
            self._at, self._nearest = (study, tap), None
            if not_finite.count(study, tap):
                found.append(not_finite.finding(study, tap, self.segment(study, tap)))
                break
            hits, near = self.single(study, tap)
            hits = hits or self.checked(study, tap, self.scored(study, tap, self.of_file(study, tap)))
            pairs = [] if hits else self.pairs(study, tap, near)
            if not hits and not pairs:
                hits = self.checked(study, tap, [t for t in near if t.edit.parameters > FEW])
            if hits:
                chosen, _ = self.settled(study, hits)
                pairs = [[t.edit] for t in chosen]
            if pairs:
                found.append(self.told(study, tap, pairs, True))
                study = study.rebased(_together(pairs[0]))
                self.complete = study.first is None
                continue
            closest = [[near[0].edit]] if near and near[0].left <= 1.0 - CLOSE else []
            found.append(self.told(study, tap, closest, False))
            break
        self._at = None

    def written(self, study: Study) -> Finding | None:
        """Where all that is out of bounds is what few digits cut off: the first such tap."""
        wrong = [t for t in study.taps if study.now[t] > 1.0]
        if not wrong:
            return None
        causes = []
        for tap in wrong:
            seen = [(np.asarray(e.model[tap], np.float64), b[tap])
                    for e, b in zip(study.of, study.right, strict=True) if tap in e.model]  # fmt: skip
            digits = None if _size(seen) is None else written.found([m for m, _ in seen])
            if digits is None:
                return None
            for m, x in seen:
                half = 0.5 * np.maximum(digits.step(m), digits.step(x.value)) + U * np.abs(m)
                if (np.abs(m - x.value) > x.bound + half).any():
                    return None
            causes.append(Cause(written.KEY, digits.words, tap))
        first = self.told(study, wrong[0], [], True)
        return replace(first, alternatives=((causes[0],),), share=1.0, inside=1.0)

    def single(self, study: Study, tap: Tap, deep: bool = True) -> tuple[list[Try], list[Try]]:
        """Edits that give the tap within bounds on every clip; and all that were tried, the nearest first.

        Those with many numbers in them fit anything: they are among the tries, and not yet among the hits.
        """
        inside = self.segment(study, tap)
        listed = self.listed(study, tap, inside)
        # Where many layers lie between two taps, what is done to all of them at once is tried first.
        wide = [e for e in listed if not e.where] if len(inside & set(self.network.layers)) > MANY else listed
        tries = self.scored(study, tap, wide)
        hits = self.checked(study, tap, tries)
        if not hits and len(wide) < len(listed):
            tries = sorted([*tries, *self.scored(study, tap, [e for e in listed if e.where])], key=lambda t: t.left)
            hits = self.checked(study, tap, tries)
        if not hits:
            fitted = layers.fitted(study, tap, [i for i in self.network.layers if i in inside], deep)
            if inside & set(self.takers):
                fitted += layers.rescaled(study, tap, tries)
            more = self.scored(study, tap, fitted)
            hits = self.checked(study, tap, [t for t in more if t.edit.parameters <= FEW])
            tries = sorted([*tries, *more], key=lambda t: t.left)
        return hits, tries

    @cached_property
    def file(self) -> files.Held:
        """What the file that the candidate ran holds."""
        return files.held(self.system, self.start.of[0], self._run)

    def of_file(self, study: Study, tap: Tap) -> list[Edit]:
        """The file's own weights, where they aren't the trained ones and may show at a tap."""
        inside = self.segment(study, tap)
        every = files.edits(self.network, self.file)
        return [e for e in every if self.network.touched(e.patch) & inside and not e.patch.clashes(study.base)]

    @cached_property
    def takers(self) -> list[int]:
        """Nodes that take the features."""
        return [i for name in self.network.inputs for i in self.network.takers.get(name, ())]

    def segment(self, study: Study, tap: Tap) -> set[int]:
        """Nodes between the taps that are within bounds and the first that isn't."""
        ports = self.artifact.taps
        good = [t for t in study.taps[: study.taps.index(tap)] if study.now[t] <= 1.0]
        return self.network.before(ports[tap].name).difference(*(self.network.before(ports[t].name) for t in good))

    @cached_property
    def graph_edits(self) -> list[Edit]:
        """The catalogue: of the graph, and of its batch normalizations where the trained weights are there."""
        found = edits.catalogue(self.network, self.start.shapes)
        vectors = [(p.name, -1) for t, p in self.artifact.taps.items() if not set("TF") & set(p.layout)]
        return [*steps.answers(self.network, vectors), *found, *norms.catalogue(self.system, self.network)]

    @cached_property
    def together(self) -> dict[tuple[str, str], Edit]:
        """Edits made at all layers at once, by key and phrase."""
        return {(e.key, e.phrase.partition(", in all ")[0]): e for e in edits.everywhere(self.graph_edits)}

    def listed(self, study: Study, tap: Tap, inside: set[int]) -> list[Edit]:
        """Every edit that may be the cause of what is seen first at a tap."""
        wide = [e for e in self.graph_edits if self.network.touched(e.patch) & inside]
        several = len({e.where for e in wide}) > 1
        kinds = dict.fromkeys((e.key, e.phrase) for e in wide)
        found = wide + ([self.together[k] for k in kinds if k in self.together] if several else [])
        if inside & set(self.takers):
            found += inputs.fed(self.system.frontend)
            if any(n.op_type in RECURRENT for n in self.network.nodes):
                found.append(inputs.twice())
        dimensions = next((np.ndim(e.model[tap]) for e in study.of if tap in e.model), 0)
        found += inputs.seen(dimensions) if 2 <= dimensions <= 3 else []
        found += channels.permuted_answers(study, tap)
        return [e for e in found if not e.patch.clashes(study.base)]

    def scored(self, study: Study, tap: Tap, of: Sequence[Edit]) -> list[Try]:
        """What each leaves of the error at a tap, the nearest first; of a crowd, of those nearest on one clip."""
        if len(of) > CROWD and len(study.few) > 1:
            of = [t.edit for t in self.scored(study.alone(tap), tap, of)[:KEPT]]
        found: dict[int, Try] = {}
        for done, (k, got) in enumerate(batches.tried(study, [e.patch for e in of], tap)):
            self.tried += 1
            self._step(f"changes of the network tried at {tap}", done, len(of))
            if got is None:
                continue
            left, worst = study.left(got, tap)
            if np.isfinite(left):
                found[k] = Try(of[k], left, worst)
                if self._at == (study, tap) and (self._nearest is None or left < self._nearest.left):
                    self._nearest = found[k]
        return sorted((found[k] for k in sorted(found)), key=lambda t: t.left)

    def checked(self, study: Study, tap: Tap, tries: Sequence[Try]) -> list[Try]:
        """Those that give the tap within bounds with their own rounding, on every clip; or would at all layers."""
        hits = []
        for t in tries:
            if t.worst > NEAR and t.left > NEARLY:
                continue
            off = study.held(t.edit.patch)
            if off is not None and off[tap] <= 1.0:
                hits.append(t)
        return hits

    def settled(self, study: Study, hits: Sequence[Try]) -> tuple[list[Try], bool]:
        """Of what explains the first tap, what explains all of them: as it is, or made at all layers."""
        whole: list[Try] = []
        for t in sorted(hits, key=lambda t: t.edit.parameters):
            wider = self.together.get((t.edit.key, t.edit.phrase))
            for edit in (t.edit, wider) if wider is not None and t.edit.where else (t.edit,):
                off = study.held(edit.patch)
                if off is not None and max(off.values()) <= 1.0:
                    whole.append(Try(edit, t.left, t.worst))
                    break
        fewest = min((t.edit.parameters for t in whole or hits), default=0)
        kept = {t.edit.words: t for t in reversed(whole or hits) if t.edit.parameters == fewest}
        return list(reversed(kept.values())), bool(whole)

    def pairs(self, study: Study, tap: Tap, near: Sequence[Try]) -> list[list[Edit]]:
        """Two edits before the same tap: each of the nearest few, and another on top of it."""
        several = len([i for i in self.network.layers if i in self.segment(study, tap)]) > 2
        bases: dict[str, Try] = {}
        for t in near:
            if t.left < (LARGER if several else 0.95) and t.edit.parameters <= FEW:
                bases.setdefault(t.edit.key, t)
        for t in list(bases.values())[: 3 if several else 8]:
            try:
                based = study.rebased(t.edit.patch)
                if based.now[tap] <= NEAR:
                    continue  # what is left is rounding: no second cause is to be seen
                hits, _ = self.single(based, tap, deep=False)
            except ModelError:
                continue
            if hits:
                return [[t.edit, h.edit] for h in self.settled(based, hits)[0]]
        return []

    def told(self, study: Study, tap: Tap, alternatives: Sequence[Sequence[Edit]], complete: bool) -> Finding:
        """The finding, with its numbers over all clips."""
        after = study.rebased(_together(alternatives[0])) if alternatives else study
        seen = [(np.asarray(e.model[tap], np.float64), b[tap], t[tap])
                for e, b, t in zip(study.of, study.right, after.right, strict=True) if tap in e.model]  # fmt: skip
        before, after_it = (_size([(m, of[k]) for m, *of in seen]) for k in range(2))
        share = None
        if before is not None and after_it is not None and before[0]:
            share = 1.0 - after_it[0] / before[0] if alternatives else 0.0
            if share < CLOSE and alternatives and not complete:
                return self.told(study, tap, [], False)
        shapes = next((f"shape {list(m.shape)}, not {list(b.value.shape)}" for m, b, _ in seen
                       if m.shape != b.value.shape), "")  # fmt: skip
        causes = [tuple(Cause(e.key, e.words, self.first_tap(e.patch) or tap) for e in one) for one in alternatives]
        return Finding(
            tap, tuple(causes), complete, share,
            _inside([(m, b) for m, b, _ in seen]), _inside([(m, t) for m, _, t in seen]),
            None if before is None else before[1], None if after_it is None else after_it[1], shapes=shapes,
        )  # fmt: skip

    def first_tap(self, patch: Patch) -> Tap | None:
        """The first tap that a patch can change."""
        touched = self.network.touched(patch)
        return next((t for t in self.start.taps if touched & self.network.before(self.artifact.taps[t].name)), None)


def _together(of: Sequence[Edit]) -> Patch:
    first, *others = (e.patch for e in of)
    for patch in others:
        first = first | patch
    return first


def _size(of: Sequence[tuple[Array, Expected]]) -> tuple[float, float] | None:
    """Root mean square and largest of the error; None where shapes differ or a number isn't finite."""
    if any(m.shape != x.value.shape for m, x in of):
        return None
    together = np.concatenate([np.abs(m - x.value).ravel() for m, x in of])
    return (float(np.sqrt(np.square(together).mean())), float(together.max())) if np.isfinite(together).all() else None


def _inside(of: Sequence[tuple[Array, Expected]]) -> float:
    """Share of elements within bound."""
    if any(m.shape != x.value.shape for m, x in of):
        return 0.0
    return float(np.concatenate([(np.abs(m - x.value) <= x.bound).ravel() for m, x in of]).mean())
