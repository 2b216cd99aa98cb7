"""Write micro-speech as ONNX, TorchScript and TensorFlow Lite, check each against PyTorch, list them in artifacts.json.

python export.py [--out DIR]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import twin
from model import BANDS, FRAMES

from parity.exporting import Export, main


def features(count: int, seed: int) -> Sequence[npt.NDArray[np.float32]]:
    """Return inputs ``[49, 40]``, whole numbers -128 to 127: half any number, half shaped like speech.

    The shaped half has a slow loudness contour and wanders from band to band; its last element is digital silence.
    """
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (count, FRAMES, BANDS)).astype(np.float64)
    shaped = x[count // 2 :]
    contour = np.cumsum(rng.normal(0.0, 12.0, (len(shaped), FRAMES, 1)), axis=1)
    across = np.cumsum(rng.normal(0.0, 8.0, (len(shaped), 1, BANDS)), axis=2)
    shaped[:] = contour + across + rng.normal(0.0, 20.0, shaped.shape)
    shaped[-1] = -128.0
    return list(np.clip(np.rint(x), -128, 127).astype(np.float32))


if __name__ == "__main__":
    main(Export(folder=Path(__file__).resolve().parent, features=features, twin=twin.build, torchscript=True))
