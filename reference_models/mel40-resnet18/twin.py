"""The Keras twin of mel40-resnet18: the same network in TensorFlow's axis order, with the PyTorch weights.

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


def conv_bn(x: KerasTensor, state: State, conv_at: str, bn_at: str, stride: int = 1) -> KerasTensor:
    """Convolution and batch normalization with the weights at the two places."""
    weight, name = state[f"{conv_at}.weight"], conv_at.replace(".", "_")
    channels, _, kernel, _ = weight.shape
    # Zeros on every side, as in PyTorch: "same" pads an even size at the end only where there is a stride.
    x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x) if stride > 1 and kernel > 1 else x
    padding = "same" if stride == 1 else "valid"
    conv = layers.Conv2D(channels, kernel, stride, padding, use_bias=False, name=f"{name}_conv")
    bn = layers.BatchNormalization(epsilon=BATCH_NORM_EPS, name=f"{name}_bn")
    x = bn(conv(x))
    conv.set_weights([weight.transpose(2, 3, 1, 0)])  # OIHW -> HWIO
    bn.set_weights([state[f"{bn_at}.{n}"] for n in ("weight", "bias", "running_mean", "running_var")])
    return x


def block(x: KerasTensor, state: State, name: str, stride: int) -> KerasTensor:
    """Two convolutions beside a short cut; its last layer bears its name."""
    y = conv_bn(x, state, f"{name}.conv1", f"{name}.bn1", stride)
    y = layers.ReLU(name=f"{name}_relu1")(y)
    y = conv_bn(y, state, f"{name}.conv2", f"{name}.bn2")
    if f"{name}.short.0.weight" in state:
        x = conv_bn(x, state, f"{name}.short.0", f"{name}.short.1", stride)
    return layers.ReLU(name=name)(layers.Add(name=f"{name}_sum")([y, x]))


def build(state: State) -> keras.Model:
    """Build the twin with the weights of a PyTorch ``state_dict`` (as NumPy arrays).

    Input ``features`` ``[N, 40, 32, 1]``: batch, mel band, time, channel. Output: logits ``[N, classes]``.
    """
    features = keras.Input(shape=(40, 32, 1), name="features", dtype="float32")
    x = layers.ReLU(name="relu")(conv_bn(features, state, "conv", "bn", stride=2))
    # PyTorch pads with -inf. Zeros do its work: after a ReLU every value is >= 0, and each window holds a real one.
    x = layers.MaxPooling2D(3, strides=2, padding="valid", name="pool")(layers.ZeroPadding2D(1, name="pool_pad")(x))
    for number, (_, _, stride) in enumerate(BLOCKS, start=1):
        x = block(x, state, f"block{number}", stride)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    fc = layers.Dense(len(state["fc.bias"]), name="logits")
    model = keras.Model(features, fc(x), name="mel40_resnet18")
    fc.set_weights([state["fc.weight"].T, state["fc.bias"]])
    return model
