"""Write tiny-conv as ONNX, TorchScript and TensorFlow Lite, check each against PyTorch, list them in artifacts.json.

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
    """Return inputs ``[49, 43]``, whole numbers 0 to 255: half any number, half shaped like speech.

    The shaped half has a slow loudness contour and less power in higher bands; its last element is digital silence.
    """
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (count, FRAMES, BANDS)).astype(np.float64)
    shaped = x[count // 2 :]
    contour = np.cumsum(rng.normal(0.0, 0.4, (len(shaped), FRAMES, 1)), axis=1)
    tilt = np.linspace(3.0, -4.0, BANDS)
    shaped[:] = np.exp(contour + tilt + rng.normal(0.0, 1.0, shaped.shape))
    shaped[-1] = 0.0
    return list(np.clip(np.rint(x), 0, 255).astype(np.float32))


if __name__ == "__main__":
    main(Export(folder=Path(__file__).resolve().parent, features=features, twin=twin.build, torchscript=True))
