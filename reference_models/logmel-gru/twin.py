"""The Keras twin of logmel-gru: the same network with the PyTorch weights, for clips of one length.

TensorFlow Lite's converter starts from Keras, so the network is written down a second time here.
`export.py` refuses to convert a twin whose activations leave those of the PyTorch network.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import layers

FRAMES = 97  # one second at 16 kHz; the file takes no other length
UNITS = 128
GRUS = ("gru1", "gru2")

State = Mapping[str, np.ndarray]


def build(state: State) -> keras.Model:
    """Build the twin and copy the weights of a PyTorch ``state_dict`` (as NumPy arrays) into it.

    Input ``features`` ``[N, 97, 40]``: batch, time, band. Output: logits ``[N, classes]``.
    """
    features = keras.Input(shape=(FRAMES, state["gru1.weight_ih_l0"].shape[1]), name="features", dtype="float32")
    x = features
    for name in GRUS:
        # Unrolled: as a loop the converter writes WHILE operators with graphs of their own inside, whose tensors
        # can't be read as taps and which some runtimes for microcontrollers hang on.
        x = layers.GRU(UNITS, return_sequences=True, reset_after=True, unroll=True, name=name)(x)
    classes = state["fc.bias"].shape[0]
    frames = layers.Dense(classes, name="frames")(x)
    logits = layers.Reshape((classes,), name="logits")(layers.Cropping1D((FRAMES - 1, 0))(frames))  # the last frame

    model = keras.Model(features, logits, name="logmel_gru")
    for name in GRUS:
        model.get_layer(name).set_weights(gru_weights(state, name))
    model.get_layer("frames").set_weights([state["fc.weight"].T, state["fc.bias"]])
    return model


def gru_weights(state: State, name: str) -> list[np.ndarray]:
    """Return kernel, recurrent kernel and biases of a GRU as Keras has them.

    PyTorch stacks the gates r, z, n in rows, Keras z, r, n in columns. With ``reset_after`` Keras keeps both biases, as
    PyTorch does: n = tanh(Wx + b + r·(Uh + b')).
    """

    def reordered(rows: np.ndarray) -> np.ndarray:
        r, z, n = np.split(rows, 3)
        return np.concatenate([z, r, n])

    kernel, recurrent = (reordered(state[f"{name}.weight_{part}_l0"]).T for part in ("ih", "hh"))
    return [kernel, recurrent, np.stack([reordered(state[f"{name}.bias_{part}_l0"]) for part in ("ih", "hh")])]
