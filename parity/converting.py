"""A network as the bytes of each file that it is deployed in: the same bytes for the same weights, on any machine."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import onnx
import tensorflow as tf
import torch
from tensorflow.lite.tools import flatbuffer_utils

from parity.protocols import Array, Tap

OPSET = 17
Dynamic = Mapping[int, str]
"""Axes of a tensor that may have any size in the ONNX file, by name."""


def to_onnx(
    network: torch.nn.Module, example: Array, output: str, dynamic: Dynamic, dynamic_output: Dynamic, opset: int = OPSET
) -> bytes:
    """Export with the older exporter (input ``features``, output as named), the same bytes for the same weights."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of the exporter; traced conditions on fixed shapes
        torch.onnx.export(
            network, (torch.from_numpy(example),), buffer, dynamo=False, opset_version=opset,
            input_names=["features"], output_names=[output],
            dynamic_axes={"features": dict(dynamic), output: dict(dynamic_output)},
        )  # fmt: skip
    network.eval()  # the export may leave the network in training mode
    assert not any(module.training for module in network.modules())
    model = onnx.load_from_string(buffer.getvalue())
    for node in model.graph.node:
        node.doc_string = ""  # may hold source paths of this machine
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def to_torchscript(network: torch.nn.Module, example: Array) -> bytes:
    """Trace: TorchScript code and weights, the same bytes for the same network.

    What torch.jit.save adds for debugging is left out: it holds source paths of this machine.
    """
    traced = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of TorchScript; traced conditions on fixed shapes
        torch.jit.save(torch.jit.trace(network, (torch.from_numpy(example),)), traced)
    traced.seek(0)
    records, lean = torch._C.PyTorchFileReader(traced), io.BytesIO()
    writer = torch._C.PyTorchFileWriter(lean)
    own = ("version", "byteorder", ".data/serialization_id")  # the writer's to write
    for name in records.get_all_records():
        if name not in own and not name.endswith(".debug_pkl"):
            data = records.get_record(name)
            writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    return lean.getvalue()


def to_pt2(network: torch.nn.Module, example: Array) -> bytes:
    """Export by torch.export for inputs of the example's shape, without this machine's source paths."""
    program = torch.export.export(network, (torch.from_numpy(example),))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def of_one(model: keras.Model) -> keras.Model:
    """The twin for a batch of one: what is converted has a fixed shape."""
    fixed = keras.models.clone_model(
        model, input_tensors=keras.Input(batch_shape=(1, *model.input.shape[1:]), name="features", dtype="float32")
    )
    fixed.set_weights(model.get_weights())
    return fixed


def to_tflite(fixed: keras.Model, taps: Sequence[Tap]) -> bytes:
    """Convert a network of fixed shape to float32 TensorFlow Lite."""
    # from_keras_model freezes the weights. from_saved_model and from_concrete_functions left variables
    # in the file that nothing sets (Keras 3.15, TensorFlow 2.21): LiteRT then answers NaN, without an error.
    with contextlib.redirect_stdout(io.StringIO()):  # Keras tells where its temporary folder is
        data = tf.lite.TFLiteConverter.from_keras_model(fixed).convert()
    return with_plain_names(data, [t.rpartition("/")[2] for t in taps])


def with_plain_names(data: bytes, layers: Sequence[str]) -> bytes:
    """Name the tensors at ``features`` and the layers by their layer, and the signature's output by the last of them.

    The converter fuses convolution, batch normalization and ReLU into one operator; its output is the ReLU's.
    Its own name for that tensor strings together all that was fused, differs from the bias' name by one
    character, and may change with the versions of Keras and TensorFlow. Where a layer became many operators
    (an LSTM, unrolled), the last one gives its output. Operators and weights are kept.
    """
    file = flatbuffer_utils.convert_bytearray_to_object(bytearray(data))
    (graph,) = file.subgraphs
    (signature,) = file.signatureDefs
    names = {int(graph.inputs[0]): "features", int(graph.outputs[0]): layers[-1]}
    for operator in reversed(graph.operators):
        if operator.inputs is not None and all(
            file.buffers[graph.tensors[i].buffer].data is not None for i in operator.inputs
        ):
            continue  # unpacks weights (float16); what the converter fused is in their names too
        # "commands_cnn_1/relu1_1/Relu;commands_cnn_1/bn1_1/batchnorm/add_1;..." -> {"relu1", "bn1", ...}
        output = int(operator.outputs[0])
        paths = [path.split("/") for path in graph.tensors[output].name.decode().split(";")]
        found = {path[1].removesuffix("_1") for path in paths if len(path) > 2}
        for layer in found & set(layers) - set(names.values()):
            names.setdefault(output, layer)
    if sorted(names.values()) != sorted({"features", *layers}):
        raise SystemExit(f"the converter made other operators than expected: {sorted(names.values())}")
    for index, name in names.items():
        graph.tensors[index].name = name.encode()
    signature.outputs[0].name = layers[-1].encode()
    return bytes(flatbuffer_utils.convert_object_to_bytearray(file))


def versions(names: Sequence[str]) -> dict[str, str]:
    """Return the installed versions of the named packages."""
    return {name: version(name) for name in names}


def tensorflow() -> str:
    """Return the name TensorFlow is installed under."""
    try:
        version("tensorflow")
    except PackageNotFoundError:
        return "tensorflow-cpu"
    return "tensorflow"
