"""The Keras twin of tiny-conv: the same network in TensorFlow's axis order, with the PyTorch weights.

TensorFlow Lite's converter starts from Keras, so the network is written down a second time here.
`export.py` refuses to convert a twin whose activations leave those of the PyTorch network.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import layers

State = Mapping[str, np.ndarray]


def build(state: State) -> keras.Model:
    """Build the twin and copy the weights of a PyTorch ``state_dict`` (as NumPy arrays) into it.

    Input ``features`` ``[N, 49, 43, 1]``: batch, time, band, channel. Output: probabilities ``[N, classes]``.
    """
    classes, channels = state["fc.bias"].shape[0], state["conv.bias"].shape[0]
    features = keras.Input(shape=(49, 43, 1), name="features", dtype="float32")
    x = layers.Conv2D(channels, (10, 8), strides=2, padding="same", name="conv")(features)
    x = layers.ReLU(name="relu")(x)
    x = layers.Flatten(name="flatten")(x)  # time, band, channel: channel is fastest
    logits = layers.Dense(classes, name="logits")(x)
    model = keras.Model(features, layers.Softmax(name="probabilities")(logits), name="tiny_conv")

    kernel = np.transpose(state["conv.weight"], (2, 3, 1, 0))  # OIHW -> HWIO
    model.get_layer("conv").set_weights([kernel, state["conv.bias"]])
    # PyTorch flattens channel, time, band: permute the weight's rows once, here, instead of the activations.
    weight = state["fc.weight"].reshape(classes, channels, 25, 22).transpose(2, 3, 1, 0).reshape(-1, classes)
    model.get_layer("logits").set_weights([weight, state["fc.bias"]])
    return model
