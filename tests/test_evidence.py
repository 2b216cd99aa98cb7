"""What is kept of clips that fail: few, the worst among them, and read back as it was."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from parity import evidence
from parity.errors import ConfigError
from parity.evidence import Evidence, Keeper
from parity.protocols import Clip

SAMPLES = np.arange(40, dtype=np.float32) / 64


def clip(name: str) -> Clip:
    return Clip(name, SAMPLES, 16000, "ab")


def made(name: str, backend: str = "numpy", taps: int = 1) -> Evidence:
    features = {f"features/t{i}": np.full((2, 3), i, np.float32) for i in range(taps)}
    return Evidence("kws", clip(name), features=features, backend=backend)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    network = Evidence(
        "kws", clip("odd/näme.wav"), model={"model/relu1": np.zeros((3, 2, 4), np.int8)},
        fed=np.ones((98, 40), np.uint8), runtime="onnxrt:opt=off", precision="int8", path="isolated",
    )  # fmt: skip
    (tmp_path / "evidence").mkdir()
    evidence.write(tmp_path / "evidence" / "a.npz", network)
    (back,) = evidence.read(tmp_path)
    assert back.group == network.group == ("kws", "", "onnxrt:opt=off", "int8", "local", "isolated")
    assert (back.clip.name, back.clip.rate, back.clip.sha256) == ("odd/näme.wav", 16000, "ab")
    np.testing.assert_array_equal(back.clip.samples, SAMPLES)
    assert back.features == {}
    assert back.model["model/relu1"].dtype == np.int8
    assert back.fed is not None
    np.testing.assert_array_equal(back.fed, network.fed)


def test_the_worst_clip_comes_first_and_two_more_are_kept(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    for name, badness in (("a", 2.0), ("b", 3.0), ("c", 1.5), ("d", 90.0), ("e", 4.0), ("f", 1e300)):
        keeper.add(made(name), badness)
    assert [e.clip.name for e in evidence.read(tmp_path)] == ["f", "b", "a"]
    assert len(list((tmp_path / "evidence").iterdir())) == 3
    index = keeper.index()
    assert [row["clip"] for row in index] == ["f", "b", "a"]
    assert all((tmp_path / row["file"]).is_file() for row in index)
    assert index[0] | {"file": ""} == {
        "file": "", "system": "kws", "backend": "numpy", "runtime": "", "precision": "", "target": "local",
        "path": "features", "clip": "f",
    }  # fmt: skip


def test_a_clip_with_more_taps_takes_the_place_of_one_with_fewer(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    for name, taps in (("a", 1), ("b", 1), ("c", 1), ("layers", 5), ("d", 1)):
        keeper.add(made(name, taps=taps), 7.0)
    assert {e.clip.name for e in evidence.read(tmp_path)} == {"a", "b", "layers"}


def test_each_candidate_has_its_own(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    for name in "abcde":
        for backend in ("numpy", "librosa"):
            keeper.add(made(name, backend), 5.0)
    found = [(e.backend, e.clip.name) for e in evidence.read(tmp_path)]
    assert len(found) == 2 * (evidence.FIRST + 0) == 4
    assert [b for b, _ in found] == ["librosa"] * 2 + ["numpy"] * 2


def test_no_more_is_kept_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "FILES", 3)
    keeper = Keeper(tmp_path)
    for i in range(9):
        keeper.add(made(f"{i}", f"backend{i // 2}"), float(i))
    assert len(list((tmp_path / "evidence").iterdir())) == len(keeper.index()) == 3
    assert not keeper.wanted(("kws", "new", "", "", "local", "features"), 1, 9.0)


def test_bytes_are_counted_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "BYTES", 1)
    keeper = Keeper(tmp_path)
    for name in "abc":
        keeper.add(made(name), 1.0)
    assert [row["clip"] for row in keeper.index()] == ["a"]


def test_what_is_no_evidence_is_refused(tmp_path: Path) -> None:
    assert list(evidence.read(tmp_path)) == []
    folder = tmp_path / "evidence"
    folder.mkdir()
    (folder / "a.npz").write_bytes(b"not a zip")
    with pytest.raises(ConfigError, match="no evidence"):
        list(evidence.read(tmp_path))
    np.savez(folder / "a.npz", samples=SAMPLES)
    with pytest.raises(ConfigError, match="no evidence"):
        list(evidence.read(tmp_path))
    np.savez(folder / "a.npz", about=np.array([object()]))
    with pytest.raises(ConfigError, match="no evidence"):
        list(evidence.read(tmp_path))


def test_a_target_is_a_candidate_of_its_own(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    for name in "abcde":
        for target in ("pi", "local"):
            keeper.add(dataclasses.replace(made(name), target=target), 5.0)
    assert [(e.target, e.clip.name) for e in evidence.read(tmp_path)] == [
        ("local", "a"), ("local", "b"), ("pi", "a"), ("pi", "b"),
    ]  # fmt: skip
    assert {row["target"] for row in keeper.index()} == {"local", "pi"}


def test_evidence_of_before_there_were_targets_is_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "evidence").mkdir()
    path = tmp_path / "evidence" / "a.npz"
    evidence.write(path, made("a"))
    with np.load(path) as found:
        arrays = {k: found[k] for k in found.files}
    about = json.loads(str(arrays.pop("about")))
    del about["target"]
    np.savez(path, about=np.array(json.dumps(about)), **arrays)
    (back,) = evidence.read(tmp_path)
    assert back.target == "local"
