"""The committed networks in the format of a runtime; TensorFlow Lite files that have a memory of their own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity import system
from parity.protocols import Artifact, Port
from tests.conftest import PROJECT


def of(name: str, form: str) -> Artifact:
    """The float32 file of a committed system in a format."""
    found = system.load(PROJECT / "reference_models" / name)
    return next(a for a in found.artifacts if a.format == form and a.precision == "float32")


def commands_cnn(form: str) -> Artifact:
    """The float32 file of commands-cnn in a format."""
    return of("commands-cnn", form)


def names_of(model: Path) -> tuple[str, str]:
    """The names of a model's only input and output."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model))
    return interpreter.get_input_details()[0]["name"], interpreter.get_output_details()[0]["name"]


def _artifact(path: Path, data: bytes, layout: str) -> Artifact:
    path.write_bytes(data)
    tensor, output = names_of(path)
    return Artifact(
        system="remembers", format="tflite", precision="float32", path=str(path), shape=(5, 9),
        sha256=hashlib.sha256(data).hexdigest(), input=Port(name=tensor, layout=layout),
        taps={"model/logits": Port(name=output, layout="NC")},
    )  # fmt: skip


def resource_variable(path: Path) -> Artifact:
    """A mean that decays from call to call, in a variable of TensorFlow's."""
    tf = pytest.importorskip("tensorflow")

    class Decays(tf.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.v = tf.Variable(tf.zeros([1, 9]))

        @tf.function(input_signature=[tf.TensorSpec([1, 5, 9], tf.float32, name="x")])  # type: ignore[misc]
        def __call__(self, x: Any) -> Any:
            self.v.assign(0.5 * self.v + tf.reduce_mean(x, 1))
            return self.v.read_value() * 1.0

    made = Decays()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([made.__call__.get_concrete_function()], made)
    converter.experimental_enable_resource_variables = True
    return _artifact(path, converter.convert(), "NTF")


def variable_tensor(path: Path) -> Artifact:
    """One SVDF of 4 filters that remembers 3 inputs of 45 numbers, in a variable tensor."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    random = np.random.default_rng(0)
    model, graph, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
    model.version, model.buffers, graph.tensors = 3, [schema.BufferT()], []
    shapes = {"x": (1, 45), "feature": (4, 45), "time": (4, 3), "bias": (4,), "state": (1, 12), "y": (1, 4)}
    for name, shape in shapes.items():
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), schema.TensorType.FLOAT32, 0
        tensor.isVariable = name == "state"
        if name in ("feature", "time", "bias"):
            buffer = schema.BufferT()
            buffer.data = random.normal(size=shape).astype(np.float32).tobytes()
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(tensor)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SVDF
    code.version = 1
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2, 3, 4], [5]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.SVDFOptions, schema.SVDFOptionsT()
    operator.builtinOptions.rank = 1
    graph.inputs, graph.outputs, graph.operators = [0], [5], [operator]
    model.operatorCodes, model.subgraphs = [code], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return _artifact(path, bytes(builder.Output()), "N(TF)")
