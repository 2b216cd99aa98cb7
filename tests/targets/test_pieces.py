"""A clip run through a file piece by piece: state, context and constants, held to what the whole would give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from parity.protocols import Artifact, Port, State, Taps
from parity.targets.pieces import InPieces, remembers

STATE = (State(name="h", tap="model/h", shape=(1, 1)),)
TAPS = {"model/sum": Port(name="sum", layout="TC"), "model/h": Port(name="hN", layout="NC")}


def artifact(**more: Any) -> Artifact:
    usual: dict[str, Any] = {
        "system": "s", "format": "onnx", "precision": "float32", "path": "p", "sha256": "", "taps": TAPS,
        "input": Port(name="x", layout="TF"), "shape": (None, 4), "frames": 1, "state": STATE,
    }  # fmt: skip
    return Artifact(**usual | more)


class Adds:
    """Adds up all that it was ever given, times `gain`."""

    tensors: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.given: list[dict[str, Any]] = []
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def run(self, inputs: Mapping[str, Any], taps: frozenset[str]) -> Taps:
        self.given.append(dict(inputs))
        gain = inputs.get("gain", np.asarray(1.0))
        h = inputs.get("h", np.zeros((1, 1), np.float32)) + gain * inputs["x"].sum(dtype=np.float32)
        return {"model/sum": np.repeat(h, len(inputs["x"]), axis=0), "model/h": h}


X = np.arange(20, dtype=np.float32).reshape(5, 4)


def test_the_state_is_handed_on_and_starts_from_zero_with_every_clip() -> None:
    session = InPieces(Adds(), artifact())
    for _ in range(2):
        got = session.run({"x": X}, frozenset({"model/sum", "model/h"}))
        assert set(got) == {"model/sum"}, "a state lies between pieces: a clip has none"
        np.testing.assert_array_equal(got["model/sum"][:, 0], X.sum(axis=1).cumsum())


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 9])
def test_pieces_of_any_size_end_alike(frames: int) -> None:
    got = InPieces(Adds(), artifact(frames=frames)).run({"x": X}, frozenset({"model/sum"}))
    assert got["model/sum"].shape == (5, 1)
    assert got["model/sum"][-1, 0] == X.sum()


def test_what_stood_before_a_frame_is_put_in_front_of_it() -> None:
    inner = Adds()
    InPieces(inner, artifact(context=2)).run({"x": X}, frozenset({"model/sum"}))
    pieces = np.concatenate([g["x"] for g in inner.given])
    np.testing.assert_array_equal(pieces[:, 2:], X)
    np.testing.assert_array_equal(pieces[:, :2], np.concatenate([np.zeros((1, 2)), X[:-1, -2:]]))


def test_numbers_go_in_with_every_piece_and_a_file_is_told_to_forget_once_a_clip() -> None:
    inner = Adds()
    InPieces(inner, artifact(state=(), constants={"gain": 2.0, "rate": 16000}, reset="forget")).run(
        {"x": X}, frozenset({"model/sum"})
    )
    assert inner.resets == 1
    assert {(float(g["gain"]), g["gain"].dtype.name) for g in inner.given} == {(2.0, "float32")}
    assert {(int(g["rate"]), g["rate"].dtype.name) for g in inner.given} == {(16000, "int64")}


def test_only_a_file_that_remembers_is_run_in_pieces() -> None:
    assert remembers(artifact())
    assert remembers(artifact(state=(), reset="forget"))
    assert not remembers(artifact(state=()))


def test_a_file_of_any_number_of_frames_takes_the_clip_in_one_piece() -> None:
    inner = Adds()
    got = InPieces(inner, artifact(frames=None)).run({"x": X}, frozenset({"model/sum"}))
    assert [g["x"].shape for g in inner.given] == [(5, 4)]
    assert inner.given[0]["h"].shape == (1, 1), "its state is zeros"
    assert got["model/sum"][-1, 0] == X.sum()
