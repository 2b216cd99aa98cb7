"""torch.export's files: the conformance suite, in-place operators, and files that aren't such."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from parity import registry  # noqa: E402 - they need torch
from parity.errors import ModelError  # noqa: E402
from parity.protocols import Artifact, Port  # noqa: E402
from parity.testing import RuntimeConformance  # noqa: E402
from tests.runtimes.models import commands_cnn  # noqa: E402


class TestTorchExportConformance(RuntimeConformance):
    spec = "torch-export"

    def artifact(self) -> Artifact:
        return commands_cnn("torch-export")


class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.ReLU(inplace=True)
        self.last = torch.nn.Softplus()

    def forward(self, x: object) -> object:
        y = self.first(x)
        y += 1.0
        return self.last(y) * 2.0


X = np.array([[[-1.0, 2.0]]], np.float32)


@pytest.fixture
def small(tmp_path: Path) -> Artifact:
    path = tmp_path / "small.pt2"
    torch.export.save(torch.export.export(Net().eval(), (torch.tensor(X),)), path)
    names = {"first": "first", "last": "last", "logits": "output"}
    return dataclasses.replace(
        commands_cnn("torch-export"), path=str(path), shape=(None, 2), input=Port(name="x", layout="NTF"),
        taps={f"model/{tap}": Port(name=name, layout="NTF") for tap, name in names.items()},
    )  # fmt: skip


def test_a_tap_is_what_its_module_gave_not_what_was_done_to_it_later(small: Artifact) -> None:
    with registry.create("runtime", "torch-export").open(small) as session:
        got = session.run({"x": X}, frozenset(small.taps))
    assert got["model/first"].tolist() == [[[0.0, 2.0]]]
    right = np.log1p(np.exp([[[1.0, 3.0]]]))
    assert np.allclose(got["model/last"], right, atol=1e-6)
    assert np.allclose(got["model/logits"], 2 * right, atol=1e-6)
    assert X.tolist() == [[[-1.0, 2.0]]]


def test_a_module_that_the_file_lacks_is_named_with_those_it_has(small: Artifact) -> None:
    wrong = dataclasses.replace(small, taps={"model/first": Port(name="frist", layout="NTF")})
    with (
        pytest.raises(ModelError, match="no module 'frist'") as e,
        registry.create("runtime", "torch-export").open(wrong),
    ):
        pass
    assert "first, last" in str(e.value.hint)
