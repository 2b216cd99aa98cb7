"""Write logmel-gru as ONNX, TensorFlow Lite and TorchScript, and what a stream runs on; check all against PyTorch.

python export.py [--out DIR]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import model
import numpy as np
import numpy.typing as npt
import stream
import twin
from torch import nn

from parity.converting import OPSET, tensorflow
from parity.exporting import Export, main


def features(count: int, seed: int) -> Sequence[npt.NDArray[np.float32]]:
    """Return inputs ``[T, 40]`` (logarithms of 1 + x): half of one second, 97 frames, half of 1 to 150 frames.

    Bands wander about 1 and never fall below 0, as the logarithm has it; the last element is digital silence.
    """
    rng = np.random.default_rng(seed)
    lengths = [twin.FRAMES if i % 2 == 0 else int(rng.integers(1, 151)) for i in range(count - 1)]
    made = []
    for frames in lengths:
        walk = np.cumsum(rng.normal(0.0, 0.15, (frames, model.BANDS)), axis=0) + rng.normal(1.0, 0.5, (1, model.BANDS))
        made.append(np.maximum(walk + rng.normal(0.0, 0.3, walk.shape), 0.0))
    made.append(np.zeros((twin.FRAMES, model.BANDS)))
    return [x.astype(np.float32) for x in made]


def streams(network: nn.Module) -> dict[str, tuple[bytes, list[str]]]:
    """Return the files that a stream runs on: the same weights, the state an input and an output."""
    stateful = model.stream()
    stateful.load_state_dict(network.state_dict(), strict=True)
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return {
        "logmel-gru-stream.onnx": (stream.to_onnx(stateful.eval(), OPSET), ["onnx", "torch"]),
        "logmel-gru-stream.tflite": (stream.to_tflite(state), ["keras", tensorflow()]),
    }


if __name__ == "__main__":
    main(
        Export(
            folder=Path(__file__).resolve().parent,
            features=features,
            twin=twin.build,
            dynamic={0: "batch", 1: "frames"},
            torchscript=True,
            streams=streams,
        )
    )
