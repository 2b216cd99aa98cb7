"""The Keras twin of mel40-shufflenetv2: the same network in TensorFlow's axis order, with the PyTorch weights.

TensorFlow Lite's converter starts from Keras, so the network is written down a second time here.
`export.py` refuses to convert a twin whose activations leave those of the PyTorch network.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import KerasTensor, layers
from model import UNITS

BATCH_NORM_EPS = 1e-5  # PyTorch's default; Keras' own is 1e-3

State = Mapping[str, np.ndarray]


def conv_bn(x: KerasTensor, state: State, place: str, stride: int = 1, last: str = "") -> KerasTensor:
    """Convolution and batch normalization with the weights at `place`; the last layer may have a name of its own."""
    weight, name = state[f"{place}.conv.weight"], place.replace(".", "_")
    channels, inputs, kernel, _ = weight.shape
    if stride > 1:
        # One zero on every side, as in PyTorch: "same" pads an even size at the end only, which shifts the image.
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    padding = "same" if stride == 1 else "valid"
    if inputs == x.shape[-1]:
        conv = layers.Conv2D(channels, kernel, stride, padding, use_bias=False, name=f"{name}_conv")
        order = (2, 3, 1, 0)  # OIHW -> HWIO
    else:
        conv = layers.DepthwiseConv2D(kernel, stride, padding, use_bias=False, name=f"{name}_conv")
        order = (2, 3, 0, 1)  # the one input of each group is TensorFlow's multiplier
    bn = layers.BatchNormalization(epsilon=BATCH_NORM_EPS, name=last or f"{name}_bn")
    x = bn(conv(x))
    conv.set_weights([weight.transpose(order)])
    bn.set_weights([state[f"{place}.bn.{n}"] for n in ("weight", "bias", "running_mean", "running_var")])
    return x


def shuffled(x: KerasTensor, name: str) -> KerasTensor:
    """Interleave the two halves of the channels; the last layer bears the name. Channels are the fastest axis here."""
    _, bands, frames, channels = x.shape
    x = layers.Reshape((bands, frames, 2, channels // 2), name=f"{name}_halves")(x)
    x = layers.Permute((1, 2, 4, 3), name=f"{name}_turn")(x)
    return layers.Reshape((bands, frames, channels), name=name)(x)


def unit(x: KerasTensor, state: State, name: str, halves: bool) -> KerasTensor:
    """Two branches, concatenated and shuffled; its last layer bears its name."""
    stride, half = (1, x.shape[-1] // 2) if halves else (2, 0)
    left, y = (x[..., :half], x[..., half:]) if halves else (x, x)
    if not halves:
        left = conv_bn(left, state, f"{name}.left.depthwise", stride)
        left = layers.ReLU(name=f"{name}_left_relu")(conv_bn(left, state, f"{name}.left.point"))
    y = layers.ReLU(name=f"{name}_first_relu")(conv_bn(y, state, f"{name}.right.first"))
    y = conv_bn(y, state, f"{name}.right.depthwise", stride)
    y = layers.ReLU(name=f"{name}_second_relu")(conv_bn(y, state, f"{name}.right.second"))
    return shuffled(layers.Concatenate(name=f"{name}_both")([left, y]), name)


def build(state: State) -> keras.Model:
    """Build the twin with the weights of a PyTorch ``state_dict`` (as NumPy arrays).

    Input ``features`` ``[N, 40, 32, 1]``: batch, mel band, time, channel. Output: logits ``[N, classes]``.
    """
    features = keras.Input(shape=(40, 32, 1), name="features", dtype="float32")
    x = layers.ReLU(name="stem")(conv_bn(features, state, "stem", stride=2))
    # PyTorch pads with -inf. Zeros do its work: after a ReLU every value is >= 0, and each window holds a real one.
    x = layers.MaxPooling2D(3, strides=2, padding="valid", name="pool")(layers.ZeroPadding2D(1, name="pool_pad")(x))
    for number, (before, after) in enumerate(UNITS, start=1):
        x = unit(x, state, f"unit{number}", halves=before == after)
    x = layers.ReLU(name="head")(conv_bn(x, state, "head"))
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    fc = layers.Dense(len(state["fc.bias"]), name="logits")
    model = keras.Model(features, fc(x), name="mel40_shufflenetv2")
    fc.set_weights([state["fc.weight"].T, state["fc.bias"]])
    return model
