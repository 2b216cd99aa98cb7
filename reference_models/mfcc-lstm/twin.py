"""The Keras twin of mfcc-lstm: the same network with the PyTorch weights, for clips of one length.

TensorFlow Lite's converter starts from Keras, so the network is written down a second time here.
`export.py` refuses to convert a twin whose activations leave those of the PyTorch network.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import layers

FRAMES = 32  # one second at 16 kHz; the file takes no other length
UNITS = 64
LSTMS = ("lstm1", "lstm2", "lstm3")

State = Mapping[str, np.ndarray]


def build(state: State) -> keras.Model:
    """Build the twin and copy the weights of a PyTorch ``state_dict`` (as NumPy arrays) into it.

    Input ``features`` ``[N, 32, 12]``: batch, time, coefficient. Output: logits ``[N, classes]``.
    """
    features = keras.Input(shape=(FRAMES, state["lstm1.weight_ih_l0"].shape[1]), name="features", dtype="float32")
    x = features
    for name in LSTMS:
        # Unrolled: as a loop the converter writes WHILE operators with graphs of their own inside, whose tensors
        # can't be read as taps and which some runtimes for microcontrollers hang on.
        x = layers.LSTM(UNITS, return_sequences=True, unroll=True, name=name)(x)
    logits = layers.Dense(state["fc.bias"].shape[0], name="logits")(x[:, -1, :])

    model = keras.Model(features, logits, name="mfcc_lstm")
    _copy_weights(model, state)
    return model


def _copy_weights(model: keras.Model, state: State) -> None:
    """Copy the weights: PyTorch and Keras order the gates alike (i, f, g, o), rows in one are columns in the other."""
    for name in LSTMS:
        kernel, recurrent = state[f"{name}.weight_ih_l0"].T, state[f"{name}.weight_hh_l0"].T
        # PyTorch adds two biases to each gate, Keras one.
        bias = state[f"{name}.bias_ih_l0"] + state[f"{name}.bias_hh_l0"]
        model.get_layer(name).set_weights([kernel, recurrent, bias])
    model.get_layer("logits").set_weights([state["fc.weight"].T, state["fc.bias"]])
