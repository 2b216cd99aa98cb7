"""`assert_parity`: any callable against a recipe; the simplest clip on which it parts, the numbers and the cause."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from parity import frontend as fe
from parity.backends import reference
from parity.errors import ConfigError
from parity.explain import Explanation
from parity.explain.explanation import INTERRUPTED, Cause, Finding
from parity.parameters import Parameters, Sound, clip_of, from_plain
from parity.protocols import Array, Clip
from parity.sources import Progress
from parity.testing import RECIPES, SOUNDS, assert_parity, clips, featurizer, frontends
from tests.conftest import PROJECT
from tests.plugins_for_tests import rig

SYSTEM = PROJECT / "reference_models" / "commands-cnn"
RECIPE = RECIPES["commands-cnn"]
STRICT = dataclasses.replace(RECIPE, input=fe.Input(rate=16_000, length=16_032, fit="refuse"))
RECORDINGS = PROJECT / "golden" / "clips"
RECORDED = clip_of(Parameters(sounds=(Sound(kind="recording", file="chirp.flac"),)), RECORDINGS).samples
X = np.zeros(16_000, np.float32)


def mine(samples: Array, frontend: fe.Frontend = RECIPE) -> Array:
    """Somebody's featurizer: right, and in float64."""
    return reference.run(frontend, samples.astype(np.float64))[frontend.output]


def symmetric(samples: Array) -> Array:
    assert RECIPE.window is not None
    return mine(samples, dataclasses.replace(RECIPE, window=dataclasses.replace(RECIPE.window, periodic=False)))


def refusal(use: Callable[[], object]) -> str:
    """What ConfigError says, in a line."""
    with pytest.raises(ConfigError) as told:
        use()
    assert "\n" not in str(told.value)
    return str(told.value)


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


@given(frontends().flatmap(lambda f: st.tuples(st.just(f), clips(f))))
def test_the_strategies_go_with_it(drawn: tuple[fe.Frontend, Clip]) -> None:
    recipe, clip = drawn
    assert_parity(lambda x: reference.run(recipe, x.astype(np.float64))[recipe.output], recipe, clip)


@pytest.mark.parametrize("recipe", [RECIPE, SYSTEM, str(SYSTEM / "system.toml")])
def test_clips_are_drawn_for_what_assert_parity_takes(recipe: fe.Frontend | Path | str) -> None:
    assert find(clips(recipe), lambda c: c.name == "tone 1000 Hz").rate == 16_000
    assert find(clips(recipe, str(RECORDINGS)), lambda c: ".flac" in c.name).rate == 16_000


