"""PyTorch: the conformance suite in both precisions, networks that misbehave, and files that aren't weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from parity import registry
from parity.errors import ConfigError, ModelError
from parity.protocols import Artifact, Port
from parity.testing import RuntimeConformance
from tests.runtimes.models import commands_cnn


class TestTorchConformance(RuntimeConformance):
    spec = "torch"

    def artifact(self) -> Artifact:
        return commands_cnn("torch")


class TestTorchFloat64Conformance(RuntimeConformance):
    spec = "torch:dtype=float64"

    def artifact(self) -> Artifact:
        a = commands_cnn("torch")
        return dataclasses.replace(a, taps={t: dataclasses.replace(p, dtype="float64") for t, p in a.taps.items()})


NETWORK = """
import torch

class Rude(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.first = torch.nn.ReLU(inplace=True)
        self.last = torch.nn.Identity()

    def forward(self, x):
        x = self.first(x)
        x += 1.0
        return self.last(x * self.scale)
"""


@pytest.fixture
def rude(tmp_path: Path) -> Artifact:
    """A network that writes into its input, and into what a layer gave."""
    (tmp_path / "model.py").write_text(NETWORK)
    weights = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"scale": torch.ones(1)}, weights)
    taps = {"model/first": Port(name="first", layout="NTF"), "model/last": Port(name="last", layout="NTF")}
    return Artifact(
        system="rude", format="torch", precision="float32", path=str(weights), sha256="", shape=(None, 2), taps=taps,
        input=Port(name="x", layout="NTF"), network=f"{tmp_path / 'model.py'}:Rude",
    )  # fmt: skip


def test_in_place_operations_reach_neither_the_input_nor_a_tap(rude: Artifact) -> None:
    x = np.array([[[-1.0, 2.0]]], np.float32)
    x.setflags(write=False)
    with registry.create("runtime", "torch").open(rude) as session:
        got = session.run({"x": x}, frozenset(rude.taps))
    assert x.tolist() == [[[-1.0, 2.0]]]
    assert got["model/first"].tolist() == [[[0.0, 2.0]]]
    assert got["model/last"].tolist() == [[[1.0, 3.0]]]


def test_other_weights_than_the_networks_are_a_model_error(rude: Artifact) -> None:
    safetensors.torch.save_file({"scale": torch.ones(2)}, rude.path)
    with (
        pytest.raises(ModelError, match="doesn't fit its network: scale"),
        registry.create("runtime", "torch").open(rude),
    ):
        pass


def test_a_pickle_is_not_unpickled(rude: Artifact, tmp_path: Path) -> None:
    pickled = tmp_path / "weights.pt"
    torch.save(Trap(tmp_path / "sprung"), pickled)
    with (
        pytest.raises(ModelError, match="can't load"),
        registry.create("runtime", "torch").open(dataclasses.replace(rude, path=str(pickled))),
    ):
        pass
    assert not (tmp_path / "sprung").exists()


def test_a_file_that_is_no_state_dict_is_told_in_plain_words(rude: Artifact, tmp_path: Path) -> None:
    """PyTorch's own words are a number for a text, and for a pickle the advice to trust it."""
    text, pickled = tmp_path / "text.pt", tmp_path / "pickled.pt"
    text.write_text("it isn't a checkpoint")
    torch.save(Trap(tmp_path / "sprung"), pickled)
    for path in (text, pickled):
        wrong = dataclasses.replace(rude, path=str(path))
        with pytest.raises(ModelError) as e, registry.create("runtime", "torch").open(wrong):
            pass
        assert e.value.message == (
            f"PyTorch can't load {path} as a state dict: it isn't one, or holds more than plain tensors, "
            "which is not read"
        )


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("network", ["absent.py:Rude", "model.py:Absent"])
def test_no_network_is_a_model_error(rude: Artifact, tmp_path: Path, network: str) -> None:
    wrong = dataclasses.replace(rude, network=f"{tmp_path}/{network}")
    with (
        pytest.raises(ModelError, match=r"no network|has no 'Absent'"),
        registry.create("runtime", "torch").open(wrong),
    ):
        pass


def test_a_module_that_isnt_there_is_a_model_error(rude: Artifact) -> None:
    wrong = dataclasses.replace(rude, taps={"model/x": Port(name="middle", layout="NTF")})
    with pytest.raises(ModelError, match="no module 'middle'"), registry.create("runtime", "torch").open(wrong):
        pass


def test_an_unknown_dtype_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="no dtype 'float8'"):
        registry.create("runtime", "torch:dtype=float8")
