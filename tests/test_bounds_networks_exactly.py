"""Which bounds of networks a verdict goes by, to the last name and number."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity import system
from parity.bounds import networks
from parity.bounds.features import Interval
from parity.protocols import Artifact, State
from parity.testing import RECIPES

CNN = system.load(Path(__file__).resolve().parents[1] / "reference_models" / "commands-cnn")
TAP = "model/logits"


def graph(**change: Any) -> Artifact:
    found = networks.source(CNN)
    assert found is not None
    return dataclasses.replace(found, **{"ranges": None, **change})


def of(*artifacts: Artifact) -> system.System:
    return dataclasses.replace(CNN, artifacts=artifacts)


def test_the_first_float32_graph_is_the_source() -> None:
    one, two = graph(), graph(path="other.onnx")
    assert networks.source(of(graph(format="tflite"), graph(precision="float16"), one, two)) is one
    assert networks.source(of()) is None
    state = State(name="s", tap="model/s", shape=(1,))
    for change in (
        {"state": (state,)},
        {"constants": {"sr": 1}},
        {"state": (state,), "constants": {"sr": 1}},
        {"frames": 1},
    ):
        assert networks.source(of(graph(**change))) is None, change


@pytest.mark.parametrize(
    ("precision", "path", "expected"),
    [
        ("float32", "isolated", (1.0, "float32", "isolated")), ("int8", "cumulative", (1.0, "int8", "cumulative")),
        ("float32", "deployment", (2.0, "float32", "isolated")),
        ("float16", "deployment", (2.0, "float32", "isolated")),
        ("bfloat16", "deployment", (2.0, "float32", "isolated")),
        ("dynamic", "deployment", (2.0, "dynamic", "isolated")),
        ("dynamic", "features", None), ("float32", "features", None), ("int8", "deployment", None),
    ],
)  # fmt: skip
def test_the_half_width_that_a_verdict_goes_by(precision: str, path: str, expected: object) -> None:
    assert networks.held(precision, path) == expected
    artifact = graph(ranges="ranges.json")
    assert networks.derivable(of(artifact), TAP, precision, path) is (expected is not None)


def test_names() -> None:
    assert networks.name(TAP, "int8", "isolated") == "model/logits:int8:isolated"
    assert networks.precisions([graph(precision=p) for p in ("int8", "float32", "int8")]) == ["float32", "int8"]


def test_integers_are_known_by_their_ranges_only() -> None:
    without, ranged = graph(), graph(ranges="ranges.json")
    names = {p: {f"{TAP}:{p}:isolated", f"{TAP}:{p}:cumulative"} for p in ("float32", "int8")}
    every = ["int8", "nonsense", "float32"]
    assert {t for t in networks.bounded(without, every).taps if t.startswith(TAP + ":")} == names["float32"]
    found = networks.bounded(ranged, every)
    assert {t for t in found.taps if t.startswith(TAP + ":")} == names["float32"] | names["int8"]
    assert found.taps[f"{TAP}:int8:isolated"] is ranged.taps[TAP]
    assert list(found.taps)[: len(ranged.taps)] == list(ranged.taps)
    assert networks.bounded(ranged, []).taps == ranged.taps
    assert not networks.derivable(of(without), TAP, "int8", "isolated")
    assert not networks.derivable(of(ranged), TAP, "nonsense", "isolated")
    assert not networks.derivable(of(ranged), "model/none", "float32", "isolated")
    assert not networks.derivable(of(), TAP, "float32", "isolated")


def test_of_a_tap_all_its_half_widths_and_of_another_none() -> None:
    found = networks.bounded(graph(), ["float32"])
    asked = networks.wanted(iter([TAP]), found)
    assert asked == {TAP, f"{TAP}:float32:isolated", f"{TAP}:float32:cumulative"}
    assert networks.wanted(["model/none"], found) == frozenset()


def test_what_may_move_without_end_moves_nothing() -> None:
    value = np.array([[0.0, 0.0, -np.inf]])
    x = Interval(value, np.array([[-1.0, -2.0, -np.inf]]), np.array([[3.0, 0.5, -1.0]]))
    found = networks.moved(RECIPES["commands-cnn"], x)
    np.testing.assert_allclose(found, [[3.0 * networks.MOVED, 2.0 * networks.MOVED, 0.0]], rtol=1e-15)
    assert networks.moved(RECIPES["commands-cnn"], Interval(value, value, value)).tolist() == [[0.0, 0.0, 0.0]]


def test_half_widths_of_a_deployed_file_are_no_less_than_half_of_what_is_usual() -> None:
    half = np.array([3.0, 0.0, 4.0, 0.0])
    known = {f"{TAP}:float32:isolated": half, f"{TAP}:dynamic:isolated": 10.0 * half, f"{TAP}:int8:cumulative": half}
    usual = 0.5 * np.sqrt(25.0 / 4.0)
    for precision, factor in (("float32", 1.0), ("bfloat16", 1.0), ("dynamic", 10.0)):
        found = networks.half_of(known, TAP, precision, "deployment")
        np.testing.assert_allclose(found, 2.0 * factor * np.array([3.0, usual, 4.0, usual]), rtol=1e-15)
    assert networks.half_of(known, TAP, "int8", "cumulative") is half
    assert networks.half_of(known, TAP, "int8", "isolated") is None
    assert networks.half_of(known, TAP, "int8", "deployment") is None
    assert networks.half_of({}, TAP, "float32", "deployment") is None


def test_half_widths_among_what_the_runtime_gave() -> None:
    found = networks.halves({TAP: np.zeros(1), f"{TAP}:int8:isolated": np.array([0.1], np.float32)})
    assert found.keys() == {f"{TAP}:int8:isolated"}
    (half,) = found.values()
    assert half.dtype == np.float64
    assert half.tolist() == [float(np.float32(0.1))]


def test_half_widths_around_values() -> None:
    value, half = np.array([0.1, -2.0], np.float32), np.array([1e-9, 0.5])
    exact = value.astype(np.float64)
    np.testing.assert_array_equal(networks.stored(value, half), half + 2.0**-24 * np.abs(exact))
    assert networks.stored([3], np.array([0.5])).tolist() == [0.5 + 3.0 * 2.0**-24]  # type: ignore[arg-type]
    least = networks.stored(np.array([1e-38], np.float32), np.array([0.0]))
    assert least[0] == 2.0**-24 * float(np.float32(1e-38)) > 0.0
    x = networks.interval(value, half)
    assert x.value.dtype == np.float64
    np.testing.assert_array_equal(x.value, exact)
    np.testing.assert_array_equal(x.lo, exact - half)
    np.testing.assert_array_equal(x.hi, exact + half)
    assert networks.interval([3], np.array([0.5])).hi.tolist() == [3.5]  # type: ignore[arg-type]


def test_precisions_that_nothing_is_derived_for_although_the_graph_is_there() -> None:
    files = [graph(), graph(format="tflite", precision="int8"), graph(format="torch", precision="nonsense")]
    assert networks.underived(of(*files)) == ["int8", "nonsense"]
    files[0] = graph(ranges="ranges.json")
    assert networks.underived(of(*files)) == ["nonsense"]
    assert networks.underived(of(*files[1:])) == []
