"""Write mfcc-lstm as ONNX and as TensorFlow Lite, check both against PyTorch, list them in artifacts.json.

python export.py [--out DIR]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import twin
from model import COEFFICIENTS

from parity.exporting import Export, main


def features(count: int, seed: int) -> Sequence[npt.NDArray[np.float32]]:
    """Return inputs ``[T, 12]`` (MFCCs of dB): half of one second, 32 frames, half of 1 to 60 frames.

    Coefficient 0 wanders about -300, where speech has it, the others about 0, the less the higher they are; the last
    element is digital silence, whose only coefficient is -100 dB times the square root of 128 bands.
    """
    rng = np.random.default_rng(seed)
    lengths = [twin.FRAMES if i % 2 == 0 else int(rng.integers(1, 61)) for i in range(count - 1)]
    spread = np.array([150.0, 80.0] + [40.0 / np.sqrt(k) for k in range(1, COEFFICIENTS - 1)])
    made = []
    for frames in lengths:
        walk = np.cumsum(rng.normal(0.0, 0.4, (frames, COEFFICIENTS)), axis=0)
        made.append((walk + rng.normal(0.0, 0.5, walk.shape)) * spread + np.eye(COEFFICIENTS)[0] * -300.0)
    made.append(np.tile(np.eye(COEFFICIENTS)[0] * -100.0 * np.sqrt(128.0), (twin.FRAMES, 1)))
    return [x.astype(np.float32) for x in made]


if __name__ == "__main__":
    main(
        Export(
            folder=Path(__file__).resolve().parent,
            features=features,
            twin=twin.build,
            dynamic={0: "batch", 1: "frames"},
            torchscript=True,
        )
    )
