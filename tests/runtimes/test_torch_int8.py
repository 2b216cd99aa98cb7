"""PyTorch's int8 engines: the conformance suite, the definition that they are held to, and engines side by side."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from parity import registry, system  # noqa: E402 - they need torch
from parity.errors import ConfigError, ModelError  # noqa: E402
from parity.protocols import Array, Artifact, Unsupported  # noqa: E402
from parity.runtimes.torch_int8_reference import evaluate, quantized  # noqa: E402
from parity.testing import RuntimeConformance  # noqa: E402
from tests.conftest import PROJECT  # noqa: E402

# TorchScript's own deprecation, and that of tensors with quantized dtypes.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*quantize.*:UserWarning"),
]
ENGINES = ("qnnpack", "x86")


def of(engine: str, name: str = "commands-cnn") -> Artifact:
    found = system.load(PROJECT / "reference_models" / name)
    if engine not in torch.backends.quantized.supported_engines:
        pytest.skip(f"PyTorch has no engine {engine} here")
    return next(a for a in found.artifacts if a.precision == f"{engine}-int8")


class TestQnnpackConformance(RuntimeConformance):
    spec = "torch-int8"
    clip = "chirp.flac"

    def artifact(self) -> Artifact:
        return of("qnnpack")


class TestX86Conformance(TestQnnpackConformance):
    def artifact(self) -> Artifact:
        return of("x86", "mel40-mobilenetv2")

    def features(self, seed: int = 0) -> Array:
        """Decibels below the clip's maximum, smooth as those of speech are."""
        rng = np.random.default_rng(seed)
        x = np.cumsum(rng.normal(0.0, 4.0, (32, 1)), axis=0) + np.linspace(0.0, -30.0, 40) + rng.normal(0, 4, (32, 40))
        return np.maximum(x - x.max(), -80.0).astype(np.float32)


def features(seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-6.0, 1.0, (1, 1, 98, 50)).astype(np.float32)


def integers(spec: str, artifact: Artifact, x: Array) -> dict[str, Array]:
    with registry.create("runtime", spec).open(artifact) as session:
        found: dict[str, Array] = session.run({"features": x}, frozenset(artifact.taps))
        assert all(session.tensors[t].scale > 0 for t in found)
        return found


@pytest.mark.parametrize("engine", ENGINES)
def test_taps_are_integers_and_the_engine_is_near_the_definition(engine: str) -> None:
    a = of(engine)
    fast, exact = (integers(spec, a, features()) for spec in ("torch-int8", "torch-int8:kernels=reference"))
    for tap in a.taps:
        assert fast[tap].dtype == exact[tap].dtype == np.uint8
        assert np.abs(fast[tap].astype(int) - exact[tap]).max() <= 3, tap
    assert any((fast[t] != exact[t]).any() for t in a.taps) or engine == "x86"  # two computations, not one


def test_engines_work_side_by_side() -> None:
    one, other = of("qnnpack"), of("x86")
    alone = [integers("torch-int8", a, features()) for a in (one, other)]
    runtime = registry.create("runtime", "torch-int8")
    with runtime.open(one) as first, runtime.open(other) as second:
        for session, artifact, right in ((first, one, alone[0]), (second, other, alone[1]), (first, one, alone[0])):
            got = session.run({"features": features()}, frozenset(artifact.taps))
            assert all((got[t] == right[t]).all() for t in right)


def test_what_names_no_engine_or_one_that_is_not_there_is_refused() -> None:
    runtime, a = registry.create("runtime", "torch-int8"), of("x86")
    told = runtime.supports(dataclasses.replace(a, precision="int8"))
    assert isinstance(told, Unsupported)
    assert "names no engine" in told.reason
    assert (
        registry.create("runtime", "torch-int8:engine=x86").supports(dataclasses.replace(a, precision="int8")) is None
    )
    for wrong in ("engine=tpu", "kernels=slow"):
        with pytest.raises(ConfigError, match=wrong.partition("=")[2]):
            registry.create("runtime", f"torch-int8:{wrong}")


def test_numbers_are_rounded_to_the_nearest_even_step_and_clipped() -> None:
    q = quantized(torch.tensor([0.25, 0.75, -9.0, 99.0, 0.26]), 0.5, 10)
    assert q.int_repr().tolist() == [10, 12, 0, 208, 11]
    assert quantized(torch.tensor([999.0]), 0.5, 10).int_repr().tolist() == [255]


def test_an_operator_without_a_definition_is_named() -> None:
    class Odd(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return torch.ops.quantized.mul_scalar(torch.quantize_per_tensor(x, 0.1, 0, torch.quint8), 2.0).dequantize()

    traced = torch.jit.trace(Odd(), (torch.ones(2),))
    with pytest.raises(ModelError, match="quantized::mul_scalar"):
        evaluate(traced, torch.ones(2), ())
