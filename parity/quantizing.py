"""From a trained reference model to files of fewer bits: float16, dynamic range and full int8.

Full int8 is calibrated on real clips of speakers that the network was trained on. Beside each file stands the float32
one that it was made from; how far the two may lie apart is judged by `parity run`, not here.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
from onnxruntime import quantization

from parity import layout
from parity.protocols import Array

CALIBRATED = ("int8", "uint8")
"""Precisions whose ranges come from real clips."""
_IO = {"int8": tf.int8, "uint8": tf.uint8}


def to_tflite(fixed: keras.Model, precision: str, axes: str, examples: Sequence[Array] = ()) -> bytes:
    """Convert a network of fixed shape to TensorFlow Lite of a precision; `examples` calibrate int8 and uint8.

    float16 keeps weights in half precision; dynamic keeps them in int8 and the rest in float32; int8 and uint8 do
    everything in integers, input and output too.
    """
    converter = tf.lite.TFLiteConverter.from_keras_model(fixed)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    elif precision in _IO:
        converter.representative_dataset = lambda: ([layout.native(x, axes).astype(np.float32)] for x in examples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = _IO[precision]
    elif precision != "dynamic":
        raise SystemExit(f"TensorFlow Lite has no precision {precision!r} here")
    # Keras tells where its temporary folder is; the converter that calibration without known statistics is fine.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bytes(converter.convert())


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, inputs: Iterator[Array]) -> None:
        self._inputs = inputs

    def get_next(self) -> dict[str, Any] | None:
        x = next(self._inputs, None)
        return None if x is None else {"features": x}


def to_onnx_int8(float_model: bytes, axes: str, examples: Sequence[Array]) -> bytes:
    """Quantize statically to int8 by ONNX Runtime: QuantizeLinear and DequantizeLinear around every operator.

    Weights per channel, symmetric; activations per tensor, from the least and largest value seen on `examples`.
    """
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a preparation that these small graphs have had
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        try:
            quantization.quantize_static(
                onnx.load_from_string(float_model), path,
                _Reader(layout.native(x, axes).astype(np.float32) for x in examples),
                quant_format=quantization.QuantFormat.QDQ, per_channel=True,
                activation_type=quantization.QuantType.QInt8, weight_type=quantization.QuantType.QInt8,
            )  # fmt: skip
        finally:
            root.setLevel(level)
        model = onnx.load(path)
    del model.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
