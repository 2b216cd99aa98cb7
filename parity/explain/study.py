"""Evidence laid on a network: what the trained graph gives for the same input, how far off each tap is, by how much.

`Study.tried` scores a patch at one tap on a few clips, quickly; `Study.held` runs the patched graph on every clip with
its rounding drawn, and says at which taps the candidate is out of bounds then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from parity import layout
from parity.bounds.features import U
from parity.errors import ModelError
from parity.evidence import Evidence
from parity.explain.surgery import Network, Part, Patch
from parity.networks import spread
from parity.networks.arithmetic import PRECISIONS, Noise
from parity.protocols import Array, Artifact, Tap

COPIES = 16
"""Draws of the rounding: as many as the bounds of a golden are worked out from."""
FEW = 3
"""Clips on which patches are tried."""


@dataclass(frozen=True, eq=False)
class Expected:
    """What a graph gives at a tap for a clip, and how far an implementation may be from it. Time-major."""

    value: Array
    bound: Array


class Study:
    """`of` are clips of one candidate, each with what the network was `fed`."""

    def __init__(self, network: Network, artifact: Artifact, of: Sequence[Evidence], base: Patch | None = None) -> None:
        self.network, self.artifact, self.of = network, artifact, of
        self.base = base or Patch()
        self.taps = [t for t in artifact.taps if any(t in e.model for e in of)]
        self.precision = of[0].precision if of[0].precision in PRECISIONS else "float32"
        shapes = [np.shape(np.asarray(e.fed)) for e in of]
        usual = max(dict.fromkeys(shapes), key=shapes.count)
        self.few = [k for k, s in enumerate(shapes) if s == usual][:FEW]
        """Clips of one shape, to try patches on."""
        self._based: dict[int, tuple[Patch, Study]] = {}

    def rebased(self, patch: Patch) -> Study:
        """The same evidence laid on the graph with a patch in it; worked out once."""
        if id(patch) not in self._based:
            self._based[id(patch)] = patch, Study(self.network, self.artifact, self.of, self.base | patch)
        return self._based[id(patch)][1]

    def alone(self, tap: Tap) -> Study:
        """The same with one of the few clips: the one that is furthest out of bounds at a tap."""
        at = [k for k in self.few if tap in self.of[k].model] or self.few
        worst = max(at, key=lambda k: ratio(self.of[k].model[tap], self.right[k][tap]) if tap in self.right[k] else 0.0)
        return Study(self.network, self.artifact, [self.of[worst]], self.base)

    def feed(self, fed: Array | None, patch: Patch) -> dict[str, Array]:
        """A clip's input by name, in the graph's own axes."""
        x = np.asarray(fed, np.float64)
        x = patch.feed(x) if patch.feed is not None else x
        first, *others = self.network.inputs
        names = {self.artifact.input.name: layout.native(np.ascontiguousarray(x), self.artifact.input.layout)}
        constants = {n: np.asarray(self.artifact.constants[n]) for n in others if n in self.artifact.constants}
        return {first: names[self.artifact.input.name], **constants} if first not in names else names | constants

    def shown(self, x: Array, tap: Tap, k: int, patch: Patch) -> Array:
        """The k-th clip of a batch at a tap, time-major."""
        axes = layout.plain(self.artifact.taps[tap].layout)
        one = layout.time_major(np.take(x, [k], axis=axes.index("N")), axes)
        return patch.seen(one) if patch.seen is not None else one

    def expected(self, patch: Patch, k: int) -> dict[Tap, Expected]:
        """What the patched graph gives for clip k, with bounds. ModelError where it doesn't run."""
        graph = self.network.whole(patch)
        feed = {n: np.repeat(x, COPIES + 1, axis=0) for n, x in self.feed(self.of[k].fed, patch).items()}
        ports = {t: self.artifact.taps[t] for t in self.taps}
        noise = Noise(PRECISIONS[self.precision], COPIES + 1, seed=0)
        names = {p.name for p in ports.values()}
        uncut = {n: graph.before[n] for n in names if n in graph.before}
        with np.errstate(all="ignore"):  # of a wrong graph's numbers some overflow
            out = graph.run(feed, names | set(uncut.values()), noise)
        found = {}
        for tap, port in ports.items():
            copies, axes = out[port.name], port.layout
            axis = layout.plain(axes).index("N")
            before = out[uncut[port.name]] if port.name in uncut else None
            fed = None if before is None else (np.take(before, [0], axis=axis), before)
            exact = np.take(copies, [0], axis=axis)
            parts = spread.moved(exact, copies, axes, graph.operators[port.name], self.precision, fed)
            half = patch.room * spread.half_width(parts, axes, self.precision)
            value = self.shown(copies, tap, 0, patch)
            found[tap] = Expected(value, self.shown(half, tap, 0, patch) + U * np.abs(value))
        return found

    @cached_property
    def right(self) -> list[dict[Tap, Expected]]:
        """What is right for each clip: the graph as it is based."""
        return [self.expected(self.base, k) for k in range(len(self.of))]

    def off(self, expected: Sequence[Mapping[Tap, Expected]]) -> dict[Tap, float]:
        """Of each tap the candidate's largest error over its bound, over all clips."""
        found: dict[Tap, float] = {}
        for tap in self.taps:
            ratios = [ratio(e.model[tap], of[tap]) for e, of in zip(self.of, expected, strict=True) if tap in e.model]
            found[tap] = max(ratios, default=0.0)
        return found

    @cached_property
    def now(self) -> dict[Tap, float]:
        """Error over bound at each tap before anything is tried."""
        return self.off(self.right)

    @property
    def first(self) -> Tap | None:
        """The first tap out of bounds."""
        return next((t for t in self.taps if self.now[t] > 1.0), None)

    def held(self, patch: Patch) -> dict[Tap, float] | None:
        """Error over bound at each tap under a patch (on top of the base); None where it can't be run."""
        try:
            return self.rebased(patch).now
        except (ModelError, ValueError):
            return None

    @cached_property
    def values(self) -> dict[str, Array]:
        """Every tensor of the based graph for the few clips."""
        feeds = [self.feed(self.of[k].fed, self.base) for k in self.few]
        batch = {n: np.concatenate([f[n] for f in feeds]) for n in feeds[0]}
        graph = self.network.whole(self.base)
        return {**batch, **graph.run(batch, graph.tensors)}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor, with the batch."""
        return {n: x.shape for n, x in self.values.items() if isinstance(x, np.ndarray)}

    def part(self, patch: Patch, tap: Tap, free: Sequence[str] = ()) -> Part:
        """What lies between a patch and a tap."""
        return Part(self.network, patch, [self.artifact.taps[tap].name], free, self.base)

    def given(self, patch: Patch) -> dict[str, Array]:
        """The few clips' tensors, with the input that a patch makes of them."""
        if patch.feed is None:
            return self.values
        feeds = [self.feed(self.of[k].fed, self.base | patch) for k in self.few]
        return self.values | {n: np.concatenate([f[n] for f in feeds]) for n in feeds[0]}

    def measured(self, tap: Tap) -> list[Array]:
        """What the candidate gave at a tap for the few clips, float64."""
        return [np.asarray(self.of[k].model[tap], np.float64) for k in self.few if tap in self.of[k].model]

    def tried(self, patch: Patch, tap: Tap) -> list[Array] | None:
        """What a patch gives at a tap for the few clips, exactly; None where it can't be run."""
        try:
            with np.errstate(all="ignore"):
                out = self.part(patch, tap).run(self.given(patch))[self.artifact.taps[tap].name]
            shown = [self.shown(out, tap, c, self.base | patch) for c in range(len(self.few))]
        except (ModelError, ValueError, IndexError):
            return None
        return [x for c, x in zip(self.few, shown, strict=True) if tap in self.of[c].model]

    def left(self, got: Sequence[Array], tap: Tap) -> tuple[float, float]:
        """Of what a patch gives at a tap: the share of the error that it leaves (RMS), and the largest over bound.

        Roughly: whether what is left is its own rounding is for `held` to say.
        """
        before = after = 0.0
        worst = 0.0
        clips = [k for k in self.few if tap in self.of[k].model]
        for k, x in zip(clips, got, strict=True):
            measured, right = np.asarray(self.of[k].model[tap], np.float64), self.right[k][tap]
            if x.shape != measured.shape or not np.isfinite(measured).all():
                return float("inf"), float("inf")
            size = max(1.0, float(np.abs(x).max()) / max(float(np.abs(right.value).max()), 1e-30))
            after += float(np.square(measured - x).sum())
            if right.value.shape == measured.shape:
                before += float(np.square(measured - right.value).sum())
                # What a ReLU cut off in the trained graph has next to no bound of its own there; it may be let through.
                usual = float(np.sqrt(np.square(right.bound).mean()))
                bound = np.maximum(right.bound, 0.5 * usual)
                worst = max(worst, float((np.abs(measured - x) / np.maximum(bound * size, 1e-30)).max()))
            else:
                before += float(np.square(measured).sum())
                worst = max(worst, float(np.abs(measured - x).max() / max(right.bound.max() * size, 1e-30)))
        return float(np.sqrt(after / max(before, 1e-300))), worst


def ratio(measured: Array, of: Expected) -> float:
    """The largest error over its bound; infinite for another shape or what isn't finite."""
    if measured.shape != of.value.shape:
        return float("inf")
    x = np.asarray(measured, np.float64)
    if not np.isfinite(x).all():
        return float("inf")
    with np.errstate(divide="ignore", invalid="ignore"):
        over = np.abs(x - of.value) / of.bound
    return float(np.nan_to_num(over, nan=0.0, posinf=np.inf).max()) if over.size else 0.0
