"""The files that a stream runs on: the network for a few frames at a time, its state an input and an output.

ONNX takes any number of frames, TensorFlow Lite one. `export.py` holds both to PyTorch.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping

import keras
import numpy as np
import onnx
import tensorflow as tf
import torch
import twin
from keras import layers
from model import BANDS, UNITS, Stream
from tensorflow.lite.tools import flatbuffer_utils

STATE = (2, 1, UNITS)  # layers, batch, units


def to_onnx(network: Stream, opset: int) -> bytes:
    """Export: inputs ``features`` [1, T, 40] and ``state``, outputs ``frames`` [1, T, classes] and ``next_state``."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of the exporter
        torch.onnx.export(
            network, (torch.zeros(1, 3, BANDS), torch.zeros(STATE)), buffer, dynamo=False, opset_version=opset,
            input_names=["features", "state"], output_names=["frames", "next_state"],
            dynamic_axes={"features": {1: "frames"}, "frames": {1: "frames"}},
        )  # fmt: skip
    network.eval()
    model = onnx.load_from_string(buffer.getvalue())
    for node in model.graph.node:
        node.doc_string = ""  # may hold source paths of this machine
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def to_tflite(state: Mapping[str, np.ndarray]) -> bytes:
    """Convert a Keras twin for one frame: inputs and outputs of the ONNX file's names."""
    features = keras.Input(batch_shape=(1, 1, BANDS), name="features", dtype="float32")
    before = keras.Input(batch_shape=STATE, name="state", dtype="float32")
    x, after = features, []
    for i, name in enumerate(twin.GRUS):
        one = layers.GRU(UNITS, return_sequences=True, return_state=True, reset_after=True, unroll=True, name=name)
        x, left = one(x, initial_state=before[i])
        one.set_weights(twin.gru_weights(state, name))
        after.append(left)
    dense = layers.Dense(state["fc.bias"].shape[0], name="fc")
    frames = dense(x)
    dense.set_weights([state["fc.weight"].T, state["fc.bias"]])
    model = keras.Model([features, before], {"frames": frames, "next_state": keras.ops.stack(after)})
    with contextlib.redirect_stdout(io.StringIO()):  # Keras tells where its temporary folder is
        data = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    return with_plain_names(data)


def with_plain_names(data: bytes) -> bytes:
    """Name the tensors of inputs and outputs as the signature does; the converter's own names follow its version."""
    file = flatbuffer_utils.convert_bytearray_to_object(bytearray(data))
    (graph,) = file.subgraphs
    (signature,) = file.signatureDefs
    for entry in [*signature.inputs, *signature.outputs]:
        graph.tensors[entry.tensorIndex].name = entry.name
    return bytes(flatbuffer_utils.convert_object_to_bytearray(file))
