"""The mel40 systems are the published ones as far as these are known: recipe, labels, sizes, shapes inside."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from parity import system as systems
from parity.testing.recipes import RECIPES

# What was published to two digits, and what our own networks have exactly.
PARAMETERS = {
    "mel40-mobilenetv2": ("0.06", 61_596),
    "mel40-resnet18": ("11.18", 11_176_396),
    "mel40-shufflenetv2": ("0.35", 353_660),
}
LABELS = ("unknown", "silence", "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


def network(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"tested_{folder.name.replace('-', '_')}", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", PARAMETERS)
def test_recipe_and_labels(name: str, project: Path) -> None:
    of = systems.load(project / "reference_models" / name)
    assert of.frontend.digest == RECIPES["mel40"].digest  # one recipe: their features are kept once
    assert of.frontend.frames(16000) == 32
    assert of.labels == LABELS == network(of.folder).LABELS
    assert not of.not_built or name == "mel40-resnet18"  # too large to be committed


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes(name: str, project: Path) -> None:
    built = network(project / "reference_models" / name).build().eval()
    published, exact = PARAMETERS[name]
    assert sum(p.numel() for p in built.parameters()) == exact
    assert f"{exact / 1e6:.2f}" == published
    with torch.inference_mode():
        assert built(torch.zeros(2, 1, 40, 32)).shape == (2, 12)


def test_the_shuffle_interleaves_the_halves(project: Path) -> None:
    module = network(project / "reference_models" / "mel40-shufflenetv2")
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert module.shuffled(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]
