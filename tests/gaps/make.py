"""Makes the minimal models of tests/gaps and their clips: `python tests/gaps/make.py [NAME ...]`.

Needs TensorFlow and onnx. Every model reads `[5, 9]`, five frames of nine magnitudes in dB, and answers with a number
for each of the nine frequencies. The int8 files are as TFLiteConverter gives them, but for a field of micro-depthwise.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

HERE = Path(__file__).parent
FRAMES, BINS, LENGTH, RATE = 5, 9, 16, 16000
RANGE = (-60.0, 20.0)
"""dB that the int8 files are calibrated on: what 16 samples between silence and full scale give."""


def clips() -> dict[str, Any]:
    """Six clips of 80 samples: noise, and tones that get louder."""
    rng = np.random.default_rng(0)
    t = np.arange(FRAMES * LENGTH) / RATE
    rise = np.linspace(0.05, 0.9, t.size)
    return {f"noise{i}": rng.uniform(-1, 1, t.size) * rise for i in range(3)} | {
        f"tone{hz}": np.sin(2 * np.pi * hz * t) * rise for hz in (700, 2300, 5100)
    }


def int8(layers: Callable[[Any], Any], seed: int = 0) -> bytes:
    """A network of the layers that `layers` calls on `[1, 5, 1, 9]`, converted to int8, input and output too."""
    import keras
    import tensorflow as tf

    keras.backend.clear_session()  # names of tensors don't depend on what was made before
    keras.utils.set_random_seed(seed)
    features = keras.Input((FRAMES, 1, BINS), batch_size=1, name="features")
    made = keras.Model(features, layers(features))
    converter = tf.lite.TFLiteConverter.from_keras_model(made)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    rng = np.random.default_rng(1)
    drawn = [rng.uniform(*RANGE, (1, FRAMES, 1, BINS)).astype(np.float32) for _ in range(100)]
    converter.representative_dataset = lambda: ([x] for x in drawn)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with contextlib.redirect_stdout(io.StringIO()):
        return bytes(converter.convert())


def rounding(seed: int = 13) -> bytes:
    """Two 1x1 convolutions; the first one's answer is coarse, the second one's fine, as in a bottleneck.

    About one element in a hundred is rounded otherwise; seed 13 is the first to show it on these clips on both kernels.
    """
    from keras import layers

    def network(x: Any) -> Any:
        narrow = layers.Conv2D(2, 1, name="narrow")(x)
        wide = layers.Conv2D(BINS, 1, activation="relu", name="wide")(narrow)
        return layers.Reshape((BINS,), name="logits")(layers.MaxPool2D((FRAMES, 1), name="loudest")(wide))

    return int8(network, seed)


def mean() -> bytes:
    """The mean over frames with its axes kept, as GlobalAveragePooling2D(keepdims=True) makes it."""
    from keras import layers

    return int8(lambda x: layers.Reshape((BINS,), name="logits")(layers.GlobalAveragePooling2D(keepdims=True)(x)))


def total() -> bytes:
    """The sum over frames."""
    import keras

    return int8(lambda x: keras.ops.sum(x, axis=(1, 2)))


def hyperbolic_tangent() -> bytes:
    """The hyperbolic tangent of each magnitude over 40 dB and its mean over frames, in float32."""
    import keras
    import tensorflow as tf
    from keras import layers

    keras.backend.clear_session()
    features = keras.Input((FRAMES, 1, BINS), batch_size=1, name="features")
    squashed = keras.ops.tanh(layers.Rescaling(1 / 40)(features))
    logits = layers.Reshape((BINS,), name="logits")(layers.GlobalAveragePooling2D()(squashed))
    with contextlib.redirect_stdout(io.StringIO()):
        return bytes(tf.lite.TFLiteConverter.from_keras_model(keras.Model(features, logits)).convert())


def depth_multiplier() -> bytes:
    """A depthwise convolution whose file doesn't say how many answers it has a channel: its shapes do."""
    from keras import layers
    from tensorflow.lite.tools import flatbuffer_utils

    def network(x: Any) -> Any:
        image = layers.Reshape((FRAMES, BINS, 1))(x)
        stem = layers.DepthwiseConv2D((FRAMES, BINS), depth_multiplier=BINS)(image)
        return layers.Reshape((BINS,), name="logits")(stem)

    file = flatbuffer_utils.convert_bytearray_to_object(bytearray(int8(network)))
    for operator in file.subgraphs[0].operators:
        if hasattr(operator.builtinOptions, "depthMultiplier"):
            operator.builtinOptions.depthMultiplier = 0
    return bytes(flatbuffer_utils.convert_object_to_bytearray(file))


def pad_maxpool() -> bytes:
    """Zeros around the frames, then the largest of the five and them: over dB, zeros win wherever all are below."""
    from onnx import TensorProto, helper, numpy_helper

    pads = numpy_helper.from_array(np.array([0, 0, 1, 0, 0, 0, 1, 0], np.int64), "pads")
    nodes = [
        helper.make_node("Pad", ["features", "pads"], ["padded"]),
        helper.make_node("MaxPool", ["padded"], ["largest"], kernel_shape=[FRAMES + 2, 1]),
        helper.make_node("Flatten", ["largest"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "pad-maxpool",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 1, FRAMES, BINS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, BINS])], [pads],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return bytes(model.SerializeToString())


MODELS = {
    "int8-rounding/model.tflite": rounding,
    "int8-mean/model.tflite": mean,
    "int8-sum/model.tflite": total,
    "arm-reciprocal/model.tflite": hyperbolic_tangent,
    "micro-depthwise/model.tflite": depth_multiplier,
    "pad-maxpool/model.onnx": pad_maxpool,
}

if __name__ == "__main__":
    (HERE / "clips").mkdir(exist_ok=True)
    for name, samples in clips().items():
        soundfile.write(HERE / "clips" / f"{name}.flac", samples, RATE, subtype="PCM_16")
    for file, build in MODELS.items():
        if not sys.argv[1:] or Path(file).parent.name in sys.argv[1:]:
            (HERE / file).parent.mkdir(exist_ok=True)
            (HERE / file).write_bytes(build())
