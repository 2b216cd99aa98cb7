"""The conformance suite on a network with a memory: an answer must not depend on what was run before."""

from __future__ import annotations

import pytest

from parity.protocols import Artifact
from parity.testing import RuntimeConformance
from tests.runtimes import models


class TestRecurrentOnTorch(RuntimeConformance):
    spec = "torch"

    def artifact(self) -> Artifact:
        return models.of("mfcc-lstm", "torch")


class TestRecurrentOnOnnx(RuntimeConformance):
    spec = "onnxrt"

    def artifact(self) -> Artifact:
        return models.of("mfcc-lstm", "onnx")


class TestRecurrentOnTflite(RuntimeConformance):
    spec = "tflite"

    def artifact(self) -> Artifact:
        return models.of("mfcc-lstm", "tflite")


@pytest.mark.parametrize("resolver", ["builtin", "reference"])
class TestRecurrentOnTfliteKernels:
    def test_they_agree_with_the_trained_network(self, resolver: str) -> None:
        suite = TestRecurrentOnTflite()
        suite.spec = f"tflite:resolver={resolver}"
        suite.test_agrees_with_the_trained_network()
