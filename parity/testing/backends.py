"""What every feature backend must do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parity import frontend as fe
from parity import registry
from parity.backends import reference
from parity.compare import compare
from parity.expected import bounds_of
from parity.protocols import Clip, FeatureBackend, Taps, Unsupported, arithmetic_of
from parity.search import clips, frontends
from parity.testing.recipes import RECIPES, SOUNDS


def same(a: Taps, b: Taps) -> bool:
    """Whether both have the same taps with the same bits."""
    return a.keys() == b.keys() and all(
        a[t].dtype == b[t].dtype and a[t].shape == b[t].shape and a[t].tobytes() == b[t].tobytes() for t in a
    )


class BackendConformance:
    """Set `spec`, or override `plugin`."""

    spec: str
    examples = 5
    """Drawn clips a recipe, and a fifth of the drawn recipes."""
    batch_bits = True
    """Whether a clip in a batch gives the bits that it gives alone; else both are held to the derived bounds."""

    def plugin(self) -> FeatureBackend:
        """The plugin under test."""
        made: FeatureBackend = registry.create("backend", self.spec)
        return made

    def supported(self) -> Iterator[tuple[str, fe.Frontend, FeatureBackend]]:
        """The recipes of `RECIPES` that the plugin takes, with the plugin."""
        plugin = self.plugin()
        for name, frontend in RECIPES.items():
            if plugin.supports(frontend) is None:
                yield name, frontend, plugin

    def check(self, what: str, clip: Clip, frontend: fe.Frontend, got: Taps) -> None:
        """Hold arrays to the bounds that are derived around the oracle, for the arithmetic that the plugin declares."""
        exact = bounds_of(clip, frontend, (arithmetic := arithmetic_of(self.plugin(), frontend),))[0][arithmetic]
        for tap, array in got.items():
            x = exact[tap]
            judged = compare(array, x.value, x.lo, x.hi, frontend.dtype(tap))
            text = f"{what}, {clip.name}: {tap}: {judged.message} (error over bound {judged.ratio}); {frontend}"
            assert judged.outcome == "pass", text

    def drawn(self, strategy: st.SearchStrategy[Any], examples: int, test: Callable[[Any], None]) -> None:
        """Run `test` on drawn values: `examples` of them, times more under a Hypothesis profile of over 100."""
        count = examples * max(1, settings().max_examples // 100)
        quiet = settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))

        @quiet
        @given(strategy)
        def run(value: Any) -> None:
            test(value)

        run()

    def test_versions(self) -> None:
        versions = self.plugin().versions()
        assert versions, "versions() is empty: say at least which library computes"
        assert all(isinstance(v, str) and v for v in versions.values()), f"versions are words: {dict(versions)}"

    def test_supports_something(self) -> None:
        assert list(self.supported()), "refuses every recipe of parity.testing.RECIPES"

    def test_supports_answers_for_any_recipe(self) -> None:
        plugin = self.plugin()

        def answer(frontend: fe.Frontend) -> None:
            found = plugin.supports(frontend)
            fits = found is None or (isinstance(found, Unsupported) and found.reason.strip())
            assert fits, f"neither None nor Unsupported with a reason: {found!r} for {frontend}"

        for frontend in RECIPES.values():
            answer(frontend)
        self.drawn(frontends(), 20 * self.examples, answer)

    def test_what_it_supports_it_computes(self) -> None:
        plugin = self.plugin()

        def honest(drawn: tuple[fe.Frontend, Clip]) -> None:
            frontend, clip = drawn
            if plugin.supports(frontend) is None:
                got = plugin.features([clip], frontend, plugin.taps(frontend))[0]
                self.check("a drawn recipe that it says it supports", clip, frontend, got)

        self.drawn(frontends().flatmap(lambda f: st.tuples(st.just(f), clips(f))), 20 * self.examples, honest)

    def test_taps_are_the_recipes_and_hold_its_output(self) -> None:
        for name, frontend, plugin in self.supported():
            taps = plugin.taps(frontend)
            assert taps <= set(frontend.taps), f"{name}: {sorted(taps - set(frontend.taps))} are no taps of the recipe"
            assert frontend.output in taps, f"{name}: {frontend.output}, which feeds the network, is not among the taps"

    def test_arrays_are_the_asked_ones_typed_contiguous_and_time_major(self) -> None:
        for name, frontend, plugin in self.supported():
            for asked in (plugin.taps(frontend), frozenset({frontend.output})):
                for clip, got in zip(SOUNDS, plugin.features(SOUNDS, frontend, asked), strict=True):
                    assert set(got) == asked, f"{name}: asked for {sorted(asked)}, got {sorted(got)}"
                    shapes = {t: a.shape for t, a in reference.oracle(frontend, clip).items()}
                    for tap, array in got.items():
                        here = f"{name}, {clip.name}: {tap}"
                        assert isinstance(array, np.ndarray), f"{here} is a {type(array).__name__}"
                        assert array.dtype == frontend.dtype(tap), f"{here} is {array.dtype}, not {frontend.dtype(tap)}"
                        assert array.flags.c_contiguous, f"{here} is not C-contiguous"
                        assert array.shape == shapes[tap], f"{here} is {array.shape}, not {shapes[tap]} [frames, bins]"

    def test_holds_the_derived_bounds(self) -> None:
        for name, frontend, plugin in self.supported():
            holds = partial(self.holds, name, frontend, plugin)
            for clip in SOUNDS:
                holds(clip)
            self.drawn(clips(frontend), self.examples, holds)

    def holds(self, name: str, frontend: fe.Frontend, plugin: FeatureBackend, clip: Clip) -> None:
        """One clip alone, at every tap that the plugin gives."""
        self.check(name, clip, frontend, plugin.features([clip], frontend, plugin.taps(frontend))[0])

    def test_a_batch_gives_what_its_clips_give(self) -> None:
        for name, frontend, plugin in self.supported():
            taps = plugin.taps(frontend)
            batch = [*SOUNDS, *reversed(SOUNDS)]
            for clip, got in zip(batch, plugin.features(batch, frontend, taps), strict=True):
                self.check(f"{name} in a batch", clip, frontend, got)
                if self.batch_bits:
                    alone = plugin.features([clip], frontend, taps)[0]
                    assert same(got, alone), f"{name}: {clip.name} has other bits in a mixed batch than alone"

    def test_inputs_stay_as_they_are_and_outputs_repeat(self) -> None:
        for name, frontend, plugin in self.supported():
            taps, before = plugin.taps(frontend), [c.samples.tobytes() for c in SOUNDS]
            first, second = plugin.features(SOUNDS, frontend, taps), plugin.features(SOUNDS, frontend, taps)
            assert [c.samples.tobytes() for c in SOUNDS] == before, f"{name}: features() changed the samples of a clip"
            assert all(same(a, b) for a, b in zip(first, second, strict=True)), f"{name}: other bits the second time"

    def test_fewer_taps_have_the_same_values(self) -> None:
        for name, frontend, plugin in self.supported():
            every = plugin.features(SOUNDS, frontend, plugin.taps(frontend))
            for tap in plugin.taps(frontend):
                fewer = plugin.features(SOUNDS, frontend, frozenset({tap}))
                for clip, some, full in zip(SOUNDS, fewer, every, strict=True):
                    assert same(some, {tap: full[tap]}), f"{name}: {tap} of {clip.name} alone differs from all taps"

    def test_silence_gives_no_nan(self) -> None:
        for name, frontend, plugin in self.supported():
            for tap, array in plugin.features([SOUNDS[-1]], frontend, plugin.taps(frontend))[0].items():
                assert not np.isnan(array).any(), f"{name}: NaN at {tap} of silence"

    def test_no_clips_give_no_results(self) -> None:
        for name, frontend, plugin in self.supported():
            assert list(plugin.features([], frontend, plugin.taps(frontend))) == [], f"{name}: results for no clips"
