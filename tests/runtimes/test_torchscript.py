"""TorchScript: the conformance suite, nested and in-place modules, tuples, and files that aren't TorchScript."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from parity import registry
from parity.errors import ModelError
from parity.protocols import Artifact, Port
from parity.runtimes import torchscript
from parity.testing import RuntimeConformance
from tests.runtimes.models import commands_cnn

# TorchScript's own deprecation, of every torch.jit function.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


class TestTorchScriptConformance(RuntimeConformance):
    spec = "torchscript"

    def artifact(self) -> Artifact:
        return commands_cnn("torchscript")


class Block(torch.nn.Module):
    """Its first layer works in place, and so does the block itself, on what that layer gave."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.ReLU(inplace=True)
        self.last = torch.nn.Softplus()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        y += 1.0
        return self.last(y)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()
        self.unused = torch.nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z: torch.Tensor = self.block(x)
        return z * 2.0


class Two(Net):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        return x + 1.0, super().forward(x)


X = np.array([[[-1.0, 2.0]]], np.float32)
X.setflags(write=False)


def traced(net: torch.nn.Module, path: Path, **taps: str) -> Artifact:
    """A file of a network, with taps at these names."""
    torch.jit.save(torch.jit.trace(net, (torch.tensor(X),)), path)
    return Artifact(
        system="small", format="torchscript", precision="float32", path=str(path), shape=(None, 2), network=None,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(), input=Port(name="x", layout="NTF"),
        taps={f"model/{tap}": Port(name=name.replace("_", "."), layout="NTF") for tap, name in taps.items()},
    )  # fmt: skip


def test_layers_of_layers_and_in_place_operations(tmp_path: Path) -> None:
    made = traced(Net(), tmp_path / "net.pt", first="block.first", last="block.last", block="block", out="output")
    with registry.create("runtime", "torchscript").open(made) as session:
        got = session.run({"x": X}, frozenset(made.taps))
        alone = session.run({"x": X}, frozenset({"model/first"}))
    right = np.log1p(np.exp(np.array([[[1.0, 3.0]]])))
    assert X.tolist() == [[[-1.0, 2.0]]]
    assert got["model/first"].tolist() == alone["model/first"].tolist() == [[[0.0, 2.0]]]
    for tap, value in (("model/last", right), ("model/block", right), ("model/out", 2.0 * right)):
        np.testing.assert_allclose(got[tap], value, rtol=1e-6)


def test_each_tensor_of_a_tuple_has_a_name(tmp_path: Path) -> None:
    made = traced(Two(), tmp_path / "two.pt", one="output.0", two="output.1", last="block.last")
    with registry.create("runtime", "torchscript").open(made) as session:
        got = session.run({"x": X}, frozenset(made.taps))
    assert got["model/one"].tolist() == [[[0.0, 3.0]]]
    np.testing.assert_array_equal(got["model/two"], 2.0 * got["model/last"])


@pytest.mark.parametrize(
    ("net", "name", "said"),
    [(Two(), "output", "gives 2 tensors"), (Two(), "output.2", "gives 2 tensors"), (Net(), "output.1", "1 tensors")],
)
def test_an_output_that_isnt_there_is_a_model_error(net: torch.nn.Module, name: str, said: str, tmp_path: Path) -> None:
    made = traced(net, tmp_path / "net.pt", out=name)
    with registry.create("runtime", "torchscript").open(made) as session, pytest.raises(ModelError) as e:
        session.run({"x": X}, frozenset(made.taps))
    assert said in e.value.message
    assert repr(name) in e.value.message


@pytest.mark.parametrize("name", ["middle", "unused", "bloc", ""])
def test_a_module_that_isnt_there_or_isnt_run_is_a_model_error_that_names_those_that_are(
    name: str, tmp_path: Path
) -> None:
    made = traced(Net(), tmp_path / "net.pt", x=name)
    with pytest.raises(ModelError, match="no module") as e, registry.create("runtime", "torchscript").open(made):
        pass
    assert "block.first" in (e.value.hint or "")


def test_asking_for_layers_runs_the_deployed_file_for_its_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[str]] = []
    real = torchscript._with_outputs

    def spy(model: object, modules: list[str]) -> object:
        made.append(modules)
        return real(model, modules)

    monkeypatch.setattr(torchscript, "_with_outputs", spy)
    artifact, x = commands_cnn("torchscript"), np.zeros((1, 1, 98, 50), np.float32)
    with registry.create("runtime", "torchscript").open(artifact) as session:
        session.run({"features": x}, frozenset({"model/logits"}))
        assert made == []
        session.run({"features": x}, frozenset(artifact.taps))
        session.run({"features": x}, frozenset({"model/relu1"}))
    assert made == [["pool5", "relu1", "relu2", "relu3", "relu4", "relu5"]]


@pytest.fixture
def sprung(tmp_path: Path) -> Iterator[Path]:
    """A file that isn't there, and must not be afterwards."""
    yield tmp_path / "sprung"
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["zip", "legacy", "planted"])
def test_a_pickle_is_not_unpickled(form: str, sprung: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    if form == "planted":
        # A real TorchScript file whose data.pkl is another.
        whole = traced(Net(), tmp_path / "net.pt", out="output")
        pickled = tmp_path / "pickled.pt"
        torch.save(Trap(sprung), pickled)
        (evil,) = (d for n, d in records(pickled) if n.endswith("/data.pkl"))
        with zipfile.ZipFile(path, "w") as z:
            for name, data in records(Path(whole.path)):
                z.writestr(name, evil if name.endswith("/data.pkl") else data)
    else:
        torch.save(Trap(sprung), path, _use_new_zipfile_serialization=form == "zip")
    made = dataclasses.replace(commands_cnn("torchscript"), path=str(path))
    with pytest.raises(ModelError, match="can't load"), registry.create("runtime", "torchscript").open(made):
        pass


def records(path: Path) -> list[tuple[str, bytes]]:
    """The files in a zip file."""
    with zipfile.ZipFile(path) as z:
        return [(name, z.read(name)) for name in z.namelist()]


def test_the_committed_file_holds_no_path_of_the_machine_that_made_it() -> None:
    for name, data in records(Path(commands_cnn("torchscript").path)):
        assert "debug_pkl" not in name
        assert b".py" not in data
