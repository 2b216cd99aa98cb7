"""The Keras twin of mel40-mobilenetv2: the same network in TensorFlow's axis order, with the PyTorch weights.

TensorFlow Lite's converter starts from Keras, so the network is written down a second time here.
`export.py` refuses to convert a twin whose activations leave those of the PyTorch network.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import KerasTensor, layers
from model import BLOCKS

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


def block(x: KerasTensor, state: State, name: str, stride: int, residual: bool) -> KerasTensor:
    """Inverted residual; its last layer bears its name."""
    y = x
    if f"{name}.expand.conv.weight" in state:
        y = layers.ReLU(6.0, name=f"{name}_expand_relu")(conv_bn(y, state, f"{name}.expand"))
    y = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(conv_bn(y, state, f"{name}.depthwise", stride))
    if residual:
        return layers.Add(name=name)([x, conv_bn(y, state, f"{name}.project")])
    return conv_bn(y, state, f"{name}.project", last=name)


def build(state: State) -> keras.Model:
    """Build the twin with the weights of a PyTorch ``state_dict`` (as NumPy arrays).

    Input ``features`` ``[N, 40, 32, 1]``: batch, mel band, time, channel. Output: logits ``[N, classes]``.
    """
    features = keras.Input(shape=(40, 32, 1), name="features", dtype="float32")
    x = layers.ReLU(6.0, name="stem")(conv_bn(features, state, "stem", stride=2))
    for number, (_, before, after, stride) in enumerate(BLOCKS, start=1):
        x = block(x, state, f"block{number}", stride, residual=stride == 1 and before == after)
    x = layers.ReLU(6.0, name="head")(conv_bn(x, state, "head"))
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    fc = layers.Dense(len(state["fc.bias"]), name="logits")
    model = keras.Model(features, fc(x), name="mel40_mobilenetv2")
    fc.set_weights([state["fc.weight"].T, state["fc.bias"]])
    return model