BAD_FOLDERS = {
    "nowhere": "recordings: {} isn't there: name a folder",
    "empty": "recordings: {} holds no .wav or .flac file: put some there",
    "a.wav": "recordings: {} is a file: name a folder",
}


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_a_folder_without_recordings_is_told_before_anything_is_drawn(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.wav").touch()
    for of in (tmp_path / name, str(tmp_path / name)):
        wanted = BAD_FOLDERS[name].format(of)
        for use in (partial(assert_parity, mine, RECIPE, recordings=of), partial(clips, RECIPE, of)):
            assert refusal(use).startswith(wanted)


def test_a_recording_is_drawn_and_the_message_replays_it(tmp_path: Path) -> None:
    shutil.copy(RECORDINGS / "chirp.flac", tmp_path)

    failed: list[Array] = []

    def fails(samples: Array) -> Array:
        n = min(len(samples), len(RECORDED))
        alike = np.dot(samples[:n], RECORDED[:n]) / (np.linalg.norm(samples[:n]) * np.linalg.norm(RECORDED[:n]) + 1e-9)
        if alike < 0.9:
            return mine(samples)
        failed.append(samples.copy())
        return mine(samples).astype(np.int64)  # no number differs, so no cause is looked for

    said = message(fails, RECIPE, recordings=str(tmp_path), examples=60)
    found = re.search(r"^again: (.*), of parity\.parameters and pathlib$", said, re.MULTILINE)
    assert found is not None, said
    again = eval(found[1], {"clip_of": clip_of, "from_plain": from_plain, "Path": Path})
    assert f"of the clip {again.name!r}" in said
    np.testing.assert_array_equal(again.samples, failed[-1])
    assert message(fails, RECIPE, again).splitlines() == said.splitlines()[:-1]


def test_what_is_told_is_the_simplest_that_fails() -> None:
    assert "of the clip 'tone 1000 Hz'" in message(lambda x: np.zeros_like(mine(x)), RECIPE, examples=5)


@pytest.mark.parametrize("pressed", [False, True])
def test_a_search_for_the_cause_that_took_too_long_says_so(pressed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(frontend: fe.Frontend, _evidence: object, _arithmetic: object, step: Progress) -> Explanation:
        with contextlib.suppress(KeyboardInterrupt):
            while not pressed:  # else as after Ctrl-C
                step("", 0, 0)
        closest = Finding(
            frontend.output, ((Cause("window", "a window", frontend.output),),), False, 0.9, 0, 0.5, 1, 0.5
        )
        return Explanation("", "", (), (), (closest,), note=INTERRUPTED, interrupted=True)

    monkeypatch.setattr(featurizer, "explain", slow)
    monkeypatch.setattr(featurizer, "SECONDS", 0.01)
    said = message(symmetric, RECIPE, SOUNDS[0])
    assert "nothing explains it so far; closest is a window" in said
    assert said.splitlines()[-1].strip() == (INTERRUPTED if pressed else "looked for a cause for 0.01 s")


BAD_ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "features": ((RECIPE, RECIPE), {}, "features is a Frontend, which can't be called"),
    "recipe": ((mine, 3), {}, "a recipe is a Frontend, or the path of a system.toml or its folder, not 3"),
    "arithmetic": (
        (mine, RECIPE),
        {"arithmetic": "float99"},
        "arithmetic is float32 or float64-rounded, not 'float99'",
    ),
    "no examples": ((mine, RECIPE), {"examples": 0}, "examples=0 compares nothing"),
    "half examples": ((mine, RECIPE), {"examples": 2.5}, "examples=2.5 compares nothing"),
    "a path as clip": ((mine, RECIPE, "a.wav"), {}, "clip is a Clip or an array of samples, not a str"),
    "rate": ((mine, RECIPE, Clip("a", X, 8_000, "")), {}, "the clip is at 8000 Hz, the recipe at 16000 Hz: resample"),
    "channels": ((mine, RECIPE, np.stack([X, X])), {}, "the clip's shape is [2, 16000]: give the samples of one"),
    "integers": ((mine, RECIPE, X.astype(np.int16)), {}, "the clip's samples are int16: give floats"),
    "NaN": ((mine, RECIPE, X * np.nan), {}, "the clip holds NaN or infinite samples"),
    "none": ((mine, RECIPE, X[:0]), {}, "the clip has 0 samples: give 1 or more"),
    "no frame": ((mine, RECIPES["mfcc"], X[:9]), {}, "the clip has 9 samples: give "),
    "length": ((mine, STRICT, X), {}, "the clip has 16000 samples: the recipe takes 16032, and no other length"),
}


@pytest.mark.parametrize("what", BAD_ARGUMENTS)
def test_arguments_with_which_nothing_can_be_compared_are_refused_in_a_line(what: str) -> None:
    arguments, options, wanted = BAD_ARGUMENTS[what]
    assert refusal(partial(assert_parity, *arguments, **options)).startswith(wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_clip_may_be_an_array_at_the_recipes_rate(dtype: type) -> None:
    samples = SOUNDS[0].samples.astype(dtype)
    assert_parity(mine, RECIPE, samples)
    said = message(symmetric, RECIPE, samples)
    assert said.splitlines()[0].endswith(f"of the clip 'an array of {len(samples)} samples'")
    assert said.splitlines()[1:] == message(symmetric, RECIPE, SOUNDS[0]).splitlines()[1:]


USELESS: dict[str, tuple[object, str]] = {
    "None": (None, "it gives None: does it return its features?"),
    "nothing": ({}, "it gives nothing, without features/compressed, the recipe's features"),
    "whole numbers as taps": ({0: X, "logmel": X}, "it gives 0, logmel; the taps are features/audio,"),
    "an earlier tap alone": (
        {"features/audio": X},
        "it gives features/audio, without features/compressed, the recipe's features: give these too",
    ),
    "objects": (np.array([None, 1], object), "it gives an array of object as features/compressed: give an array of"),
    "text": ("abc", "it gives a str as features/compressed: give an array of float32"),
    "None at a tap": ({"features/compressed": None}, "it gives a NoneType as features/compressed: give an array of"),
    "ragged rows": ([[1.0], [1.0, 2.0]], "it gives a list as features/compressed, which NumPy makes no array of: "),
}


@pytest.mark.parametrize("what", USELESS)
def test_what_is_no_features_is_told_without_saying_that_it_raised(what: str) -> None:
    gives, wanted = USELESS[what]
    for clip in (SOUNDS[0], None):
        _, said, *_ = message(lambda _: gives, RECIPE, clip, examples=2).splitlines()
        assert said.startswith(wanted)


def test_a_recipe_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        assert_parity(mine, "nowhere/system.toml")


@pytest.mark.slow
def test_the_readmes_tests_run_as_typed(tmp_path: Path) -> None:
    import re
    import subprocess
    import sys

    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    rig.system(tmp_path / "my-kws")
    for name in ("test_features.py", "test_strategies.py"):
        (example,) = re.findall(rf"```python\n(# {name}\n.*?)```", readme, re.DOTALL)
        (tmp_path / name).write_text(example, encoding="utf-8")
    (tmp_path / "my_kws.py").write_text(
        "from tests.meta.test_featurizer import mine, symmetric\nfeatures = symmetric\n", encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=tmp_path,
        env=rig.environment() | {"PYTHONPATH": f"{tmp_path}:{PROJECT}"}, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "window symmetric, not periodic" in done.stdout
    assert "1 failed, 1 passed" in done.stdout
