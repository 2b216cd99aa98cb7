"""Which bounds of networks are derived, and that nobody declares one that is."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity import system
from parity.bounds import networks
from parity.bounds.features import Interval
from parity.networks.arithmetic import PRECISIONS
from parity.testing import RECIPES

ROOT = Path(__file__).resolve().parents[1]
CNN = system.load(ROOT / "reference_models" / "commands-cnn")


def derivable() -> Iterator[dict[str, str]]:
    """Every tap of every committed file whose bound follows from arithmetic."""
    for of in system.find(()):
        for artifact in (*of.files, *of.unbuilt):
            for tap in artifact.taps:
                for path in ("isolated", "cumulative", "deployment"):
                    if networks.derivable(of, tap, artifact.precision, path):
                        yield {"system": of.name, "precision": artifact.precision, "path": path, "tap": tap}


def covers(rule: dict[str, Any], what: dict[str, str]) -> bool:
    return all(fnmatchcase(value, rule.get(key, "*")) for key, value in what.items())


def test_no_rule_is_declared_for_what_is_derived() -> None:
    rules = tomllib.loads((ROOT / "golden" / "tolerances.toml").read_text(encoding="utf-8"))["tolerance"]
    every = list(derivable())
    assert {w["precision"] for w in every} >= {"float32", "float16"}
    declared = [(rule, what) for rule in rules for what in every if covers(rule, what)]
    assert declared == []


def test_a_rule_for_what_is_derived_would_be_seen() -> None:
    what = {"system": "commands-cnn", "precision": "float32", "path": "isolated", "tap": "model/logits"}
    assert what in list(derivable())
    assert covers({"system": "commands-*", "tap": "model/*", "of_rms": 1.0}, what)


def test_what_has_no_float_graph_is_declared() -> None:
    foreign = system.load(ROOT / "tests" / "foreign" / "micro_speech_int8")
    assert networks.source(foreign) is None
    (artifact,) = {a.precision: a for a in (*foreign.artifacts, *foreign.unbuilt)}.values()
    assert not networks.derivable(foreign, foreign.taps[-1], artifact.precision, "isolated")


def test_how_kernels_round_integers_is_declared() -> None:
    assert networks.held("int8", "isolated") == (1.0, "int8", "isolated")
    assert networks.held("int8", "deployment") is None


def test_a_file_of_floats_and_its_kernels_each_round_in_float32() -> None:
    half = np.array([1.0, 0.0])
    name = networks.name("model/x", "float32", "isolated")
    found = networks.half_of({name: half}, "model/x", "float16", "deployment")
    # A channel that is off in the trained network may be on in the file.
    assert found is not None
    np.testing.assert_allclose(found, [2.0, np.sqrt(0.5)])
    assert networks.half_of({name: half}, "model/x", "float32", "isolated") is half
    assert networks.half_of({}, "model/x", "float32", "isolated") is None


def test_half_widths_stand_beside_the_taps_asked_for() -> None:
    artifact = networks.source(CNN)
    assert artifact is not None
    bounded = networks.bounded(artifact, ["float32", "nonsense"])
    assert "nonsense" not in PRECISIONS
    wanted = networks.wanted({"model/logits"}, bounded)
    assert wanted == {"model/logits", "model/logits:float32:isolated", "model/logits:float32:cumulative"}


def test_features_move_by_their_spread() -> None:
    frontend = RECIPES["commands-cnn"]
    x = Interval(np.zeros((1, 3)), np.array([[-1.0, -2.0, -np.inf]]), np.array([[1.0, 0.5, 1.0]]))
    np.testing.assert_allclose(networks.moved(frontend, x), [[networks.MOVED, 2 * networks.MOVED, 0.0]])


def test_quantized_features_move_by_a_step_or_not_at_all() -> None:
    frontend = next(f for f in RECIPES.values() if f.quantize is not None)
    x = Interval(np.array([[3.0, 4.0]]), np.array([[2.0, 4.0]]), np.array([[3.0, 4.0]]))
    np.testing.assert_array_equal(networks.moved(frontend, x), [[1.0, 0.0]])


@pytest.mark.parametrize("change", [{"precision": "int8"}, {"format": "tflite"}, {"frames": 3}])
def test_only_a_float32_graph_of_whole_clips_is_a_source(change: dict[str, Any]) -> None:
    artifact = networks.source(CNN)
    assert artifact is not None
    assert networks.source(dataclasses.replace(CNN, artifacts=(dataclasses.replace(artifact, **change),))) is None


def test_a_golden_that_stores_float32_gives_half_an_ulp() -> None:
    np.testing.assert_allclose(networks.stored(np.float32([4.0]), np.array([0.0])), [4.0 * 2.0**-24])
