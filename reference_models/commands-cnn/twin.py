"""The Keras twin of commands-cnn: the same network in TensorFlow's axis order, with the PyTorch weights.

TensorFlow Lite's converter starts from Keras, so the network is written down a second time here.
`export.py` refuses to convert a twin whose activations leave those of the PyTorch network.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import layers

CHANNELS = (12, 24, 48, 48, 48)
POOLED = (1, 2, 3)  # blocks that end in a 3x3 max-pool, stride 2
BATCH_NORM_EPS = 1e-5  # PyTorch's default; Keras' own is 1e-3

State = Mapping[str, np.ndarray]


def build(state: State) -> keras.Model:
    """Build the twin and copy the weights of a PyTorch ``state_dict`` (as NumPy arrays) into it.

    Input ``features`` ``[N, 98, 50, 1]``: batch, time, mel band, channel. Output: logits ``[N, classes]``.
    """
    features = keras.Input(shape=(98, 50, 1), name="features", dtype="float32")
    x = features
    for block, channels in enumerate(CHANNELS, start=1):
        # 3x3, stride 1: "same" is one zero on every side, as in PyTorch. With a stride it would not be.
        x = layers.Conv2D(channels, 3, padding="same", name=f"conv{block}")(x)
        x = layers.BatchNormalization(epsilon=BATCH_NORM_EPS, name=f"bn{block}")(x)
        x = layers.ReLU(name=f"relu{block}")(x)
        if block in POOLED:
            # PyTorch pads one element on every side with -inf; TensorFlow's "same" pads 98 only at the end,
            # which shifts the windows. So: pad, then pool without padding. Zeros do the work of -inf here,
            # because after a ReLU every value is >= 0 and each window holds at least one real value.
            x = layers.ZeroPadding2D(1, name=f"pad{block}")(x)
            x = layers.MaxPooling2D(3, strides=2, padding="valid", name=f"pool{block}")(x)
    x = layers.MaxPooling2D((13, 1), name="pool5")(x)  # [N, 1, 7, 48]
    x = layers.Flatten(name="flatten")(x)  # time, band, channel: channel is fastest
    logits = layers.Dense(state["fc.bias"].shape[0], name="logits")(x)

    model = keras.Model(features, logits, name="commands_cnn")
    _copy_weights(model, state)
    return model


def _copy_weights(model: keras.Model, state: State) -> None:
    """Copy the weights, moving axes from PyTorch's order to TensorFlow's."""
    for block in range(1, len(CHANNELS) + 1):
        kernel = np.transpose(state[f"conv{block}.weight"], (2, 3, 1, 0))  # OIHW -> HWIO
        model.get_layer(f"conv{block}").set_weights([kernel, state[f"conv{block}.bias"]])
        model.get_layer(f"bn{block}").set_weights(
            [state[f"bn{block}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")]
        )
    # PyTorch flattens channel, time, band; this model flattens time, band, channel: permute the weight's rows
    # once, here, instead of the activations at every run.
    weight = state["fc.weight"]  # [classes, 48 * 1 * 7]
    weight = weight.reshape(weight.shape[0], 48, 1, 7).transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])
    model.get_layer("logits").set_weights([weight, state["fc.bias"]])
