"""A recipe with something changed that its grammar can't say: what `explain` tries against the evidence.

A `Definition` is a Frontend and hooks on single stages. Each hook is a piece of the float64 oracle put in another
one's place: it says what is computed and, with it, how far float32 may be from that (`parity.explain.bound`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from parity import frontend as fe
from parity.backends import reference
from parity.protocols import Array, Tap


@dataclass(frozen=True, eq=False)
class Hook:
    """A change of the stage whose output is `tap`; one of the functions is given.

    Two hooks are the same if they are the same object: arrays computed under one are reused under it alone.
    """

    tap: Tap
    before: Callable[[Array], Array] | None = None
    """On what the stage is given."""
    after: Callable[[Array], Array] | None = None
    """On what the stage gives: by element and monotone, or (`index`) a choice and an order of elements."""
    constant: Callable[[fe.Frontend, Array], Array] | None = None
    """On the window `[frame]`, the bank `[bands, bins]` or the DCT `[coefficients, bands]`."""
    transform: Callable[[Array], Array] | None = None
    """From the complex spectrum `[frames, bins]` to its size, in the place of magnitude or power."""
    instead: Callable[[Array], Array] | None = None
    """In the place of a stage that works element by element, monotone."""
    index: bool = False
    view: bool = False
    """What is shown at the tap only: the next stage takes what was there before."""
    roundings: float = 0.0
    """That float32 spends on it, in unit roundoffs of the value."""
    spread: float = 0.0
    """The same in unit roundoffs of the clip's largest value."""
    step: Callable[[Array], Array] | None = None
    """Of a view that rounds: between which numbers. Where a number is estimated, that isn't rounded."""


@dataclass(frozen=True)
class Definition:
    """What is computed: the recipe, and its hooks in the order in which they are applied."""

    frontend: fe.Frontend
    hooks: tuple[Hook, ...] = ()

    def with_hook(self, hook: Hook) -> Definition:
        """One hook more."""
        return replace(self, hooks=(*self.hooks, hook))

    def with_stages(self, **stages: fe.Stage | None) -> Definition:
        """Other stages, by their names in the recipe."""
        return replace(self, frontend=replace(self.frontend, **stages))  # type: ignore[arg-type]

    def at(self, tap: Tap) -> tuple[Hook, ...]:
        """The hooks of a stage that the next stage sees."""
        return tuple(h for h in self.hooks if h.tap == tap and not h.view)

    def views(self, tap: Tap) -> tuple[Hook, ...]:
        """The hooks that are seen at the tap only."""
        return tuple(h for h in self.hooks if h.tap == tap and h.view)

    def constant(self, tap: Tap, width: int) -> Array:
        """The window, bank or DCT of a stage with what hooks make of it; `width` is that of the stage's input."""
        s, x = self.frontend.stages()[tap], np.zeros(0)
        if isinstance(s, fe.Window):
            x = reference.window(s, width)
        elif isinstance(s, fe.Mel | fe.Pool):
            x = reference.bank(self.frontend)
        elif isinstance(s, fe.Cepstrum):
            x = reference.dct_matrix(s, width)
        for h in self.at(tap):
            x = x if h.constant is None else h.constant(self.frontend, x)
        return x


Arrays = Mapping[Tap, Array]


def run(d: Definition, samples: Array, upto: Tap, like: tuple[Definition, Arrays] | None = None) -> dict[Tap, Array]:
    """Every tap as far as `upto`, float64, without views; stages that `like` computed from the same are taken from it.

    ValueError or IndexError where the change can't be computed (a bank that doesn't fit the spectrum).
    """
    out: dict[Tap, Array] = {}
    x, same = samples, like is not None
    for tap in d.frontend.taps:
        if same and like is not None and tap in like[1] and _same(d, like[0], tap):
            x = out[tap] = like[1][tap]
        else:
            same = False
            x = out[tap] = _stage(d, tap, x)
        if tap == upto:
            break
    return out


def seen(d: Definition, tap: Tap, x: Array, rounded: bool = True) -> Array:
    """What is shown at a tap where `x` is computed; not `rounded`: before it is written with few digits."""
    for h in d.views(tap):
        x = x if h.after is None or (h.step is not None and not rounded) else h.after(x)
    return x


def _same(a: Definition, b: Definition, tap: Tap) -> bool:
    return a.frontend.stages().get(tap) == b.frontend.stages().get(tap) and a.at(tap) == b.at(tap)


def _stage(d: Definition, tap: Tap, x: Array) -> Array:
    hooks, s = d.at(tap), d.frontend.stages()[tap]
    instead = next((h.instead for h in hooks if h.instead is not None), None)
    transform = next((h.transform for h in hooks if h.transform is not None), None)
    for h in hooks:
        x = x if h.before is None else h.before(x)
    if instead is not None:
        x = instead(x)
    elif transform is not None and isinstance(s, fe.Spectrum):
        x = transform(np.fft.rfft(x, n=s.n_fft, axis=-1)[:, : d.frontend.bins])
        x = x / s.n_fft if s.scaling == "1/n_fft" else x
    elif any(h.constant is not None for h in hooks):
        c = d.constant(tap, x.shape[-1])
        x = x * c if isinstance(s, fe.Window) else x @ c.T
    elif isinstance(s, fe.Cepstrum):
        x = x @ reference.dct_matrix(s, x.shape[-1]).T  # in float64 the order of the sum doesn't matter
    elif isinstance(s, fe.Window):
        x = x * reference.window(s, x.shape[-1])
    else:
        x = reference.stage(d.frontend, tap, x)
    for h in hooks:
        x = x if h.after is None else h.after(x)
    return x


@lru_cache(maxsize=8)
def taps(frontend: fe.Frontend) -> dict[Tap, int]:
    """Tap -> its place in the flow."""
    return {tap: i for i, tap in enumerate(frontend.taps)}
