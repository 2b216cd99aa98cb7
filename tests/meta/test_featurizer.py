"""`assert_parity`: any callable against a recipe; the simplest clip on which it parts, the numbers and the cause."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity import frontend as fe
from parity.backends import reference
from parity.errors import ConfigError
from parity.parameters import clip_of, from_plain
from parity.protocols import Array, Clip
from parity.testing import RECIPES, SOUNDS, assert_parity, clips, frontends
from tests.conftest import PROJECT
from tests.plugins_for_tests import rig

SYSTEM = PROJECT / "reference_models" / "commands-cnn"
RECIPE = RECIPES["commands-cnn"]


def mine(samples: Array, frontend: fe.Frontend = RECIPE) -> Array:
    """Somebody's featurizer: right, and in float64."""
    return reference.run(frontend, samples.astype(np.float64))[frontend.output]


def symmetric(samples: Array) -> Array:
    assert RECIPE.window is not None
    return mine(samples, dataclasses.replace(RECIPE, window=dataclasses.replace(RECIPE.window, periodic=False)))


def message(check: object, *arguments: object, **options: object) -> str:
    with pytest.raises(AssertionError) as told:
        assert_parity(check, *arguments, **options)  # type: ignore[arg-type]
    return str(told.value)


@pytest.mark.parametrize("recipe", [RECIPE, SYSTEM, str(SYSTEM / "system.toml")])
def test_what_computes_the_recipe_passes(recipe: fe.Frontend | Path | str) -> None:
    assert_parity(mine, recipe, examples=10)


def test_what_does_not_is_told_with_clip_tap_numbers_and_cause() -> None:
    said = message(symmetric, SYSTEM, examples=30).splitlines()
    assert said[0].startswith("symmetric isn't the recipe: features/compressed of the clip 'tone 1000 Hz'")
    assert "of 4900 elements out of bounds" in said[1]
    assert said[2].startswith("error ")
    assert "frame 0" in said[2]
    assert said[3].startswith("why: compressed: window symmetric, not periodic: 100 % of the error explained")
    assert said[-1] == "again: clip_of(from_plain({'sounds': [{'kind': 'tone'}]})), both of parity.parameters"
    again = clip_of(from_plain({"sounds": [{"kind": "tone"}]}))
    assert message(symmetric, SYSTEM, again).splitlines() == said[:-1]


def test_a_fault_at_one_length_is_shrunk_to_it() -> None:
    def short(samples: Array) -> Array:
        found = mine(samples)
        if (len(samples) - 512) % 160 == 159:
            found[-3:] += 1.0
        return found

    said = message(short, RECIPE, examples=300)
    found = re.match(r"short isn't the recipe: features/compressed of the clip '([^']*), length ([0-9]+)'", said)
    assert found is not None, said
    assert (int(found[2]) - 512) % 160 == 159
    assert len(found[1].split(", ")) <= 4


def test_taps_by_name_tell_where_it_parts() -> None:
    assert RECIPE.spectrum is not None
    louder = dataclasses.replace(RECIPE, spectrum=dataclasses.replace(RECIPE.spectrum, exponent=1))

    def taps(samples: Array) -> dict[str, Array]:
        return {t: a.astype(np.float32) for t, a in reference.run(louder, samples.astype(np.float64)).items()}

    said = message(taps, RECIPE, examples=5)
    assert "features/spectrum of the clip" in said
    assert "why: spectrum: magnitude" in said


def test_what_it_raises_and_what_it_returns_is_told() -> None:
    def lost(samples: Array) -> Array:
        if np.abs(samples).max() > 0.9:
            raise ZeroDivisionError("no room")
        return mine(samples)

    assert "it raised ZeroDivisionError: no room" in message(lost, RECIPE, examples=5)
    assert "dtype is int64" in message(lambda x: mine(x).astype(np.int64), RECIPE, SOUNDS[0])
    assert "transposed?" in message(lambda x: mine(x).T.copy(), RECIPE, SOUNDS[0])
    assert "it gives logmel; the taps are features/audio," in message(lambda x: {"logmel": mine(x)}, RECIPE, SOUNDS[0])
    assert "it gives nothing" in message(lambda x: {}, RECIPE, SOUNDS[0])
    assert "does it return its features?" in message(lambda x: None, RECIPE, SOUNDS[0])


def test_one_that_answers_otherwise_each_time_is_told() -> None:
    calls = iter(range(10**6))

    def moody(samples: Array) -> Array:
        return mine(samples) + (1.0 if next(calls) == 0 else 0.0)

    assert "moody" in message(moody, RECIPE, examples=3)


def test_samples_are_their_own_to_scribble_on() -> None:
    def scribbles(samples: Array) -> Array:
        found = mine(samples)
        samples[:] = 0.0
        return found

    before = SOUNDS[0].samples.copy()
    assert_parity(scribbles, RECIPE, SOUNDS[0])
    np.testing.assert_array_equal(SOUNDS[0].samples, before)


def test_the_strategies_go_with_it() -> None:
    @settings(max_examples=10, deadline=None)
    @given(frontends().flatmap(lambda f: st.tuples(st.just(f), clips(f))))
    def check(drawn: tuple[fe.Frontend, Clip]) -> None:
        recipe, clip = drawn
        assert_parity(lambda x: reference.run(recipe, x.astype(np.float64))[recipe.output], recipe, clip)

    check()


def test_a_recipe_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        assert_parity(mine, "nowhere/system.toml")


@pytest.mark.slow
def test_the_readmes_test_runs_as_typed(tmp_path: Path) -> None:
    import re
    import subprocess
    import sys

    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(# test_features\.py\n.*?)```", readme, re.DOTALL)
    rig.system(tmp_path / "my-kws")
    (tmp_path / "test_features.py").write_text(example, encoding="utf-8")
    (tmp_path / "my_kws.py").write_text(
        "from tests.meta.test_featurizer import mine, symmetric\nfeatures = symmetric\n", encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_features.py"], cwd=tmp_path,
        env=rig.environment() | {"PYTHONPATH": f"{tmp_path}:{PROJECT}"}, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "window symmetric, not periodic" in done.stdout
