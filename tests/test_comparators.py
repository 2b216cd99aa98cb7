"""Whatever compares arrays leaves them as they were, bit by bit: also those that it could write to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parity import compare, expected, packed, policy
from parity import frontend as fe
from parity.backends import reference
from parity.bounds import features, levels, networks, steps
from parity.bounds.features import Interval
from parity.protocols import Array, Raw
from parity.search import clips
from parity.testing import RECIPES

ANY = st.floats(width=32)
LABELS = ("no", "yes", "up")


@st.composite
def four(draw: st.DrawFn) -> tuple[Array, Array, Array, Array]:
    """A candidate, and the golden between its bounds: any numbers, often the same ones."""
    shape = draw(hnp.array_shapes(max_dims=3, max_side=4))
    value, other = (draw(hnp.arrays(np.float64, shape, elements=ANY)) for _ in range(2))
    room = draw(hnp.arrays(np.float64, shape, elements=st.floats(0.0, 10.0)))
    candidate = draw(st.sampled_from((value, value + room / 2.0, other))).astype(np.float32)
    return candidate, value, value - room, value + room


@st.composite
def decisions(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """Logits of candidate and golden, and how far each may move."""
    candidate, right, half = (draw(hnp.arrays(np.float64, 3, elements=st.floats(-9.0, 9.0))) for _ in range(3))
    return candidate, right, np.abs(half)


@st.composite
def raws(draw: st.DrawFn) -> tuple[Raw, Array]:
    """Integers with their scale, and others of the same shape."""
    integers, others = (draw(hnp.arrays(np.int8, (3, 4))) for _ in range(2))
    return Raw(integers, draw(st.floats(1e-3, 10.0)), draw(st.integers(-128, 127))), others


RULE = policy.Rule(tap="*", why="drawn", absolute=0.1, relative=0.1, of_rms=0.1, steps=1.0)
Arrays = list[Array]


def _label(logits: Array, right: Array, half: Array) -> None:
    golden_choice = compare.decide(right, LABELS)
    assert golden_choice is not None
    compare.compare_label(compare.decide(logits, LABELS), golden_choice, right, half)
    compare.compare_label(None, golden_choice, right, half, margin=0.1)


def _bounds(recipe: str, samples: Array) -> tuple[Arrays, Callable[[], object]]:
    frontend = RECIPES[recipe]
    arrays = reference.run(frontend, samples.astype(np.float64))
    return [np.asarray(a) for a in arrays.values()], lambda: features.bounds(frontend, arrays)


LEVELS: Mapping[str, tuple[str, type[Any]]] = {
    "log": ("compress", fe.Log), "decibel": ("compress", fe.Decibel), "cepstrum": ("cepstrum", fe.Cepstrum),
    "normalize": ("normalize", fe.Normalize), "quantized": ("quantize", fe.Quantize),
}  # fmt: skip
"""Functions of `bounds.levels`, and the stage of a recipe that each bounds."""


def _level(name: str, seed: int) -> tuple[Arrays, Callable[[], object]]:
    """A stage of a recipe that has it, on drawn arrays of the shape it takes."""
    field, kind = LEVELS[name]
    found = [f for f in RECIPES.values() if isinstance(getattr(f, field), kind)]
    frontend = found[seed % len(found)]
    stage, taps = getattr(frontend, field), list(frontend.stages())
    at = list(frontend.stages().values()).index(stage)
    sound = np.random.default_rng(seed).standard_normal(16_000) * 0.1
    arrays = reference.run(frontend, sound)
    x, value = arrays[taps[at - 1]], arrays[taps[at]].astype(np.float64)
    given = Interval(x, x - 1e-3 * np.abs(x), x + 1e-3 * np.abs(x))
    more = (frontend,) if name == "cepstrum" else ()
    return [x, value, given.lo, given.hi], lambda: getattr(levels, name)(value, stage, *more, given)


@st.composite
def calls(draw: st.DrawFn, name: str) -> tuple[Arrays, Callable[[], object]]:
    """Arrays, and a call of the comparator that is given them."""
    if name in ("compare", "widened", "interval", "half_width", "stored", "packed"):
        c, v, lo, hi = found = draw(four())
        x = Interval(v, lo, hi)
        by_name: dict[str, Callable[[], object]] = {
            "compare": lambda: compare.compare(c, v, lo, hi, "float32"),
            "widened": lambda: policy.widened(RULE, x),
            "interval": lambda: policy.interval(RULE, v, 0.5),
            "half_width": lambda: policy.half_width(RULE, c, 0.5),
            "stored": lambda: expected.stored(x),
            "packed": lambda: packed.unpack_features(packed.pack_features({"features/spectrum": x})),
        }
        return list(found), by_name[name]
    if name in ("decide", "compare_label"):
        logits, right, half = found3 = draw(decisions())
        decide: Callable[[], object] = lambda: compare.decide(logits, LABELS)  # noqa: E731
        return list(found3), decide if name == "decide" else lambda: _label(logits, right, half)
    if name in ("rounded", "saturated", "unlike", "moved"):
        raw, others = draw(raws())
        value = others.astype(np.float64)
        by_name = {
            "rounded": lambda: steps.rounded(Interval(value, value - 1.0, value + 1.0), raw),
            "saturated": lambda: steps.saturated(value, raw),
            "unlike": lambda: steps.unlike(raw, Raw(others, raw.scale * 2.0, 0)),
            "moved": lambda: steps.moved(raw.integers, others),
        }
        return [raw.integers, others, value], by_name[name]
    if name in LEVELS:
        return _level(name, draw(st.integers(0, 100)))
    if name in ("networks.moved", "networks.half_of", "networks.halves", "networks.stored", "networks.interval"):
        _, v, lo, hi = draw(four())
        half = np.abs(v)
        key = networks.name("model/x", "float32", "isolated")
        by_name = {
            "networks.moved": lambda: networks.moved(RECIPES["commands-cnn"], Interval(v, lo, hi)),
            "networks.half_of": lambda: networks.half_of({key: half}, "model/x", "float16", "deployment"),
            "networks.halves": lambda: networks.halves({key: half, "model/x": v}),
            "networks.stored": lambda: networks.stored(v, half),
            "networks.interval": lambda: networks.interval(v, half),
        }
        return [v, lo, hi, half], by_name[name]
    assert name == "bounds"
    recipe = draw(st.sampled_from(sorted(RECIPES)))
    return _bounds(recipe, draw(clips(RECIPES[recipe])).samples)


COMPARATORS: Mapping[ModuleType, tuple[str, ...]] = {
    compare: ("compare", "decide", "compare_label"),
    features: ("bounds",),
    levels: tuple(LEVELS),
    steps: ("rounded", "saturated", "unlike", "moved"),
    networks: ("networks.moved", "networks.half_of", "networks.halves", "networks.stored", "networks.interval"),
    policy: ("half_width", "interval", "widened"),
}
OTHERS = ("stored", "packed")
"""What else an array passes through between a plugin and its verdict."""


@pytest.mark.parametrize("name", [*(n for names in COMPARATORS.values() for n in names), *OTHERS])
@given(data=st.data())
def test_its_inputs_stay_bit_identical(name: str, data: st.DataObject) -> None:
    arrays, call = data.draw(calls(name))
    before = [(a.dtype, a.shape, a.tobytes()) for a in arrays]
    with np.errstate(all="ignore"):
        call()  # what may be written to isn't
        assert [(a.dtype, a.shape, a.tobytes()) for a in arrays] == before
        for a in arrays:
            a.setflags(write=False)
        call()  # and nothing is written that is put back
    assert [(a.dtype, a.shape, a.tobytes()) for a in arrays] == before


def _takes_arrays(module: ModuleType) -> Iterator[str]:
    for name, function in inspect.getmembers(module, inspect.isfunction):
        annotated: dict[str, Any] = function.__annotations__
        if function.__module__ != module.__name__ or name.startswith("_"):
            continue
        if any(word in str(annotated[p]) for p in annotated if p != "return" for word in ("Array", "Interval", "Raw")):
            yield name


@pytest.mark.parametrize("module", COMPARATORS, ids=[m.__name__ for m in COMPARATORS])
def test_every_comparator_is_among_those_tried(module: ModuleType) -> None:
    assert set(_takes_arrays(module)) == {name.rpartition(".")[2] for name in COMPARATORS[module]}
