"""Many patches of one node tried at once: each is run by itself, and what lies behind the node once for all of them.

Most of the time that a small network takes is Python's, not arithmetic. Where its batch is the first axis of every
tensor, patches are rows of a batch like clips are. Whether that is so is seen by a try.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from parity.errors import ModelError
from parity.explain.study import Study
from parity.explain.surgery import Part, Patch
from parity.protocols import Array, Tap

ROWS = 24
"""Clips, times patches, that are run together: what memory allows of a large network."""
FEWEST = 4
"""Patches of a node for which it is worth it."""


def tried(study: Study, patches: Sequence[Patch], tap: Tap) -> Iterator[tuple[int, list[Array] | None]]:
    """Place of each patch, and what `Study.tried` says of it, in the order in which they are run."""
    groups: dict[int, list[int]] = {}
    for k, patch in enumerate(patches):
        touched = study.network.touched(patch)
        alone = len(touched) == 1 and patch.feed is None and patch.seen is None
        groups.setdefault(next(iter(touched)) if alone else -1, []).append(k)
    for node, members in groups.items():
        behind = _Behind.of(study, node, tap) if node >= 0 and len(members) >= FEWEST else None
        if behind is None:
            yield from ((k, study.tried(patches[k], tap)) for k in members)
        else:
            yield from behind.tried(patches, members)


class _Behind:
    """What lies between a node and a tap."""

    def __init__(self, study: Study, node: int, tap: Tap) -> None:
        self._study, self._tap = study, tap
        self._name = study.network.nodes[node].output[0]
        self._port = study.artifact.taps[tap].name
        self._part = None if self._name == self._port else study.part(Patch(), tap, [self._name])

    @classmethod
    def of(cls, study: Study, node: int, tap: Tap) -> _Behind | None:
        """None where patches can't be rows of a batch there."""
        made = cls(study, node, tap)
        name, rows = made._name, len(study.few)
        right = study.values.get(name)
        if not isinstance(right, np.ndarray) or right.shape[:1] != (rows,):
            return None
        try:
            twice = made._run([right, right])
            once = study.values[made._port]
        except (ModelError, ValueError, IndexError):
            return None
        alike = twice.shape == (2 * rows, *once.shape[1:]) and np.allclose(twice, np.concatenate([once, once]))
        return made if alike else None

    def _run(self, given: Sequence[Array]) -> Array:
        """The tap's tensor, from what the node gives under each patch."""
        together = np.concatenate(given)
        if self._part is None:
            return together
        values = _repeated(self._study, self._part, len(given))
        with np.errstate(all="ignore"):
            return self._part.run(values, {self._name: together})[self._port]

    def tried(self, patches: Sequence[Patch], members: Sequence[int]) -> Iterator[tuple[int, list[Array] | None]]:
        """As the module's."""
        study, rows = self._study, len(self._study.few)
        right, most = study.values[self._name], max(1, ROWS // len(self._study.few))
        held: list[tuple[int, Array]] = []
        for k in members:
            try:
                with np.errstate(all="ignore"):
                    part = Part(study.network, patches[k], [self._name], (), study.base)
                    x = part.run(study.values)[self._name]
            except (ModelError, ValueError, IndexError):
                yield k, None
                continue
            if x.shape != right.shape:
                yield k, study.tried(patches[k], self._tap)
                continue
            held.append((k, x))
            if len(held) == most:
                yield from self._shown(held, rows)
                held = []
        if held:
            yield from self._shown(held, rows)

    def _shown(self, held: Sequence[tuple[int, Array]], rows: int) -> Iterator[tuple[int, list[Array] | None]]:
        study, tap = self._study, self._tap
        out = self._run([x for _, x in held])
        clips = [c for c, k in enumerate(study.few) if tap in study.of[k].model]
        for e, (k, _) in enumerate(held):
            yield k, [study.shown(out, tap, e * rows + c, study.base) for c in clips]


def _repeated(study: Study, part: Part, times: int) -> Mapping[str, Array]:
    """The tensors that a part takes, once for each patch where they are a clip's."""
    fixed, rows = study.network.constants, len(study.few)
    found = {}
    for name in part.boundary:
        x = study.values[name]
        own = name not in fixed and x.dtype == np.float64 and x.shape[:1] == (rows,)
        found[name] = np.concatenate([x] * times) if own else x
    return found
